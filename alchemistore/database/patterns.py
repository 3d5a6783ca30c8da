r"""Patterns: a safe subset of regular expressions, which PostgreSQL matches against whole texts.

A pattern is parsed here and translated for PostgreSQL, so that it means the same everywhere and is
known to be well-formed. The subset has no back references and no lookaround, and limits how far
repetitions expand. PostgreSQL matches such expressions without backtracking.

==========================  ========================================================================
element                     meaning
==========================  ========================================================================
``ab``, ``a|b``, ``(a)``    sequence, alternatives, group; also ``(?:a)`` and ``(?<name>a)``
``a*``, ``a+``, ``a?``      repetition; also ``a{2}``, ``a{2,}`` and ``a{2,5}``
``.``                       any character except the ends of lines
``[a-z_]``, ``[^a-z]``      one of these characters, or none of them
``\d``, ``\w``, ``\s``      ASCII digit, ASCII word character, ASCII white space; ``\D``, ``\W`` and
                            ``\S`` any other character
``\.``, ``\Qa.b\E``         the character itself, the text itself
``\n``, ``\x41``            control characters and code points; also ``\t``, ``\r``, ``\f``, ``\a``,
                            ``\e`` and ``\u0041``
``^``, ``$``, ``\b``        start of the text, end of the text, boundary of a word; also ``\A``,
                            ``\z`` and ``\B``
``(?i)``, ``(?s)``          at the start: letters of ASCII match in either case; ``.`` matches ends
                            of lines, too
==========================  ========================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alchemistore.models.text import is_text

# The largest number of characters of a pattern, of characters after all repetitions are written
# out, of repetitions of one element, and of groups within each other.
MAX_LENGTH = 1000
MAX_EXPANDED = 1000
MAX_REPEAT = 255
MAX_DEPTH = 30

_LAST = 0x10FFFF
_LINE_ENDS = ((0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029))
_CLASSES = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": ((0x09, 0x0D), (0x20, 0x20)),
}
_CONTROLS = {"t": 0x09, "n": 0x0A, "r": 0x0D, "f": 0x0C, "a": 0x07, "e": 0x1B}
# The anchors in this syntax, in that of PostgreSQL.
_ANCHORS = {"A": "^", "z": "$", "b": r"\y", "B": r"\Y"}
_FLAGS = re.compile(r"\(\?([is]+)\)")
_GROUP = re.compile(r"\((\?:|\?<[A-Za-z][A-Za-z0-9]*>)?(?!\?)")
_COUNTS = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_CODE = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})")

Ranges = tuple[tuple[int, int], ...]


class _PatternError(Exception):
    """The reason why a pattern is refused."""


@dataclass(frozen=True)
class _Part:
    """A part of an expression.

    Attributes
    ----------
    text : str
        The part as PostgreSQL reads it.
    size : int
        The number of characters after all repetitions are written out.
    has_anchor : bool
        Whether it contains an anchor, which cannot be repeated.
    """

    text: str
    size: int = 1
    has_anchor: bool = False


@dataclass
class _Parser:
    pattern: str
    position: int = 0
    any_character: str = "."

    def parse(self) -> str:
        """Return the whole pattern as PostgreSQL reads it."""
        flags = ""
        if found := _FLAGS.match(self.pattern):
            flags, self.position = found[1], found.end()
        self.any_character = "." if "s" in flags else _bracket(_complement(_LINE_ENDS))
        part = self._alternatives(0)
        if self.position < len(self.pattern):
            raise _PatternError("a group is closed that was not opened")
        return f"{'(?i)' if 'i' in flags else ''}^(?:{part.text})$"

    def _peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _take(self) -> str:
        taken = self._peek()
        if not taken:
            raise _PatternError("it ends too early")
        self.position += 1
        return taken

    def _alternatives(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise _PatternError(f"more than {MAX_DEPTH} groups are within each other")
        branches = [self._sequence(depth)]
        while self._peek() == "|":
            self.position += 1
            branches.append(self._sequence(depth))
        return _joined("|", branches)

    def _sequence(self, depth: int) -> _Part:
        parts: list[_Part] = []
        while self._peek() not in ("", "|", ")"):
            if self.pattern.startswith(r"\Q", self.position):
                if quoted := self._quoted():
                    parts += [*quoted[:-1], self._repeated(quoted[-1])]
            else:
                parts.append(self._repeated(self._atom(depth)))
        return _joined("", parts)

    def _quoted(self) -> list[_Part]:
        text, _, rest = self.pattern[self.position + 2 :].partition(r"\E")
        self.position = len(self.pattern) - len(rest)
        return [_Part(_literal(character)) for character in text]

    def _atom(self, depth: int) -> _Part:
        if self._peek() == "(":
            return self._group(depth)
        taken = self._take()
        if taken in "*+?{":
            raise _PatternError(f"{taken!r} repeats nothing; write \\{taken} for the character")
        if taken in "^$":
            return _Part(taken, has_anchor=True)
        if taken == ".":
            return _Part(self.any_character)
        if taken == "[":
            return _Part(_bracket(self._class()))
        if taken != "\\":
            return _Part(_literal(taken))
        if self._peek() in _ANCHORS:
            return _Part(_ANCHORS[self._take()], has_anchor=True)
        ranges = self._escape()
        only, *others = ranges
        single = not others and only[0] == only[1]
        return _Part(_literal(chr(only[0])) if single else _bracket(ranges))

    def _group(self, depth: int) -> _Part:
        opening = _GROUP.match(self.pattern, self.position)
        if opening is None:
            raise _PatternError(
                "this kind of group is not supported; flags are (?i) and (?s), at the start"
            )
        self.position = opening.end()
        part = self._alternatives(depth + 1)
        if self._peek() != ")":
            raise _PatternError("a group is not closed")
        self.position += 1
        return _Part(f"(?:{part.text})", part.size, part.has_anchor)

    def _repeated(self, part: _Part) -> _Part:
        taken = self._peek()
        if taken not in ("*", "+", "?", "{"):
            return part
        lowest, highest, written = 0, 1, taken
        if taken == "{":
            counts = _COUNTS.match(self.pattern, self.position)
            if counts is None:
                raise _PatternError(r"{ needs one or two numbers; write \{ for the character")
            self.position = counts.end()
            lowest = int(counts[1])
            highest = int(counts[3] or counts[1])
            written = counts[0]
            if highest < lowest or highest > MAX_REPEAT:
                raise _PatternError(f"repetitions {written} must ascend, up to {MAX_REPEAT}")
        else:
            self.position += 1
        if part.has_anchor:
            raise _PatternError("an anchor cannot be repeated")
        # How eager a repetition is does not matter, because the whole text must match.
        if self._peek() == "?":
            self.position += 1
        if self._peek() in ("*", "+", "?", "{"):
            raise _PatternError("a repetition cannot be repeated; put it into a group")
        return _sized(_Part(f"{part.text}{written}", part.size * max(1, highest)))

    def _class(self) -> Ranges:
        negated = self._peek() == "^"
        if negated:
            self.position += 1
        found: list[tuple[int, int]] = []
        is_first = True
        while (taken := self._take()) != "]" or is_first:
            is_first = False
            if taken == "[" or (taken == "&" and self._peek() == "&"):
                raise _PatternError(r"a class within a class is not supported; write \[ or \&")
            start = self._escape() if taken == "\\" else _only(taken)
            if self._peek() != "-" or self.pattern[self.position + 1 : self.position + 2] == "]":
                found += start
                continue
            self.position += 1
            taken = self._take()
            if taken == "[":
                raise _PatternError(r"a class within a class is not supported; write \[")
            end = self._escape() if taken == "\\" else _only(taken)
            (low, top), (bottom, high) = start[0], end[-1]
            if len(start) > 1 or len(end) > 1 or low != top or bottom != high or low > high:
                raise _PatternError("a range must go from one character to a later one")
            found.append((low, high))
        return _complement(tuple(found)) if negated else tuple(found)

    def _escape(self) -> Ranges:
        """Return the characters of an escape whose backslash has been taken."""
        if code := _CODE.match(self.pattern, self.position):
            self.position = code.end()
            point = int(code[1] or code[2], 16)
            if point == 0 or 0xD800 <= point <= 0xDFFF:
                raise _PatternError(f"\\{code[0]} is in no text")
            return ((point, point),)
        taken = self._take()
        if taken in _CLASSES:
            return _CLASSES[taken]
        if taken.lower() in _CLASSES and taken.isupper():
            return _complement(_CLASSES[taken.lower()])
        if taken in _CONTROLS:
            return ((_CONTROLS[taken], _CONTROLS[taken]),)
        if taken.isascii() and taken.isalnum():
            raise _PatternError(f"\\{taken} is not supported")
        return _only(taken)


def _only(character: str) -> Ranges:
    return ((ord(character), ord(character)),)


def _sized(part: _Part) -> _Part:
    if part.size > MAX_EXPANDED:
        raise _PatternError(f"its repetitions make more than {MAX_EXPANDED} characters")
    return part


def _joined(separator: str, parts: list[_Part]) -> _Part:
    return _sized(
        _Part(
            separator.join(part.text for part in parts),
            sum(part.size for part in parts),
            any(part.has_anchor for part in parts),
        )
    )


def _complement(ranges: Ranges) -> Ranges:
    """Return all other characters."""
    others, start = [], 1
    for low, high in sorted(ranges):
        if start < low:
            others.append((start, low - 1))
        start = max(start, high + 1)
    return (*others, (start, _LAST)) if start <= _LAST else tuple(others)


def _bracket(ranges: Ranges) -> str:
    """Return an expression for one of some characters."""
    others = _complement(ranges)
    if not others:
        return "."
    if not ranges or others == ((1, _LAST),):
        raise _PatternError("a class contains no character")
    # Short either way: PostgreSQL goes through all characters of a range to ignore their case.
    negated = ranges[-1][1] == _LAST or any(high == _LAST for _, high in ranges)
    written = "".join(
        _code(low) if low == high else f"{_code(low)}-{_code(high)}"
        for low, high in (others if negated else sorted(ranges))
    )
    return f"[{'^' if negated else ''}{written}]"


def _code(point: int) -> str:
    return f"\\U{point:08x}" if point > 0xFFFF else f"\\u{point:04x}"


def _literal(character: str) -> str:
    plain = not character.isascii() or character.isalnum() or character.isspace()
    return character if plain else f"\\{character}"


def parse_pattern(pattern: str, what: str) -> str:
    """Return a pattern as a regular expression of PostgreSQL, which matches whole texts.

    Parameters
    ----------
    pattern : str
        The pattern.
    what : str
        The meaning of the pattern, for the message.

    Raises
    ------
    ValueError
        If it is malformed, too long, or uses something that is not supported.
    TypeError
        If it is not text.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{what} must be text, not {type(pattern).__name__}")
    if not is_text(pattern):
        raise ValueError(f"{what} {pattern!r:.100} contains NUL or half of a surrogate pair")
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"{what} {pattern!r:.100} has more than {MAX_LENGTH} characters")
    parser = _Parser(str(pattern))
    try:
        return parser.parse()
    except _PatternError as reason:
        raise ValueError(
            f"{what} {pattern!r} is not a pattern that can be used: {reason}"
            f" (at character {parser.position})"
        ) from None
