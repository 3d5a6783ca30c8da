"""Actions: putting tasks on hubs, with weights, and taking them off."""

from __future__ import annotations

import math
from typing import Any

import pytest

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.campaigns import (
    STATUSES,
    Campaign,
    campaign,
    chain,
    created,
    move_to_status,
    register,
)

BAD_WEIGHTS: list[Any] = [
    -0.1,
    1.1,
    7,
    -math.inf,
    math.inf,
    math.nan,
    True,
    False,
    "0.5",
    "much",
    [0.5],
    1j,
]


# Actioning


def test_action_tasks_puts_a_task_on_the_hub(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=4, action=False)
    assert store.get_taskhub_tasks(made.hub) == []
    backwards = made.tasks[::-1]
    assert store.action_tasks(backwards, made.hub) == backwards
    assert store.get_taskhub_tasks(made.hub) == sorted(made.tasks)
    assert store.get_task_weights(made.tasks, made.hub) == [0.5] * 4
    assert store.get_network_status(made.network) == {"waiting": 4}


def test_action_tasks_of_any_iterable_and_of_text_keys(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=4, action=False)
    one, two, three, four = made.tasks
    assert store.action_tasks((str(task) for task in (two, one)), str(made.hub)) == [two, one]
    assert store.action_tasks({three}, made.hub) == [three]
    assert store.action_tasks({four: "a key of a dict"}, made.hub) == [four]


def test_action_tasks_again_returns_none_and_keeps_the_weight(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3)
    new = store.create_task(made.transformations[0])
    store.set_task_weights(made.tasks, made.hub, 0.9)
    assert store.action_tasks([made.tasks[0], new, made.tasks[1]], made.hub) == [None, new, None]
    assert store.get_task_weights([*made.tasks, new], made.hub) == [0.9, 0.9, 0.9, 0.5]


def test_same_task_twice_in_one_call_is_actioned_at_its_first_place(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2, action=False)
    one, two = made.tasks
    assert store.action_tasks([one, two, str(one), two, one], made.hub) == [
        one,
        two,
        None,
        None,
        None,
    ]
    assert store.cancel_tasks([two, one, two, str(one)], made.hub) == [two, one, None, None]


