"""Many concurrent claimers: no task claimed twice or lost, and no deadlock."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import partial
from threading import Event

import pytest
from sqlalchemy import TextClause, text

from alchemistore import Scope, ScopedKey, StateStore
from alchemistore.database.transaction import open_transaction
from alchemistore.settings import Settings
from tests.support.campaigns import Campaign, campaign, register
from tests.support.concurrency import Running, run_concurrently

CLAIMERS = 16
SERVICES = [f"service {i}" for i in range(CLAIMERS)]


def open_store(url: str) -> StateStore:
    """A store with a connection for each claimer."""
    options = {
        "database_url": url,
        "pool_size": CLAIMERS + 2,
        "application_name": "claimers",
    }
    return StateStore(Settings.model_validate(options))


OPEN_CONNECTIONS = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE (datname, application_name) = (current_database(), 'claimers')
""")
DEADLOCKS = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


def number_in(store: StateStore, query: TextClause) -> int:
    """Return a number from the statistics, which do not change within a transaction."""
    with open_transaction(store.engine, readonly=True) as connection:
        return int(connection.scalar(query))


@pytest.fixture
def wide(store: StateStore, pooled_database: str) -> Iterator[StateStore]:
    """A store with a connection for each claimer; fails if the database saw a deadlock."""
    wide = open_store(pooled_database)
    yield wide
    wide.close()
    # A connection reports its statistics when it ends.
    while number_in(store, OPEN_CONNECTIONS):
        pass
    deadlocks = number_in(store, DEADLOCKS)
    assert deadlocks == 0


def at_once(work: Callable[[int], list[ScopedKey | None]]) -> list[ScopedKey | None]:
    """Run all claimers at the same time, and return all that they claimed."""
    return [
        task
        for got in run_concurrently([partial(work, number) for number in range(CLAIMERS)])
        for task in got
    ]


def hubs_of(
    store: StateStore, scope: Scope, hubs: int, tasks: int
) -> tuple[Campaign, list[ScopedKey]]:
    """So many hubs that share so many tasks of two priorities and several weights."""
    made = campaign(store, scope, tasks=tasks)
    shared = [made.hub, *(campaign(store, scope, name=f"hub {i}").hub for i in range(1, hubs))]
    for hub in shared[1:]:
        store.action_tasks(made.tasks, hub)
    store.set_task_priority(made.tasks[::3], 1)
    for hub in shared:
        store.set_task_weights(made.tasks[:: len(shared)], hub, 0.05)
    return made, shared


def assert_each_claimed_once(
    store: StateStore, tasks: Sequence[ScopedKey], claimed: Sequence[ScopedKey | None]
) -> None:
    assert Counter(task for task in claimed if task) == Counter(tasks)
    with store.engine.connect() as connection:
        counts = connection.execute(
            text(
                "SELECT count(*), count(DISTINCT task), count(outcome),"
                " (SELECT count(*) FROM claims) FROM attempts"
            )
        ).one()
    assert tuple(counts) == (len(tasks), len(tasks), 0, len(tasks))


@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.parametrize("count", [1, 5])
def test_claims_return_the_full_count_while_tasks_remain(
    wide: StateStore, scope: Scope, hubs: int, count: int
) -> None:
    rounds = 20 // count
    # So many that some are left even when every claimer has taken hold of as many as it asked for.
    made, shared = hubs_of(wide, scope, hubs, CLAIMERS * count * (rounds + 1))
    register(wide, *SERVICES)

    def claim(number: int) -> list[ScopedKey | None]:
        got: list[ScopedKey | None] = []
        for i in range(rounds):
            got += wide.claim_taskhub_tasks(shared[(number + i) % hubs], SERVICES[number], count)
        return got

    claimed = at_once(claim)
    assert None not in claimed
    rest = wide.claim_taskhub_tasks(made.hub, SERVICES[0], len(made.tasks))
    assert_each_claimed_once(wide, made.tasks, [*claimed, *rest])


@pytest.mark.parametrize("hubs", [1, 2])
def test_claimers_empty_hubs_without_losing_a_task(
    wide: StateStore, scope: Scope, hubs: int
) -> None:
    made, shared = hubs_of(wide, scope, hubs, 400)
    register(wide, *SERVICES)

    def claim(number: int) -> list[ScopedKey | None]:
        generator, got = random.Random(number), list[ScopedKey | None]()
        while True:
            answer = wide.claim_taskhub_tasks(
                shared[number % hubs], SERVICES[number], generator.randint(1, 8)
            )
            got += answer
            if answer[0] is None:
                return got

    claimed = at_once(claim)
    # A claim after all others finds the tasks that they skipped.
    claimed += wide.claim_taskhub_tasks(made.hub, SERVICES[0], 400)
    assert_each_claimed_once(wide, made.tasks, claimed)
    for hub in shared:
        assert wide.claim_taskhub_tasks(hub, SERVICES[0]) == [None]


