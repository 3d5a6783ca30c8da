"""The report of an import: what was added, changed and removed, and what could not be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from alchemistore.models import Scope, ScopedKey
from alchemistore.neo4j.keys import key_in

Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing: neither what is being done, nor how much of it."""


@dataclass(frozen=True)
class Finding:
    """An object that was not stored exactly as the graph has it, and what was done about it.

    Attributes
    ----------
    key : str
        The key of the object.
    text : str
        A sentence.
    document : bool, default False
        Whether it is about the document of the object only.
    """

    key: str
    text: str
    document: bool = False


@dataclass
class Counts:
    """How many objects of a kind were added, changed and removed."""

    added: int = 0
    changed: int = 0
    removed: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass
class PartReport:
    """The report about a scope, about the services, or about the identities.

    Attributes
    ----------
    part : str
        The scope, ``services`` or ``identities``.
    counts : dict
        The counts of each kind.
    findings : dict of Finding to None
        The objects that were not stored exactly as the graph has them, each once, in order.
    new_keys : dict of str to str
        The keys of tasks and results that are stored in the scope of their transformation instead
        of the one in their key, with their new keys.
    """

    part: str
    counts: dict[str, Counts] = field(default_factory=dict)
    findings: dict[Finding, None] = field(default_factory=dict)
    new_keys: dict[str, str] = field(default_factory=dict)

    def count(self, kind: str, added: int = 0, changed: int = 0, removed: int = 0) -> None:
        """Add to the counts of a kind."""
        counts = self.counts.setdefault(kind, Counts())
        counts.added += added
        counts.changed += changed
        counts.removed += removed

    def find(self, key: object, text: str, *, document: bool = False) -> None:
        """Add a finding."""
        self.findings[Finding(str(key), text, document)] = None

    def note_key(self, key: ScopedKey, scope: Scope) -> None:
        """Record the new key of an object, if the one it has is of another scope."""
        if key.scope != scope:
            assert key.token is not None
            self.new_keys[str(key)] = str(key_in(scope, key.qualname, key.token))

    def add(self, other: PartReport) -> None:
        """Add another report about the same part."""
        for kind, counts in other.counts.items():
            self.count(kind, counts.added, counts.changed, counts.removed)
        self.findings |= other.findings
        self.new_keys |= other.new_keys

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        changes = [(kind, one) for kind, one in self.counts.items() if one]
        yield f"{self.part}: {'no changes' if not changes else ''}".rstrip()
        for kind, one in changes:
            numbers = f"{one.added:>9,} added {one.changed:>9,} changed {one.removed:>9,} removed"
            yield f"  {kind:<24} {numbers}"
        for finding in self.findings:
            yield f"  - {finding.key}: {finding.text}"
        for old, new in self.new_keys.items():
            yield f"  {old} is {new} now"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "part": self.part,
            "counts": {kind: dict(vars(one)) for kind, one in self.counts.items()},
            "findings": [dict(vars(one)) for one in self.findings],
            "new_keys": self.new_keys,
        }


def first_line(error: object) -> str:
    """Return the first line of an error, or its kind if it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
