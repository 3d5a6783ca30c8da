"""A result is delivered: by whom, of which kind and to which task decides what becomes of the task, never of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import URL, text

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore, TaskStatusEnum
from alchemistore.invariants import violations
from alchemistore.models import Settlement
from tests.builders import Campaign, campaign, chain, register
from tests.deliveries import (
    Running,
    attempts,
    everything,
    expire_silent,
    history,
    key_of,
    ref,
    register_silent,
    settle,
    status,
    undone,
)

ENVIRONMENT = {"gufe": "1.1.0", "openmm": "8.1"}
NUMBERS = count()


@pytest.fixture(scope="module")
def shared(server: URL, template: str, run_sql: Callable[[str], None]) -> Iterator[StateStore]:
    """One database for all tests of this module: they are many, and each has a scope of its own."""
    name = f"test_{uuid4().hex}"
    run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    store = StateStore(server.set(database=name).render_as_string(hide_password=False))
    yield store
    problems = store.problems()
    store.close()
    run_sql(f"DROP DATABASE {name} WITH (FORCE)")
    assert not problems


@pytest.fixture
def store(shared: StateStore) -> Iterator[StateStore]:
    """The shared store, without services; whatever a test did to it must leave it sound."""
    yield shared
    with shared._engine.connect() as connection:
        assert violations(connection) == []
        registered = connection.execute(text("SELECT identifier FROM compute_services")).scalars().all()
    for identifier in registered:
        shared.deregister_computeservice(identifier)


@pytest.fixture
def scope() -> Scope:
    return Scope("org", "campaign", f"project{next(NUMBERS)}")


@pytest.fixture
def one(store: StateStore, scope: Scope) -> Campaign:
    """A task on a hub; `a`, which will fall silent, and `b` and `c`."""
    register_silent(store, "a")
    register(store, "b", "c")
    return campaign(store, scope, tasks=1, arms=1)


def claim(store: StateStore, made: Campaign, service: str) -> ScopedKey:
    [task] = store.claim_taskhub_tasks(made.hub, service)
    assert task is not None
    return task


def claims(store: StateStore) -> list[tuple[str, int]]:
    """Who holds a claim, as which attempt."""
    with store._engine.connect() as connection:
        return [(row.service, row.attempt) for row in connection.execute(text("SELECT service, attempt FROM claims"))]


def outcomes(store: StateStore, task: ScopedKey) -> list[tuple[str, str | None]]:
    return [(attempt.service, attempt.outcome) for attempt in attempts(store, task)]


def check_listed(store: StateStore, task: ScopedKey, *refs: ProtocolDAGResultRef) -> None:
    """See that these results of the task are listed, and no others."""
    assert store.get_task_results(task) == sorted(key_of(one, task) for one in refs if one.ok)
    assert store.get_task_failures(task) == sorted(key_of(one, task) for one in refs if not one.ok)
    for result in refs:
        assert store.get_gufe(key_of(result, task)) == result


# How a task comes to each status, beginning with waiting; with whom its claim is then, and what has become of b's attempt.
def by_nobody(store: StateStore, made: Campaign) -> None:
    pass


def set_by_hand(wanted: str) -> Callable[[StateStore, Campaign], None]:
    def bring(store: StateStore, made: Campaign) -> None:
        if wanted not in ("invalid", "deleted"):
            assert store.set_task_running(made.tasks) == made.tasks
        assert store.set_task_status(made.tasks, wanted) == made.tasks

    return bring


def claimed_by_b(store: StateStore, made: Campaign) -> None:
    claim(store, made, "b")


def failed_by_b(store: StateStore, made: Campaign) -> None:
    claim(store, made, "b")
    assert store.set_task_error(made.tasks) == made.tasks


def completed_by_b(store: StateStore, made: Campaign) -> None:
    claim(store, made, "b")
    assert store.set_task_complete(made.tasks) == made.tasks


WAYS: dict[str, tuple[str, Callable[[StateStore, Campaign], None]]] = {
    "waiting": ("waiting", by_nobody),
    "running by hand": ("running", set_by_hand("running")),
    "running by b": ("running", claimed_by_b),
    "error by hand": ("error", set_by_hand("error")),
    "error by b": ("error", failed_by_b),
    "complete by hand": ("complete", set_by_hand("complete")),
    "complete by b": ("complete", completed_by_b),
    "invalid": ("invalid", set_by_hand("invalid")),
    "deleted": ("deleted", set_by_hand("deleted")),
}


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
def test_a_result_from_who_holds_the_claim_ends_the_task(store: StateStore, one: Campaign, scope: Scope, ok: bool) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    ended = "complete" if ok else "error"
    answer = settle(store, task, result, "b")
    assert answer == Settlement(result=key_of(result, task), status=TaskStatusEnum(ended), attempt=1, outcome=ended)
    assert status(store, task) == ended
    assert claims(store) == []
    [attempt] = attempts(store, task)
    assert (attempt.service, attempt.outcome, attempt.result) == ("b", ended, key_of(result, task))
    assert attempt.ended_at is not None
    assert attempt.ended_at >= attempt.claimed_at
    assert store.get_gufe(task).claim is None
    assert store.get_taskhub_tasks(one.hub) == ([] if ok else [task])
    check_listed(store, task, result)


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sender", ["lost", "never", "nobody"])
def test_a_result_from_who_holds_no_claim_completes_what_is_open_or_changes_no_status(
    store: StateStore, one: Campaign, scope: Scope, sender: str, way: str, ok: bool
) -> None:
    [task], result = one.tasks, ref(scope, ok=ok)
    before, bring = WAYS[way]
    if sender == "lost":
        claim(store, one, "a")
        assert expire_silent(store) == ["a"]
    bring(store, one)
    was, old = status(store, task), attempts(store, task)
    assert was == before

    answer = settle(store, task, result, {"lost": "a", "never": "c", "nobody": None}[sender])

    open_before = was in ("waiting", "running", "error")
    after = "complete" if ok and open_before else was
    mine = (1, "expired") if sender == "lost" else (None, None)
    assert answer == Settlement(result=key_of(result, task), status=TaskStatusEnum(after), attempt=mine[0], outcome=mine[1])
    assert status(store, task) == after
    check_listed(store, task, result)
    new = attempts(store, task)
    assert len(new) == len(old)
    for then, now in zip(old, new, strict=True):
        if then.ended_at is not None:
            linked = key_of(result, task) if then.service == "a" else then.result
            assert now == then.model_copy(update={"result": linked})
        elif ok:
            assert (now.service, now.outcome, now.result) == ("b", "superseded", None)
            assert now.ended_at is not None
        else:
            assert now == then
    assert claims(store) == ([("b", len(new))] if way == "running by b" and not ok else [])
    assert store.get_taskhub_tasks(one.hub) == ([task] if after in ("waiting", "running", "error") else [])
    if after == "waiting":
        assert claim(store, one, "c") == task
    else:
        assert store.claim_taskhub_tasks(one.hub, "c") == [None]


LOSSES: dict[str, tuple[str, Callable[[StateStore, ScopedKey], object], str]] = {
    "expired": ("waiting", lambda store, task: expire_silent(store), "expired"),
    "deregistered": ("waiting", lambda store, task: store.deregister_computeservice("a"), "deregistered"),
    "released": ("waiting", lambda store, task: store.set_task_waiting([task]), "released"),
    "set to error": ("error", lambda store, task: store.set_task_error([task]), "error"),
    "set complete": ("complete", lambda store, task: store.set_task_complete([task]), "complete"),
    "set invalid": ("invalid", lambda store, task: store.set_task_invalid([task]), "invalid"),
    "set deleted": ("deleted", lambda store, task: store.set_task_deleted([task]), "deleted"),
}


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
@pytest.mark.parametrize("loss", LOSSES)
def test_however_a_claim_was_lost_its_late_result_is_linked_and_its_end_stays(
    store: StateStore, one: Campaign, scope: Scope, loss: str, ok: bool
) -> None:
    task, result = claim(store, one, "a"), ref(scope, ok=ok)
    was, lose, outcome = LOSSES[loss]
    lose(store, task)
    [ended] = attempts(store, task)
    assert (status(store, task), ended.outcome, ended.result) == (was, outcome, None)
    assert ended.ended_at is not None
    answer = settle(store, task, result, "a", environment=ENVIRONMENT)
    assert (answer.attempt, answer.outcome) == (1, outcome)
    assert answer.status.value == status(store, task) == ("complete" if ok and was in ("waiting", "error") else was)
    [linked] = attempts(store, task)
    assert linked == ended.model_copy(update={"result": key_of(result, task), "environment": ENVIRONMENT})
    check_listed(store, task, result)


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
def test_the_result_of_a_superseded_holder_is_kept_too(store: StateStore, one: Campaign, scope: Scope, ok: bool) -> None:
    task = claim(store, one, "a")
    expire_silent(store)
    claim(store, one, "b")
    late, newer = ref(scope), ref(scope, ok=ok)
    settle(store, task, late, "a")
    answer = settle(store, task, newer, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("complete", 2, "superseded")
    check_listed(store, task, late, newer)
    assert [attempt.result for attempt in attempts(store, task)] == [key_of(late, task), key_of(newer, task)]
    assert outcomes(store, task) == [("a", "expired"), ("b", "superseded")]


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
def test_an_earlier_attempt_of_the_service_that_runs_the_task_again_is_settled_by_its_number(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, late = claim(store, one, "b"), ref(scope, ok=ok)
    store.set_task_waiting([task])
    claim(store, one, "b")
    answer = settle(store, task, late, "b", attempt=1)
    assert (answer.attempt, answer.outcome) == (1, "released")
    first, second = attempts(store, task)
    assert first.result == key_of(late, task)
    assert (status(store, task), second.outcome) == (("complete", "superseded") if ok else ("running", None))
    assert second.result is None
    check_listed(store, task, late)


def test_without_a_number_the_last_attempt_of_the_service_is_meant(store: StateStore, one: Campaign, scope: Scope) -> None:
    task = claim(store, one, "b")
    store.set_task_waiting([task])
    claim(store, one, "b")
    answer = settle(store, task, ref(scope), "b")
    assert (answer.attempt, answer.outcome) == (2, "complete")
    assert [attempt.result for attempt in attempts(store, task)] == [None, answer.result]


@pytest.mark.parametrize("number", [1, 7])
def test_a_number_that_is_not_the_senders_own_makes_nobody_a_holder(
    store: StateStore, one: Campaign, scope: Scope, number: int
) -> None:
    task, failure, success = claim(store, one, "b"), ref(scope, ok=False), ref(scope)
    settle(store, task, failure, "c", attempt=number)
    assert (status(store, task), outcomes(store, task), claims(store)) == ("running", [("b", None)], [("b", 1)])
    settle(store, task, success, "c", attempt=number)
    assert (status(store, task), outcomes(store, task)) == ("complete", [("b", "superseded")])
    assert attempts(store, task)[0].result is None
    check_listed(store, task, failure, success)


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
@pytest.mark.parametrize("way", ["holds", "waiting", "running by b", "error by b", "complete by b", "invalid"])
def test_settling_again_changes_nothing_and_answers_the_same(
    store: StateStore, one: Campaign, scope: Scope, way: str, ok: bool
) -> None:
    task, result = claim(store, one, "a"), ref(scope, ok=ok)
    if way != "holds":
        expire_silent(store)
        WAYS[way][1](store, one)
    more: dict[str, Any] = {"tracebacks": ["no luck"], "environment": ENVIRONMENT}
    answer = settle(store, task, result, "a", **more)
    before = everything(store)
    for _ in range(3):
        assert settle(store, task, result, "a", **more) == answer
    assert everything(store) == before


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
def test_ten_at_once_settle_once(store: StateStore, one: Campaign, scope: Scope, ok: bool) -> None:
    task, result, ready = claim(store, one, "b"), ref(scope, ok=ok), Barrier(10)

    def deliver() -> Settlement:
        ready.wait(60)
        return settle(store, task, result, "b", tracebacks=["no luck"], environment=ENVIRONMENT)

    answers = [running.result() for running in [Running(deliver) for _ in range(10)]]
    ended = "complete" if ok else "error"
    assert answers == [Settlement(result=key_of(result, task), status=TaskStatusEnum(ended), attempt=1, outcome=ended)] * 10
    assert outcomes(store, task) == [("b", ended)]
    assert store.get_task_tracebacks(task) == [["no luck"]]
    check_listed(store, task, result)


def test_a_failure_delivered_again_does_not_end_the_next_attempt_of_its_service(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, failure = claim(store, one, "b"), ref(scope, ok=False)
    settle(store, task, failure, "b")
    store.set_task_waiting([task])
    claim(store, one, "b")
    before = everything(store)
    answer = settle(store, task, failure, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("running", 1, "error")
    assert everything(store) == before
    assert outcomes(store, task) == [("b", "error"), ("b", None)]


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
def test_a_reference_that_is_stored_already_settles_all_the_same(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    store.set_task_result(task, result)
    answer = settle(store, task, result, "b", tracebacks=["no luck"])
    ended = "complete" if ok else "error"
    assert (answer.status.value, answer.attempt, answer.outcome) == (ended, 1, ended)
    assert (status(store, task), claims(store)) == (ended, [])
    assert attempts(store, task)[0].result == key_of(result, task)
    assert store.get_task_tracebacks(task) == [["no luck"]]
    check_listed(store, task, result)


def test_two_services_that_come_to_the_same_result_both_end_their_attempts(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, same = claim(store, one, "b"), ref(scope, ok=False)
    settle(store, task, same, "b")
    store.set_task_waiting([task])
    claim(store, one, "c")
    answer = settle(store, task, same, "c")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("error", 2, "error")
    assert outcomes(store, task) == [("b", "error"), ("c", "error")]
    assert [attempt.result for attempt in attempts(store, task)] == [key_of(same, task)] * 2
    check_listed(store, task, same)


def test_a_result_delivered_late_by_somebody_else_with_the_same_reference_is_that_of_both(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, same = claim(store, one, "a"), ref(scope)
    expire_silent(store)
    claim(store, one, "b")
    settle(store, task, same, "b")
    answer = settle(store, task, same, "a")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("complete", 1, "expired")
    assert [attempt.result for attempt in attempts(store, task)] == [key_of(same, task)] * 2
    check_listed(store, task, same)


def test_one_reference_may_be_the_result_of_several_tasks(store: StateStore, scope: Scope) -> None:
    register(store, "b")
    made, shared = campaign(store, scope, tasks=3), ref(scope)
    assert set(store.claim_taskhub_tasks(made.hub, "b", count=3)) == set(made.tasks)
    for task in made.tasks:
        assert settle(store, task, shared, "b").status is TaskStatusEnum.complete
        check_listed(store, task, shared)


def test_the_children_become_claimable_in_the_same_transaction(store: StateStore, scope: Scope) -> None:
    register(store, "b")
    made = campaign(store, scope, arms=1)
    parent, child, grandchild = chain(store, made.transformations[0], 3)
    store.action_tasks([grandchild, child, parent], made.hub)
    assert store.claim_taskhub_tasks(made.hub, "b", count=3) == [parent, None, None]
    with store.transaction() as tx:
        tx.settle_task(parent, ref(scope), compute_service_id="b")
        assert tx.claim_taskhub_tasks(made.hub, "b", count=3) == [child, None, None]
    assert store.get_service_tasks("b") == [child]
    settle(store, child, ref(scope, ok=False), "b")
    assert store.claim_taskhub_tasks(made.hub, "b") == [None]
    settle(store, child, ref(scope))
    assert store.claim_taskhub_tasks(made.hub, "b") == [grandchild]


def test_what_is_rolled_back_was_not_settled(store: StateStore, one: Campaign, scope: Scope) -> None:
    task = claim(store, one, "b")
    before = everything(store)
    with undone(store) as tx:
        tx.settle_task(task, ref(scope), compute_service_id="b", tracebacks=["x"], environment=ENVIRONMENT)
    assert everything(store) == before
    assert settle(store, task, ref(scope), "b").outcome == "complete"


def test_a_task_that_is_missing_is_a_key_error_and_another_key_a_value_error(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    missing = ScopedKey.from_str(f"Task-{'0' * 32}-{scope}")
    before = everything(store)
    with pytest.raises(KeyError, match="No such object in database"):
        store.settle_task(missing, ref(scope))
    for wrong in (one.hub, one.network, one.transformations[0], "no key"):
        with pytest.raises(ValueError):
            store.settle_task(wrong, ref(scope))
    assert everything(store) == before


def test_keys_may_be_text(store: StateStore, one: Campaign, scope: Scope) -> None:
    task, result = claim(store, one, "b"), ref(scope)
    assert store.settle_task(str(task), result, "b").result == key_of(result, task)


def test_an_environment_is_kept_with_its_attempt_and_stored_once(store: StateStore, scope: Scope) -> None:
    register(store, "b")
    made = campaign(store, scope, tasks=4)
    store.claim_taskhub_tasks(made.hub, "b", count=4)
    environments = [ENVIRONMENT, dict(reversed(ENVIRONMENT.items())), {"gufe": "1.2.0"}, None]
    for task, environment in zip(made.tasks, environments, strict=True):
        settle(store, task, ref(scope), "b", environment=environment)
    assert [attempts(store, task)[0].environment for task in made.tasks] == environments
    with store._engine.connect() as connection:
        query = text("SELECT count(*) FROM environments JOIN scopes ON id = scope_id WHERE project = :project")
        assert connection.execute(query, {"project": scope.project}).scalar_one() == 2


def test_an_environment_of_who_never_claimed_is_no_error(store: StateStore, one: Campaign, scope: Scope) -> None:
    answer = settle(store, one.tasks[0], ref(scope), "stranger", environment=ENVIRONMENT)
    assert (answer.status.value, answer.attempt) == ("complete", None)


def test_tracebacks_are_read_back_together_in_the_order_they_came(store: StateStore, one: Campaign, scope: Scope) -> None:
    task = one.tasks[0]
    assert store.get_task_tracebacks(task) == []
    told = [["first\nof two 🧪", "second"], ["third"]]
    for tracebacks in (told[0], None, told[1]):
        claim(store, one, "b")
        settle(store, task, ref(scope, ok=False), "b", tracebacks=tracebacks)
        store.set_task_waiting([task])
    assert store.get_task_tracebacks(task) == store.get_task_tracebacks(str(task)) == told


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
def test_storing_a_reference_alone_ends_neither_status_nor_claim_nor_attempt(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    before = history(store, task)
    assert store.set_task_result(task, result) == key_of(result, task)
    assert (status(store, task), claims(store), history(store, task).changes) == ("running", [("b", 1)], before.changes)
    assert outcomes(store, task) == [("b", None)]
    check_listed(store, task, result)


def test_a_reference_stored_alone_does_not_take_the_place_of_what_the_holder_delivers(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, stranger, own = claim(store, one, "b"), ref(scope, ok=False), ref(scope)
    store.set_task_result(task, stranger)
    settle(store, task, own, "b")
    [attempt] = attempts(store, task)
    assert (attempt.outcome, attempt.result) == ("complete", key_of(own, task))
    check_listed(store, task, stranger, own)


@pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])
def test_reference_and_status_in_two_calls_end_the_attempt_as_one_does(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    store.set_task_result(task, result)
    ended = "complete" if ok else "error"
    assert store.set_task_status([task], ended) == [task]
    [attempt] = attempts(store, task)
    assert (status(store, task), attempt.outcome, attempt.result) == (ended, ended, key_of(result, task))


@pytest.mark.parametrize(
    ("wanted", "outcome"),
    [
        ("waiting", "released"),
        ("complete", "complete"),
        ("error", "error"),
        ("invalid", "invalid"),
        ("deleted", "deleted"),
    ],
)
def test_a_status_set_by_hand_ends_claim_and_attempt(store: StateStore, one: Campaign, wanted: str, outcome: str) -> None:
    task = claim(store, one, "b")
    assert store.set_task_status([task], wanted) == [task]
    assert (status(store, task), claims(store), outcomes(store, task)) == (wanted, [], [("b", outcome)])


def test_setting_running_what_runs_leaves_claim_and_attempt(store: StateStore, one: Campaign) -> None:
    task = claim(store, one, "b")
    before = everything(store)
    assert store.set_task_running([task]) == [task]
    # Floors of lanes rise now and then, whoever calls.
    assert everything(store) | {"lanes": before["lanes"]} == before


def test_an_attempt_outlives_the_registration_with_its_host(store: StateStore, one: Campaign) -> None:
    task = claim(store, one, "a")
    expire_silent(store)
    with pytest.raises(KeyError):
        store.deregister_computeservice("a")
    [attempt] = attempts(store, task)
    assert (attempt.service, attempt.hostname, attempt.outcome) == ("a", "host", "expired")


def test_an_ended_attempt_changes_no_more(store: StateStore, one: Campaign, scope: Scope) -> None:
    task = claim(store, one, "b")
    settle(store, task, ref(scope, ok=False), "b", environment=ENVIRONMENT)
    [ended] = attempts(store, task)
    store.set_task_waiting([task])
    settle(store, task, ref(scope, ok=False), "b", environment={"gufe": "0"})
    store.deregister_computeservice("b")
    claim(store, one, "c")
    settle(store, task, ref(scope), "c")
    store.set_task_invalid([task])
    assert attempts(store, task)[0] == ended
