"""Compare a store with the graph that was imported into it.

The comparison shares no statement with the import: it reads the graph again, and looks up each
object in the tables of the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import gufe_token, scope_parameters
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import GufeNotInstalledError
from alchemistore.models import GufeKey, Scope, ScopedKey, StrategyState
from alchemistore.models.text import escape
from alchemistore.neo4j.comparison import Comparison
from alchemistore.neo4j.imports.parts import IDENTITIES, SERVICES
from alchemistore.neo4j.keys import key_in
from alchemistore.neo4j.pages import pages
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.records import GraphNetwork, GraphTask
from alchemistore.neo4j.registered import compare_identities, compare_registrations
from alchemistore.neo4j.report import PartReport, Progress, no_progress
from alchemistore.operations.documents import read_documents
from alchemistore.operations.restart_patterns import token_of_pattern
from alchemistore.store import StateStore

PAGE = 2000

SCOPE_TO_VERIFY = text(f"SELECT {SCOPE_ID}")
NETWORKS_TO_VERIFY = text("""
    SELECT n.token, n.kind, n.name, h.token AS taskhub, h.weight, m.state,
        n.strategy, s.mode, s.status, s.iterations, s.sleep_interval, s.last_iteration_at,
        s.last_iteration_result_count, s.max_tasks_per_transformation, s.task_scaling, s.exception,
        s.traceback,
        ARRAY(
            SELECT t.kind || '-' || replace(CAST(t.token AS text), '-', '')
            FROM network_transformations AS e
            JOIN transformations AS t ON t.scope_id = e.scope_id AND t.token = e.transformation
            WHERE e.scope_id = n.scope_id AND e.network = n.token
        ) AS edges
    FROM networks AS n
    LEFT JOIN taskhubs AS h ON h.scope_id = n.scope_id AND h.network = n.token
    LEFT JOIN network_marks AS m ON m.scope_id = n.scope_id AND m.network = n.token
    LEFT JOIN network_strategies AS s ON s.scope_id = n.scope_id AND s.network = n.token
    WHERE n.scope_id = :scope_id
""")
TASKS_TO_VERIFY = text("""
    SELECT t.token, t.transformation, t.status, t.priority, t.creator, t.created_at,
        (
            SELECT e.parent FROM extends AS e WHERE e.scope_id = t.scope_id AND e.task = t.token
        ) AS parent,
        (
            SELECT c.service FROM claims AS c WHERE c.scope_id = t.scope_id AND c.task = t.token
        ) AS service,
        ARRAY(
            SELECT CAST(a.taskhub AS text) FROM actions AS a
            WHERE a.scope_id = t.scope_id AND a.task = t.token ORDER BY a.taskhub
        ) AS hubs,
        ARRAY(
            SELECT a.weight FROM actions AS a
            WHERE a.scope_id = t.scope_id AND a.task = t.token ORDER BY a.taskhub
        ) AS weights,
        ARRAY(
            SELECT CAST(l.result AS text) FROM task_results AS l
            WHERE l.scope_id = t.scope_id AND l.task = t.token
        ) AS results,
        ARRAY(
            SELECT ARRAY[CAST(a.taskhub AS text), CAST(r.pattern AS text), CAST(r.retries AS text)]
            FROM actions AS a
            CROSS JOIN LATERAL unnest(a.patterns, a.retries) AS r (pattern, retries)
            WHERE a.scope_id = t.scope_id AND a.task = t.token
        ) AS counters
    FROM unnest(CAST(:tokens AS uuid[])) AS x (token)
    JOIN tasks AS t ON t.scope_id = :scope_id AND t.token = x.token
""")
RESULTS_TO_VERIFY = text("""
    SELECT r.token, r.obj_key, r.location, r.ok, r.creator, r.datetime_created
    FROM unnest(CAST(:tokens AS uuid[])) AS x (token)
    JOIN results AS r ON r.scope_id = :scope_id AND r.token = x.token
