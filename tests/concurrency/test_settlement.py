"""Settlement concurrent with claims, expiry, setters and other settlements."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Barrier

import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore, TaskStatusEnum
from alchemistore.models import Settlement
from tests.support.campaigns import Campaign, campaign, chain, register, star
from tests.support.claims import campaign_of_one_task, claim, expire_silent, register_silent
from tests.support.concurrency import Running, run_while_open
from tests.support.history import attempts, outcomes, status
from tests.support.results import ok_or_failed, ref, reference_key, settle


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    return campaign_of_one_task(store, scope, "b", "c")


@ok_or_failed
def test_repeated_settlement_waits_for_the_first_and_returns_the_same(
    store: StateStore, made: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, made, "b"), ref(scope, ok=ok)
    with store.transaction() as tx:
        first = tx.settle_task(task, result, compute_service_id="b")
        second = Running(lambda: settle(store, task, result, "b"))
        assert second.waits_for(tx)
    assert second.result() == first
    assert outcomes(store, task) == [("b", "complete" if ok else "error")]


@ok_or_failed
def test_settlement_during_expiry_of_its_service_is_late(
    store: StateStore, made: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, made, "a"), ref(scope, ok=ok)
    with store.transaction() as tx:
        expire_silent(tx)
        settling = Running(lambda: settle(store, task, result, "a"))
        assert settling.waits_for(tx)
    assert settling.result().outcome == "expired"
    assert status(store, task) == ("complete" if ok else "waiting")
    assert [(one.outcome, one.result) for one in attempts(store, task)] == [
        ("expired", reference_key(result, task))
    ]


@ok_or_failed
def test_expiry_during_settlement_does_not_revert_the_task(
    store: StateStore, made: Campaign, scope: Scope, ok: bool
) -> None:
    task, ended = claim(store, made, "a"), "complete" if ok else "error"
    with store.transaction() as tx:
        tx.settle_task(task, ref(scope, ok=ok), compute_service_id="a")
        expiring = Running(lambda: expire_silent(store))
        expiring.waits_for(tx)
    assert expiring.result() == ["a"]
    assert (status(store, task), outcomes(store, task)) == (ended, [("a", ended)])


def test_claim_skips_a_task_being_completed_by_a_late_result(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    task = claim(store, made, "a")
    expire_silent(store)
    with store.transaction() as tx:
        tx.settle_task(task, ref(scope), compute_service_id="a")
        claiming = Running(lambda: store.claim_taskhub_tasks(made.hub, "b"))
        assert claiming.result() == [None]
    assert (status(store, task), outcomes(store, task)) == ("complete", [("a", "expired")])


@ok_or_failed
def test_late_result_waits_for_the_claim_of_its_task(
    store: StateStore, made: Campaign, scope: Scope, ok: bool
) -> None:
    task = claim(store, made, "a")
    expire_silent(store)
    with store.transaction() as tx:
        assert tx.claim_taskhub_tasks(made.hub, "b") == [task]
        settling = Running(lambda: settle(store, task, ref(scope, ok=ok), "a"))
        assert settling.waits_for(tx)
    settling.result()
    assert status(store, task) == ("complete" if ok else "running")
    assert outcomes(store, task) == [("a", "expired"), ("b", "superseded" if ok else None)]


@pytest.mark.parametrize("late_first", [True, False])
def test_results_of_two_workers_are_both_kept(
    store: StateStore, made: Campaign, scope: Scope, late_first: bool
) -> None:
    task = claim(store, made, "a")
    expire_silent(store)
    claim(store, made, "b")
    results = {"a": ref(scope), "b": ref(scope)}
    first, second = ("a", "b") if late_first else ("b", "a")
    with store.transaction() as tx:
        tx.settle_task(task, results[first], compute_service_id=first)
        other = Running(lambda: settle(store, task, results[second], second))
        assert other.waits_for(tx)
    other.result()
    assert status(store, task) == "complete"
    assert outcomes(store, task) == [
        ("a", "expired"),
        ("b", "superseded" if late_first else "complete"),
    ]
    assert [one.result for one in attempts(store, task)] == [
        reference_key(results[name], task) for name in ("a", "b")
    ]
    assert store.get_task_results(task) == sorted(
        reference_key(one, task) for one in results.values()
    )


@pytest.mark.parametrize("wanted", ["waiting", "error", "complete", "invalid", "deleted"])
@ok_or_failed
def test_setter_and_a_settlement_go_one_after_the_other(
    store: StateStore, made: Campaign, scope: Scope, wanted: str, ok: bool
) -> None:
    task, ended = claim(store, made, "b"), "complete" if ok else "error"
    with store.transaction() as tx:
        tx.settle_task(task, ref(scope, ok=ok), compute_service_id="b")
        setting = Running(lambda: store.set_task_status([task], wanted))
        assert setting.waits_for(tx)
    accepted = wanted in ("invalid", "deleted", ended) or (ended, wanted) == ("error", "waiting")
    assert setting.result() == [task if accepted else None]
    assert status(store, task) == (wanted if accepted else ended)
    assert outcomes(store, task) == [("b", ended)]

    [again] = store.create_tasks(made.transformations[:1])
    store.action_tasks([again], made.hub)
    store.cancel_tasks([task], made.hub)
    assert claim(store, made, "c") == again
    with store.transaction() as tx:
        assert tx.set_task_status([again], wanted) == [again]
        settling = Running(lambda: settle(store, again, ref(scope, ok=ok), "c"))
        assert settling.waits_for(tx)
    settling.result()
    assert status(store, again) == ("complete" if ok and wanted in ("waiting", "error") else wanted)
    assert outcomes(store, again) == [("c", "released" if wanted == "waiting" else wanted)]


def child_actioned(store: StateStore, made: Campaign, child: ScopedKey) -> object:
    return store.action_tasks([child], made.hub)


def child_given_weight(store: StateStore, made: Campaign, child: ScopedKey) -> object:
    return store.set_task_weights([child], made.hub, 0.5)


def child_set_waiting(store: StateStore, made: Campaign, child: ScopedKey) -> object:
    return store.set_task_waiting([child])


def child_given_priority(store: StateStore, made: Campaign, child: ScopedKey) -> object:
    return store.set_task_priority([child], 3)


Change = Callable[[StateStore, Campaign, ScopedKey], object]


@pytest.mark.parametrize("settled_first", [True, False])
@pytest.mark.parametrize(
    "change", [child_actioned, child_given_weight, child_set_waiting, child_given_priority]
)
def test_child_changed_during_completion_of_its_parent_is_claimable(
    store: StateStore, made: Campaign, scope: Scope, change: Change, settled_first: bool
) -> None:
    parent, child = chain(store, made.transformations[0], 2)
    store.cancel_tasks(made.tasks, made.hub)
    if change is not child_actioned:
        store.action_tasks([child], made.hub)
    if change is child_given_weight:
        store.set_task_weights([child], made.hub, 0)
    if change is child_set_waiting:
        store.set_task_running([child])
        store.set_task_error([child])

    def settling(which: StateStore) -> object:
        return which.settle_task(parent, ref(scope), compute_service_id="b")

    def changing(which: StateStore) -> object:
        return change(which, made, child)

    first, second = (settling, changing) if settled_first else (changing, settling)
    run_while_open(store, first, lambda: second(store), commit=True)[1].result()
    assert claim(store, made, "b") == child


@pytest.mark.parametrize("settled_first", [True, False])
def test_child_created_during_completion_of_its_parent_is_claimable(
    store: StateStore, made: Campaign, scope: Scope, settled_first: bool
) -> None:
    [parent] = made.tasks

    def settling(which: StateStore) -> object:
        return which.settle_task(parent, ref(scope), compute_service_id="b")

    def bearing(which: StateStore) -> object:
        return which.action_tasks(
            [which.create_task(made.transformations[0], extends=parent)], made.hub
        )

    first, second = (settling, bearing) if settled_first else (bearing, settling)
    run_while_open(store, first, lambda: second(store), commit=True)[1].result()
    assert claim(store, made, "b") in store.get_transformation_tasks(
        made.transformations[0], extends=parent
    )


def test_settlement_locks_the_children_of_its_task_in_the_order_of_their_keys(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    [parent] = made.tasks
    children = store.create_tasks(made.transformations[:1] * 3, extends=[parent] * 3)
    first, *others = sorted(task for task in children if task)
    with store.transaction() as tx:
        assert tx.set_task_priority([first], 3) == [first]
        settling = Running(lambda: settle(store, parent, ref(scope), "b"))
        assert settling.waits_for(tx)
        # It waits for the first child, so it has locked no other.
        with store.transaction() as other:
            assert other.connection is not None
            other.connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            assert other.set_task_priority(others, 4) == others
    assert settling.result().status is TaskStatusEnum.complete


@ok_or_failed
@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_expiry_and_settlement_at_once_agree_with_a_serial_order(
    store: StateStore, scope: Scope, rounds: int, ok: bool
) -> None:
    register(store, "c")
    made, ended = campaign(store, scope, tasks=rounds, arms=1), "complete" if ok else "error"
    settlements: dict[ScopedKey, tuple[Settlement, ScopedKey]] = {}
    ready = Barrier(2)

    def expiring() -> list[str]:
        ready.wait(60)
        return expire_silent(store)

    for _ in range(rounds):
        register_silent(store, "a")
        task = claim(store, made, "a")
        result = ref(scope, ok=ok)
        other = Running(expiring)
        ready.wait(60)
        settlements[task] = settle(store, task, result, "a"), reference_key(result, task)
        assert other.result() == ["a"]
        assert store.get_service_tasks("a") == []
        if not ok:
            store.set_task_priority([task], 1000 + len(settlements))
    for task, (answer, result_key) in settlements.items():
        [attempt] = attempts(store, task)[:1]
        assert (attempt.outcome, attempt.result) == (answer.outcome, result_key)
        assert answer.outcome in (ended, "expired")
        assert status(store, task) == (
            "waiting" if not ok and answer.outcome == "expired" else ended
        )
    waiting = {task for task in made.tasks if status(store, task) == "waiting"}
    assert set(store.claim_taskhub_tasks(made.hub, "c", count=rounds)) - {None} == waiting


def test_concurrent_settlements_on_shared_hubs_and_chains_do_not_deadlock(
    store: StateStore, scope: Scope
) -> None:
    """Claimers that settle, an operator and expiry run at once without deadlocks or losses."""
    register(store, "b", "c", "d")
    made = campaign(store, scope, arms=1)
    hub = store.create_taskhub(
        store.create_network(star(1, "the same arm in another network"), scope)
    )
    chains = [chain(store, made.transformations[0], 3) for _ in range(10)]
    tasks = [task for one in chains for task in one]
    store.action_tasks(tasks, made.hub)
    store.action_tasks(tasks, hub)
    delivered: list[tuple[ScopedKey, ScopedKey]] = []

    def working(service: str, hubs: list[ScopedKey]) -> None:
        for turn in range(200):
            got = [
                task
                for task in store.claim_taskhub_tasks(hubs[turn % 2], service, count=2)
                if task is not None
            ]
            for task in reversed(got):
                result = ref(scope, ok=turn % 4 != 1)
                delivered.append((task, settle(store, task, result, service).result))
            if (
                set(store.get_task_status(tasks)) == {store.get_task_status(tasks[:1])[0]}
                and status(store, tasks[0]) == "complete"
            ):
                break

    def operating() -> None:
        for turn in range(30):
            store.set_task_waiting([task for task in tasks if status(store, task) == "error"])
            store.set_task_priority(tasks[turn::3], 1 + turn % 3)
            store.set_task_weights(reversed(tasks), hub, 0.1 + turn / 100)
            register_silent(store, "a")
            store.claim_taskhub_tasks(hub, "a", count=3)
            expire_silent(store)

    workers = [
        Running(partial(working, "b", [made.hub, hub])),
        Running(partial(working, "c", [hub, made.hub])),
    ]
    operating()
    for worker in workers:
        worker.result()
    store.set_task_waiting(tasks)
    for _ in range(3):
        for task in store.claim_taskhub_tasks(made.hub, "d", count=100):
            if task is not None:
                delivered.append((task, settle(store, task, ref(scope), "d").result))
    assert {status(store, task) for task in tasks} == {"complete"}
    for task, result_key in delivered:
        assert result_key in store.get_task_results(task) + store.get_task_failures(task)
