"""Matching: regular expressions over tracebacks, with the meaning of `re.search` and a time limit.

The standard library cannot stop a search. The package `regex` can, and it agrees with `re` on all
but a few things. A pattern that `re` refuses is refused here; where `regex` gives a meaning of its
own to a text that `re` takes literally, that text is escaped. These differences are left:

- Letters, digits and white space of other alphabets: the Unicode tables of `regex` are newer, and
  its ``\\w`` also matches combining characters.
- ``\\s`` does not match the control characters U+001C to U+001F.
- In a verbose pattern (``(?x)``), a class such as ``[[:alpha:]]`` and a quantifier such as
  ``{e<=1}`` keep the meaning that `regex` gives them.
"""

from __future__ import annotations

import logging
import re
import warnings
from functools import lru_cache

import regex

log = logging.getLogger(__name__)

# A search that takes longer finds nothing.
SECONDS = 1.0

# Without groups and repetitions, a search takes at most as many steps as the pattern and the text
# have pairs of characters. So many take about a tenth of a second.
STEPS_MAX = 10**7
_ESCAPE = re.compile(r"\\[^N]", re.DOTALL)
_COSTLY = re.compile(r"[*+?{(]")

_QUANTIFIER = re.compile(r"\{(?P<low>[0-9]*)(?P<comma>,?)(?P<high>[0-9]*)\}")
_VERBOSE = re.compile(r"\(\?[a-wyz]*x")


def check_pattern(pattern: str) -> None:
    """Check that a text is a regular expression.

    Raises
    ------
    ValueError
        If it is not.
    """
    compiled_pattern(pattern)


def matches(pattern: str, text: str) -> bool:
    """Check whether a pattern is found in a text.

    Parameters
    ----------
    pattern : str
        A regular expression.
    text : str
        The text.

    Returns
    -------
    bool
        False also if the search takes longer than a second, which is logged.
    """
    plain, compiled = compiled_pattern(pattern)
    if plain is not None and len(pattern) * len(text) <= STEPS_MAX:
        return plain.search(text) is not None
    try:
        return compiled.search(text, timeout=SECONDS) is not None
    except TimeoutError:
        log.warning(
            "restart pattern %.200r: a search took longer than %g s and counts as a miss; simplify"
            " the pattern",
            pattern,
            SECONDS,
        )
        return False


@lru_cache(maxsize=1024)
def compiled_pattern(pattern: str) -> tuple[re.Pattern[str] | None, regex.Pattern[str]]:
    """Return the pattern for `re`, if its searches are short, and for `regex`.

    Raises
    ------
    ValueError
        If it is not a regular expression.
    """
    try:
        with warnings.catch_warnings():
            # Both warn of syntax that may change.
            warnings.simplefilter("ignore")
            compiled = re.compile(pattern)
            timed = regex.compile(_translated(pattern, compiled.flags), regex.VERSION0)
    except (re.error, regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"the restart pattern {pattern!r:.200} is not a regular expression: {error}"
        ) from error
    return (None if _COSTLY.search(_ESCAPE.sub("", pattern)) else compiled), timed


def _translated(pattern: str, flags: int) -> str:
    """Return a pattern of `re` for `regex`."""
    if flags & re.VERBOSE or _VERBOSE.search(pattern):
        # Comments may contain anything.
        return pattern
    return "".join(_Scanner(pattern).parts())


class _Scanner:
    """Splits a valid pattern into parts, and escapes what only `regex` takes for syntax."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._rest = 0

    def parts(self) -> list[str]:
        parts = []
        # The place of the first character of a class, or -1 outside of classes.
        start = -1
        while self._rest < len(self._pattern):
            place, character = self._rest, self._pattern[self._rest]
            if character == "\\":
                parts.append(self._take(self._escape_end()))
            elif start >= 0:
                if character == "]" and place > start:
                    start = -1
                parts.append("\\[" if character == "[" else character)
                self._rest += 1
            elif character == "[":
                start = place + 1 + self._pattern.startswith("^", place + 1)
                parts.append(self._take(start))
            elif character == "{":
                parts.append(self._brace())
            else:
                parts.append(self._take(place + 1))
        return parts

    def _take(self, end: int) -> str:
        taken, self._rest = self._pattern[self._rest : end], end
        return taken

    def _escape_end(self) -> int:
        if self._pattern.startswith("N{", self._rest + 1):
            return self._pattern.index("}", self._rest) + 1
        return self._rest + 2

    def _brace(self) -> str:
        found = _QUANTIFIER.match(self._pattern, self._rest)
        if found is None or not (found["low"] or found["comma"]):
            self._rest += 1
            return "\\{"
        self._rest = found.end()
        return f"{{{found['low'] or 0}{found['comma']}{found['high']}}}"
