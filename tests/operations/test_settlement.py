"""Settlement: effect on the task by sender, status and success; results are always kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore, TaskStatusEnum
from alchemistore.models import AttemptOutcome, Settlement
from tests.support import settlement as s


@s.ok_or_failed
def test_result_from_the_claim_holder_ends_the_task(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    ended = "complete" if ok else "error"
    answer = s.settle(store, task, result, "b")
    assert answer == Settlement(
        result=s.reference_key(result, task),
        status=TaskStatusEnum(ended),
        attempt=1,
        outcome=AttemptOutcome(ended),
    )
    assert s.status(store, task) == ended
    assert s.claim_rows(store) == []
    [attempt] = s.attempts(store, task)
    assert (attempt.service, attempt.outcome, attempt.result) == (
        "b",
        ended,
        s.reference_key(result, task),
    )
    assert attempt.ended_at is not None
    assert attempt.ended_at >= attempt.claimed_at
    assert store.get_gufe(task).claim is None
    assert store.get_taskhub_tasks(one.hub) == ([] if ok else [task])
    s.assert_listed(store, task, result)


@s.ok_or_failed
@pytest.mark.parametrize("way", s.TASK_STATES)
@pytest.mark.parametrize("sender", ["lost", "never", "nobody"])
def test_result_without_claim_completes_an_open_task_or_changes_no_status(
    store: StateStore, one: s.Campaign, scope: Scope, sender: str, way: str, ok: bool
) -> None:
    [task], result = one.tasks, s.ref(scope, ok=ok)
    before, bring = s.TASK_STATES[way]
    if sender == "lost":
        s.claim(store, one, "a")
        assert s.expire_silent(store) == ["a"]
    bring(store, one)
    was, old = s.status(store, task), s.attempts(store, task)
    assert was == before

    answer = s.settle(store, task, result, {"lost": "a", "never": "c", "nobody": None}[sender])

    open_before = was in ("waiting", "running", "error")
    after = "complete" if ok and open_before else was
    mine = (1, AttemptOutcome.expired) if sender == "lost" else (None, None)
    assert answer == Settlement(
        result=s.reference_key(result, task),
        status=TaskStatusEnum(after),
        attempt=mine[0],
        outcome=mine[1],
    )
    assert s.status(store, task) == after
    s.assert_listed(store, task, result)
    new = s.attempts(store, task)
    assert len(new) == len(old)
    for then, now in zip(old, new, strict=True):
        if then.ended_at is not None:
            linked = s.reference_key(result, task) if then.service == "a" else then.result
            assert now == then.model_copy(update={"result": linked})
        elif ok:
            assert (now.service, now.outcome, now.result) == ("b", "superseded", None)
            assert now.ended_at is not None
        else:
            assert now == then
    assert s.claim_rows(store) == ([("b", len(new))] if way == "running by b" and not ok else [])
    assert store.get_taskhub_tasks(one.hub) == (
        [task] if after in ("waiting", "running", "error") else []
    )
    if after == "waiting":
        assert s.claim(store, one, "c") == task
    else:
        assert store.claim_taskhub_tasks(one.hub, "c") == [None]


LOSSES: dict[str, tuple[str, Callable[[StateStore, ScopedKey], object], str]] = {
    "expired": ("waiting", lambda store, task: s.expire_silent(store), "expired"),
    "deregistered": (
        "waiting",
        lambda store, task: store.deregister_computeservice("a"),
        "deregistered",
    ),
    "released": ("waiting", lambda store, task: store.set_task_waiting([task]), "released"),
    "set to error": ("error", lambda store, task: store.set_task_error([task]), "error"),
    "set complete": ("complete", lambda store, task: store.set_task_complete([task]), "complete"),
    "set invalid": ("invalid", lambda store, task: store.set_task_invalid([task]), "invalid"),
    "set deleted": ("deleted", lambda store, task: store.set_task_deleted([task]), "deleted"),
}


@s.ok_or_failed
@pytest.mark.parametrize("loss", LOSSES)
def test_late_result_of_a_lost_claim_is_linked_and_the_outcome_is_kept(
    store: StateStore, one: s.Campaign, scope: Scope, loss: str, ok: bool
) -> None:
    task, result = s.claim(store, one, "a"), s.ref(scope, ok=ok)
    was, lose, outcome = LOSSES[loss]
    lose(store, task)
    [ended] = s.attempts(store, task)
    assert (s.status(store, task), ended.outcome, ended.result) == (was, outcome, None)
    assert ended.ended_at is not None
    answer = s.settle(store, task, result, "a", environment=s.ENVIRONMENT)
    assert (answer.attempt, answer.outcome) == (1, outcome)
    assert (
        answer.status.value
        == s.status(store, task)
        == ("complete" if ok and was in ("waiting", "error") else was)
    )
    [linked] = s.attempts(store, task)
    assert linked == ended.model_copy(
        update={"result": s.reference_key(result, task), "environment": s.ENVIRONMENT}
    )
    s.assert_listed(store, task, result)


@s.ok_or_failed
def test_result_of_a_superseded_claim_holder_is_kept(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task = s.claim(store, one, "a")
    s.expire_silent(store)
    s.claim(store, one, "b")
    late, newer = s.ref(scope), s.ref(scope, ok=ok)
    s.settle(store, task, late, "a")
    answer = s.settle(store, task, newer, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("complete", 2, "superseded")
    s.assert_listed(store, task, late, newer)
    assert [attempt.result for attempt in s.attempts(store, task)] == [
        s.reference_key(late, task),
        s.reference_key(newer, task),
    ]
    assert s.outcomes(store, task) == [("a", "expired"), ("b", "superseded")]


@s.ok_or_failed
def test_attempt_number_settles_an_earlier_attempt_of_the_running_service(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, late = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    store.set_task_waiting([task])
    s.claim(store, one, "b")
    answer = s.settle(store, task, late, "b", attempt=1)
    assert (answer.attempt, answer.outcome) == (1, "released")
    first, second = s.attempts(store, task)
    assert first.result == s.reference_key(late, task)
    assert (s.status(store, task), second.outcome) == (
        ("complete", "superseded") if ok else ("running", None)
    )
    assert second.result is None
    s.assert_listed(store, task, late)


def test_missing_attempt_number_means_the_last_attempt_of_the_service(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task = s.claim(store, one, "b")
    store.set_task_waiting([task])
    s.claim(store, one, "b")
    answer = s.settle(store, task, s.ref(scope), "b")
    assert (answer.attempt, answer.outcome) == (2, "complete")
    assert [attempt.result for attempt in s.attempts(store, task)] == [None, answer.result]


@pytest.mark.parametrize("number", [1, 7])
def test_attempt_number_of_another_service_is_not_trusted(
    store: StateStore, one: s.Campaign, scope: Scope, number: int
) -> None:
    task, failure, success = s.claim(store, one, "b"), s.ref(scope, ok=False), s.ref(scope)
    s.settle(store, task, failure, "c", attempt=number)
    assert (s.status(store, task), s.outcomes(store, task), s.claim_rows(store)) == (
        "running",
        [("b", None)],
        [("b", 1)],
    )
    s.settle(store, task, success, "c", attempt=number)
    assert (s.status(store, task), s.outcomes(store, task)) == ("complete", [("b", "superseded")])
    assert s.attempts(store, task)[0].result is None
    s.assert_listed(store, task, failure, success)


def test_children_become_claimable_in_the_same_transaction(store: StateStore, scope: Scope) -> None:
    s.register(store, "b")
    made = s.campaign(store, scope, arms=1)
    parent, child, grandchild = s.chain(store, made.transformations[0], 3)
    store.action_tasks([grandchild, child, parent], made.hub)
    assert store.claim_taskhub_tasks(made.hub, "b", count=3) == [parent, None, None]
    with store.transaction() as tx:
        tx.settle_task(parent, s.ref(scope), compute_service_id="b")
        assert tx.claim_taskhub_tasks(made.hub, "b", count=3) == [child, None, None]
    assert store.get_service_tasks("b") == [child]
    s.settle(store, child, s.ref(scope, ok=False), "b")
    assert store.claim_taskhub_tasks(made.hub, "b") == [None]
    s.settle(store, child, s.ref(scope))
    assert store.claim_taskhub_tasks(made.hub, "b") == [grandchild]


def test_rolled_back_settlement_changes_nothing(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task = s.claim(store, one, "b")
    before = s.all_rows(store)
    with s.rolled_back(store) as tx:
        tx.settle_task(
            task, s.ref(scope), compute_service_id="b", tracebacks=["x"], environment=s.ENVIRONMENT
        )
    assert s.all_rows(store) == before
    assert s.settle(store, task, s.ref(scope), "b").outcome == "complete"


def test_missing_task_is_a_key_error_and_another_class_a_value_error(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    missing = ScopedKey.from_str(f"Task-{'0' * 32}-{scope}")
    before = s.all_rows(store)
    with pytest.raises(KeyError, match="No such object in database"):
        store.settle_task(missing, s.ref(scope))
    for wrong in (one.hub, one.network, one.transformations[0], "no key"):
        with pytest.raises(ValueError):
            store.settle_task(wrong, s.ref(scope))
    assert s.all_rows(store) == before


def test_key_is_accepted_as_text(store: StateStore, one: s.Campaign, scope: Scope) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope)
    assert store.settle_task(str(task), result, "b").result == s.reference_key(result, task)


def test_environment_is_kept_with_its_attempt_and_stored_once(
    store: StateStore, scope: Scope
) -> None:
    s.register(store, "b")
    made = s.campaign(store, scope, tasks=4)
    store.claim_taskhub_tasks(made.hub, "b", count=4)
    environments = [s.ENVIRONMENT, dict(reversed(s.ENVIRONMENT.items())), {"gufe": "1.2.0"}, None]
    for task, environment in zip(made.tasks, environments, strict=True):
        s.settle(store, task, s.ref(scope), "b", environment=environment)
    assert [s.attempts(store, task)[0].environment for task in made.tasks] == environments
    with store.engine.connect() as connection:
        query = text(
            "SELECT count(*) FROM environments JOIN scopes ON id = scope_id"
            " WHERE project = :project"
        )
        assert connection.execute(query, {"project": scope.project}).scalar_one() == 2


def test_environment_of_a_service_without_claim_is_no_error(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    answer = s.settle(store, one.tasks[0], s.ref(scope), "stranger", environment=s.ENVIRONMENT)
    assert (answer.status.value, answer.attempt) == ("complete", None)


def test_tracebacks_are_returned_in_the_order_of_settlement(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task = one.tasks[0]
    assert store.get_task_tracebacks(task) == []
    told = [["first\nof two 🧪", "second"], ["third"]]
    for tracebacks in (told[0], None, told[1]):
        s.claim(store, one, "b")
        s.settle(store, task, s.ref(scope, ok=False), "b", tracebacks=tracebacks)
        store.set_task_waiting([task])
    assert store.get_task_tracebacks(task) == store.get_task_tracebacks(str(task)) == told
