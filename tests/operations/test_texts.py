"""Free texts are stored whatever they contain, and are read back exactly."""

from __future__ import annotations

import pytest

from alchemistore import (
    ComputeServiceRegistration,
    InvalidScopeError,
    Scope,
    StateStore,
    TaskStatusEnum,
)
from tests.support.campaigns import campaign
from tests.support.gufe_classes import network
from tests.support.results import ref

ODD = "half of a pair \ud83d, NUL \0, an escape \x1a0041 and \x1a, two halves \ud83d\ude00, ü, 😀"


def test_free_texts_of_a_claimed_task_are_read_back_exactly(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    store.register_computeservice(ComputeServiceRegistration.from_now("service", hostname=ODD))
    [task] = store.claim_taskhub_tasks(made.hub, "service")
    assert task is not None
    failure = ref(scope, ok=False, creator=ODD)
    result = store.settle_task(
        task,
        failure,
        "service",
        tracebacks=[ODD, "plain", ""],
        environment={ODD: ODD},
    ).result
    assert store.get_task_status([task]) == [TaskStatusEnum.error]
    assert store.get_task_tracebacks(task) == [[ODD, "plain", ""]]
    assert failure.creator == ODD
    assert store.get_gufe(result) == failure
    [history] = store.get_task_history([task])
    assert history is not None
    [attempt] = history.attempts
    assert attempt.hostname == ODD
    assert attempt.environment == {ODD: ODD}


def test_reason_actor_and_creator_are_read_back_exactly(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    task = store.create_task(made.transformations[0], creator=ODD)
    store.set_task_status([task], "invalid", reason=ODD, actor=ODD)
    [history], [details] = store.get_task_history([task]), store.get_task_details([task])
    assert history is not None
    assert details is not None
    assert [(change.reason, change.actor) for change in history.changes] == [
        (None, ODD),
        (ODD, ODD),
    ]
    assert details.reason == ODD
    assert store.get_gufe(task).creator == ODD


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_identifier_that_cannot_be_stored_is_refused(
    bad: str, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    for call in (
        lambda: store.deregister_computeservice(bad),
        lambda: store.get_service_tasks(bad),
        lambda: store.claim_taskhub_tasks(made.hub, bad),
        lambda: store.settle_task(made.tasks[0], ref(scope), bad),
    ):
        with pytest.raises(ValueError):
            call()
    assert store.get_task_status(made.tasks) == [TaskStatusEnum.waiting]
    assert store.get_task_results(made.tasks[0]) == []


def test_scope_that_is_too_long_for_s3_is_refused_before_anything_is_computed(
    store: StateStore,
) -> None:
    with pytest.raises(InvalidScopeError, match="at most 300"):
        store.create_network(network(), Scope("x" * 300, "b", "c"))
    assert store.query_networks() == []
