"""Write a store into an empty Neo4j, as alchemiscale 0.8's own store would have written it.

This is the way back. The graph has no place for attempts that have ended, the history of statuses,
quotas, and requests; they are counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from alchemistore import gufe_adapter
from alchemistore.errors import GraphError
from alchemistore.models.text import unescape
from alchemistore.neo4j.documents import REFERENCE
from alchemistore.neo4j.graph import Neo4jGraph
from alchemistore.neo4j.report import PartReport, Progress, no_progress
from alchemistore.store import StateStore

PAGE = 1000
MODELS = "alchemiscale.storage.models"
NIL = UUID(int=0)
INTEGERS = range(-(2**63), 2**63)
_LABEL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

# The constraints that the original's check expects, exactly.
CONSTRAINTS = {
    "scoped_key": ("GufeTokenizable", "_scoped_key"),
    "user_identifier": ("CredentialedUserIdentity", "identifier"),
    "compute_identifier": ("CredentialedComputeIdentity", "identifier"),
    "compute_service_registration_identifier": ("ComputeServiceRegistration", "identifier"),
}
IS_EMPTY = "MATCH (n) RETURN n LIMIT 1"
# By label, which cannot be a parameter; `_label` admits names of classes only.
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
"""
LINK_CLAIMS = """
    UNWIND $rows AS row
    MATCH (s:ComputeServiceRegistration {identifier: row.service})
    MATCH (t:GufeTokenizable {_scoped_key: row.task})
    CREATE (s)-[:CLAIMS {claimed: row.claimed}]->(t)
"""
LINK_MANAGERS = """
    MATCH (m:ComputeManagerRegistration)
    MATCH (s:ComputeServiceRegistration {manager_name: m.name})
    CREATE (m)-[:MANAGES]->(s)
"""

SCOPES = text("SELECT id, org, campaign, project FROM scopes ORDER BY org, campaign, project")
DOCUMENTS = text("""
    SELECT token, kind, document FROM gufe_objects
    WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
""")
NETWORKS = text("""
    SELECT n.token, n.kind, h.token AS taskhub, h.weight, m.token AS mark, m.state,
        n.strategy, g.kind AS strategy_kind, s.mode, s.status, s.iterations, s.sleep_interval,
        s.last_iteration_at AS last_iteration, s.last_iteration_result_count,
        s.max_tasks_per_transformation, s.task_scaling, s.exception, s.traceback
    FROM networks AS n
    LEFT JOIN taskhubs AS h ON h.scope_id = n.scope_id AND h.network = n.token
    LEFT JOIN network_marks AS m ON m.scope_id = n.scope_id AND m.network = n.token
    LEFT JOIN gufe_objects AS g ON g.scope_id = n.scope_id AND g.token = n.strategy
    LEFT JOIN network_strategies AS s ON s.scope_id = n.scope_id AND s.network = n.token
    WHERE n.scope_id = :scope_id AND n.token > :after ORDER BY n.token LIMIT :limit
""")
TASKS = text("""
    SELECT t.token, t.status, t.priority, t.creator, t.created_at, x.kind, t.transformation,
        (
            SELECT e.parent FROM extends AS e WHERE e.scope_id = t.scope_id AND e.task = t.token
        ) AS parent, c.service, c.claimed_at
    FROM tasks AS t
    JOIN transformations AS x ON x.scope_id = t.scope_id AND x.token = t.transformation
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    WHERE t.scope_id = :scope_id AND t.token > :after ORDER BY t.token LIMIT :limit
""")
PARENTS = text("""
    SELECT task AS token, parent FROM extends
    WHERE scope_id = :scope_id AND task > :after ORDER BY task LIMIT :limit
""")
PATTERNS = text("""
    SELECT taskhub, pattern, max_retries FROM restart_patterns
    WHERE scope_id = :scope_id ORDER BY taskhub, token
""")
# A page of tasks, because a task may be on several hubs and have several patterns and results.
PAGE_OF_TASKS = """
    SELECT token FROM tasks
    WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
"""
ACTIONS = text(f"""
    SELECT t.token, a.taskhub, a.weight FROM ({PAGE_OF_TASKS}) AS t
    LEFT JOIN actions AS a ON a.scope_id = :scope_id AND a.task = t.token
    ORDER BY t.token, a.taskhub
""")
COUNTERS = text(f"""
    SELECT t.token, p.taskhub, p.pattern,
        coalesce(a.retries[array_position(a.patterns, p.token)], 0) AS retries
    FROM ({PAGE_OF_TASKS}) AS t
    LEFT JOIN actions AS a ON a.scope_id = :scope_id AND a.task = t.token
    LEFT JOIN restart_patterns AS p ON p.scope_id = :scope_id AND p.taskhub = a.taskhub
    ORDER BY t.token, p.taskhub, p.token
""")
RESULTS = text("""
    SELECT token, obj_key, location, scope, ok, creator, datetime_created FROM results
    WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
""")
RESULTS_OF_TASKS = text(f"""
    SELECT t.token, l.result FROM ({PAGE_OF_TASKS}) AS t
    LEFT JOIN task_results AS l ON l.scope_id = :scope_id AND l.task = t.token
    ORDER BY t.token, l.result
""")
TRACEBACKS = text("""
    SELECT r.token, b.token AS key, b.tracebacks, b.source_keys, b.failure_keys
    FROM (
        SELECT token FROM results
        WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
    ) AS r
    LEFT JOIN tracebacks AS b ON b.scope_id = :scope_id AND b.result = r.token
    ORDER BY r.token, b.token
""")
SERVICES = text("""
    SELECT s.identifier, s.registered_at, s.heartbeat_at, s.manager_name,
        ARRAY(
            SELECT f.failed_at FROM service_failures AS f WHERE f.service = s.identifier
            ORDER BY f.failed_at DESC
        ) AS failures
    FROM compute_services AS s ORDER BY s.identifier
""")
MANAGERS = text("""
    SELECT name, uuid, registered_at, status, detail, saturation, status_updated_at
    FROM compute_managers ORDER BY name
""")
IDENTITIES = text("""
    SELECT i.type, i.identifier, i.hashed_key, i.expires_at, i.disabled, i.email, i.full_name,
        ARRAY(
            SELECT s.scope FROM identity_scopes AS s WHERE s.identity_id = i.id ORDER BY s.position
        ) AS scopes
    FROM identities AS i ORDER BY i.id
""")
LEFT_BEHIND = {
    "attempts that have ended": text("SELECT count(*) FROM attempts WHERE ended_at IS NOT NULL"),
    "changes of status": text("SELECT count(*) FROM status_changes"),
    "quotas": text("SELECT count(*) FROM quotas"),
}


