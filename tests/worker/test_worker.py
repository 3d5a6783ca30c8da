"""Workers run tasks in processes with limits, and record whatever becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from alchemistore import S3ObjectStore, S3ObjectStoreError, Scope, ScopedKey, StateStore, add_file
from alchemistore.errors import StoreUnavailableError
from alchemistore.maintenance import grants
from alchemistore.maintenance.grants import Purpose
from alchemistore.worker import Options, WorkerError
from tests.support.campaigns import register
from tests.support.claims import register_silent
from tests.support.history import attempts, history_of, status
from tests.support.roles import as_role, new_role
from tests.worker.conftest import (
    NAME,
    Run,
    Told,
    ended,
    only_task,
    processes,
    tricks,
    wait_until,
)

HALF_AN_HOUR = timedelta(minutes=30)


def outcomes(store: StateStore, task: ScopedKey) -> list[str | None]:
    return [attempt.outcome for attempt in attempts(store, task)]


def failure(store: StateStore, objects: S3ObjectStore, task: ScopedKey) -> Any:
    """Return the stored object of the only, failed, result of a task."""
    [reference] = store.get_task_failures(task)
    assert store.get_task_results(task) == []
    return objects.pull_protocoldagresult(location=store.get_gufe(reference).location)


def test_chain_of_tasks_is_completed_and_results_are_passed_on(
    run: Run, store: StateStore, scope: Scope, objects: S3ObjectStore, told: Told, tmp_path: Path
) -> None:
    made = tricks(store, scope, "work", tasks=2)
    child = store.create_task(made.transformations[0], extends=made.tasks[0])
    store.action_tasks([child], made.hub)
    summary = run()
    assert (summary.num_tasks, summary.num_failed, summary.num_stopped) == (3, 0, 0)
    found = {}
    for task in (*made.tasks, child):
        assert status(store, task) == "complete"
        assert outcomes(store, task) == ["complete"]
        [reference] = store.get_task_results(task)
        result = objects.pull_protocoldagresult(location=store.get_gufe(reference).location)
        found[task] = result.protocol_unit_results[-1].outputs
    assert [found[task]["total"] for task in (*made.tasks, child)] == [1.0, 1.0, 2.0]
    # The processes are copies of one, but must not draw the same numbers.
    assert len({one["random"] for one in found.values()}) == 3

    [attempt] = attempts(store, child)
    assert attempt.service == NAME
    assert attempt.environment is not None
    assert {"python", "alchemistore", "gufe"} <= attempt.environment.keys()
    assert store.query_computeservices() == []
    kinds = told.kinds()
    assert kinds[0] == "registered"
    assert kinds[-2:] == ["deregistered", "ended"]
    assert kinds.count("finished") == 3
    # Only the output of the attempts is left.
    assert {path.suffix for path in (tmp_path / "work").iterdir()} == {".log"}


def test_failed_unit_is_recorded_with_its_traceback(
    run: Run, store: StateStore, scope: Scope, objects: S3ObjectStore
) -> None:
    task = only_task(tricks(store, scope, "fail"))
    summary = run(max_failures=1)
    assert (summary.num_tasks, summary.num_failures_in_a_row) == (1, 1)
    assert status(store, task) == "error"
    [[traceback]] = store.get_task_tracebacks(task)
    assert "ArithmeticError: no luck" in traceback
    [log] = store.get_task_logs(task)
    assert "ArithmeticError: no luck" in log.log
    result = failure(store, objects, task)
    assert "no luck" in result.protocol_unit_failures[0].traceback


def test_failed_unit_is_retried(run: Run, store: StateStore, scope: Scope, tmp_path: Path) -> None:
    task = only_task(tricks(store, scope, f"once {tmp_path / 'tried'}"))
    assert run(retries=1).num_failed == 0
    assert outcomes(store, task) == ["complete"]


def test_output_is_in_a_file_and_its_end_is_stored(
    run: Run, store: StateStore, scope: Scope, told: Told
) -> None:
    task = only_task(tricks(store, scope, "talk 100000"))
    run(keep_files=True)
    [log] = store.get_task_logs(task)
    lines = ["from a process of the protocol", "the end, on standard error"]
    assert log.log.splitlines()[1:] == lines
    written = Path(told.one("started")["log"]).read_text()
    assert len(written) == log.size > 100_000
    assert written.endswith(log.log)
    assert len(log.log) == 2**16
    # The other files were asked for.
    assert (Path(told.one("started")["log"]).with_suffix("") / "result.json").exists()


@pytest.mark.parametrize(
    ("mode", "told_of"),
    [
        ("exit", "ended with exit code 3 and no result"),
        ("segfault", "was killed by signal 11 (SIGSEGV)"),
        ("leave", "SystemExit: 4"),
    ],
)
def test_process_that_ends_without_a_result_has_failed(
    run: Run, store: StateStore, scope: Scope, objects: S3ObjectStore, mode: str, told_of: str
) -> None:
    task = only_task(tricks(store, scope, mode))
    summary = run()
    assert (summary.num_tasks, summary.num_failed) == (1, 1)
    assert (status(store, task), outcomes(store, task)) == ("error", ["error"])
    [[traceback]] = store.get_task_tracebacks(task)
    assert told_of in traceback
    # The stored result has the units, and no results of them.
    result = failure(store, objects, task)
    assert len(result.protocol_units) == 1
    assert result.protocol_unit_results == []


@pytest.mark.soak
def test_loss_of_the_process_that_is_forked_is_a_failure_and_the_next_task_runs(
    run: Run, store: StateStore, scope: Scope, told: Told, tmp_path: Path
) -> None:
    first = only_task(tricks(store, scope, f"hang {tmp_path}"))
    found: list[psutil.Process] = []

    def kill() -> None:
        if not found:
            found.extend(processes(tmp_path))
            template = found[0].parent()
            assert template is not None
            template.kill()

    told.at["started"] = kill
    run(max_tasks=1)
    assert store.get_task_tracebacks(first) == [["the process of the attempt disappeared"]]
    assert ended(found[:1])
    found[1].kill()
    second = only_task(tricks(store, scope, "work"))
    run()
    assert (status(store, first), status(store, second)) == ("error", "complete")


def test_restart_pattern_restarts_a_process_that_was_killed(
    run: Run, store: StateStore, scope: Scope
) -> None:
    made = tricks(store, scope, "segfault")
    store.add_task_restart_patterns(made.hub, ["SIGSEGV"], 1)
    assert run().num_failed == 2
    assert status(store, only_task(made)) == "error"
    assert outcomes(store, only_task(made)) == ["error", "error"]


def test_task_without_a_dag_fails_and_the_attempt_has_the_traceback(
    run: Run, store: StateStore, scope: Scope, told: Told
) -> None:
    task = only_task(tricks(store, scope, "no dag"))
    assert run().num_failed == 1
    assert (status(store, task), outcomes(store, task)) == ("error", ["error"])
    assert store.get_task_failures(task) == []
    [log] = store.get_task_logs(task)
    assert log.tracebacks[0].endswith("ArithmeticError: there is no DAG\n")
    change = history_of(store, task).changes[-1]
    assert (change.reason, change.actor) == ("ArithmeticError: there is no DAG", NAME)
    assert told.one("finished")["reason"] == change.reason


def test_task_after_the_wall_time_is_stopped_with_everything_it_started(
    run: Run, store: StateStore, scope: Scope, told: Told, tmp_path: Path
) -> None:
    task = only_task(tricks(store, scope, f"hang {tmp_path}"))
    found: list[psutil.Process] = []
    told.at["started"] = lambda: found.extend(processes(tmp_path))
    run(wall_time=0.1)
    assert len(found) == 2
    assert ended(found)
    assert status(store, task) == "error"
    assert store.get_task_tracebacks(task) == [["the wall time of the attempt, 0.1 s, is over"]]


def test_process_that_a_task_leaves_behind_is_ended(
    run: Run, store: StateStore, scope: Scope, tmp_path: Path
) -> None:
    task = only_task(tricks(store, scope, f"orphan {tmp_path / 'pid'}"))
    run()
    assert status(store, task) == "complete"
    left = int((tmp_path / "pid").read_text())
    # It may be a zombie for a moment.
    wait_until(lambda: not psutil.pid_exists(left))


def test_process_cannot_allocate_more_than_its_memory(
    run: Run, store: StateStore, scope: Scope
) -> None:
    task = only_task(tricks(store, scope, "greedy"))
    run(memory=2**30)
    assert "MemoryError" in store.get_task_tracebacks(task)[0][0]
    store.set_task_waiting([task])
    run()
    assert status(store, task) == "complete"


def test_process_knows_no_address_and_no_credentials(
    run: Run, store: StateStore, scope: Scope, tmp_path: Path
) -> None:
    task = only_task(tricks(store, scope, f"environment {tmp_path / 'names'}"))
    run()
    assert status(store, task) == "complete"
    names = (tmp_path / "names").read_text().split()
    assert "ALCHEMISTORE_MODULES" in names
    assert not [name for name in names if name.startswith(("AWS_", "ALCHEMISTORE_DATABASE"))]


def test_options_choose_what_is_claimed(
    run: Run, store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    here, there = (only_task(tricks(store, one, "work")) for one in (scope, other_scope))
    assert run(protocols=["OtherProtocol"]).num_tasks == 0
    assert run(scopes=["org-*-*"], exclude_scopes=[str(scope)], claim_limit=5).num_tasks == 1
    assert (status(store, here), status(store, there)) == ("waiting", "complete")
    assert run(scopes=[scope], protocols=["TrickProtocol"]).num_tasks == 1


def test_worker_ends_after_its_tasks_and_gives_other_claims_back(
    run: Run, store: StateStore, scope: Scope, told: Told
) -> None:
    tasks = tricks(store, scope, "work", tasks=3).tasks
    summary = run(max_tasks=2, claim_limit=3)
    assert (summary.num_tasks, summary.reason) == (2, "it has run as many tasks as it may")
    assert sorted(status(store, task) for task in tasks) == ["complete", "complete", "waiting"]
    summary = run(max_time=0)
    assert (summary.num_tasks, summary.reason) == (0, "it has run for as long as it may")


# What makes the result of a running task unwanted, and what is told about it.
UNWANTED: dict[str, tuple[Callable[[StateStore, ScopedKey], object], str]] = {
    "invalid": (lambda s, task: s.set_task_invalid([task]), "set to invalid"),
    "deleted": (lambda s, task: s.set_task_deleted([task]), "set to deleted"),
    "removed": (lambda s, task: s.delete_task(task, force=True), "does not exist any more"),
    "released": (lambda s, task: s.set_task_waiting([task]), "the claim is gone"),
}


@pytest.mark.parametrize("what", UNWANTED)
def test_process_is_stopped_if_its_result_is_not_wanted(
    run: Run, store: StateStore, scope: Scope, told: Told, tmp_path: Path, what: str
) -> None:
    task = only_task(tricks(store, scope, f"hang {tmp_path}"))
    act, reason = UNWANTED[what]
    found: list[psutil.Process] = []

    def change() -> None:
        found.extend(processes(tmp_path))
        act(store, task)

    told.at["started"] = change
    summary = run(heartbeat=0.05, max_tasks=1)
    assert (summary.num_tasks, summary.num_stopped) == (0, 1)
    assert ended(found)
    assert reason in told.one("stopped")["reason"]
    if what != "removed":
        assert len(store.get_task_logs(task)) == 1
        assert store.get_task_failures(task) == []


def test_worker_whose_registration_expired_stops_the_task_and_registers_again(
    run: Run, store: StateStore, scope: Scope, told: Told, tmp_path: Path
) -> None:
    task = only_task(tricks(store, scope, f"hang {tmp_path}"))
    found: list[psutil.Process] = []

    def expired() -> bool:
        # A heartbeat may come in between.
        silence(store)
        return store.expire_registrations(HALF_AN_HOUR) == [NAME]

    def expire() -> None:
        if not found:
            found.extend(processes(tmp_path))
            wait_until(expired)

    told.at["started"] = expire
    told.at["stopped"] = lambda: (tmp_path / "go").touch()
    summary = run(heartbeat=0.05)
    assert ended(found)
    assert (summary.num_tasks, summary.num_stopped) == (1, 1)
    assert (status(store, task), outcomes(store, task)) == ("complete", ["expired", "complete"])
    assert told.kinds().count("expired") == 1


def silence(store: StateStore) -> None:
    """Let the last heartbeats of all services be old."""
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE compute_services SET heartbeat_at = heartbeat_at - interval '1 hour'")
        )


@pytest.mark.parametrize("times", [1, 2])
def test_worker_that_is_interrupted_finishes_the_task_and_then_stops_it(
    run: Run, store: StateStore, scope: Scope, told: Told, tmp_path: Path, times: int
) -> None:
    tasks = tricks(store, scope, f"hang {tmp_path}", tasks=2).tasks
    found: list[psutil.Process] = []

    def interrupt() -> None:
        found.extend(processes(tmp_path))
        assert told.worker is not None
        for _ in range(times):
            told.worker.interrupt()
        if times == 1:
            (tmp_path / "go").touch()

    told.at["started"] = interrupt
    summary = run(claim_limit=2)
    assert ended(found)
    # The process is stopped at the second time only. The claim of the other task is given back.
    assert (summary.num_tasks, summary.num_stopped) == ((1, 0), (0, 1))[times - 1]
    assert summary.aborted is (times == 2)
    assert sorted(status(store, task) for task in tasks) == [
        "complete" if times == 1 else "waiting",
        "waiting",
    ]
    assert store.query_computeservices() == []


def test_cancelled_action_lets_the_task_finish(
    run: Run,
    store: StateStore,
    scope: Scope,
    told: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tricks(store, scope, f"hang {tmp_path}")
    looks: list[object] = []
    look = store.get_task_details

    def looking(tasks: Any) -> Any:
        if "started" in told.kinds():
            looks.append(tasks)
            if len(looks) == 2:
                (tmp_path / "go").touch()
        return look(tasks)

    monkeypatch.setattr(store, "get_task_details", looking)

    def cancel() -> None:
        assert store.cancel_tasks(made.tasks, made.hub) == made.tasks

    told.at["started"] = cancel
    assert run(heartbeat=0.05).num_tasks == 1
    assert store.get_taskhub_tasks(made.hub) == []
    assert status(store, only_task(made)) == "complete"
    assert len(looks) >= 2


def test_heartbeats_keep_the_claim_of_a_long_task(
    run: Run, store: StateStore, scope: Scope, told: Told, tmp_path: Path
) -> None:
    task = only_task(tricks(store, scope, f"hang {tmp_path}"))

    def go_on() -> None:
        processes(tmp_path)
        silence(store)
        wait_until(lambda: store.query_computeservices()[0].silence < HALF_AN_HOUR)
        assert store.expire_registrations(HALF_AN_HOUR) == []
        (tmp_path / "go").touch()

    told.at["started"] = go_on
    run(heartbeat=0.05)
    assert outcomes(store, task) == ["complete"]


def test_result_of_a_lost_claim_is_delivered_late(
    run: Run, store: StateStore, scope: Scope, told: Told, tmp_path: Path
) -> None:
    task = only_task(tricks(store, scope, f"hang {tmp_path}"))

    def lose() -> None:
        found = processes(tmp_path)
        (tmp_path / "go").touch()
        assert ended(found[:1])
        store.set_task_waiting([task])

    told.at["started"] = lose
    assert run(heartbeat=0.01, max_tasks=1).num_tasks == 1
    assert (status(store, task), outcomes(store, task)) == ("complete", ["released"])


def test_call_is_repeated_while_a_server_is_not_available(
    run: Run, store: StateStore, scope: Scope, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = only_task(tricks(store, scope, "work"))
    settle = store.settle_task
    refused: list[Any] = []

    def settling(*arguments: Any, **options: Any) -> Any:
        if not refused:
            refused.append(arguments)
            raise StoreUnavailableError("the server is away")
        return settle(*arguments, **options)

    monkeypatch.setattr(store, "settle_task", settling)
    run()
    assert refused
    assert "unavailable" in told.kinds()
    assert outcomes(store, task) == ["complete"]


def test_result_that_the_object_store_refuses_is_kept_and_the_worker_ends(
    run: Run,
    store: StateStore,
    scope: Scope,
    objects: S3ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tricks(store, scope, "work")
    task = only_task(made)

    def refuse(*_: Any) -> None:
        raise S3ObjectStoreError("access denied")

    monkeypatch.setattr(objects, "put_result", refuse)
    with pytest.raises(WorkerError, match=r"refused the result.*\.result\.json: access denied"):
        run()
    [kept] = (tmp_path / "work").glob("*.result.json")
    assert (status(store, task), outcomes(store, task)) == ("waiting", ["deregistered"])
    monkeypatch.undo()
    [edge] = made.transformations
    add_file(store, kept, scope, transformation=edge, object_store=objects)
    assert len(store.get_transformation_results(edge)) == 1


def test_missing_previous_result_is_a_failure(
    run: Run, store: StateStore, scope: Scope, objects: S3ObjectStore
) -> None:
    made = tricks(store, scope, "work")
    run()
    objects.reset()
    child = store.create_task(made.transformations[0], extends=made.tasks[0])
    store.action_tasks([child], made.hub)
    assert run().num_failed == 1
    [log] = store.get_task_logs(child)
    assert "cannot be prepared: No such object in the object store" in log.tracebacks[0]


def test_name_of_another_service_is_refused(run: Run, store: StateStore, scope: Scope) -> None:
    task = only_task(tricks(store, scope, "work"))
    register(store, NAME)
    with pytest.raises(ValueError, match="already registered"):
        run()
    # The other one is not deregistered.
    assert len(store.query_computeservices()) == 1
    assert status(store, task) == "waiting"


def test_missing_bucket_is_found_before_anything_is_claimed(
    run: Run,
    store: StateStore,
    scope: Scope,
    objects: S3ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = only_task(tricks(store, scope, "work"))
    monkeypatch.setattr(objects.bucket_prefix, "bucket", "missing-bucket")
    with pytest.raises(S3ObjectStoreError, match="missing-bucket"):
        run()
    assert outcomes(store, task) == []


def test_worker_needs_no_more_than_the_role_of_a_service(
    run: Run, own_store: StateStore, database: str, scope: Scope
) -> None:
    task = only_task(tricks(own_store, scope, "fail"))
    with new_role(database) as role:
        grants.grant(own_store.engine, role, Purpose.service)
        limited = StateStore(as_role(database, role))
        assert run(limited).num_tasks == 1
        limited.close()
    assert status(own_store, task) == "error"


@pytest.mark.parametrize(
    "wrong",
    [
        {"claim_limit": 0},
        {"max_tasks": 0},
        {"max_failures": 0},
        {"memory": 0},
        {"heartbeat": 0},
        {"wall_time": float("nan")},
        {"retries": -1},
        {"max_time": -1},
        {"max_idle": -0.5},
    ],
)
def test_bad_option_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        Options(name="x", directory=Path("x"), **wrong)


def test_silent_service_of_a_killed_worker_is_not_taken_over(
    run: Run, store: StateStore, scope: Scope
) -> None:
    register_silent(store, NAME)
    with pytest.raises(ValueError, match="already registered"):
        run()
