"""Killed and frozen workers: finished results are kept and no task is stranded."""

from __future__ import annotations

import pytest

from alchemistore import S3ObjectStore, Scope, StateStore
from tests.faults.conftest import Here, Start, Wire
from tests.support.campaigns import Campaign, campaign, register
from tests.support.claims import expire_silent, register_silent
from tests.support.concurrency import Running
from tests.support.history import attempts, history_of
from tests.support.results import ref, settle


def another_takes_over(store: StateStore, here: Here, made: Campaign) -> None:
    """Assert that another worker completes the only task of a killed one."""
    assert expire_silent(store) == ["killed"]
    register(store, "next")
    assert store.claim_taskhub_tasks(made.hub, "next") == made.tasks
    here.perform(made.tasks[0], "next")
    assert here.story(made.tasks[0]) == (
        "complete",
        [("killed", "expired", False), ("next", "complete", True)],
    )


@pytest.mark.parametrize("stage", ["computed", "written", "settling"])
def test_task_of_a_killed_worker_is_completed_by_another(
    store: StateStore, objects: S3ObjectStore, scope: Scope, start: Start, here: Here, stage: str
) -> None:
    made = campaign(store, scope, tasks=1, arms=1)
    worker = start(made.hub, "killed")
    worker.proceed(stage)
    worker.kill()
    here.nothing_is_stranded(made)
    assert here.story(worker.task) == ("running", [("killed", None, False)])
    # If the worker has written its object, it is there, without a reference.
    written = list(objects.iter_contents())
    assert len(written) == (1 if stage in ("written", "settling") else 0)

    another_takes_over(store, here, made)
    statuses = [change.status.value for change in history_of(store, worker.task).changes]
    assert statuses == ["waiting", "running", "waiting", "running", "complete"]


def test_worker_killed_while_writing_leaves_no_partial_result(
    store: StateStore, objects: S3ObjectStore, scope: Scope, start: Start, here: Here, wire: Wire
) -> None:
    made = campaign(store, scope, tasks=1, arms=1)
    worker = start(made.hub, "killed", endpoint=wire.url)
    worker.proceed("computed")
    worker.go_on()
    assert wire.half_way.wait(60)
    worker.kill()
    wire.cut()
    assert list(objects.iter_contents()) == []
    assert here.story(worker.task) == ("running", [("killed", None, False)])
    another_takes_over(store, here, made)
    assert len(list(objects.iter_contents())) == 1


def test_settled_result_survives_the_kill_of_its_worker(
    store: StateStore, scope: Scope, start: Start, here: Here
) -> None:
    made = campaign(store, scope, tasks=1, arms=1)
    worker = start(made.hub, "killed")
    worker.proceed("settled")
    worker.kill()
    told = ("complete", [("killed", "complete", True)])
    assert here.story(worker.task) == told
    assert expire_silent(store) == ["killed"]
    assert here.story(worker.task) == told
    here.nothing_is_stranded(made)


@pytest.mark.parametrize("meanwhile", ["waiting", "running", "complete"])
def test_worker_frozen_past_expiry_delivers_a_late_result_that_counts(
    store: StateStore, scope: Scope, start: Start, here: Here, meanwhile: str
) -> None:
    made = campaign(store, scope, tasks=1, arms=1)
    worker = start(made.hub, "frozen")
    worker.proceed("computed")
    worker.stop()
    assert expire_silent(store) == ["frozen"]
    register(store, "other")
    if meanwhile != "waiting":
        assert store.claim_taskhub_tasks(made.hub, "other") == made.tasks
    if meanwhile == "complete":
        here.perform(worker.task, "other")

    worker.resume()
    worker.proceed("settled")
    worker.proceed("given up")
    worker.end()

    outcome = {
        "waiting": [],
        "running": [("other", "superseded", False)],
        "complete": [("other", "complete", True)],
    }
    assert here.story(worker.task) == (
        "complete",
        [("frozen", "expired", True), *outcome[meanwhile]],
    )
    assert store.claim_taskhub_tasks(made.hub, "other") == [None]
    here.nothing_is_stranded(made)
    if meanwhile == "running":
        assert here.perform(worker.task, "other").outcome == "superseded"
        assert here.story(worker.task) == (
            "complete",
            [("frozen", "expired", True), ("other", "superseded", True)],
        )
        assert len(store.get_task_results(worker.task)) == 2


def test_two_workers_settle_one_task_and_both_results_are_kept(
    store: StateStore, objects: S3ObjectStore, scope: Scope, start: Start, here: Here
) -> None:
    made = campaign(store, scope, tasks=1, arms=1)
    first = start(made.hub, "first")
    first.proceed("written")
    assert expire_silent(store) == ["first"]
    second = start(made.hub, "second")
    second.proceed("settling")
    first.go_on()
    settling = Running(lambda: first.until("settled"))
    assert settling.waits_for_a_lock(store)
    second.proceed("settled")
    settling.result()
    second.proceed("alive")
    second.end()
    first.proceed("given up")
    first.end()
    assert here.story(made.tasks[0]) == (
        "complete",
        [("first", "expired", True), ("second", "complete", True)],
    )
    assert len(store.get_task_results(made.tasks[0])) == 2
    here.nothing_is_stranded(made)


def test_late_failure_after_success_is_only_listed_as_failure(
    store: StateStore, scope: Scope, here: Here
) -> None:
    register_silent(store, "late")
    register(store, "other")
    [task] = (made := campaign(store, scope, tasks=1, arms=1)).tasks
    assert store.claim_taskhub_tasks(made.hub, "late") == [task]
    expire_silent(store)
    assert store.claim_taskhub_tasks(made.hub, "other") == [task]
    here.perform(task, "other")
    before = history_of(store, task)
    answer = settle(store, task, ref(scope, ok=False), "late", tracebacks=["too late"])
    assert (answer.status.value, answer.attempt, answer.outcome) == ("complete", 1, "expired")
    after = history_of(store, task)
    assert after.changes == before.changes
    assert after.attempts[1] == before.attempts[1]
    assert [attempt.outcome for attempt in attempts(store, task)] == ["expired", "complete"]
    assert len(store.get_task_results(task)) == len(store.get_task_failures(task)) == 1
    with pytest.raises(KeyError):
        store.heartbeat_computeservice("late")
