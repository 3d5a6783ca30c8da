"""Draws: tiny weights leave later races distinct, and an answer is in the order of the races."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from alchemistore import Scope, StateStore
from alchemistore.operations.queue.race import exponential
from tests.support.campaigns import campaign, register

# The smallest weight that is accepted.
TINIEST = 1e-6


def test_tiniest_weight_leaves_the_keys_of_later_tasks_distinct(
    store: StateStore, scope: Scope
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=3)
    assert store.set_task_weights(made.tasks, made.hub, TINIEST) == made.tasks
    assert set(store.claim_taskhub_tasks(made.hub, "a", 3)) == set(made.tasks)
    later = store.create_tasks(made.transformations * 100)
    assert store.action_tasks(later, made.hub) == later
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(DISTINCT race) FROM queue")) == len(later)
        assert connection.scalar(text("SELECT max(race) < 1e9 FROM queue"))


@pytest.mark.parametrize("bits", [0, 1, 2**63 - 1, -(2**63), -1])
def test_draw_from_any_bits_is_positive_and_finite(shared_store: StateStore, bits: int) -> None:
    with shared_store.engine.connect() as connection:
        drawn = connection.scalar(
            text(f"SELECT CAST({exponential('CAST(:bits AS bigint)')} AS double precision)"),
            {"bits": bits},
        )
    assert 0 < drawn < 40


def test_calls_that_change_nothing_draw_no_new_keys(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=10)

    def keys() -> list[float]:
        with store.engine.connect() as connection:
            return list(connection.scalars(text("SELECT race FROM queue ORDER BY task")))

    before = keys()
    store.set_task_waiting(made.tasks)
    store.set_task_priority(made.tasks, 10)
    store.action_tasks(made.tasks, made.hub)
    assert keys() == before
    store.set_task_priority(made.tasks, 11)
    assert not set(keys()) & set(before)


def test_hub_of_the_tiniest_weight_is_drawn_after_the_others(
    store: StateStore, scope: Scope
) -> None:
    register(store, "a")
    hubs = [campaign(store, scope, tasks=2, name=f"hub {i}") for i in range(5)]
    store.set_taskhub_weight(hubs[2].network, TINIEST)
    claimed = store.claim_tasks([scope], "a", 10)
    assert set(claimed[8:]) == set(hubs[2].tasks)


# Previous versions accepted weights as small as these.
@pytest.mark.parametrize("weight", [5e-324, 1e-300])
def test_smaller_weight_of_a_task_in_an_old_database_counts_as_the_tiniest(
    store: StateStore, scope: Scope, weight: float
) -> None:
    made = campaign(store, scope, tasks=1)
    store.set_task_running(made.tasks)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE actions SET weight = :weight"), {"weight": weight})
    store.set_task_waiting(made.tasks)
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT max(race) < 1e9 FROM queue"))


def test_smaller_weight_of_a_hub_in_an_old_database_counts_as_the_tiniest(
    store: StateStore, scope: Scope
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=1)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE taskhubs SET weight = 5e-324"))
    assert store.claim_tasks([scope], "a") == made.tasks


PLANS = [
    [],
    ["enable_nestloop"],
    ["enable_nestloop", "enable_mergejoin"],
    ["enable_hashjoin", "enable_indexscan", "enable_bitmapscan"],
]


@pytest.mark.parametrize("off", PLANS, ids=lambda off: " ".join(off) or "default")
@pytest.mark.parametrize("protocols", [None, ["PushProtocol"]], ids=["any", "filtered"])
def test_answer_of_a_claim_is_in_the_order_of_the_keys_whatever_the_plan(
    store: StateStore, scope: Scope, off: list[str], protocols: list[str] | None
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=200)
    assert store.set_task_priority(made.tasks[::4], 3) == made.tasks[::4]
    with store.transaction() as tx:
        assert tx.connection is not None
        for setting in off:
            tx.connection.execute(text(f"SET LOCAL {setting} = off"))
        claimed = tx.claim_taskhub_tasks(made.hub, "a", 100, protocols)
    with store.engine.connect() as connection:
        expected = connection.scalars(text("SELECT task FROM attempts ORDER BY priority, race"))
        assert [task and task.token for task in claimed] == list(expected)
