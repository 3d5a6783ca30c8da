"""The output of attempts, and the tracebacks of those without a result."""

from __future__ import annotations

import pytest

from alchemistore import MissingObjectError, Scope, ScopedKey, StateStore
from tests.support.campaigns import ZERO, Campaign, campaign, register
from tests.support.claims import claim, expire_silent, register_silent
from tests.support.concurrency import Running
from tests.support.databases import row_counts
from tests.support.history import attempts, status
from tests.support.results import ref

ODD = "half of a pair \ud83d, NUL \0, an escape \x1a0041 and \x1a, ü, 😀"


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    register(store, "service")
    return campaign(store, scope, tasks=1)


@pytest.fixture
def task(store: StateStore, made: Campaign) -> ScopedKey:
    """A claimed task."""
    return claim(store, made, "service")


def test_log_and_tracebacks_are_stored_exactly(store: StateStore, task: ScopedKey) -> None:
    assert store.set_attempt_log(task, 1, ODD, [ODD, ""], size=99)
    [found] = store.get_task_logs(str(task))
    assert (found.attempt, found.log, found.size, found.tracebacks) == (1, ODD, 99, (ODD, ""))


def test_log_that_is_set_again_replaces_the_first(store: StateStore, task: ScopedKey) -> None:
    store.set_attempt_log(task, 1, "first", ["why"])
    [before] = store.get_task_logs(task)
    store.set_attempt_log(task, 1, "second")
    [after] = store.get_task_logs(task)
    assert (after.log, after.size, after.tracebacks) == ("second", 6, ())
    assert after.created_at == before.created_at


def test_end_of_a_long_log_is_stored_without_half_a_character(
    store: StateStore, task: ScopedKey
) -> None:
    store.set_attempt_log(task, 1, "start" + "ü" * 2**15 + "!")
    [found] = store.get_task_logs(task)
    # Of the first character that is left, the first byte is cut.
    assert found.log == "ü" * (2**15 - 1) + "!"
    assert found.size == 5 + 2**16 + 1


def test_single_traceback_is_one_traceback(store: StateStore, task: ScopedKey) -> None:
    store.set_attempt_log(task, 1, "", "why")
    assert store.get_task_logs(task)[0].tracebacks == ("why",)


def test_answer_says_whether_the_attempt_is_open(
    store: StateStore, scope: Scope, task: ScopedKey
) -> None:
    assert store.set_attempt_log(task, 1, "")
    store.settle_task(task, ref(scope), "service")
    assert not store.set_attempt_log(task, 1, "")


def test_each_attempt_has_a_log_and_they_are_in_order(store: StateStore, scope: Scope) -> None:
    register_silent(store, "lost")
    made = campaign(store, scope, tasks=1)
    task = claim(store, made, "lost")
    expire_silent(store)
    register(store, "next")
    claim(store, made, "next")
    assert store.set_attempt_log(task, 2, "two")
    assert not store.set_attempt_log(task, 1, "one")
    assert [(one.attempt, one.log) for one in store.get_task_logs(task)] == [(1, "one"), (2, "two")]


def test_open_attempt_stays_open_until_the_end_of_the_transaction(
    store: StateStore, task: ScopedKey
) -> None:
    with store.transaction() as tx:
        assert tx.set_attempt_log(task, 1, "")
        other = Running(lambda: store.set_task_status([task], "waiting"))
        assert other.waits_for_a_lock(store)
        tx.set_task_status([task], "error", reason="it broke", actor="service")
    other.result()
    # The other one came second: it found the task in error, and the attempt ended.
    [attempt] = attempts(store, task)
    assert (attempt.outcome, attempt.reason) == ("error", "it broke")
    assert status(store, task) == "waiting"


def test_attempt_that_ends_before_the_lock_is_not_open(store: StateStore, task: ScopedKey) -> None:
    with store.transaction() as tx:
        tx.set_task_status([task], "waiting")
        other = Running(lambda: store.set_attempt_log(task, 1, ""))
        assert other.waits_for_a_lock(store)
    assert not other.result()


@pytest.mark.parametrize("number", [0, 2, -1, 2**31, 2**80])
def test_missing_attempt_is_an_error(store: StateStore, task: ScopedKey, number: int) -> None:
    with pytest.raises(KeyError, match=f"attempt {number} at Task-"):
        store.set_attempt_log(task, number, "")
    assert row_counts(store)["attempt_logs"] == 0


def test_missing_task_and_task_without_attempts_are_errors(
    store: StateStore, made: Campaign
) -> None:
    for key in (made.tasks[0], f"Task-{ZERO}-org-campaign-project"):
        with pytest.raises(MissingObjectError):
            store.set_attempt_log(key, 1, "")
        assert store.get_task_logs(key) == []


def test_bad_arguments_are_errors(store: StateStore, task: ScopedKey, made: Campaign) -> None:
    with pytest.raises(ValueError, match="not the key of a Task"):
        store.set_attempt_log(made.network, 1, "")
    with pytest.raises(ValueError, match="size must not be negative"):
        store.set_attempt_log(task, 1, "", size=-1)
    with pytest.raises(ValueError, match="the tracebacks have"):
        store.set_attempt_log(task, 1, "", ["x" * (2**26 + 1)])
    for given in ((task, "1", ""), (task, 1, b""), (task, 1, "", [b""]), (task, 1, "", (), 1.5)):
        with pytest.raises(TypeError):
            store.set_attempt_log(*given)
    assert store.get_task_logs(made.network) == []
    assert row_counts(store)["attempt_logs"] == 0


def test_logs_are_deleted_with_the_task(store: StateStore, task: ScopedKey) -> None:
    store.set_attempt_log(task, 1, "log")
    store.delete_task(task, force=True)
    assert row_counts(store)["attempt_logs"] == 0
