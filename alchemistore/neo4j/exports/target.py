"""The graph that an export fills."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from alchemistore.errors import GraphError
from alchemistore.neo4j.graph import Row
from alchemistore.neo4j.report import PartReport

LABEL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
# The constraints that the original's check expects, exactly.
CONSTRAINTS = {
    "scoped_key": ("GufeTokenizable", "_scoped_key"),
    "user_identifier": ("CredentialedUserIdentity", "identifier"),
    "compute_identifier": ("CredentialedComputeIdentity", "identifier"),
    "compute_service_registration_identifier": ("ComputeServiceRegistration", "identifier"),
}
IS_EMPTY = "MATCH (n) RETURN n LIMIT 1"
# By label, which cannot be a parameter, so only names of classes are admitted.
ADD_NODES = (
    "UNWIND $rows AS row MERGE (n:GufeTokenizable {{_scoped_key: row._scoped_key}})"
    " SET n:`{label}`, n += row"
)
ADD_REGISTRATIONS = "UNWIND $rows AS row CREATE (n:{label}) SET n = row"
LINK = """
    UNWIND $rows AS row
    MATCH (a:GufeTokenizable {{_scoped_key: row.start}})
    MATCH (b:GufeTokenizable {{_scoped_key: row.end}})
    CREATE (a)-[r:{kind}]->(b) SET r = row.properties
    RETURN count(r) AS written
"""
LINK_CLAIMS = """
    UNWIND $rows AS row
    MATCH (s:ComputeServiceRegistration {identifier: row.service})
    MATCH (t:GufeTokenizable {_scoped_key: row.task})
    CREATE (s)-[c:CLAIMS {claimed: row.claimed}]->(t)
    RETURN count(c) AS written
"""
LINK_MANAGERS = """
    MATCH (m:ComputeManagerRegistration)
    MATCH (s:ComputeServiceRegistration {manager_name: m.name})
    CREATE (m)-[:MANAGES]->(s)
"""


class Writable(Protocol):
    """A graph that can be written."""

    address: str

    def write(self, statement: str, **parameters: Any) -> list[Row]:
        """Run a statement once, and return its rows."""


class GraphTarget:
    """A graph to be filled, with the statements for it.

    Parameters
    ----------
    graph : Writable
        The graph.
    """

    def __init__(self, graph: Writable) -> None:
        self._graph = graph

    def prepare(self) -> None:
        """Create the constraints.

        Raises
        ------
        GraphError
            If the graph is not empty.
        """
        if self._graph.write(IS_EMPTY):
            raise GraphError(
                f"the graph at {self._graph.address} is not empty; export into an empty one"
            )
        for name, (label, attribute) in CONSTRAINTS.items():
            self._graph.write(
                f"CREATE CONSTRAINT {name} IF NOT EXISTS FOR (n:{label})"
                f" REQUIRE n.{attribute} IS UNIQUE"
            )

    def add_nodes(
        self, report: PartReport, kind: str, label: str, rows: Iterable[dict[str, Any]]
    ) -> None:
        """Add nodes in scopes; those with one key are one node.

        Parameters
        ----------
        report : PartReport
            The report, which counts them.
        kind : str
            The kind of objects in the report.
        label : str
            The name of their class.
        rows : iterable of dict
            Their properties.

        Raises
        ------
        GraphError
            If the label is no name of a class.
        """
        if not LABEL.fullmatch(label):
            raise GraphError(f"{label!r:.200} is no name of a class, so it cannot be a label")
        given = list(rows)
        if given:
            self._graph.write(ADD_NODES.format(label=label), rows=given)
        report.count(kind, added=len(given))

    def add_registrations(
        self, report: PartReport, kind: str, label: str, rows: Iterable[dict[str, Any]]
    ) -> None:
        """Add services, managers or identities; see `add_nodes`."""
        given = list(rows)
        if given:
            self._graph.write(ADD_REGISTRATIONS.format(label=label), rows=given)
        report.count(kind, added=len(given))

    def link(self, relationship: str, rows: Iterable[dict[str, Any]]) -> int:
        """Add relationships between nodes in scopes, and return how many.

        Raises
        ------
        GraphError
            If the graph lacks a node at the end of one.
        """
        return self._link(relationship, LINK.format(kind=relationship), list(rows))

    def link_claims(self, rows: Iterable[dict[str, Any]]) -> int:
        """Add claims of services, and return how many; see `link`."""
        return self._link("CLAIMS", LINK_CLAIMS, list(rows))

    def link_managers(self) -> None:
        """Add the relationships of managers to their services."""
        self._graph.write(LINK_MANAGERS)

    def _link(self, relationship: str, statement: str, rows: list[dict[str, Any]]) -> int:
        if not rows:
            return 0
        [answer] = self._graph.write(statement, rows=rows)
        if answer["written"] != len(rows):
            raise GraphError(
                f"{len(rows) - answer['written']} relationships {relationship} have no node at one"
                " end; empty the graph, run 'alchemistore database check', and export again"
            )
        return len(rows)
