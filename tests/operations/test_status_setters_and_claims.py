"""Setting the status of a claimed task: what becomes of the claim, and the actor that is noted."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support.campaigns import Campaign, campaign, register
from tests.support.claims import claim_rows
from tests.support.history import history_of, outcomes


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A task that the service `a` has claimed."""
    register(store, "a")
    made = campaign(store, scope, tasks=1)
    assert store.claim_taskhub_tasks(made.hub, "a") == made.tasks
    return made


def test_claimed_task_that_is_set_running_keeps_its_claim(
    store: StateStore, made: Campaign
) -> None:
    assert store.set_task_running(made.tasks) == made.tasks
    assert claim_rows(store) == [("a", 1)]
    assert outcomes(store, made.tasks[0]) == [("a", None)]


@pytest.mark.parametrize(
    ("status", "actor"),
    [("complete", "a"), ("error", "a"), ("waiting", None), ("invalid", None), ("deleted", None)],
)
def test_service_is_the_actor_only_where_it_ended_the_task(
    store: StateStore, made: Campaign, status: str, actor: str | None
) -> None:
    assert store.set_task_status(made.tasks, status) == made.tasks
    assert history_of(store, made.tasks[0]).changes[-1].actor == actor


def test_status_counts_of_several_networks_are_in_the_order_given(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    networks = [
        campaign(store, where, tasks=tasks).network
        for where, tasks in ((scope, 1), (other_scope, 2), (Scope("org", "campaign", "third"), 3))
    ]
    counts = [{"waiting": 1}, {"waiting": 2}, {"waiting": 3}]
    assert store.get_network_status(networks) == counts
    assert store.get_network_status(networks[::-1]) == counts[::-1]
