"""Hot statements use their indexes, whatever statistics the planner has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY
from sqlalchemy import Connection, text

from alchemistore import (
    ComputeManagerRegistration,
    ComputeServiceRegistration,
    ScopedKey,
    StateStore,
)
from alchemistore.maintenance.invariants import RULES, violations
from tests.support.explain import (
    LARGE,
    SMALL,
    Plans,
    collect_plans,
    forget_statistics,
    skew_statistics,
)
from tests.support.gufe_classes import Ball
from tests.support.results import ref
from tests.support.seed import SCOPE, TASKS, Seeded

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
STATISTICS = ["fresh", "generic", "never", "skewed", "stale"]


class _Undo(Exception):
    """Ends a transaction that is only looked at."""


Act = Callable[[StateStore, Seeded], object]


def own_connection(tx: StateStore) -> Connection:
    """The connection of an open transaction."""
    assert tx.connection is not None
    return tx.connection


def plans_of(
    act: Act, statistics: str, request: pytest.FixtureRequest, timeout: str = "5s"
) -> Plans:
    """The plans of a call, under some statistics, undone afterwards."""
    seeded: Seeded = request.getfixturevalue("stale" if statistics == "stale" else "fresh")
    found = Plans()
    TOKENIZABLE_REGISTRY.clear()
    with contextlib.suppress(_Undo), seeded.store.transaction() as tx:
        assert tx.connection is not None
        # A plan gone wrong would take minutes, and say no more than this does.
        tx.connection.execute(text(f"SET LOCAL statement_timeout = '{timeout}'"))
        if statistics == "never":
            forget_statistics(tx.connection)
        if statistics == "skewed":
            skew_statistics(tx.connection)
        with collect_plans(seeded.store, generic=statistics == "generic") as found:
            act(tx, seeded)
        raise _Undo
    return found


def read_whole(plans: Plans) -> list[str]:
    """The large tables that were read from end to end."""
    return [
        str(node)
        for node in plans.nodes
        if "Seq Scan" in node.kind and node.relation in LARGE and node.touched > 20_000
    ]


def claim(hub: int, protocols: list[str] | None = None, count: int = 1) -> Act:
    def act(tx: StateStore, seeded: Seeded) -> None:
        claimed = tx.claim_taskhub_tasks(
            seeded.hubs[hub], "service 1", count=count, protocols=protocols
        )
        assert None not in claimed

    return act


def claim_nothing(tx: StateStore, seeded: Seeded) -> None:
    assert tx.claim_taskhub_tasks(seeded.hubs[0], "service 1", protocols=["NoSuchProtocol"]) == [
        None
    ]


def claim_anywhere(count: int, protocols: list[str] | None = None) -> Act:
    def act(tx: StateStore, seeded: Seeded) -> None:
        assert None not in tx.claim_tasks([SCOPE], "service 1", count=count, protocols=protocols)

    return act


CLAIMS: dict[str, tuple[Act, int]] = {
    "one from the large hub": (claim(0), 50),
    "one from a small hub": (claim(5), 50),
    "one of a rare protocol": (claim(0, ["RareProtocol"]), 1000),
    "one of two protocols": (claim(0, ["RareProtocol", "PushProtocol"]), 1000),
    "one of a protocol that is not there": (claim_nothing, 50),
    "one from any hub": (claim_anywhere(1), 50),
    "one from any hub, of a rare protocol": (claim_anywhere(1, ["RareProtocol"]), 1000),
    "a hundred": (claim(0, count=100), 2000),
    "a hundred from any hub": (claim_anywhere(100), 2000),
    "a hundred of two protocols": (claim(0, ["RareProtocol", "PushProtocol"], count=100), 5000),
}


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(("act", "bound"), CLAIMS.values(), ids=CLAIMS)
def test_claim_reads_only_the_head_of_the_queue(
    act: Act, bound: int, statistics: str, request: pytest.FixtureRequest
) -> None:
    plans = plans_of(act, statistics, request)
    assert not read_whole(plans), str(plans)
    # No scan, sort or join passes more rows than that; small tables may be read completely.
    assert max(node.touched for node in plans.nodes if node.relation not in SMALL) <= bound, str(
        plans
    )


WAITING = "t.status = 'waiting' AND NOT EXISTS (SELECT FROM extends AS e WHERE e.task = t.token)"
PARENTS = "t.token IN (SELECT parent FROM extends)"

PATTERN = text("""
    INSERT INTO restart_patterns (scope_id, taskhub, token, pattern, max_retries, created_at)
    SELECT scope_id, token, CAST(md5('NaN') AS uuid), 'NaN', 3, now() FROM taskhubs