class GraphExport:
    """An export of a store into an empty graph.

    Parameters
    ----------
    store : StateStore
        The store. Nothing may write to it meanwhile.
    graph : Neo4jGraph
        The graph.
    progress : callable, optional
        Takes what is being exported, how much of it is done, and how much there is.
    """

    def __init__(
        self,
        store: StateStore,
        graph: Neo4jGraph,
        progress: Progress = no_progress,
    ) -> None:
        self._store, self._graph = store, graph
        self._progress = progress

    def run(self) -> list[PartReport]:
        """Write everything into the graph.

        Returns
        -------
        list of PartReport
            What was added to the graph, for each scope and for the rest; and in the last report,
            what has no place in a graph.

        Raises
        ------
        GraphError
            If the graph is not empty or cannot be written.
        """
        if list(self._graph.write(IS_EMPTY)):
            raise GraphError(
                f"the graph at {self._graph.address} is not empty; export into an empty one"
            )
        for name, (label, attribute) in CONSTRAINTS.items():
            self._graph.write(
                f"CREATE CONSTRAINT {name} IF NOT EXISTS FOR (n:{label})"
                f" REQUIRE n.{attribute} IS UNIQUE"
            )
        return self._store.run(lambda tx, again: list(self._parts(tx)), readonly=True)

    def _parts(self, tx: Connection) -> Iterator[PartReport]:
        services = self._registrations(tx)
        for row in tx.execute(SCOPES).all():
            scope = _Scope(row.id, (row.org, row.campaign, row.project))
            yield self._scope(tx, scope)
        yield services
        yield self._identities(tx)
        left = PartReport("no place in a graph")
        for kind, statement in LEFT_BEHIND.items():
            number = tx.scalar(statement)
            if number:
                left.find(kind, f"{number:,} were left out")
        yield left

    def _registrations(self, tx: Connection) -> PartReport:
        report = PartReport("services")
        self._add(
            report,
            "services",
            ADD_REGISTRATIONS.format(label="ComputeServiceRegistration"),
            (
                {
                    "identifier": row.identifier,
                    "registered": _utc(row.registered_at),
                    "heartbeat": _utc(row.heartbeat_at),
                    "failure_times": [_utc(one) for one in row.failures],
                    "manager_name": row.manager_name,
                }
                for row in tx.execute(SERVICES)
            ),
        )
        self._add(
            report,
            "managers",
            ADD_REGISTRATIONS.format(label="ComputeManagerRegistration"),
            (
                {
                    "name": row.name,
                    "uuid": row.uuid.hex,
                    "registered": _utc(row.registered_at),
                    "status": row.status,
                    "detail": unescape(row.detail) or "",
                    "saturation": row.saturation,
                    "last_status_update": _utc(row.status_updated_at),
                }
                for row in tx.execute(MANAGERS)
            ),
        )
        self._graph.write(LINK_MANAGERS)
        return report

    def _identities(self, tx: Connection) -> PartReport:
        report = PartReport("identities")
        rows = tx.execute(IDENTITIES).all()
        for kind, label in (("user", "User"), ("compute", "Compute")):
            self._add(
                report,
                "identities",
                ADD_REGISTRATIONS.format(label=f"CredentialedEntity:Credentialed{label}Identity"),
                (
                    {
                        "identifier": row.identifier,
                        "hashed_key": row.hashed_key,
                        "expires": _utc(row.expires_at),
                        "disabled": row.disabled,
                        "email": unescape(row.email),
                        "scopes": row.scopes,
                        **({"full_name": unescape(row.full_name)} if kind == "user" else {}),
                    }
                    for row in rows
                    if row.type == kind
                ),
            )
        return report

    def _scope(self, tx: Connection, scope: _Scope) -> PartReport:
        report = PartReport(str(scope))
        self._documents(tx, scope, report)
        for page in _pages(tx, NETWORKS, scope):
            self._networks(scope, report, page)
        rows = tx.execute(PATTERNS, {"scope_id": scope.id}).all()
        self._nodes(
            report,
            "restart patterns",
            "TaskRestartPattern",
            (
                scope.node(
                    "TaskRestartPattern",
                    scope.pattern(row.taskhub, row.pattern),
                    pattern=unescape(row.pattern),
                    max_retries=row.max_retries,
                    taskhub_scoped_key=scope.key("TaskHub", row.taskhub),
                )
                for row in rows
            ),
        )
        self._link(
            "ENFORCES",
            (
                scope.link(
                    ("TaskRestartPattern", scope.pattern(row.taskhub, row.pattern)),
                    ("TaskHub", row.taskhub),
                )
                for row in rows
            ),
        )
        for page in _pages(tx, TASKS, scope):
            self._tasks(scope, report, page)
        for page in _pages(tx, PARENTS, scope):
            self._link(
                "EXTENDS",
                (scope.link(("Task", row.token), ("Task", row.parent)) for row in page),
            )
        for page in _pages(tx, ACTIONS, scope):
            self._link(
                "ACTIONS",
                (
                    scope.link(
                        ("TaskHub", row.taskhub),
                        ("Task", row.token),
                        {"weight": row.weight, "task": scope.key("Task", row.token)},
                    )
                    for row in page
                    if row.taskhub is not None
                ),
                report,
                "actions",
            )
        for page in _pages(tx, COUNTERS, scope):
            self._link(
                "APPLIES",
                (
                    scope.link(
                        ("TaskRestartPattern", scope.pattern(row.taskhub, row.pattern)),
                        ("Task", row.token),
                        {"num_retries": row.retries},
                    )
                    for row in page
                    if row.taskhub is not None
                ),
            )
        for page in _pages(tx, RESULTS, scope):
            self._results(scope, report, page)
        for page in _pages(tx, RESULTS_OF_TASKS, scope):
            self._link(
                "RESULTS_IN",
                (
                    scope.link(("Task", row.token), ("ProtocolDAGResultRef", row.result))
                    for row in page
                    if row.result is not None
                ),
            )
        for page in _pages(tx, TRACEBACKS, scope):
            self._tracebacks(scope, report, [row for row in page if row.key is not None])
        return report

    def _documents(self, tx: Connection, scope: _Scope, report: PartReport) -> None:
        """Add the nodes of all gufe objects, and then their dependencies."""
        for page in _pages(tx, DOCUMENTS, scope):
            nodes: dict[str, list[dict[str, Any]]] = {}
            for kind, token, properties, _ in _converted(page, scope, report):
                nodes.setdefault(kind, []).append(
                    scope.node(kind, token, module=None, **properties)
                )
            for kind, rows in nodes.items():
                self._nodes(report, "objects", kind, rows)
        for page in _pages(tx, DOCUMENTS, scope):
            self._link(
                "DEPENDS_ON",
                (
                    {
                        "start": scope.key(kind, token),
                        "end": f"{child}-{scope}",
                        "properties": {**scope.properties, **place},
                    }
                    for kind, token, _, links in _converted(page, scope, PartReport(""))
                    for child, place in links.items()
                ),
            )

    def _networks(self, scope: _Scope, report: PartReport, page: list[Any]) -> None:
        report.count("networks", added=len(page))
        hubs = [row for row in page if row.taskhub is not None]
        marks = [row for row in page if row.mark is not None]
        self._nodes(
            report,
            "hubs",
            "TaskHub",
            (
                scope.node(
                    "TaskHub",
                    row.taskhub,
                    network=scope.key(row.kind, row.token),
                    weight=row.weight,
                )
                for row in hubs
            ),
        )
        self._link(
            "PERFORMS",
            (scope.link(("TaskHub", row.taskhub), (row.kind, row.token)) for row in hubs),
        )
        self._nodes(
            report,
            "marks",
            "NetworkMark",
            (
                scope.node(
                    "NetworkMark",
                    row.mark,
                    target=scope.key(row.kind, row.token),
                    state=row.state,
                )
                for row in marks
            ),
        )
        self._link(
            "MARKS",
            (scope.link(("NetworkMark", row.mark), (row.kind, row.token)) for row in marks),
        )
        self._link(
            "PROGRESSES",
            (
                scope.link(
                    (row.strategy_kind, row.strategy),
                    (row.kind, row.token),
                    {
                        "mode": row.mode or "partial",
                        "status": row.status or "awake",
                        "iterations": row.iterations or 0,
                        "sleep_interval": row.sleep_interval or 3600,
                        "last_iteration": _utc(row.last_iteration),
                        "last_iteration_result_count": row.last_iteration_result_count or 0,
                        "max_tasks_per_transformation": row.max_tasks_per_transformation or 3,
                        "task_scaling": row.task_scaling or "exponential",
                        "exception": row.exception and [unescape(one) for one in row.exception],
                        "traceback": unescape(row.traceback),
                    },
                )
                for row in page
                if row.strategy is not None
            ),
            report,
            "strategies",
        )

    def _tasks(self, scope: _Scope, report: PartReport, page: list[Any]) -> None:
        self._nodes(
            report,
            "tasks",
            "Task",
            (
                scope.node(
                    "Task",
                    row.token,
                    status=row.status,
                    priority=row.priority,
                    creator=unescape(row.creator),
                    datetime_created=_utc(row.created_at),
                    extends=None if row.parent is None else scope.key("Task", row.parent),
                    _key=f"Task-{row.token.hex}",
                )
                for row in page
            ),
        )
        self._link(
            "PERFORMS",
            (scope.link(("Task", row.token), (row.kind, row.transformation)) for row in page),
        )
        claims = [
            {
                "service": row.service,
                "task": scope.key("Task", row.token),
                "claimed": _utc(row.claimed_at),
            }
            for row in page
            if row.service is not None
        ]
        self._add(report, "claims", LINK_CLAIMS, claims)

    def _results(self, scope: _Scope, report: PartReport, page: list[Any]) -> None:
        self._nodes(
            report,
            "results",
            "ProtocolDAGResultRef",
            (
                scope.node(
                    "ProtocolDAGResultRef",
                    row.token,
                    location=row.location,
                    obj_key=row.obj_key,
                    scope=row.scope,
                    ok=row.ok,
                    creator=unescape(row.creator),
                    datetime_created=row.datetime_created
                    and row.datetime_created.astimezone(UTC).isoformat(),
                )
                for row in page
            ),
        )

    def _tracebacks(self, scope: _Scope, report: PartReport, page: list[Any]) -> None:
        self._nodes(
            report,
            "tracebacks",
            "Tracebacks",
            (
                scope.node(
                    "Tracebacks",
                    row.key,
                    tracebacks=[unescape(one) for one in row.tracebacks],
                    source_keys=[unescape(one) for one in row.source_keys],
                    failure_keys=[unescape(one) for one in row.failure_keys],
                )
                for row in page
            ),
        )
        self._link(
            "DETAILS",
            (
                {
                    **scope.link(("Tracebacks", row.key), ("ProtocolDAGResultRef", row.token)),
                    "properties": {},
                }
                for row in page
            ),
        )

    def _nodes(
        self, report: PartReport, kind: str, label: str, rows: Iterable[dict[str, Any]]
    ) -> None:
        if not _LABEL.fullmatch(label):
            raise GraphError(f"{label!r:.200} is no name of a class, so it cannot be a label")
        self._add(report, kind, ADD_NODES.format(label=label), rows)

    def _link(
        self,
        relationship: str,
        rows: Iterable[dict[str, Any]],
        report: PartReport | None = None,
        kind: str = "",
    ) -> None:
        self._add(report, kind, LINK.format(kind=relationship), rows)

    def _add(
        self,
        report: PartReport | None,
        kind: str,
        statement: str,
        rows: Iterable[dict[str, Any]],
    ) -> None:
        given = list(rows)
        if given:
            self._graph.write(statement, rows=given)
        if report is not None:
            report.count(kind, added=len(given))


