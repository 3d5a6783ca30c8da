"""Write a store into an empty Neo4j, as alchemiscale 0.8's own store would have written it.

This is the way back. The graph has no place for attempts that have ended, the history of statuses,
quotas, and other things; they are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, TextClause

from alchemistore.database.transaction import open_transaction
from alchemistore.database.translation import translate_errors
from alchemistore.models.text import unescape
from alchemistore.neo4j.exports import rows
from alchemistore.neo4j.exports.nodes import GraphScope, converted, in_utc, iso
from alchemistore.neo4j.exports.target import GraphTarget, Writable
from alchemistore.neo4j.report import PartReport, Progress, no_progress
from alchemistore.store import StateStore


class GraphExport:
    """An export of a store into an empty graph.

    Parameters
    ----------
    store : StateStore
        The store. The export reads it as it was when it began.
    graph : Writable
        The graph.
    progress : callable, optional
        Takes what is being exported, how much of it is done, and how much there is.
    """

    def __init__(
        self, store: StateStore, graph: Writable, progress: Progress = no_progress
    ) -> None:
        self._store, self._target, self._progress = store, GraphTarget(graph), progress

    def run(self) -> Iterator[PartReport]:
        """Write everything into the graph, once: nothing is repeated.

        Yields
        ------
        PartReport
            What was added to the graph, for the rest and for each scope; and in the last report,
            what has no place in a graph.

        Raises
        ------
        GraphError
            If the graph is not empty or cannot be written.
        """
        self._target.prepare()
        with (
            translate_errors(self._store.engine),
            open_transaction(self._store.engine, isolation="REPEATABLE READ", readonly=True) as tx,
        ):
            yield from self._parts(tx)

    def _parts(self, tx: Connection) -> Iterator[PartReport]:
        # Claims refer to services.
        yield self._registrations(tx)
        yield self._identities(tx)
        scopes = tx.execute(rows.SCOPES).all()
        for number, row in enumerate(scopes):
            self._progress("scopes", number, len(scopes))
            yield self._scope(tx, GraphScope(row.id, (row.org, row.campaign, row.project)))
        self._progress("scopes", len(scopes), len(scopes))
        left = PartReport("no place in a graph")
        for kind, statement in rows.LEFT_BEHIND.items():
            number = tx.scalar(statement)
            if number:
                left.find(kind, f"{number:,} were left out")
        yield left

    def _registrations(self, tx: Connection) -> PartReport:
        report = PartReport("services")
        self._target.add_registrations(
            report,
            "services",
            "ComputeServiceRegistration",
            (
                {
                    "identifier": row.identifier,
                    "registered": in_utc(row.registered_at),
                    "heartbeat": in_utc(row.heartbeat_at),
                    "failure_times": [in_utc(one) for one in row.failures],
                    "manager_name": row.manager_name,
                }
                for row in tx.execute(rows.SERVICES)
            ),
        )
        self._target.add_registrations(
            report,
            "managers",
            "ComputeManagerRegistration",
            (
                {
                    "name": row.name,
                    "uuid": row.uuid.hex,
                    "registered": in_utc(row.registered_at),
                    "status": row.status,
                    "detail": unescape(row.detail) or "",
                    "saturation": row.saturation,
                    "last_status_update": in_utc(row.status_updated_at),
                }
                for row in tx.execute(rows.MANAGERS)
            ),
        )
        self._target.link_managers()
        return report

    def _identities(self, tx: Connection) -> PartReport:
        report = PartReport("identities")
        found = tx.execute(rows.IDENTITIES).all()
        for kind, label in (("user", "User"), ("compute", "Compute")):
            self._target.add_registrations(
                report,
                "identities",
                f"CredentialedEntity:Credentialed{label}Identity",
                (
                    {
                        "identifier": row.identifier,
                        "hashed_key": row.hashed_key,
                        "expires": in_utc(row.expires_at),
                        "disabled": row.disabled,
                        "email": unescape(row.email),
                        "scopes": row.scopes,
                        **({"full_name": unescape(row.full_name)} if kind == "user" else {}),
                    }
                    for row in found
                    if row.type == kind
                ),
            )
        return report

    def _scope(self, tx: Connection, scope: GraphScope) -> PartReport:
        report = PartReport(str(scope))
        sizes = tx.execute(rows.SIZES, {"scope_id": scope.id}).one()

        def pages(statement: TextClause, what: str = "", total: int = 0) -> Iterator[Any]:
            done = 0
            for page in rows.pages_of(tx, statement, scope.id):
                yield page
                done += len({row.token for row in page})
                if what:
                    self._progress(f"{what} of {scope}", done, total)

        for page in pages(rows.DOCUMENTS, "objects", sizes.objects):
            self._objects(scope, report, page)
        for page in pages(rows.DOCUMENTS, "references between objects", sizes.objects):
            self._references(scope, page)
        for page in pages(rows.NETWORKS):
            self._networks(scope, report, page)
        self._patterns(scope, report, tx.execute(rows.PATTERNS, {"scope_id": scope.id}).all())
        for page in pages(rows.TASKS, "tasks", sizes.tasks):
            self._tasks(scope, report, page)
        for page in pages(rows.PARENTS):
            self._target.link(
                "EXTENDS",
                (scope.link(("Task", row.token), ("Task", row.parent)) for row in page),
            )
        for page in pages(rows.ACTIONS, "actions of tasks", sizes.tasks):
            self._actions(scope, report, page)
        for page in pages(rows.COUNTERS, "restarts of tasks", sizes.tasks):
            self._counters(scope, page)
        for page in pages(rows.RESULTS, "results", sizes.results):
            self._results(scope, report, page)
        for page in pages(rows.RESULTS_OF_TASKS, "results of tasks", sizes.tasks):
            self._target.link(
                "RESULTS_IN",
                (
                    scope.link(("Task", row.token), ("ProtocolDAGResultRef", row.result))
                    for row in page
                    if row.result is not None
                ),
            )
        for page in pages(rows.TRACEBACKS, "tracebacks", sizes.results):
            self._tracebacks(scope, report, [row for row in page if row.key is not None])
        return report

    def _objects(self, scope: GraphScope, report: PartReport, page: Sequence[Row[Any]]) -> None:
        nodes: dict[str, list[dict[str, Any]]] = {}
        for one in converted(page, scope, report):
            node = scope.node(one.kind, one.token, module=None, **one.properties)
            nodes.setdefault(one.kind, []).append(node)
        for kind, found in nodes.items():
            self._target.add_nodes(report, "objects", kind, found)

    def _references(self, scope: GraphScope, page: Sequence[Row[Any]]) -> None:
        self._target.link(
            "DEPENDS_ON",
            (
                {
                    "start": scope.key(one.kind, one.token),
                    "end": f"{part}-{scope}",
                    "properties": {**scope.properties, **place},
                }
                for one in converted(page, scope, PartReport(""))
                for part, place in one.links.items()
            ),
        )

    def _patterns(self, scope: GraphScope, report: PartReport, page: Sequence[Row[Any]]) -> None:
        self._target.add_nodes(
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
                for row in page
            ),
        )
        self._target.link(
            "ENFORCES",
            (
                scope.link(
                    ("TaskRestartPattern", scope.pattern(row.taskhub, row.pattern)),
                    ("TaskHub", row.taskhub),
                )
                for row in page
            ),
        )

    def _actions(self, scope: GraphScope, report: PartReport, page: Sequence[Row[Any]]) -> None:
        linked = self._target.link(
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
        )
        report.count("actions", added=linked)

    def _counters(self, scope: GraphScope, page: Sequence[Row[Any]]) -> None:
        self._target.link(
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

    def _networks(self, scope: GraphScope, report: PartReport, page: Sequence[Row[Any]]) -> None:
        report.count("networks", added=len(page))
        hubs = [row for row in page if row.taskhub is not None]
        marks = [row for row in page if row.mark is not None]
        self._target.add_nodes(
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
        self._target.link(
            "PERFORMS",
            (scope.link(("TaskHub", row.taskhub), (row.kind, row.token)) for row in hubs),
        )
        self._target.add_nodes(
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
        self._target.link(
            "MARKS",
            (scope.link(("NetworkMark", row.mark), (row.kind, row.token)) for row in marks),
        )
        linked = self._target.link(
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
                        "last_iteration": in_utc(row.last_iteration),
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
        )
        report.count("strategies", added=linked)

    def _tasks(self, scope: GraphScope, report: PartReport, page: Sequence[Row[Any]]) -> None:
        self._target.add_nodes(
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
                    datetime_created=in_utc(row.created_at),
                    extends=None if row.parent is None else scope.key("Task", row.parent),
                    _key=f"Task-{row.token.hex}",
                )
                for row in page
            ),
        )
        self._target.link(
            "PERFORMS",
            (scope.link(("Task", row.token), (row.kind, row.transformation)) for row in page),
        )
        claims = [
            {
                "service": row.service,
                "task": scope.key("Task", row.token),
                "claimed": in_utc(row.claimed_at),
            }
            for row in page
            if row.service is not None
        ]
        report.count("claims", added=self._target.link_claims(claims))

    def _results(self, scope: GraphScope, report: PartReport, page: Sequence[Row[Any]]) -> None:
        self._target.add_nodes(
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
                    datetime_created=iso(row.datetime_created),
                )
                for row in page
            ),
        )

    def _tracebacks(self, scope: GraphScope, report: PartReport, page: Sequence[Row[Any]]) -> None:
        self._target.add_nodes(
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
        self._target.link(
            "DETAILS",
            (
                {
                    **scope.link(("Tracebacks", row.key), ("ProtocolDAGResultRef", row.token)),
                    "properties": {},
                }
                for row in page
            ),
        )