def test_action_tasks_accepts_live_statuses_only(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    tasks = created(store.create_tasks(made.transformations[:1] * len(STATUSES)))
    for task, status in zip(tasks, STATUSES, strict=True):
        move_to_status(store, [task], status)
    waiting, running, _, error, _, _ = tasks
    assert store.action_tasks(tasks, made.hub) == [waiting, running, None, error, None, None]
    assert store.get_taskhub_tasks(made.hub) == sorted([waiting, running, error])
    register(store, "service")
    assert store.claim_taskhub_tasks(made.hub, "service", count=2) == [waiting, None]


def test_task_of_a_transformation_outside_the_network_is_not_actioned(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1, action=False)
    wider = campaign(store, scope, arms=5, name="wider")
    elsewhere = campaign(store, other_scope, tasks=1)
    outside = [
        store.create_task(key) for key in wider.transformations if key not in made.transformations
    ]
    assert len(outside) == 2
    assert store.action_tasks([*outside, *elsewhere.tasks, *made.tasks], made.hub) == [
        None,
        None,
        None,
        *made.tasks,
    ]
    assert store.action_tasks([*outside, *made.tasks], wider.hub) == [*outside, *made.tasks]
    assert store.action_tasks(made.tasks, elsewhere.hub) == [None]


def test_child_is_actioned_for_any_state_of_its_parent(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    line = chain(store, made.transformations[0], 10)
    tree = chain(store, made.transformations[1], 1)
    for parent in range(3):
        tree += [store.create_task(made.transformations[1], extends=tree[parent]) for _ in range(2)]
    assert store.action_tasks(line[::-1], made.hub) == line[::-1]
    assert store.action_tasks(tree[3:], made.hub) == tree[3:]
    assert store.get_taskhub_tasks(made.hub) == sorted([*line, *tree[3:]])
    assert store.action_tasks(tree, made.hub) == [*tree[:3], *[None] * 4]


def test_claimed_tasks_can_be_actioned_on_another_hub(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    hub = campaign(store, scope, name="second").hub
    register(store, "service")
    assert set(store.claim_taskhub_tasks(made.hub, "service", count=2)) == set(made.tasks)
    assert store.action_tasks(made.tasks, hub) == made.tasks
    assert store.claim_taskhub_tasks(hub, "service") == [None]
    store.deregister_computeservice("service")
    register(store, "service")
    assert set(store.claim_taskhub_tasks(hub, "service", count=2)) == set(made.tasks)


def test_task_that_was_in_error_is_still_actioned_when_it_waits_again(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    register(store, "service")
    assert store.claim_taskhub_tasks(made.hub, "service") == made.tasks
    store.set_task_error(made.tasks)
    assert store.get_taskhub_tasks(made.hub) == made.tasks
    store.set_task_waiting(made.tasks)
    assert store.get_task_weights(made.tasks, made.hub) == [0.5]
    assert store.action_tasks(made.tasks, made.hub) == [None]
    assert store.claim_taskhub_tasks(made.hub, "service") == made.tasks


# Cancelling


def test_cancel_tasks_takes_a_task_off_the_hub(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=4)
    one, two, three, four = made.tasks
    assert store.cancel_tasks([three, one], made.hub) == [three, one]
    assert store.get_taskhub_tasks(made.hub) == sorted([two, four])
    assert store.cancel_tasks([one, two, three], str(made.hub)) == [None, two, None]
    assert store.get_network_status(made.network) == {"waiting": 4}


def test_cancel_leaves_other_hubs_and_claims_alone(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    other = campaign(store, scope, name="second")
    second, hub = other.network, other.hub
    store.action_tasks(made.tasks, hub)
    register(store, "service")
    (claimed,) = store.claim_taskhub_tasks(made.hub, "service")
    assert claimed is not None
    assert store.cancel_tasks(made.tasks, made.hub) == made.tasks
    assert store.get_taskhub_tasks(hub) == sorted(made.tasks)
    assert store.get_task_actioned_networks(claimed) == {second: 0.5}
    record = store.get_gufe(claimed)
    assert (record.status.value, record.claim) == ("running", "service")
    assert store.set_task_complete([claimed]) == [claimed]
    assert store.claim_taskhub_tasks(made.hub, "service") == [None]


def test_cancelled_and_actioned_again_has_the_default_weight(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2)
    store.set_task_weights(made.tasks, made.hub, 0.9)
    store.cancel_tasks(made.tasks[:1], made.hub)
    assert store.action_tasks(made.tasks[:1], made.hub) == made.tasks[:1]
    assert store.get_task_weights(made.tasks, made.hub) == [0.5, 0.9]


# Weights


def weighed(store: StateStore, scope: Scope) -> tuple[Campaign, ScopedKey]:
    """Make three tasks on a hub, and one that is not."""
    made = campaign(store, scope, tasks=3)
    return made, store.create_task(made.transformations[0])


def test_task_weights_are_set_and_returned(store: StateStore, scope: Scope) -> None:
    made, off = weighed(store, scope)
    one, two, three = made.tasks
    assert store.get_task_weights([three, off, one], made.hub) == [0.5, None, 0.5]
    assert store.set_task_weights([one, off, None, str(two), one], made.hub, weight=0.25) == [
        one,
        None,
        None,
        two,
        one,
    ]
    assert store.get_task_weights(made.tasks, made.hub) == [0.25, 0.25, 0.5]
    mapping: dict[Any, float] = {str(three): 1, off: 0.3, "nonsense": 0.4, one: 0.0, None: 0.1}
    assert store.set_task_weights(mapping, made.hub) == [three, None, None, one, None]
    assert store.get_task_weights([*made.tasks, off], made.hub) == [0.0, 0.25, 1.0, None]


def test_set_task_weights_takes_any_iterable(store: StateStore, scope: Scope) -> None:
    made, _ = weighed(store, scope)
    tasks = made.tasks
    for n, keys in enumerate(
        [tasks, tuple(tasks), set(tasks), frozenset(tasks), dict.fromkeys(tasks).keys()]
    ):
        assert store.set_task_weights(keys, made.hub, n / 10) == list(keys)
        assert store.get_task_weights(tasks, made.hub) == [n / 10] * 3
    assert store.set_task_weights(iter(tasks), made.hub, 0.75) == tasks
    assert store.get_task_weights(iter(tasks), made.hub) == [0.75] * 3


def test_weight_argument_is_checked_even_without_tasks(store: StateStore, scope: Scope) -> None:
    made, _ = weighed(store, scope)
    assert store.set_task_weights({}, made.hub) == store.set_task_weights([], made.hub, 0.5) == []
    bad: list[tuple[Any, Any]] = [
        ([], None),
        (made.tasks, None),
        ({}, 0.5),
        (dict.fromkeys(made.tasks, 0.1), 0.1),
        ([], 2.0),
    ]
    for tasks, weight in bad:
        with pytest.raises(ValueError):
            store.set_task_weights(tasks, made.hub, weight)
    assert store.get_task_weights(made.tasks, made.hub) == [0.5] * 3


def test_task_weight_out_of_bounds_is_refused_and_nothing_is_written(
    store: StateStore, scope: Scope
) -> None:
    made, _ = weighed(store, scope)
    one, two, three = made.tasks
    accepted: list[Any] = []
    for weight in BAD_WEIGHTS:
        forms: list[tuple[Any, Any]] = [
            (made.tasks, weight),
            ({one: 0.1, two: weight, three: 0.2}, None),
            ({"x": weight}, None),
        ]
        for tasks, common in forms:
            try:
                store.set_task_weights(tasks, made.hub, common)
            except (ValueError, TypeError) as error:
                assert str(error)  # noqa: PT017
            else:
                accepted.append((weight, tasks))
    assert accepted == []
    nothing: Any = None
    with pytest.raises((ValueError, TypeError)):
        store.set_task_weights({one: 0.1, two: nothing}, made.hub)
    assert store.get_task_weights(made.tasks, made.hub) == [0.5] * 3


def test_weight_counts_on_its_own_hub_only(store: StateStore, scope: Scope) -> None:
    made, _ = weighed(store, scope)
    other = campaign(store, scope, name="second")
    second, hub = other.network, other.hub
    store.action_tasks(made.tasks, hub)
    store.set_task_weights(made.tasks[:1], hub, 0.0)
    assert store.get_task_weights(made.tasks, made.hub) == [0.5] * 3
    assert store.get_task_weights(made.tasks, hub) == [0.0, 0.5, 0.5]
    assert store.get_task_actioned_networks(made.tasks[0]) == {made.network: 0.5, second: 0.0}


def test_task_of_weight_zero_is_not_claimed_until_raised(store: StateStore, scope: Scope) -> None:
    made, _ = weighed(store, scope)
    register(store, "service")
    store.set_task_weights(made.tasks, made.hub, 0.0)
    assert store.claim_taskhub_tasks(made.hub, "service", count=3) == [None] * 3
    store.set_task_weights({made.tasks[1]: 1e-6}, made.hub)
    assert store.claim_taskhub_tasks(made.hub, "service", count=3) == [made.tasks[1], None, None]


# Networks a task is actioned for


def test_get_task_actioned_networks(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    other = campaign(store, scope, name="second")
    second, hub = other.network, other.hub
    one, two = made.tasks
    store.action_tasks([one], hub)
    store.set_task_weights({one: 0.25}, hub)
    networks = {made.network: 0.5, second: 0.25}
    assert (
        store.get_task_actioned_networks(one)
        == store.get_task_actioned_networks(str(one))
        == networks
    )
    assert list(store.get_task_actioned_networks(one)) == sorted(networks)
    assert store.get_task_actioned_networks(two) == {made.network: 0.5}
    store.cancel_tasks([two], made.hub)
    assert store.get_task_actioned_networks(two) == {}


@pytest.mark.parametrize("status", ["complete", "invalid", "deleted"])
def test_task_with_a_final_status_leaves_every_hub(
    store: StateStore, scope: Scope, status: str
) -> None:
    made = campaign(store, scope, tasks=2)
    hub = campaign(store, scope, name="second").hub
    store.action_tasks(made.tasks, hub)
    store.set_task_running(made.tasks[:1])
    assert store.set_task_status(made.tasks[:1], status) == made.tasks[:1]
    assert store.get_task_actioned_networks(made.tasks[0]) == {}
    assert store.get_taskhub_tasks(hub) == store.get_taskhub_tasks(made.hub) == made.tasks[1:]
    assert store.cancel_tasks(made.tasks, hub) == [None, made.tasks[1]]