class _Scope:
    """A scope, and the nodes and relationships in it."""

    def __init__(self, scope_id: int, parts: tuple[str, str, str]) -> None:
        self.id = scope_id
        self._text = "-".join(parts)
        self.properties = dict(zip(("_org", "_campaign", "_project"), parts, strict=True))

    def __str__(self) -> str:
        return self._text

    def key(self, kind: str, token: UUID) -> str:
        """Return a scoped key."""
        return f"{kind}-{token.hex}-{self}"

    def pattern(self, taskhub: UUID, pattern: str) -> UUID:
        """Return the token of a restart pattern, which the original computes like this."""
        hashed = (unescape(pattern) + self.key("TaskHub", taskhub)).encode(errors="surrogatepass")
        return UUID(hex=hashlib.md5(hashed, usedforsecurity=False).hexdigest())

    def node(
        self, kind: str, token: UUID, *, module: str | None = MODELS, **properties: Any
    ) -> dict[str, Any]:
        """Return the properties of a node; a module is that of an object of the original."""
        own = (
            {}
            if module is None
            else {"__module__": module, "__qualname__": kind, ":version:": 1, "_json_props": []}
        )
        return {
            **own,
            **properties,
            **self.properties,
            "_gufe_key": f"{kind}-{token.hex}",
            "_scoped_key": self.key(kind, token),
        }

    def link(
        self,
        start: tuple[str, UUID],
        end: tuple[str, UUID],
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return a relationship; by default, its properties are the parts of the scope."""
        return {
            "start": self.key(*start),
            "end": self.key(*end),
            "properties": self.properties if properties is None else properties,
        }


Links = dict[str, dict[str, Any]]


def _converted(
    page: list[Any], scope: _Scope, report: PartReport
) -> Iterator[tuple[str, UUID, dict[str, Any], Links]]:
    """Yield the properties of objects, and the keys that they refer to with their places."""
    keys = [f"{row.kind}-{row.token.hex}" for row in page]
    contents = gufe_adapter.plain_documents(keys, [row.document for row in page])
    for row, found in zip(page, contents, strict=True):
        properties, links, lost = convert(found)
        if lost:
            report.find(
                scope.key(row.kind, row.token),
                f"it refers twice to {', '.join(lost)}; a graph holds one of them",
            )
        yield row.kind, row.token, properties, links


def convert(found: dict[str, Any]) -> tuple[dict[str, Any], Links, list[str]]:
    """Return the properties of an object in a graph, its dependencies, and those that are lost.

    Values that Neo4j does not have are JSON. There is one dependency between two objects.
    """
    properties: dict[str, Any] = {}
    as_json: list[str] = []
    places: list[tuple[str, dict[str, Any]]] = []
    for name, value in found.items():
        if _is_reference(value):
            places.append((value[REFERENCE], {"attribute": name}))
        elif isinstance(value, dict) and value and all(map(_is_reference, value.values())):
            places += [
                (one[REFERENCE], {"attribute": name, "key": key}) for key, one in value.items()
            ]
        elif isinstance(value, list) and value and all(map(_is_reference, value)):
            places += [
                (one[REFERENCE], {"attribute": name, "index": index})
                for index, one in enumerate(value)
            ]
        elif _is_native(value):
            properties[name] = value
        else:
            properties[name] = json.dumps(value, sort_keys=True)
            as_json.append(name)
    links = dict(places)
    lost = [key for key, place in places if links[key] is not place]
    return {**properties, "_json_props": as_json}, links, lost


def _is_reference(value: object) -> bool:
    return isinstance(value, dict) and REFERENCE in value


def _is_native(value: Any) -> bool:
    """Check whether Neo4j has this value; None is left out by it."""
    if isinstance(value, list):
        kinds = {type(one) for one in value}
        return len(kinds) == 1 and kinds <= {int, float, str} and all(map(_is_native, value))
    if type(value) is int:
        return value in INTEGERS
    return value is None or isinstance(value, bool | float | str)


def _pages(tx: Connection, statement: TextClause, scope: _Scope) -> Iterator[list[Any]]:
    """Yield pages of rows in the order of their tokens."""
    after = NIL
    while True:
        values = {"scope_id": scope.id, "after": after, "limit": PAGE}
        page = tx.execute(statement, values).all()
        if not page:
            return
        yield list(page)
        after = page[-1].token


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
