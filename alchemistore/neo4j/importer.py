"""Import a graph into a store: part by part, each in a transaction of its own.

The parts are the services with their managers, the identities, and each scope. After each
transaction the digest of the part is noted, so that an import knows whether anything else has
written to a part since. An import that was interrupted goes on where it was when it runs again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid5

from sqlalchemy import Connection, TextClause

from alchemistore.database.keys import gufe_token
from alchemistore.errors import GraphError
from alchemistore.models import (
    ComputeManagerRegistration,
    ComputeManagerStatus,
    NetworkMark,
    Scope,
    ScopedKey,
    StrategyState,
    TaskStatusEnum,
)
from alchemistore.models.clock import now, uuid7
from alchemistore.models.network import parse_state
from alchemistore.models.text import escape, text_size
from alchemistore.neo4j import objects, statements
from alchemistore.neo4j.documents import documents
from alchemistore.neo4j.pages import pages
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.records import GraphNetwork, GraphTask
from alchemistore.neo4j.report import PartReport, Progress, first_line, no_progress
from alchemistore.operations.documents import ensure_scope
from alchemistore.operations.matching import check_pattern
from alchemistore.operations.networks import delete_network
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.restart_patterns import token_of_pattern
from alchemistore.operations.taskhubs import drop_taskhub
from alchemistore.store import StateStore

T = TypeVar("T")
Rows = Sequence[dict[str, Any]]

# Rows of the graph that one statement stages, and tasks whose places in the queue one refreshes.
PAGE = 2000
BATCH = 10_000
# Networks that one transaction stores. Before and after it, all rows of the scope are hashed.
NETWORKS = 25
SERVICES, IDENTITIES = "services", "identities"
DIGESTS = {
    SERVICES: statements.DIGEST_OF_SERVICES,
    IDENTITIES: statements.DIGEST_OF_IDENTITIES,
}
NAMESPACE = UUID("0d6cbb3a-2c5b-4f1e-9a0f-6d0a5a1f7c11")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_RETRIES = 2**31 - 1


class _Undo(Exception):
    """Ends the transaction of a dry run."""


class GraphImport:
    """An import of a graph into a store.

    Parameters
    ----------
    store : StateStore
        The store.
    reader : GraphReader
        The graph.
    source : str
        A name of the graph, which is noted; not a secret.
    force : bool, default False
        Import into parts that something else has written to, too. What the graph does not have is
        removed from them.
    progress : callable, optional
        Takes what is being imported, how much of it is done, and how much there is.
    """

    def __init__(
        self,
        store: StateStore,
        reader: GraphReader,
        source: str,
        *,
        force: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        self._store, self._reader, self._source, self._force = store, reader, source, force
        self._progress = progress

    def run(self, within: Scope | None = None, *, dry_run: bool = False) -> Iterator[PartReport]:
        """Import the graph, or a part of it.

        Parameters
        ----------
        within : Scope, optional
            Import only the scopes in this one. Default: all scopes, and the identities.
        dry_run : bool, default False
            Do everything in one transaction, and roll it back at the end.

        Yields
        ------
        PartReport
            The reports about the services, the identities and each scope, when they are done.

        Raises
        ------
        GraphError
            If the graph cannot be read or is too old, or something else has written to a part.
        """
        self._reader.require_marks()
        if not dry_run:
            yield from self._parts(within)
            return
        reports: list[PartReport] = []
        with suppress(_Undo), self._store.transaction() as tx:
            trial = GraphImport(
                tx, self._reader, self._source, force=self._force, progress=self._progress
            )
            reports += trial._parts(within)
            raise _Undo
        yield from reports

    def _parts(self, within: Scope | None) -> Iterator[PartReport]:
        yield self._write(SERVICES, self._import_services)
        if within is None:
            yield self._write(IDENTITIES, self._import_identities)
        found = self._reader.scopes()
        if found.refused and within is None:
            report = PartReport("other scopes")
            for text in found.refused:
                report.find(text, "it is no scope of a store; its objects were left out")
            yield report
        scopes = [one for one in found.scopes if within is None or within.is_superset(one)]
        for number, scope in enumerate(scopes):
            self._progress("scopes", number, len(scopes))
            yield self._import_scope(scope)
        self._progress("scopes", len(scopes), len(scopes))
        self._write(SERVICES, self._remove_services)

    def _write(self, part: str, write: Callable[[Connection, PartReport], None]) -> PartReport:
        """Write to a part in a transaction, and return what was done."""

        def operation(tx: Connection, again: bool) -> PartReport:
            report = PartReport(part)
            tx.execute(statements.LOCK_PART, {"part": part})
            self._require_untouched(tx, part)
            write(tx, report)
            _note(tx, part, self._source)
            return report

        return self._store.run(operation, readonly=False, known=True)

    def _require_untouched(self, tx: Connection, part: str) -> None:
        rows, digest = _digest(tx, part)
        noted = tx.execute(statements.READ_PART, {"part": part}).first()
        if self._force:
            return
        if noted is None and rows:
            raise GraphError(
                f"the store has {'objects in the scope ' if '-' in part else ''}{part} that no"
                " import has written; import into an empty store, or use --force to make it equal"
                " to the graph, which removes what the graph does not have"
            )
        if noted is not None and noted.digest != digest:
            raise GraphError(
                f"something else has written to {part} since the last import; use --force to make"
                " it equal to the graph again, which undoes these changes"
            )

    # Services, managers and identities.

    def _import_services(self, tx: Connection, report: PartReport) -> None:
        _create_staging(tx)
        self._stage_services(tx)
        managers: dict[str, dict[str, Any]] = {}
        for manager in self._reader.managers():
            try:
                checked = ComputeManagerRegistration(
                    name=manager.name,
                    uuid=manager.uuid,
                    registered=manager.registered,
                    status=ComputeManagerStatus(manager.status),
                    detail=manager.detail or None,
                    saturation=manager.saturation,
                    last_status_update=manager.updated,
                )
            except ValueError as error:
                report.find(manager.name, f"this manager was left out: {first_line(error)}")
                continue
            other = managers.get(checked.name)
            if other is not None:
                report.find(
                    manager.name,
                    "there are several managers with this name; the one registered last was taken",
                )
            if other is None or other["registered_at"] < checked.registered:
                managers[checked.name] = {
                    "name": checked.name,
                    "uuid": UUID(hex=checked.uuid),
                    "registered_at": checked.registered,
                    "status": str(checked.status),
                    "detail": escape(checked.detail) or None,
                    "saturation": checked.saturation,
                    "status_updated_at": checked.last_status_update,
                }
        _stage(tx, "managers", managers.values())
        _merge(tx, report, statements.MERGE_REGISTRATIONS, {"now": now()})

    def _stage_services(self, tx: Connection) -> None:
        services = list(self._reader.services())
        _stage(
            tx,
            "services",
            (
                {
                    "identifier": one.identifier,
                    "registered_at": one.registered,
                    "heartbeat_at": one.heartbeat,
                    "manager_name": one.manager,
                }
                for one in services
            ),
        )
        _stage(
            tx,
            "failures",
            (
                {
                    "service": one.identifier,
                    "failed_at": moment,
                    "token": uuid5(NAMESPACE, f"{one.identifier} {moment.isoformat()} {place}"),
                }
                for one in services
                for place, moment in enumerate(one.failures)
            ),
        )

    def _remove_services(self, tx: Connection, report: PartReport) -> None:
        _create_staging(tx)
        self._stage_services(tx)
        report.count("services", removed=tx.execute(statements.REMOVE_SERVICES).rowcount)

    def _import_identities(self, tx: Connection, report: PartReport) -> None:
        _create_staging(tx)
        rows = []
        for one in self._reader.identities():
            scopes: dict[str, None] = {}
            for text in one.scopes:
                try:
                    scopes[str(Scope.from_str(text))] = None
                except ValueError:
                    report.find(one.identifier, f"its scope {text} is none; it was left out")
            rows.append(
                {
                    "type": one.type,
                    "identifier": one.identifier,
                    "hashed_key": one.hashed_key,
                    "expires_at": one.expires,
                    "disabled": one.disabled,
                    "email": escape(one.email),
                    "full_name": escape(one.full_name),
                    "scopes": json.dumps(list(scopes)),
                }
            )
        _stage(tx, "identities", rows)
        _merge(tx, report, statements.MERGE_IDENTITIES, {"now": now()})

    # Scopes.

    def _import_scope(self, scope: Scope) -> PartReport:
        part = str(scope)
        report = self._write(part, lambda tx, new: _begin(tx, scope))
        networks = list(self._reader.networks(scope))
        stored = self._read(lambda tx: objects.stored_objects(tx, scope))
        missing = [one for one in networks if stored.lacks(one.key.token)]
        done = 0
        for some in pages(missing, NETWORKS):
            store = partial(objects.store_networks, self._reader, scope, some, stored)
            report.add(self._write(part, store))
            done += len(some)
            self._progress(f"networks of {part}", done, len(missing))
        strategies = self._import_strategies(part, scope, report, stored)
        written = self._write(
            part, lambda tx, new: self._import_state(tx, new, scope, networks, strategies)
        )
        report.add(written)
        if stored.unbuilt:
            self._read(lambda tx: objects.describe_unbuilt(tx, scope, report))
        for stray in self._reader.strays(scope):
            ending = "" if ";" in stray.reason else "; it was left out"
            report.find(stray.key, f"{stray.reason}{ending}")
        return report

    def _read(self, read: Callable[[Connection], T]) -> T:
        """Read in a transaction, which may add the scope."""
        return self._store.run(lambda tx, again: read(tx), readonly=False)

    def _import_strategies(
        self, part: str, scope: Scope, report: PartReport, stored: objects.StoredObjects
    ) -> set[ScopedKey]:
        """Store the strategies of networks, and return their keys."""
        keys = set()
        for root in self._reader.roots(scope):
            if root.run:
                report.find(
                    root.key, "no network has this transformation; it was left out with its tasks"
                )
                continue
            if not root.used:
                report.find(root.key, "nothing uses this object; it was left out")
                continue
            again = stored.can_build and root.key.token in stored.unbuilt
            if again or not self._read(partial(objects.is_stored, key=root.key)):
                try:
                    found = documents(self._reader.objects(root.key), str(root.key.gufe_key))
                    report.add(self._write(part, partial(objects.store_strategy, scope, found)))
                except ValueError as error:
                    report.find(root.key, f"the strategy was left out: {first_line(error)}")
                    continue
                objects.describe(report, scope, found)
            keys.add(root.key)
        return keys

    def _import_state(
        self,
        tx: Connection,
        report: PartReport,
        scope: Scope,
        networks: Sequence[GraphNetwork],
        strategies: set[ScopedKey],
    ) -> None:
        """Make everything but documents equal to the graph."""
        _create_staging(tx)
        scope_id = ensure_scope(tx, scope)
        values = {"scope_id": scope_id, "now": now(), "change": uuid7()}
        tx.execute(statements.LOCK_TASKS_OF_SCOPE, values)
        stored = set(tx.scalars(objects.STORED_NETWORKS, values))
        _stage_networks(
            tx, report, [one for one in networks if one.key.token in stored], strategies
        )
        self._stage_patterns(tx, report, scope)
        done, total = 0, self._reader.count_tasks(scope)
        for page in pages(self._reader.tasks(scope), PAGE):
            _stage_tasks(tx, report, scope, page)
            done += len(page)
            self._progress(f"tasks of {scope}", done, total)
        for kept in pages(self._reader.results(scope), PAGE):
            rows = []
            for result in kept:
                _note_new_key(report, scope, result.key)
                rows.append(
                    {
                        "result": result.key.token,
                        "obj_key": result.obj_key,
                        "location": result.location,
                        "scope": result.scope,
                        "ok": result.ok,
                        "creator": escape(result.creator),
                        "datetime_created": result.created,
                    }
                )
            _stage(tx, "results", rows)
        for some in pages(self._reader.tracebacks(scope), PAGE):
            _execute_page(
                tx,
                statements.STAGE_TRACEBACKS,
                [
                    {
                        "result": one.result.token,
                        "tracebacks": _json(one.tracebacks),
                        "source_keys": _json(one.sources),
                        "failure_keys": _json(one.failures),
                        "size": sum(map(text_size, one.tracebacks)),
                    }
                    for one in some
                ],
            )
        tx.execute(statements.ANALYZE_STAGING)
        _correct(tx, report, scope, values)
        _remove_networks(tx, report, scope, values)
        removed = tx.execute(statements.REMOVE_CLAIMS[0], values).rowcount
        report.count("claims", removed=removed)
        tx.execute(statements.REMOVE_CLAIMS[1], values)
        _remove_rows(tx, report, statements.MERGES, values)
        tx.execute(statements.NOTE_STATUS_CHANGES, values)
        for merge in statements.MERGES:
            added, changed = tx.execute(merge.merged, values).one()
            report.count(merge.kind, added=added, changed=changed)
        report.count("tasks", removed=len(tx.execute(statements.REMOVE_TASKS, values).all()))
        report.count("results", removed=len(tx.execute(statements.REMOVE_RESULTS, values).all()))
        _refresh(tx, scope_id)

    def _stage_patterns(self, tx: Connection, report: PartReport, scope: Scope) -> None:
        rows = []
        for one in self._reader.patterns(scope):
            try:
                check_pattern(one.pattern)
            except ValueError as error:
                report.find(
                    one.hub,
                    f"its restart pattern {one.pattern!r} was left out: {first_line(error)}",
                )
                continue
            maximum = min(max(one.max_retries, 1), MAX_RETRIES)
            if maximum != one.max_retries:
                report.find(
                    one.hub,
                    f"its restart pattern {one.pattern!r} has the maximum {one.max_retries};"
                    f" {maximum} was taken",
                )
            rows.append(
                {
                    "taskhub": one.hub.token,
                    "token": token_of_pattern(one.pattern),
                    "pattern": escape(one.pattern),
                    "max_retries": maximum,
                }
            )
        _stage(tx, "patterns", rows)


def _begin(tx: Connection, scope: Scope) -> None:
    ensure_scope(tx, scope)


def _stage_networks(
    tx: Connection,
    report: PartReport,
    networks: Sequence[GraphNetwork],
    strategies: set[ScopedKey],
) -> None:
    """Stage networks with their hubs, marks and strategies."""
    hubs, marks, states = [], [], []
    for one in networks:
        place = {"network": one.key.token}
        for kind, found in (
            ("hubs", one.hubs),
            ("marks", one.states),
            ("strategies", one.strategies),
        ):
            if len(found) > 1:
                report.find(one.key, f"it has {len(found)} {kind}; one of them was taken")
        for hub in one.hubs[:1]:
            weight = _weight(report, one.key, hub.weight)
            hubs.append({**place, "taskhub": gufe_token(hub.key), "weight": weight})
        if not one.states:
            report.find(one.key, "it has no mark; it is active now")
        state = str(parse_state(one.states[0])) if one.states else "active"
        mark = gufe_token(NetworkMark(target=str(one.key)).key)
        marks.append({**place, "mark": mark, "state": state})
        for strategy in one.strategies[:1]:
            try:
                values = StrategyState(**strategy.state)
            except ValueError as error:
                report.find(one.key, f"its strategy was left out: {first_line(error)}")
                continue
            if strategy.key in strategies:
                states.append({**place, "strategy": strategy.key.token, **_state(values)})
    _stage(tx, "networks", ({"network": one.key.token} for one in networks))
    _stage(tx, "hubs", hubs)
    _stage(tx, "marks", marks)
    _stage(tx, "strategies", states)


def _state(state: StrategyState) -> dict[str, Any]:
    values = state.to_dict()
    return {
        **values,
        "last_iteration_at": values["last_iteration"],
        "exception": None if state.exception is None else _json(state.exception),
        "traceback": escape(state.traceback),
    }


def _stage_tasks(
    tx: Connection, report: PartReport, scope: Scope, page: Sequence[GraphTask]
) -> None:
    """Stage a page of tasks with their actions, counters and results."""
    tasks, counters, links = [], [], []
    actions: dict[tuple[Any, Any], float] = {}
    for task in page:
        key, token = task.key, task.key.token
        if task.status not in TaskStatusEnum.__members__:
            report.find(key, f"{task.status!r} is no status of a task; the task was left out")
            continue
        _note_new_key(report, scope, key)
        claims = sorted(task.claims, key=lambda one: (one.claimed or EPOCH, one.service))
        if len(claims) > 1:
            others = ", ".join(one.service for one in claims[:-1])
            report.find(
                key,
                f"it is claimed more than once; the last claim, of"
                f" {claims[-1].service}, was taken, and that of {others} left out",
            )
        if len(task.parents) > 1:
            report.find(key, "it extends several tasks; one of them was taken")
        if task.created is None:
            report.find(key, "it has no time of creation; the year 1970 was taken")
        if task.priority < 1:
            report.find(key, f"it has the priority {task.priority}; 1 was taken")
        tasks.append(
            {
                "task": token,
                "transformation": gufe_token(task.transformation),
                "status": task.status,
                "priority": max(task.priority, 1),
                "creator": escape(task.creator),
                "created_at": task.created or EPOCH,
                "parent": task.parents[0].token if task.parents else None,
                "service": claims[-1].service if claims else None,
                "claimed_at": (claims[-1].claimed or EPOCH) if claims else None,
            }
        )
        for action in task.actions:
            if action.hub.scope != scope:
                report.find(
                    key, f"it is on {action.hub}, a hub of another scope; it is not on it now"
                )
                continue
            place = action.hub.token, token
            if place in actions:
                report.find(key, f"it is on {action.hub} twice; the larger weight was taken")
            actions[place] = max(_weight(report, key, action.weight), actions.get(place, 0.0))
        counters += [
            {
                "taskhub": ScopedKey.from_str(one.hub).token,
                "task": token,
                "pattern": token_of_pattern(one.pattern),
                "retries": min(one.retries, MAX_RETRIES),
            }
            for one in task.counters
            if one.retries > 0
        ]
        links += [{"task": token, "result": one.token} for one in task.results]
    _stage(tx, "tasks", tasks)
    _stage(
        tx,
        "actions",
        (
            {"taskhub": hub, "task": task, "weight": weight}
            for (hub, task), weight in actions.items()
        ),
    )
    _stage(tx, "counters", counters)
    _stage(tx, "links", links)


def _correct(tx: Connection, report: PartReport, scope: Scope, values: dict[str, Any]) -> None:
    """Correct what the store does not allow, and report it."""
    parts = [str(part) for part in scope.to_tuple()]
    for sentence, statement in statements.CORRECTIONS:
        for kind, token in tx.execute(statement, values).all():
            report.find(ScopedKey.from_parts(kind, token, *parts), sentence)
    for statement in statements.DROP_DEPENDENTS:
        tx.execute(statement)


def _remove_networks(
    tx: Connection, report: PartReport, scope: Scope, values: dict[str, Any]
) -> None:
    """Remove the networks and hubs that the graph does not have."""
    parts = [str(part) for part in scope.to_tuple()]
    for kind, token in tx.execute(statements.FIND_GONE_NETWORKS, values).all():
        delete_network(tx, ScopedKey.from_parts(kind, token, *parts))
        report.count("networks", removed=1)
    for network in tx.scalars(statements.FIND_GONE_HUBS, values).all():
        drop_taskhub(tx, values["scope_id"], network)
        report.count("hubs", removed=1)


def _remove_rows(
    tx: Connection,
    report: PartReport,
    merges: Sequence[statements.Merge],
    values: dict[str, Any],
) -> None:
    """Remove the rows that the graph does not have; those that refer to others first."""
    for merge in reversed(merges):
        if merge.removed is not None:
            report.count(merge.kind, removed=len(tx.execute(merge.removed, values).all()))


def _merge(
    tx: Connection,
    report: PartReport,
    merges: Sequence[statements.Merge],
    values: dict[str, Any],
) -> None:
    """Make tables equal to the staging tables."""
    _remove_rows(tx, report, merges, values)
    for merge in merges:
        added, changed = tx.execute(merge.merged, values).one()
        report.count(merge.kind, added=added, changed=changed)


def _refresh(tx: Connection, scope_id: int) -> None:
    """Update the queue for all tasks that were changed, and for those that extend them."""
    while tokens := tx.scalars(statements.TAKE_TOUCHED, {"limit": BATCH}).all():
        refresh(tx, {"scope_ids": [scope_id] * len(tokens), "tokens": list(tokens)}, "children")


def _create_staging(tx: Connection) -> None:
    allowed, database, role = tx.execute(statements.MAY_STAGE).one()
    if not allowed:
        raise GraphError(
            "an import needs temporary tables, which its role may not create; let an administrator"
            f" run: GRANT TEMPORARY ON DATABASE {database} TO {role}"
        )
    for statement in statements.CREATE_STAGING:
        tx.execute(statement)
    tx.execute(statements.EMPTY_STAGING)


def _stage(tx: Connection, kind: str, rows: Iterable[dict[str, Any]]) -> None:
    for page in pages(rows, PAGE):
        _execute_page(tx, statements.STAGE[kind], page)


def _execute_page(tx: Connection, statement: TextClause, page: Rows) -> None:
    """Execute a statement with an array for each column."""
    if page:
        names = statement.compile().params
        tx.execute(statement, {name: [row[name] for row in page] for name in names})


def _digest(tx: Connection, part: str) -> tuple[int, str]:
    statement = DIGESTS.get(part)
    if statement is None:
        scope_id = ensure_scope(tx, Scope.from_str(part))
        row = tx.execute(statements.DIGEST_OF_SCOPE, {"scope_id": scope_id}).one()
    else:
        row = tx.execute(statement).one()
    return row.rows, row.digest


def _note(tx: Connection, part: str, source: str) -> None:
    digest = _digest(tx, part)[1]
    tx.execute(
        statements.NOTE_PART, {"part": part, "source": source, "digest": digest, "now": now()}
    )


def _note_new_key(report: PartReport, scope: Scope, key: ScopedKey) -> None:
    if key.scope != scope:
        parts = [str(part) for part in scope.to_tuple()]
        assert key.token is not None
        report.new_keys[str(key)] = str(ScopedKey.from_parts(key.qualname, key.token, *parts))


def _weight(report: PartReport, key: ScopedKey, weight: float) -> float:
    allowed = 0.0 if math.isnan(weight) else min(max(float(weight), 0.0), 1.0)
    if allowed != weight:
        report.find(key, f"it has the weight {weight}; {allowed} was taken")
    return allowed


def _json(texts: Iterable[str]) -> str:
    """Return texts as the JSON of a list, in the form in which texts are stored."""
    return json.dumps([escape(text) for text in texts])