def claim_all(url: str, hubs: list[str], service: str) -> list[ScopedKey]:
    """Claim until there is nothing left; runs in a process of its own."""
    store = open_store(url)
    got: list[ScopedKey] = []
    while True:
        answer = store.claim_taskhub_tasks(hubs[len(got) % len(hubs)], service, 3)
        got += [task for task in answer if task]
        if answer[0] is None:
            store.close()
            return got


def test_processes_claim_every_task_once(
    wide: StateStore, pooled_database: str, scope: Scope
) -> None:
    made, shared = hubs_of(wide, scope, 2, 300)
    register(wide, *SERVICES[:3])
    keys = [str(hub) for hub in shared]
    context = multiprocessing.get_context("forkserver")
    # The packages are imported once, and not by each process.
    context.set_forkserver_preload(["tests.support.campaigns"])
    with ProcessPoolExecutor(3, mp_context=context) as processes:
        work = [
            processes.submit(claim_all, pooled_database, keys, service) for service in SERVICES[:3]
        ]
        claimed: list[ScopedKey | None] = [task for one in work for task in one.result(timeout=120)]
    claimed += wide.claim_taskhub_tasks(made.hub, SERVICES[0], 300)
    assert_each_claimed_once(wide, made.tasks, claimed)


def test_expiry_during_claims_strands_no_task(wide: StateStore, scope: Scope) -> None:
    made, shared = hubs_of(wide, scope, 2, 120)
    register(wide, *SERVICES)
    done = Event()

    def expire() -> int:
        expired = 0
        while not done.is_set():
            expired += len(wide.expire_registrations(datetime.max))
        return expired

    def claim(number: int) -> list[ScopedKey | None]:
        got: list[ScopedKey | None] = []
        for i in range(25):
            try:
                got += wide.claim_taskhub_tasks(shared[i % 2], SERVICES[number], 2)
            except KeyError:
                register(wide, SERVICES[number])
        return got

    expiry = Running(expire)
    try:
        claimed = [task for task in at_once(claim) if task]
    finally:
        done.set()
    assert expiry.result() > CLAIMERS
    wide.expire_registrations(datetime.max)

    with wide.engine.connect() as connection:
        outcomes = connection.execute(
            text("SELECT outcome, count(*) AS times FROM attempts GROUP BY outcome")
        ).all()
        assert connection.scalar(text("SELECT count(*) FROM claims")) == 0
    assert [tuple(outcome) for outcome in outcomes] == [("expired", len(claimed))]
    assert wide.get_scope_status(scope) == {"waiting": 120}
    register(wide, "survivor")
    assert set(wide.claim_taskhub_tasks(shared[1], "survivor", 120)) == set(made.tasks)


def test_concurrent_calls_of_all_kinds_break_no_invariant(wide: StateStore, scope: Scope) -> None:
    made, shared = hubs_of(wide, scope, 2, 60)
    children = wide.create_tasks(
        [made.transformations[i % 3] for i in range(60)], extends=made.tasks
    )
    for hub in shared:
        wide.action_tasks(children, hub)
    tasks = made.tasks + children
    register(wide, *SERVICES)

    def work(number: int) -> list[ScopedKey | None]:
        generator, finished = random.Random(number), list[ScopedKey | None]()
        for _ in range(30):
            some, hub = generator.sample(tasks, 12), generator.choice(shared)
            match generator.randrange(10):
                case 0:
                    wide.cancel_tasks(some, hub)
                case 1:
                    wide.action_tasks(some, hub)
                case 2:
                    wide.set_task_priority(some, generator.randint(1, 3))
                case 3:
                    wide.set_task_weights(
                        {task: generator.choice([0.0, 0.1, 1.0]) for task in some}, hub
                    )
                case 4:
                    wide.set_task_waiting(some)
                case 5:
                    wide.set_task_error(some[:3])
                case 6:
                    wide.set_task_invalid(some[:1])
                case 7:
                    service = generator.choice(SERVICES)
                    try:
                        wide.deregister_computeservice(service)
                    except KeyError:
                        continue
                    register(wide, service)
                case _:
                    try:
                        claimed = wide.claim_taskhub_tasks(hub, SERVICES[number], 3)
                    except KeyError:
                        continue
                    finished += wide.set_task_complete(claimed[:2])
        return finished

    completed = {task for task in at_once(work) if task}
    statuses = dict(zip(tasks, wide.get_task_status(tasks), strict=True))
    assert {status and status.value for task, status in statuses.items() if task in completed} <= {
        "complete",
        "invalid",
    }
    with wide.engine.connect() as connection:
        twice = text(
            "SELECT task FROM attempts WHERE outcome = 'complete' GROUP BY task HAVING count(*) > 1"
        )
        assert connection.execute(twice).all() == []
    assert wide.problems() == []
    wide.expire_registrations(datetime.max)
    wide.set_task_waiting(
        [
            task
            for task, status in statuses.items()
            if status and status.value in ("running", "error")
        ]
    )
    assert set(wide.get_scope_status(scope)) <= {"waiting", "complete", "invalid"}
