"""The numbers of a comparison of a store with a graph."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Comparison:
    """How the objects of a kind compare.

    Attributes
    ----------
    part : str
        The scope, ``services`` or ``identities``.
    kind : str
        The kind of objects.
    graph : int
        How many the graph has.
    store : int
        How many the store has.
    listed : int
        How many the report of the import lists, so that they may differ.
    unverified : int
        How many could not be compared, because gufe or a package with their class is missing.
    different : list of str
        Those that differ, are missing, or are not in the graph.
    """

    part: str
    kind: str
    graph: int = 0
    store: int = 0
    listed: int = 0
    unverified: int = 0
    different: list[str] = field(default_factory=list)
