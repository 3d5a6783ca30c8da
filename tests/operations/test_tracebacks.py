"""Tracebacks that are stored with the reference to a failed result."""

from __future__ import annotations

from typing import Any

import pytest

from alchemistore import MissingObjectError, Scope, ScopedKey, StateStore, Tracebacks
from tests.support.campaigns import ZERO, campaign
from tests.support.databases import all_rows, row_counts
from tests.support.restarts import Failure
from tests.support.results import ref

ODD = "half of a pair \ud83d, NUL \0, an escape \x1a0041 and \x1a, ü, 😀"


@pytest.fixture
def task(store: StateStore, scope: Scope) -> ScopedKey:
    return campaign(store, scope, tasks=1).tasks[0]


@pytest.fixture
def failed(store: StateStore, scope: Scope, task: ScopedKey) -> ScopedKey:
    """The reference to a failed result of the task."""
    return store.set_task_result(task, ref(scope, ok=False))


def test_tracebacks_are_stored_in_order_and_exactly(
    store: StateStore, task: ScopedKey, failed: ScopedKey
) -> None:
    failures = [Failure(one) for one in ("second", ODD, "first")]
    assert store.add_protocol_dag_result_ref_tracebacks(failures, failed) is None
    assert store.get_task_tracebacks(task) == [["second", ODD, "first"]]
    [row] = all_rows(store)["tracebacks"]
    for failure in failures:
        assert failure.key in row


def test_same_failures_are_stored_once_and_others_are_added(
    store: StateStore, task: ScopedKey, failed: ScopedKey
) -> None:
    one, two = Failure("one"), Failure("two")
    for failures in ([one], [one], [two], iter([one])):
        store.add_protocol_dag_result_ref_tracebacks(failures, str(failed))
    assert store.get_task_tracebacks(task) == [["one"], ["two"]]


def test_successful_result_may_have_tracebacks(
    store: StateStore, scope: Scope, task: ScopedKey
) -> None:
    result = store.set_task_result(task, ref(scope))
    store.add_protocol_dag_result_ref_tracebacks([Failure("caught")], result)
    assert store.get_task_tracebacks(task) == [["caught"]]


def test_tracebacks_of_a_result_belong_to_all_its_tasks(store: StateStore, scope: Scope) -> None:
    one, two = campaign(store, scope, tasks=2).tasks
    shared = ref(scope, ok=False)
    for task in (one, two):
        failed = store.set_task_result(task, shared)
    store.add_protocol_dag_result_ref_tracebacks([Failure("failed")], failed)
    assert store.get_task_tracebacks(one) == store.get_task_tracebacks(two) == [["failed"]]


def test_settlement_keeps_the_tracebacks_that_a_result_has(
    store: StateStore, scope: Scope, task: ScopedKey
) -> None:
    failure = ref(scope, ok=False)
    failed = store.set_task_result(task, failure)
    store.add_protocol_dag_result_ref_tracebacks([Failure("first")], failed)
    store.settle_task(task, failure, tracebacks=["again"])
    assert store.get_task_tracebacks(task) == [["first"]]


@pytest.mark.parametrize(
    ("failures", "error"),
    [
        ([], ValueError),
        ([Failure("")], ValueError),
        ([Failure("fine"), Failure("")], ValueError),
        ([Failure(None)], ValueError),
        ([Failure(5)], ValueError),
        (["text"], TypeError),
        ([None], TypeError),
        (5, TypeError),
    ],
)
def test_what_is_no_failure_is_refused(
    store: StateStore, failed: ScopedKey, failures: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.add_protocol_dag_result_ref_tracebacks(failures, failed)
    assert row_counts(store)["tracebacks"] == 0


def test_unknown_reference_is_refused(store: StateStore, scope: Scope, task: ScopedKey) -> None:
    failures = [Failure("failed")]
    with pytest.raises(MissingObjectError, match="No such object in database"):
        store.add_protocol_dag_result_ref_tracebacks(
            failures, f"ProtocolDAGResultRef-{ZERO}-{scope}"
        )
    for wrong in (task, "nonsense"):
        with pytest.raises(ValueError):
            store.add_protocol_dag_result_ref_tracebacks(failures, wrong)


@pytest.mark.parametrize("text", ["x" * (2**26 + 1), "é" * (2**25 + 1)], ids=["ASCII", "UTF-8"])
def test_tracebacks_that_are_too_long_are_refused_with_their_size(
    store: StateStore, scope: Scope, task: ScopedKey, failed: ScopedKey, text: str
) -> None:
    before = row_counts(store)
    for call in (
        lambda: store.add_protocol_dag_result_ref_tracebacks([Failure(text)], failed),
        lambda: store.settle_task(task, ref(scope, ok=False), tracebacks=["short", text]),
        lambda: Tracebacks(tracebacks=(text,), source_keys=(), failure_keys=()),
    ):
        with pytest.raises(ValueError, match="at most 67108864 are stored") as raised:
            call()
        assert len(str(raised.value)) < 1000
    assert row_counts(store) == before


def test_model_is_validated_and_frozen() -> None:
    given = Tracebacks(tracebacks=("a", "b"), source_keys=("c",), failure_keys=())
    with pytest.raises(ValueError):
        given.source_keys = ()
    for wrong in ((), ("a", "")):
        with pytest.raises(ValueError):
            Tracebacks(tracebacks=wrong, source_keys=(), failure_keys=())