""")
COUNT_TASKS = text("SELECT count(*) FROM tasks WHERE scope_id = :scope_id")
COUNT_RESULTS = text("SELECT count(*) FROM results WHERE scope_id = :scope_id")
TRACEBACKS_TO_VERIFY = text("""
    SELECT result, tracebacks FROM tracebacks
    WHERE scope_id = :scope_id AND result = ANY(CAST(:tokens AS uuid[]))
""")
COUNT_TRACEBACKS = text("SELECT count(*) FROM tracebacks WHERE scope_id = :scope_id")
PATTERNS_TO_VERIFY = text("""
    SELECT taskhub, pattern, max_retries FROM restart_patterns WHERE scope_id = :scope_id
""")


class Verification:
    """A comparison of a store with a graph.

    Parameters
    ----------
    store : StateStore
        The store.
    reader : GraphReader
        The graph.
    progress : callable, optional
        Takes what is being compared, how much of it is done, and how much there is.
    """

    def __init__(
        self, store: StateStore, reader: GraphReader, progress: Progress = no_progress
    ) -> None:
        self._store, self._reader, self._progress = store, reader, progress

    def part(self, report: PartReport) -> list[Comparison]:
        """Return the comparisons of a part: a scope, the services, or the identities.

        Parameters
        ----------
        report : PartReport
            The report of the import of the part. What it lists is not compared.
        """
        listed = {finding.key for finding in report.findings if not finding.document}

        def compare(tx: Connection, again: bool) -> list[Comparison]:
            if report.part == SERVICES:
                return compare_registrations(tx, self._reader, listed)
            if report.part == IDENTITIES:
                return [compare_identities(tx, self._reader, listed)]
            if "-" in report.part:
                scope = Scope.from_str(report.part)
                return list(self._compare(tx, scope, report.part, listed))
            return []

        return self._store.run(compare, readonly=True)

    def _compare(
        self, tx: Connection, scope: Scope, part: str, listed: Collection[str]
    ) -> Iterator[Comparison]:
        values = {"scope_id": tx.scalar(SCOPE_TO_VERIFY, scope_parameters(scope))}
        yield self._networks(tx, scope, values, Comparison(part, "networks"), listed)
        yield self._documents(tx, scope, values, Comparison(part, "objects"))
        tasks, actions = Comparison(part, "tasks"), Comparison(part, "actions")
        links = Comparison(part, "results of tasks")
        self._tasks(tx, scope, values, (tasks, actions, links), listed)
        yield from (tasks, actions, links)
        yield self._results(tx, scope, values, Comparison(part, "results"), listed)
        yield self._tracebacks(tx, scope, values, Comparison(part, "tracebacks"), listed)
        yield self._patterns(tx, scope, values, Comparison(part, "restart patterns"), listed)

    def _networks(
        self,
        tx: Connection,
        scope: Scope,
        values: dict[str, Any],
        found: Comparison,
        listed: Collection[str],
    ) -> Comparison:
        rows = {row.token: row for row in tx.execute(NETWORKS_TO_VERIFY, values)}
        found.store = len(rows)
        for network in self._reader.networks(scope):
            found.graph += 1
            row = rows.pop(network.key.token, None)
            if _is_listed(network.key, scope, listed):
                found.listed += 1
            elif row is None or _network(row) != _expected_network(network):
                found.different.append(str(network.key))
        found.different += [str(key_in(scope, row.kind, token)) for token, row in rows.items()]
        return found

    def _documents(
        self, tx: Connection, scope: Scope, values: dict[str, Any], found: Comparison
    ) -> Comparison:
        """Compute the keys of the stored objects of all networks."""
        right: set[str] = set()
        seen: set[str] = set()
        rows = tx.execute(NETWORKS_TO_VERIFY, values).all()
        for number, row in enumerate(rows, 1):
            self._progress(f"keys of objects of {scope}", number, len(rows))
            root = GufeKey(f"{row.kind}-{row.token.hex}")
            stored = read_documents(tx, values["scope_id"], [root])
            contents = dict(
                zip(
                    stored,
                    gufe_adapter.plain_documents([*stored], [*stored.values()]),
                    strict=True,
                )
            )
            last = contents.pop(str(root))
            chain = gufe_adapter.read_chain([*contents.items(), (str(root), last)])
            new = set(map(str, stored)) - seen
            seen |= new
            try:
                restored = gufe_adapter.restore_documents(chain)
            except GufeNotInstalledError:
                continue
            right |= new - set(map(str, restored.kept))
            found.different += [f"{key}-{scope}" for key in restored.wrong if str(key) in new]
        found.graph = found.store = len(seen)
        found.unverified = len(seen) - len(right) - len(found.different)
        return found

    def _tasks(
        self,
        tx: Connection,
        scope: Scope,
        values: dict[str, Any],
        found: tuple[Comparison, Comparison, Comparison],
        listed: Collection[str],
    ) -> None:
        tasks, actions, links = found
        present, total = 0, self._reader.count_tasks(scope)
        for page in pages(self._reader.tasks(scope), PAGE):
            rows = _by_token(tx, TASKS_TO_VERIFY, values, [task.key for task in page])
            present += len(rows)
            self._progress(f"comparison of tasks of {scope}", tasks.graph + len(page), total)
            for task in page:
                row = rows.get(task.key.token)
                tasks.graph += 1
                actions.graph += len(task.actions)
                links.graph += len(task.results)
                if row is not None:
                    actions.store += len(row.hubs)
                    links.store += len(row.results)
                if _is_listed(task.key, scope, listed):
                    tasks.listed += 1
                    actions.listed += len(task.actions)
                    links.listed += len(task.results)
                    continue
                if row is None or _task(row) != _expected_task(task):
                    tasks.different.append(str(task.key))
                if row is None or _actions(row) != _expected_actions(task):
                    actions.different.append(str(task.key))
                if row is None or {UUID(one) for one in row.results} != {
                    key.token for key in task.results
                }:
                    links.different.append(str(task.key))
        tasks.store = tx.scalar(COUNT_TASKS, values) or 0
        tasks.different += _not_in_the_graph(tasks.store - present)

    def _results(
        self,
        tx: Connection,
        scope: Scope,
        values: dict[str, Any],
        found: Comparison,
        listed: Collection[str],
    ) -> Comparison:
        present = 0
        for page in pages(self._reader.results(scope), PAGE):
            rows = _by_token(tx, RESULTS_TO_VERIFY, values, [one.key for one in page])
            present += len(rows)
            for one in page:
                found.graph += 1
                row = rows.get(one.key.token)
                if _is_listed(one.key, scope, listed):
                    found.listed += 1
                elif row is None or (
                    row.obj_key,
                    row.location,
                    row.ok,
                    row.creator,
                    row.datetime_created,
                ) != (one.obj_key, one.location, one.ok, escape(one.creator), one.created):
                    found.different.append(str(one.key))
        found.store = tx.scalar(COUNT_RESULTS, values) or 0
        found.different += _not_in_the_graph(found.store - present)
        return found

    def _tracebacks(
        self,
        tx: Connection,
        scope: Scope,
        values: dict[str, Any],
        found: Comparison,
        listed: Collection[str],
    ) -> Comparison:
        present = 0
        for page in pages(self._reader.tracebacks(scope), PAGE):
            tokens = [one.result.token for one in page]
            stored = {
                (row.result, tuple(row.tracebacks))
                for row in tx.execute(TRACEBACKS_TO_VERIFY, {**values, "tokens": tokens})
            }
            for one in page:
                found.graph += 1
                if (one.result.token, tuple(map(escape, one.tracebacks))) in stored:
                    present += 1
                elif _is_listed(one.result, scope, listed):
                    found.listed += 1
                else:
                    found.different.append(str(one.result))
        found.store = tx.scalar(COUNT_TRACEBACKS, values) or 0
        found.different += _not_in_the_graph(found.store - present)
        return found

    def _patterns(
        self,
        tx: Connection,
        scope: Scope,
        values: dict[str, Any],
        found: Comparison,
        listed: Collection[str],
    ) -> Comparison:
        stored = {tuple(row) for row in tx.execute(PATTERNS_TO_VERIFY, values)}
        found.store = len(stored)
        for one in self._reader.patterns(scope):
            found.graph += 1
            row = (one.hub.token, escape(one.pattern), one.max_retries)
            if _is_listed(one.hub, scope, listed):
                found.listed += 1
                stored = {other for other in stored if other[0] != one.hub.token}
            elif row in stored:
                stored.remove(row)
            else:
                found.different.append(f"{one.pattern!r} of {one.hub}")
        found.different += [f"{row[1]!r} of {key_in(scope, 'TaskHub', row[0])}" for row in stored]
        return found


def _by_token(
    tx: Connection, statement: TextClause, values: dict[str, Any], keys: Iterable[ScopedKey]
) -> dict[UUID | None, Any]:
    tokens = [key.token for key in keys]
    return {row.token: row for row in tx.execute(statement, {**values, "tokens": tokens})}


def _not_in_the_graph(number: int) -> list[str]:
    return [f"{number} that the graph does not have"] if number > 0 else []


def _is_listed(key: ScopedKey, scope: Scope, listed: Collection[str]) -> bool:
    """Check whether the report lists an object, under its key or its new one."""
    assert key.token is not None
    return str(key) in listed or str(key_in(scope, key.qualname, key.token)) in listed


def _network(row: Any) -> tuple[Any, ...]:
    return (
        row.name,
        row.state,
        row.taskhub,
        row.weight,
        row.strategy,
        None
        if row.strategy is None
        else (
            row.mode,
            row.status,
            row.iterations,
            row.sleep_interval,
            row.last_iteration_at,
            row.last_iteration_result_count,
            row.max_tasks_per_transformation,
            row.task_scaling,
            row.exception,
            row.traceback,
        ),
        set(row.edges),
    )


def _expected_network(network: GraphNetwork) -> tuple[Any, ...]:
    [hub] = network.hubs or [None]
    [strategy] = network.strategies or [None]
    return (
        network.name,
        network.states[0] if network.states else "active",
        None if hub is None else gufe_token(hub.key),
        None if hub is None else hub.weight,
        None if strategy is None else strategy.key.token,
        None if strategy is None else _expected_state(StrategyState(**strategy.state)),
        set(network.edges),
    )


def _expected_state(state: StrategyState) -> tuple[Any, ...]:
    return (
        state.mode,
        state.status,
        state.iterations,
        state.sleep_interval,
        state.last_iteration,
        state.last_iteration_result_count,
        state.max_tasks_per_transformation,
        state.task_scaling,
        None if state.exception is None else list(map(escape, state.exception)),
        escape(state.traceback),
    )


def _task(row: Any) -> tuple[Any, ...]:
    return (
        row.transformation,
        row.status,
        row.priority,
        row.creator,
        row.created_at,
        row.parent,
        row.service,
        {(UUID(hub), UUID(pattern), int(retries)) for hub, pattern, retries in row.counters},
    )


def _expected_task(task: GraphTask) -> tuple[Any, ...]:
    return (
        gufe_token(task.transformation),
        task.status,
        task.priority,
        escape(task.creator),
        task.created,
        task.parents[0].token if task.parents else None,
        task.claims[0].service if task.claims else None,
        {
            (ScopedKey.from_str(one.hub).token, token_of_pattern(one.pattern), one.retries)
            for one in task.counters
            if one.retries > 0
        },
    )


def _actions(row: Any) -> dict[UUID, float]:
    return dict(zip(map(UUID, row.hubs), row.weights, strict=True))


def _expected_actions(task: GraphTask) -> dict[UUID | None, float]:
    return {one.hub.token: one.weight for one in task.actions}