""")
TRACED = text("""
    INSERT INTO tracebacks (
        scope_id, result, token, tracebacks, source_keys, failure_keys, size, created_at
    )
    SELECT s.id, task, task, ARRAY['NaN'], '{}', '{}', 3, now()
    FROM scopes AS s CROSS JOIN unnest(CAST(:tasks AS uuid[])) AS task
""")


def resolve(tx: StateStore, seeded: Seeded, count: int) -> None:
    tasks = seeded.tasks(count, "t.status = 'error'")
    own_connection(tx).execute(PATTERN)
    own_connection(tx).execute(TRACED, {"tasks": [task.token for task in tasks]})
    tx.resolve_task_restarts(tasks)
    assert {str(status) for status in tx.get_task_status(tasks)} == {"waiting"}


BULK_CALLS: dict[str, Callable[[StateStore, Seeded, int], object]] = {
    "action_tasks": lambda tx, s, n: (
        (
            tasks := s.tasks(n, WAITING),
            tx.cancel_tasks(tasks, s.hubs[0]),
            tx.action_tasks(tasks, s.hubs[0]),
        )
    ),
    "cancel_tasks": lambda tx, s, n: tx.cancel_tasks(s.tasks(n, WAITING), s.hubs[0]),
    "set_task_weights": lambda tx, s, n: tx.set_task_weights(s.tasks(n, WAITING), s.hubs[0], 0.25),
    "get_task_weights": lambda tx, s, n: tx.get_task_weights(s.tasks(n, WAITING), s.hubs[0]),
    "set_task_priority": lambda tx, s, n: tx.set_task_priority(s.tasks(n, WAITING), 7),
    "get_task_priority": lambda tx, s, n: tx.get_task_priority(s.tasks(n, WAITING)),
    "get_task_status": lambda tx, s, n: tx.get_task_status(s.tasks(n, WAITING)),
    "set_task_running": lambda tx, s, n: tx.set_task_running(s.tasks(n, WAITING)),
    "set_task_waiting": lambda tx, s, n: tx.set_task_waiting(s.tasks(n, "t.status = 'running'")),
    "set_task_error": lambda tx, s, n: tx.set_task_error(s.tasks(n, "t.status = 'running'")),
    "set_task_complete": lambda tx, s, n: tx.set_task_complete(s.tasks(n, "t.status = 'running'")),
    "set_task_complete again": lambda tx, s, n: tx.set_task_complete(
        s.tasks(n, f"t.status = 'complete' AND {PARENTS}")
    ),
    "set_task_invalid": lambda tx, s, n: tx.set_task_invalid(s.tasks(n, PARENTS)),
    "set_task_deleted, refused": lambda tx, s, n: tx.set_task_deleted(
        s.tasks(n, "t.status = 'invalid'")
    ),
    "create_tasks": lambda tx, s, n: tx.create_tasks(s.transformations[0] * (n // 10)),
    "create_tasks that extend": lambda tx, s, n: tx.create_tasks(
        [tx.get_task_transformation(s.task(10), return_gufe=False)[0]] * n, [s.task(10)] * n
    ),
    "create_tasks with a quota": lambda tx, s, n: (
        tx.set_quota(SCOPE, waiting_per_transformation=20),
        tx.create_tasks(s.transformations[0] * (n // 10)),
    ),
    "action_tasks with a quota": lambda tx, s, n: (
        tx.set_quota(SCOPE, actioned_per_hub=1_000_000),
        tasks := s.tasks(n, WAITING),
        tx.cancel_tasks(tasks, s.hubs[0]),
        tx.action_tasks(tasks, s.hubs[0]),
    ),
    "get_computemanager_instruction": lambda tx, s, n: (
        tx.register_computemanager(ComputeManagerRegistration.from_now(f"east-{'1' * 32}")),
        tx.get_computemanager_instruction(
            f"east-{'1' * 32}", timedelta(hours=1), 0, [SCOPE], ["PushProtocol"]
        ),
    ),
    "resolve_task_restarts": resolve,
    "get_task_details": lambda tx, s, n: tx.get_task_details(s.tasks(n, "t.status = 'complete'")),
    "expire_registrations": lambda tx, s, n: tx.expire_registrations(
        datetime.now(UTC) + timedelta(days=1)
    ),
    "get_task_blockers": lambda tx, s, n: tx.get_task_blockers(s.tasks(n, "t.status = 'waiting'")),
    "get_task_history": lambda tx, s, n: tx.get_task_history(s.tasks(n, "t.status = 'complete'")),
}


@pytest.mark.parametrize("statistics", ["fresh", "generic"])
@pytest.mark.parametrize("act", BULK_CALLS.values(), ids=BULK_CALLS)
def test_bulk_call_with_few_tasks_scans_no_whole_table(
    act: Callable[[StateStore, Seeded, int], object],
    statistics: str,
    request: pytest.FixtureRequest,
) -> None:
    if act in (BULK_CALLS["expire_registrations"], BULK_CALLS["get_computemanager_instruction"]):
        pytest.skip("this is about all tasks that run or wait")
    if act is BULK_CALLS["action_tasks with a quota"]:
        pytest.skip("this counts the tasks of the largest hub")
    plans = plans_of(lambda tx, seeded: act(tx, seeded, 100), statistics, request)
    assert not read_whole(plans), str(plans)


@pytest.mark.parametrize(
    "statistics",
    [
        *("fresh", "generic", "never"),
        *(pytest.param(one, marks=pytest.mark.soak) for one in ("skewed", "stale")),
    ],
)
@pytest.mark.parametrize("act", BULK_CALLS.values(), ids=BULK_CALLS)
def test_bulk_call_with_many_tasks_reads_no_row_twice(
    act: Callable[[StateStore, Seeded, int], object],
    statistics: str,
    request: pytest.FixtureRequest,
) -> None:
    plans = plans_of(lambda tx, seeded: act(tx, seeded, 1000), statistics, request)
    # One scan of a whole table may be fastest; quadratic growth would touch a multiple of it.
    assert max(node.touched for node in plans.nodes) <= 1.2 * TASKS, str(plans)


# What the answer has at most, or what is touched besides.
SINGLE_CALLS: dict[str, tuple[Act, int]] = {
    "get_gufe of a task": (lambda tx, s: tx.get_gufe(s.task(4321)), 30),
    "get_gufe of a hub": (lambda tx, s: tx.get_gufe(s.hubs[0]), 30),
    "get_gufe of a network": (lambda tx, s: tx.get_gufe(s.networks[0]), 1500),
    "get_gufe of a transformation": (lambda tx, s: tx.get_gufe(s.transformations[0][0]), 250),
    "get_scoped_key": (lambda tx, s: tx.get_scoped_key(tx.get_gufe(s.task(4321)), SCOPE), 60),
    "check_existence": (lambda tx, s: tx.check_existence(s.task(4321)), 30),
    "check_existence of an object": (lambda tx, s: tx.check_existence(s.networks[0]), 30),
    "create_task": (lambda tx, s: tx.create_task(s.transformations[0][0]), 60),
    "create_task that extends": (
        lambda tx, s: tx.create_task(
            tx.get_task_transformation(s.task(10), return_gufe=False)[0], extends=s.task(10)
        ),
        300,
    ),
    "get_task_transformation": (
        lambda tx, s: tx.get_task_transformation(s.task(1010), return_gufe=False),
        400,
    ),
    "get_task_networks": (lambda tx, s: tx.get_task_networks(s.task(4321)), 400),
    "get_task_actioned_networks": (lambda tx, s: tx.get_task_actioned_networks(s.task(4321)), 400),
    "get_task_results": (
        lambda tx, s: tx.get_task_results(s.tasks(1, "t.status = 'complete'")[0]),
        60,
    ),
    "settle_task": (
        lambda tx, s: tx.settle_task(s.tasks(1, "t.status = 'running'")[0], ref(SCOPE)),
        1000,
    ),
    "settle_task with others that wait": (
        lambda tx, s: tx.settle_task(
            s.tasks(1, f"t.status = 'waiting' AND {PARENTS}")[0], ref(SCOPE)
        ),
        1000,
    ),
    "settle_task that restarts": (
        lambda tx, s: (
            own_connection(tx).execute(PATTERN),
            tx.settle_task(
                s.tasks(1, "t.status = 'running'")[0],
                ref(SCOPE, ok=False),
                attempt=1,
                tracebacks=["NaN"],
            ),
        ),
        # The call may also look at all lanes, to raise their floors.
        1500,
    ),
    "deliver_result": (
        lambda tx, s: tx.deliver_result(s.tasks(1, "t.status = 'running'")[0], ref(SCOPE)),
        1000,
    ),
    "deliver_result of a task with results": (
        lambda tx, s: tx.deliver_result(
            s.tasks(1, "t.status = 'complete'")[0], ref(SCOPE, ok=False), "service 1"
        ),
        1000,
    ),
    "restart patterns": (
        lambda tx, s: (
            own_connection(tx).execute(PATTERN),
            tx.set_task_restart_patterns_max_retries(s.hubs[0], ["NaN"], 4),
            tx.get_task_restart_patterns(s.hubs[:3]),
            tx.remove_task_restart_patterns(s.hubs[0], ["NaN"]),
        ),
        300,
    ),
    "delete_task": (lambda tx, s: tx.delete_task(s.tasks(1, WAITING)[0]), 300),
    "set_tasks": (lambda tx, s: tx.set_tasks(s.transformations[5][0], count=2000), 30_000),
    "query_tasks by key": (lambda tx, s: tx.query_tasks(key=str(s.task(4321).gufe_key)), 60),
    "query_tasks, a page": (lambda tx, s: tx.query_tasks(limit=10), 200),
    "query_tasks, a later page": (
        lambda tx, s: tx.query_tasks(limit=10, after=s.task(50_000)),
        200,
    ),
    "query_networks by name": (lambda tx, s: tx.query_networks(name="network 03"), 100),
    "query_networks by state": (lambda tx, s: tx.query_networks(state="inactive"), 500),
    "query_networks by pattern": (
        lambda tx, s: tx.query_networks(name="network 0.", patterns=True),
        500,
    ),
    "query_transformations, a later page": (
        lambda tx, s: tx.query_transformations(limit=10, after=s.transformations[5][0]),
        200,
    ),
    "get_taskhubs": (lambda tx, s: tx.get_taskhubs(s.networks[:3]), 100),
    "set_taskhub_weight": (lambda tx, s: tx.set_taskhub_weight(s.networks[:3], 0.25), 100),
    "get_transformation_actioned_tasks": (
        lambda tx, s: tx.get_transformation_actioned_tasks(s.transformations[5][0], s.hubs[5]),
        20_000,
    ),
    "get_network_state": (lambda tx, s: tx.get_network_state(s.networks[:3]), 100),
    "set_network_state": (lambda tx, s: tx.set_network_state(s.networks[:3], "inactive"), 100),
    "set_network_strategy": (
        lambda tx, s: tx.set_network_strategy(s.networks[0], Ball("strategy")),
        200,
    ),
    "get_network_strategy_state": (
        lambda tx, s: tx.get_network_strategy_state(s.networks[0]),
        30,
    ),
    "strategy that is leased and updated": (
        lambda tx, s: (
            tx.set_network_strategy(s.networks[0], Ball("strategy")),
            tx.update_strategy_state(s.networks[0], tx.get_strategies_for_execution()[0][2]),
        ),
        500,
    ),
    # Whether another object needs the old strategy is found by reading all documents of the scope.
    "strategy that is replaced": (
        lambda tx, s: (
            tx.set_network_strategy(s.networks[0], Ball("strategy")),
            tx.set_network_strategy(s.networks[0], Ball("another")),
        ),
        10_000,
    ),
    "get_network_transformations": (
        lambda tx, s: tx.get_network_transformations(s.networks[0]),
        500,
    ),
    "get_transformation_networks": (
        lambda tx, s: tx.get_transformation_networks(s.transformations[0][0]),
        400,
    ),
    "get_network_chemicalsystems": (
        lambda tx, s: tx.get_network_chemicalsystems(s.networks[0]),
        500,
    ),
    "get_transformation_chemicalsystems": (
        lambda tx, s: tx.get_transformation_chemicalsystems(s.transformations[0][0]),
        400,
    ),
    "heartbeat": (lambda tx, s: tx.heartbeat_computeservice("service 1", datetime.now(UTC)), 10),
    "deregister": (lambda tx, s: tx.deregister_computeservice("service 1"), 100_000),
    "expire nothing": (lambda tx, s: tx.expire_registrations(LONG_AGO), 1000),
    "get_service_tasks": (lambda tx, s: tx.get_service_tasks("service 1"), 5000),
    "register_computeservice": (
        lambda tx, s: tx.register_computeservice(ComputeServiceRegistration.from_now("new")),
        10,
    ),
    "failures": (
        lambda tx, s: (
            tx.log_failure_compute_service("service 1", LONG_AGO),
            tx.log_failure_compute_service("service 1"),
            tx.compute_service_can_claim("service 1", timedelta(hours=1), 0),
        ),
        100,
    ),
    "get_transformation_status": (
        lambda tx, s: tx.get_transformation_status(s.transformations[5][0]),
        2000,
    ),
    "get_transformation_tasks": (
        lambda tx, s: tx.get_transformation_tasks(s.transformations[5][0]),
        20_000,
    ),
}


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(("act", "bound"), SINGLE_CALLS.values(), ids=SINGLE_CALLS)
def test_call_with_one_object_touches_few_rows(
    act: Act, bound: int, statistics: str, request: pytest.FixtureRequest
) -> None:
    if statistics == "skewed" and (act, bound) == SINGLE_CALLS["get_transformation_status"]:
        pytest.skip(
            "the planner expects a thousand rows, and reading all of so small a table is as cheap"
        )
    plans = plans_of(act, statistics, request)
    assert not read_whole(plans), str(plans)
    assert plans.touched <= bound, str(plans)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_check_of_the_data_reads_no_row_often(
    statistics: str, request: pytest.FixtureRequest
) -> None:
    plans = plans_of(lambda tx, s: violations(own_connection(tx)), statistics, request, "60s")
    assert len(plans.plans) == len(RULES)
    # Each parallel worker may read a whole table; quadratic growth would touch far more.
    assert max(node.touched for node in plans.nodes) <= 5 * TASKS, str(plans)


LENGTH = 4_000
LONG_CHAIN = (
    f"""
    CREATE TEMPORARY TABLE chain ON COMMIT DROP AS
    SELECT i, gen_random_uuid() AS token FROM generate_series(1, {LENGTH}) AS i
    """,
    """
    INSERT INTO tasks (
        scope_id, token, transformation, status, status_changed_at, priority, attempts, created_at
    )
    SELECT t.scope_id, c.token, t.token, 'invalid', now(), 10, 0, now()
    FROM chain AS c CROSS JOIN (SELECT scope_id, token FROM transformations LIMIT 1) AS t
    """,
    """
    INSERT INTO extends (scope_id, task, parent, transformation)
    SELECT t.scope_id, t.token, up.token, t.transformation
    FROM chain AS c JOIN tasks AS t USING (token) JOIN chain AS up ON up.i = c.i - 1
    """,
)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_check_of_a_long_chain_reads_no_row_often(
    statistics: str, request: pytest.FixtureRequest
) -> None:
    def act(tx: StateStore, seeded: Seeded) -> None:
        for statement in LONG_CHAIN:
            own_connection(tx).execute(text(statement))
        assert violations(own_connection(tx)) == []

    plans = plans_of(act, statistics, request, "60s")
    assert max(node.touched for node in plans.nodes) <= 5 * TASKS, str(plans)


@pytest.mark.parametrize(
    "read",
    [
        lambda tx, network: tx.get_gufe(network),
        lambda tx, network: tx.get_keyed_chain(network),
        lambda tx, network: tx.query_networks(key=str(network.gufe_key), return_gufe=True),
    ],
    ids=["get_gufe", "get_keyed_chain", "query_networks"],
)
def test_network_is_read_without_the_documents_of_others(
    read: Callable[[StateStore, ScopedKey], object], request: pytest.FixtureRequest
) -> None:
    def act(tx: StateStore, seeded: Seeded) -> None:
        # As if a hash join, which reads the whole table, looked cheaper than it is.
        own_connection(tx).execute(text("SET LOCAL enable_nestloop = off"))
        read(tx, seeded.networks[0])

    plans = plans_of(act, "fresh", request)
    seeded: Seeded = request.getfixturevalue("fresh")
    size = len(seeded.store.get_keyed_chain(seeded.networks[0]))
    scans = [node for node in plans.nodes if node.relation == "gufe_objects"]
    assert scans
    assert max(node.touched for node in scans) <= size, str(plans)


def test_seeded_database_breaks_no_invariant(fresh: Seeded) -> None:
    assert list(fresh.store.problems()) == []


def test_scan_of_a_large_table_is_detected(fresh: Seeded, request: pytest.FixtureRequest) -> None:
    plans = plans_of(lambda tx, s: tx.get_scope_status(SCOPE), "fresh", request)
    assert read_whole(plans)
    assert plans.touched > 100_000


@pytest.mark.parametrize("statistics", STATISTICS)
def test_counts_of_a_scope_look_up_states_by_transformation_not_by_task(
    statistics: str, request: pytest.FixtureRequest
) -> None:
    plans = plans_of(lambda tx, s: tx.get_scope_status(SCOPE), statistics, request)
    assert plans.plans
    assert plans.touched < 10 * TASKS, str(plans)


@pytest.mark.parametrize("protocols", [None, ["RareProtocol", "PushProtocol"]])
def test_repeated_claim_uses_a_plan_made_once(fresh: Seeded, protocols: list[str] | None) -> None:
    with contextlib.suppress(_Undo), fresh.store.transaction() as tx:
        assert tx.connection is not None
        # The driver prepares a statement that it has sent five times; the server then makes five
        # plans before it compares their costs with that of the generic one.
        for _ in range(15):
            claim(0, protocols)(tx, fresh)
        counts = tx.connection.execute(
            text("""
                SELECT custom_plans, generic_plans FROM pg_prepared_statements
                WHERE statement LIKE '%INSERT INTO claims%'
            """)
        ).one()
        raise _Undo
    assert counts.generic_plans > 0, counts


# The pages that a count of the same tasks reads, without anything else.
BARE_COUNT = text(
    "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT status, count(*) FROM tasks GROUP BY 1"
)
NETWORKS_TO_COUNT: dict[str, tuple[Callable[[Seeded], list[ScopedKey]], float]] = {
    "all": (lambda s: s.networks, 1.2),
    # Its tasks are on every page, and found through an index.
    "the large one": (lambda s: s.networks[:1], 1.7),
    "a small one": (lambda s: s.networks[5:6], 1.2),
}


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(("networks", "most"), NETWORKS_TO_COUNT.values(), ids=NETWORKS_TO_COUNT)
def test_network_status_reads_about_the_pages_of_a_bare_count(
    networks: Callable[[Seeded], list[ScopedKey]],
    most: float,
    statistics: str,
    request: pytest.FixtureRequest,
) -> None:
    plans = plans_of(lambda tx, s: tx.get_network_status(networks(s)), statistics, request)
    seeded: Seeded = request.getfixturevalue("stale" if statistics == "stale" else "fresh")
    with seeded.engine.connect() as connection:
        plan = connection.scalar(BARE_COUNT)[0]["Plan"]
    bare = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    if statistics == "never":
        # Tables that are not analyzed are read through an index; so is the bare count of a scope.
        most += 0.2
    assert plans.pages <= most * bare, f"{plans.pages} of {bare}: {plans}"
