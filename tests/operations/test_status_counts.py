"""Counts of tasks by status: of a scope, of networks and of a transformation."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support.campaigns import (
    STATUSES,
    ZERO,
    Campaign,
    campaign,
    created,
    move_to_status,
    star,
)


@pytest.fixture
def counted(store: StateStore, scope: Scope, other_scope: Scope) -> Campaign:
    """Six tasks of one transformation, one per status, one of another, and two elsewhere."""
    made = campaign(store, scope)
    tasks = created(store.create_tasks(made.transformations[:1] * 6))
    for task, status in zip(tasks, STATUSES, strict=True):
        move_to_status(store, [task], status)
    store.create_task(made.transformations[1])
    campaign(store, other_scope, tasks=2)
    return made


def test_scope_status_counts_by_status(
    store: StateStore, counted: Campaign, scope: Scope, other_scope: Scope
) -> None:
    here = dict.fromkeys(STATUSES, 1) | {"waiting": 2}
    assert store.get_scope_status(scope) == here
    assert store.get_scope_status(other_scope) == {"waiting": 2}
    for wide in (Scope(), Scope("org"), Scope("org", "campaign")):
        assert store.get_scope_status(wide) == here | {"waiting": 4}
    assert store.get_scope_status(Scope("nobody")) == {}


def test_network_and_transformation_status_count_by_status(
    store: StateStore, counted: Campaign, scope: Scope
) -> None:
    here = dict.fromkeys(STATUSES, 1)
    assert store.get_network_status(counted.network) == here | {"waiting": 2}
    assert store.get_network_status(str(counted.network)) == here | {"waiting": 2}
    assert store.get_transformation_status(counted.transformations[0]) == here
    assert store.get_transformation_status(str(counted.transformations[1])) == {"waiting": 1}
    assert store.get_transformation_status(counted.transformations[2]) == {}
    for missing in (counted.hub, f"Task-{ZERO}-{scope}"):
        assert store.get_network_status(missing) == {}
        assert store.get_transformation_status(missing) == {}
    networks = [counted.network, None, counted.hub, counted.network]
    assert store.get_network_status(networks) == [
        here | {"waiting": 2},
        {},
        {},
        here | {"waiting": 2},
    ]


def test_network_status_counts_in_several_scopes_and_for_small_and_large_networks(
    store: StateStore, scope: Scope
) -> None:
    there = Scope("elsewhere", "campaign", "project")
    small, large, shared = (
        campaign(store, scope, tasks=4, arms=1, name="small"),
        campaign(store, scope, tasks=24, arms=8, name="large"),
        # Its transformation is also in the large network.
        store.create_network(star(1, "shared"), scope),
    )
    other = campaign(store, there, tasks=5, arms=5, name="other")
    store.set_task_running(small.tasks[:1])
    # The networks have the same arms, and thus share transformations.
    of_first = {"waiting": 6, "running": 1}
    assert store.get_network_status(small.network) == of_first
    assert store.get_network_status([shared, other.network, large.network, small.network]) == [
        of_first,
        {"waiting": 5},
        {"waiting": 27, "running": 1},
        of_first,
    ]
    assert store.get_network_status([shared, other.network]) == [of_first, {"waiting": 5}]


def test_get_network_status_of_one_and_of_many(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3)
    second = store.create_network(star(1, "second"), scope)
    store.set_task_running([made.tasks[0]])
    whole, part = (
        {"waiting": 2, "running": 1},
        store.get_transformation_status(store.get_network_transformations(second)[0]),
    )
    assert (
        store.get_network_status(made.network)
        == store.get_network_status(str(made.network))
        == whole
    )
    missing = f"AlchemicalNetwork-{ZERO}-{scope}"
    asked = [second, made.network, None, missing, made.hub, "nonsense", made.network]
    answers = store.get_network_status(asked)
    assert [answer or None for answer in answers] == [part, whole, None, None, None, None, whole]
    assert store.get_network_status([]) == []
    assert store.get_network_status(missing) == {}
