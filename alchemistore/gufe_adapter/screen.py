"""Refuse values in documents that are unsafe to decode: huge bytes, endless powers, odd names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import zstandard

# The largest unpacked size of a document, in bytes, and of all bytes that gufe packed inside one.
# The frame header is checked before unpacking.
UNPACKED_MAX = 512 * 2**20
# Larger documents may unpack to this many times their size.
RATIO_MAX = 20
# The longest unit or quantity, in characters.
UNIT_MAX = 500

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_ZSTD_MAGIC = "\x28\xb5\x2f\xfd"
# The values that pint parses in any case; other texts in a settings object may be quantities.
_UNITS = ("unit", "unit_name", "magnitude")

_LETTER = (
    "A-Za-z_\u00b0\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff\u0370-\u03ff"
    "\u2103\u2109\u2126\u212a\u212b"
)
_SUPERSCRIPT = "\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u207a\u207b"
_UNIT_TEXT = re.compile(rf"[{_LETTER}{_SUPERSCRIPT}0-9 */().+%,^\u00b7\u22c5-]*")
# Characters that pint replaces by an asterisk, so that two of them in a row are a power.
_TIMES = "[*\u00b7\u22c5\u00d7]"
_POWER = re.compile(rf"{_TIMES}\s*{_TIMES}|\^|[{_SUPERSCRIPT}]|\\")
# Words that pint replaces by a power. Beside another power they make a tower of powers, and
# `dozen cubed9e9` becomes `dozen**39e9`.
_POWER_WORD = re.compile(r"(?<=\w)\s+(?:squared|cubed)|(?:square|sq|cubic)(?=\s+[A-Za-z_])")
_JOINED_WORD = re.compile(r"\s(?:squared|cubed)(?:\w|\.[\dEe])|(?:square|sq|cubic)\s+\w+\.[\dEe]")
_EXPONENT = r"[+-]? ?[0-9]{1,2}(?:\.[0-9]{0,17})?"
# A name raised to a small number, as in `mole ** 2`, `nanometer ** (-0.5)` and `m²`. pint would
# compute a number raised to a power, such as 9**9**9, without end.
_NAME_TO_POWER = re.compile(
    rf"(?<![\w.])[{_LETTER}][{_LETTER}0-9]* ?"
    rf"(?:(?:\*\*|\^) ?(?:{_EXPONENT}|\( ?{_EXPONENT} ?(?:/ ?[0-9]{{1,2}} ?)?\))(?![\w.])"
    rf"|[{_SUPERSCRIPT}]{{1,3}}(?![\w.{_SUPERSCRIPT}]))"
)
# Without a left operand, as in `[^2]`, there is nothing to compute.
_NO_OPERAND = re.compile(r"(?:^|[\[(])\^")
# pint's tokenizer ignores comments, as in `[#6,^2]`. With quotes, a `#` may be in a string.
_QUOTE = re.compile("[\"']")
_COMMENT = re.compile(r"#[^\r\n]*")


class UnsafeValueError(ValueError):
    """A value is intact, but decoding it is not safe."""


def frame_size(body: bytes) -> int:
    """Return the unpacked size stated in a zstd frame, in bytes.

    Returns
    -------
    int
        -1 if the frame states no size, or the data is not a frame.
    """
    try:
        return zstandard.frame_content_size(body)
    except zstandard.ZstdError:
        return -1


def unpacked_max(size: int) -> int:
    """Return the size, in bytes, to which the bytes in documents of this size may unpack."""
    return max(UNPACKED_MAX, RATIO_MAX * size)


def unpacked_size(value: Mapping[str, Any]) -> int:
    """Return the size of the bytes that a codec will unpack from a dict, after checking the dict.

    Raises
    ------
    UnsafeValueError
        If decoding the dict is not safe.
    """
    # A codec will decode this dict: numbers, bytes, units, or a class to import.
    for name in ("__module__", "__class__"):
        if name in value and not (isinstance(value[name], str) and _NAME.fullmatch(value[name])):
            raise UnsafeValueError(f"{value[name]!r:.200} is not the name of a module or class")
    size = 0
    for name, item in value.items():
        if name == "latin-1":
            size += _size_of_bytes(item)
        elif name in _UNITS and "pint_unit_registry" in value:
            check_quantity(item)
        elif name != "path" and isinstance(item, str):
            _check_powers(item)
    return size


def check_quantity(value: object) -> None:
    """Check that a text is safe to parse as a quantity or a unit.

    Raises
    ------
    UnsafeValueError
        If it is too long, contains other characters than those of units, or a power that is not
        that of a name.
    """
    if not isinstance(value, str):
        return
    if len(value) > UNIT_MAX:
        raise UnsafeValueError(
            f"{value!r:.200} has {len(value)} characters; a unit may have {UNIT_MAX} at most"
        )
    _check_powers(value)
    if not _UNIT_TEXT.fullmatch(value):
        raise UnsafeValueError(f"{value!r:.200} contains characters that no unit contains")


def _check_powers(value: str) -> None:
    # pint removes commas first.
    text = value.replace(",", "")
    if not _QUOTE.search(text):
        text = _COMMENT.sub("", text)
    words = len(_POWER_WORD.findall(text))
    if (
        _JOINED_WORD.search(text)
        or words > 1
        or (_POWER.search(text) and (words or _POWER.search(_without_small_powers(text))))
    ):
        raise UnsafeValueError(
            f"{value!r:.200} raises a number to a power, or may do so, which may never finish"
            " computing; a unit raises names to small powers only"
        )


def _without_small_powers(text: str) -> str:
    return _NO_OPERAND.sub("", _NAME_TO_POWER.sub("()", text))


def _size_of_bytes(value: object) -> int:
    if not isinstance(value, str):
        raise UnsafeValueError("the bytes in a document are not encoded as text")
    # gufe unpacks a zstd frame that states its size, and uses all other bytes unchanged.
    if not value.startswith(_ZSTD_MAGIC):
        return 0
    size = max(0, frame_size(value[:64].encode("latin-1", "replace")))
    if size > UNPACKED_MAX:
        raise UnsafeValueError(
            f"the bytes in a document unpack to more than the allowed {UNPACKED_MAX}"
        )
    return size
