"""The number of round trips of each call, and what happens if one of them is lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from alchemistore import OutcomeUnknownError, Scope, ScopedKey, Settings, StateStore
from alchemistore.database import plan_age, transaction
from tests.support.campaigns import Campaign, campaign, register, star
from tests.support.databases import end_backend, libpq
from tests.support.history import attempts, history_of, statuses
from tests.support.results import ref
from tests.support.turns import Turns, counted_turns

DOCUMENTED = Path(__file__).parents[2] / "docs" / "query-plans.md"

# What is measured, and what has to be done before.
Measured = Callable[[], object]
CALLS: dict[str, Callable[[StateStore, Campaign, int], Measured]] = {
    "claim_taskhub_tasks": lambda s, c, n: lambda: s.claim_taskhub_tasks(c.hub, "a", count=n),
    "claim_tasks": lambda s, c, n: lambda: s.claim_tasks([c.hub.scope], "a", count=n),
    "heartbeat_computeservice": lambda s, c, n: lambda: s.heartbeat_computeservice("a"),
    "query_tasks": lambda s, c, n: s.query_tasks,
    "get_task_status": lambda s, c, n: lambda: s.get_task_status(c.tasks[:n]),
    "get_task_priority": lambda s, c, n: lambda: s.get_task_priority(c.tasks[:n]),
    "get_task_weights": lambda s, c, n: lambda: s.get_task_weights(c.tasks[:n], c.hub),
    "get_network_status": lambda s, c, n: lambda: s.get_network_status(c.network),
    "set_task_priority": lambda s, c, n: lambda: s.set_task_priority(c.tasks[:n], 3),
    "set_task_weights": lambda s, c, n: lambda: s.set_task_weights(c.tasks[:n], c.hub, 0.25),
    "cancel_tasks": lambda s, c, n: lambda: s.cancel_tasks(c.tasks[:n], c.hub),
    "action_tasks": lambda s, c, n: (
        s.cancel_tasks(c.tasks, c.hub),
        lambda: s.action_tasks(c.tasks[:n], c.hub),
    )[1],
    "set_task_running": lambda s, c, n: lambda: s.set_task_running(c.tasks[:n]),
    "set_task_waiting": lambda s, c, n: lambda: s.set_task_waiting(c.tasks[:n]),
    "set_task_complete": lambda s, c, n: (
        s.set_task_running(c.tasks),
        lambda: s.set_task_complete(c.tasks[:n]),
    )[1],
    "set_task_error": lambda s, c, n: (
        s.set_task_running(c.tasks),
        lambda: s.set_task_error(c.tasks[:n]),
    )[1],
    "set_task_invalid": lambda s, c, n: lambda: s.set_task_invalid(c.tasks[:n]),
    "set_task_deleted": lambda s, c, n: lambda: s.set_task_deleted(c.tasks[:n]),
    "settle_task": lambda s, c, n: _settlement(s, c),
    # All its members are stored.
    "create_network": lambda s, c, n: (
        lambda: s.create_network(star(min(n, 3), "new"), c.network.scope)
    ),
}


def _settlement(store: StateStore, made: Campaign) -> Measured:
    (task,) = store.claim_taskhub_tasks(made.hub, "a")
    assert task is not None
    result = ref(task.scope)
    return lambda: store.settle_task(task, result, "a")


@pytest.fixture
def relay(pooled_database: str) -> Iterator[Turns]:
    with counted_turns(pooled_database) as turns:
        yield turns


@pytest.fixture
def far(relay: Turns, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateStore]:
    """A store with one connection, through the relay, that does not make plans anew."""
    monkeypatch.setattr(plan_age, "SECONDS", 1e9)
    settings = Settings(database_url=relay.url, pool_size=1)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with closing(StateStore(settings)) as store:
        yield store


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    register(store, "a")
    return campaign(store, scope, tasks=24)


def documented() -> dict[str, int]:
    """The table in the documentation."""
    rows = re.findall(r"^\| `(\w+)` +\| (\d+) +\|", DOCUMENTED.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in rows}


def test_documentation_lists_all_measured_calls() -> None:
    assert documented().keys() == CALLS.keys()


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("name", CALLS)
def test_call_takes_the_documented_number_of_round_trips(
    far: StateStore, relay: Turns, made: Campaign, name: str, count: int
) -> None:
    call = CALLS[name](far, made, count)
    far.get_task_status(made.tasks)
    before = relay.count
    assert call() is not None
    assert relay.count - before == documented()[name]


def test_several_statements_are_undone_if_the_last_one_fails(
    far: StateStore, made: Campaign, store: StateStore
) -> None:
    with store.engine.begin() as connection:
        connection.execute(
            text("ALTER TABLE alchemistore.queue ADD CONSTRAINT few CHECK (priority < 5) NOT VALID")
        )
    try:
        with pytest.raises(Exception, match="few"):
            far.set_task_priority(made.tasks, 7)
    finally:
        with store.engine.begin() as connection:
            connection.execute(text("ALTER TABLE alchemistore.queue DROP CONSTRAINT few"))
    assert set(far.get_task_priority(made.tasks)) == {10}
    assert far.set_task_priority(made.tasks, 7) == made.tasks
    assert set(store.get_task_priority(made.tasks)) == {7}


def test_call_in_a_transaction_of_several_is_not_committed_by_itself(
    far: StateStore, made: Campaign, store: StateStore
) -> None:
    far.get_task_status(made.tasks)
    with far.transaction() as tx:
        tx.set_task_priority(made.tasks, 3)
        tx.set_task_running(made.tasks)
        assert set(store.get_task_priority(made.tasks)) == {10}
    assert set(store.get_task_priority(made.tasks)) == {3}


def test_connection_that_died_in_the_pool_is_replaced(
    far: StateStore, made: Campaign, pooled_database: str
) -> None:
    with far.engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with psycopg.connect(libpq(pooled_database), autocommit=True) as other:
        end_backend(other, pid)
    assert far.cancel_tasks(made.tasks, made.hub) == made.tasks


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("name", ["set_task_priority", "set_task_weights", "action_tasks"])
def test_lost_call_is_repeated(
    far: StateStore, relay: Turns, made: Campaign, name: str, lost: str
) -> None:
    call = CALLS[name](far, made, 20)
    far.get_task_status(made.tasks)
    relay.lose = lost  # type: ignore[assignment]  # one of the two
    assert call() == made.tasks[:20]
    assert relay.lose is None


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_lost_change_of_status_is_made_once(
    far: StateStore,
    store: StateStore,
    relay: Turns,
    made: Campaign,
    lost: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, other, refused = made.tasks[:3]
    store.set_task_running([task, other])
    far.get_task_status(made.tasks)
    store.set_task_invalid([refused])

    def claim_meanwhile(attempt: int) -> None:
        # Another service claims a task that this call has set to waiting.
        if lost == "answer":
            store.set_task_priority([task], 1)
            assert store.claim_taskhub_tasks(made.hub, "a") == [task]

    monkeypatch.setattr(transaction, "pause", claim_meanwhile)
    relay.lose = lost  # type: ignore[assignment]  # one of the two
    assert far.set_task_waiting([task, refused, other]) == [task, None, other]
    assert relay.lose is None
    changed = [str(change.status) for change in history_of(store, other).changes]
    # The first is the creation.
    assert changed.count("waiting") == 2
    if lost == "answer":
        assert statuses(store, [task]) == ["running"]
        assert attempts(store, task)[-1].ended_at is None


def test_lost_settlement_is_made_once(far: StateStore, relay: Turns, made: Campaign) -> None:
    settle = _settlement(far, made)
    relay.lose = "answer"
    first = settle()
    assert relay.lose is None
    assert settle() == first


def test_outcome_of_a_cancellation_whose_answer_is_lost_is_unknown(
    far: StateStore, store: StateStore, relay: Turns, made: Campaign
) -> None:
    far.get_task_status(made.tasks)
    relay.lose = "answer"
    with pytest.raises(OutcomeUnknownError):
        far.cancel_tasks(made.tasks, made.hub)
    assert store.get_taskhub_tasks(made.hub) == []


def test_quota_is_kept_by_a_call_that_sends_its_statements_together(
    far: StateStore, store: StateStore, made: Campaign
) -> None:
    store.cancel_tasks(made.tasks, made.hub)
    store.set_quota(made.hub.scope, actioned_per_hub=5)
    found: list[ScopedKey | None] = far.action_tasks(made.tasks, made.hub)
    assert found == [*made.tasks[:5], *[None] * 19]
    assert store.get_taskhub_tasks(made.hub) == sorted(made.tasks[:5])
