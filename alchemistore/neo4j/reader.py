"""Read a graph as records, kind by kind and scope by scope, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from alchemistore.errors import GraphError
from alchemistore.models import Scope, ScopedKey
from alchemistore.models.clock import utc
from alchemistore.neo4j.graph import Graph, Row
from alchemistore.neo4j.records import (
    GraphAction,
    GraphClaim,
    GraphCounter,
    GraphHub,
    GraphIdentity,
    GraphLink,
    GraphManager,
    GraphNetwork,
    GraphObject,
    GraphPattern,
    GraphResult,
    GraphRoot,
    GraphService,
    GraphStrategy,
    GraphStray,
    GraphTask,
    GraphTracebacks,
)


class GraphScopes(NamedTuple):
    """The scopes of a graph in order, and the texts of those that are no scopes of a store."""

    scopes: tuple[Scope, ...]
    refused: tuple[str, ...]


class GraphReader:
    """The contents of a graph as records. Each call reads the graph again.

    Parameters
    ----------
    graph : Graph
        The graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def require_marks(self) -> None:
        """Raise an error if the graph is older than alchemiscale 0.4.

        Raises
        ------
        GraphError
            If there are networks, but no marks.
        """
        for row in self._graph.rows("kinds"):
            if row["networks"] and not row["marks"]:
                raise GraphError(
                    "the graph was written by alchemiscale 0.3 or older: its networks have no"
                    " marks. Stop its server, move the data to Neo4j 5 if it is older, run"
                    " 'alchemiscale database migrate v03-to-v04' of alchemiscale 0.4 or newer, and"
                    " import the graph then"
                )

    def scopes(self) -> GraphScopes:
        """Return the scopes that occur in the graph."""
        found, refused = [], []
        for row in self._graph.rows("scopes"):
            parts = [row[name] for name in ("org", "campaign", "project")]
            try:
                scope = Scope(*parts).require_storable()
            except ValueError:
                refused.append("-".join(map(str, parts)))
                continue
            if scope.specific():
                found.append(scope)
            else:
                refused.append(str(scope))
        return GraphScopes(tuple(sorted(found, key=str)), tuple(sorted(refused)))

    def networks(self, scope: Scope) -> Iterator[GraphNetwork]:
        """Yield the networks of a scope."""
        for row in self._rows("networks", scope):
            yield GraphNetwork(
                key=ScopedKey.from_str(row["key"]),
                name=row["name"],
                hubs=tuple(GraphHub(one["key"], one["weight"]) for one in row["hubs"]),
                states=tuple(row["states"]),
                strategies=tuple(
                    GraphStrategy(ScopedKey.from_str(one["key"]), one["state"])
                    for one in row["strategies"]
                ),
                edges=tuple(sorted(set(row["edges"]))),
            )

    def roots(self, scope: Scope) -> Iterator[GraphRoot]:
        """Yield the gufe objects of a scope that nothing depends on, except networks."""
        for row in self._rows("roots", scope):
            yield GraphRoot(ScopedKey.from_str(row["key"]), row["used"], row["run"])

    def objects(self, root: ScopedKey) -> Iterator[GraphObject]:
        """Yield a gufe object and everything that it depends on, in no order."""
        for row in self._graph.rows("objects", key=str(root)):
            yield GraphObject(
                key=row["key"],
                properties=row["properties"],
                links=tuple(
                    GraphLink(one["key"], one["attribute"], one["name"], one["index"])
                    for one in row["links"]
                ),
            )

    def tasks(self, scope: Scope) -> Iterator[GraphTask]:
        """Yield the tasks of the transformations of a scope."""
        for row in self._rows("tasks", scope):
            yield GraphTask(
                key=ScopedKey.from_str(row["key"]),
                transformation=row["transformation"],
                status=row["status"],
                priority=row["priority"],
                creator=row["creator"],
                created=_time(row["created"]),
                parents=tuple(map(ScopedKey.from_str, row["parents"])),
                claims=tuple(
                    GraphClaim(one["service"], _time(one["claimed"])) for one in row["claims"]
                ),
                actions=tuple(
                    GraphAction(ScopedKey.from_str(one["hub"]), one["weight"])
                    for one in row["actions"]
                ),
                counters=tuple(
                    GraphCounter(one["hub"], one["pattern"], one["retries"])
                    for one in row["counters"]
                ),
                results=tuple(map(ScopedKey.from_str, row["results"])),
            )

    def count_tasks(self, scope: Scope) -> int:
        """Return the number of tasks of the transformations of a scope."""
        return sum(row["tasks"] for row in self._rows("number of tasks", scope))

    def results(self, scope: Scope) -> Iterator[GraphResult]:
        """Yield the references to results of the tasks of a scope."""
        for row in self._rows("results", scope):
            yield GraphResult(
                key=ScopedKey.from_str(row["key"]),
                obj_key=row["obj_key"],
                location=row["location"],
                scope=row["scope"],
                ok=row["ok"],
                created=_time(row["created"]),
                creator=row["creator"],
            )

    def tracebacks(self, scope: Scope) -> Iterator[GraphTracebacks]:
        """Yield the tracebacks of the failures of a scope."""
        for row in self._rows("tracebacks", scope):
            yield GraphTracebacks(
                result=ScopedKey.from_str(row["result"]),
                tracebacks=tuple(row["tracebacks"] or ()),
                sources=tuple(row["sources"] or ()),
                failures=tuple(row["failures"] or ()),
            )

    def patterns(self, scope: Scope) -> Iterator[GraphPattern]:
        """Yield the restart patterns of the hubs of a scope."""
        for row in self._rows("patterns", scope):
            yield GraphPattern(ScopedKey.from_str(row["hub"]), row["pattern"], row["max_retries"])

    def strays(self, scope: Scope) -> Iterator[GraphStray]:
        """Yield the nodes of a scope without the relationship that gives them a meaning."""
        for row in self._rows("strays", scope):
            yield GraphStray(row["key"], row["reason"])

    def services(self) -> Iterator[GraphService]:
        """Yield the registered compute services."""
        for row in self._graph.rows("services"):
            yield GraphService(
                identifier=row["identifier"],
                registered=_required(row["registered"]),
                heartbeat=_required(row["heartbeat"]),
                failures=tuple(_required(one) for one in row["failures"] or ()),
                manager=row["manager"],
            )

    def managers(self) -> Iterator[GraphManager]:
        """Yield the registered compute managers."""
        for row in self._graph.rows("managers"):
            yield GraphManager(
                name=row["name"],
                uuid=row["uuid"],
                registered=_required(row["registered"]),
                status=row["status"],
                detail=row["detail"],
                saturation=row["saturation"],
                updated=_required(row["updated"]),
            )

    def identities(self) -> Iterator[GraphIdentity]:
        """Yield the users and compute identities."""
        for row in self._graph.rows("identities"):
            yield GraphIdentity(
                type=row["type"],
                identifier=row["identifier"],
                hashed_key=row["hashed_key"],
                expires=_time(row["expires"]),
                disabled=bool(row["disabled"]),
                email=row["email"],
                full_name=row["full_name"],
                scopes=tuple(row["scopes"] or ()),
            )

    def _rows(self, query: str, scope: Scope) -> Iterator[Row]:
        org, campaign, project = scope.to_tuple()
        return self._graph.rows(query, org=org, campaign=campaign, project=project)


def _time(value: Any) -> datetime | None:
    """Return a time of the graph in UTC; times of old servers have no zone and mean UTC."""
    if value is None:
        return None
    return utc(datetime.fromisoformat(value) if isinstance(value, str) else value)


def _required(value: Any) -> datetime:
    found = _time(value)
    if found is None:
        raise GraphError("the graph lacks a time that every registration has")
    return found
