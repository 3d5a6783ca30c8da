"""Text that PostgreSQL can store.

Free texts, such as tracebacks and reasons, are always stored: :func:`escape` replaces what
PostgreSQL cannot hold, and :func:`unescape` restores it. Identifiers are restricted instead.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, overload

from pydantic import BeforeValidator, PlainValidator

# The longest identifier of a service or identity, in bytes. It must fit into an index entry, which
# has at most 2,704 bytes.
IDENTIFIER_MAX = 2000

# The control character SUBSTITUTE, which ordinary text does not contain, starts an escape.
_ESCAPE = "\x1a"
_UNSTORABLE = re.compile(f"[\0{_ESCAPE}\ud800-\udfff]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")


def is_text(value: str) -> bool:
    """Check whether PostgreSQL can store a text; NUL and lone surrogates are not possible."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def check_length(what: str, value: str, limit: int) -> str:
    """Return a text that PostgreSQL can store and that is not too long.

    Parameters
    ----------
    what : str
        The meaning of the text, for the message.
    value : str
        The text.
    limit : int
        The largest length, in bytes of UTF-8.

    Raises
    ------
    ValueError
        If it contains NUL or half of a surrogate pair, or is too long.
    """
    if not is_text(value):
        raise ValueError(
            f"{what} {value!r:.100} contains NUL or half of a surrogate pair; choose another"
        )
    if (size := len(value.encode())) > limit:
        raise ValueError(
            f"{what} {value!r:.100} has {size} bytes; at most {limit} are allowed, so choose a"
            " shorter one"
        )
    return value


def text_size(value: str) -> int:
    """Return the length of a free text in bytes of UTF-8, halves of surrogate pairs included."""
    return len(value.encode(errors="surrogatepass"))


@overload
def escape(value: str) -> str: ...
@overload
def escape(value: None) -> None: ...
def escape(value: str | None) -> str | None:
    """Return a free text in the form in which it is stored; ordinary text is not changed.

    NUL, halves of surrogate pairs, and the control character SUBSTITUTE (U+001A) become SUBSTITUTE
    and four hexadecimal digits.

    Examples
    --------
    >>> escape("a\\0b")
    'a\\x1a0000b'
    """
    if value is None:
        return None
    return _UNSTORABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", str(value))


@overload
def unescape(value: str) -> str: ...
@overload
def unescape(value: None) -> None: ...
def unescape(value: str | None) -> str | None:
    """Return the text that :func:`escape` was given."""
    if value is None:
        return None
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)


def _free_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, not {type(value).__name__}")
    return value


# The text of a key, which may be given as a key.
KeyText = Annotated[str, BeforeValidator(lambda key: key if key is None else str(key))]
# pydantic refuses halves of surrogate pairs in a `str`.
FreeText = Annotated[str, PlainValidator(_free_text)]
