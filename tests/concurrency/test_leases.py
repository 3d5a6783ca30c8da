"""Processes that want one lease at the same time."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from sqlalchemy import text

from alchemistore import StateStore
from tests.support.concurrency import committed_or_rolled_back, run_concurrently, run_while_open

HOUR = timedelta(hours=1)
NAMES = [f"process {number}" for number in range(8)]


def test_one_of_many_gets_a_new_lease(store: StateStore) -> None:
    answers = run_concurrently([partial(store.acquire_lease, "w", name, HOUR) for name in NAMES])
    assert sorted(answers) == [False] * 7 + [True]


def test_one_of_many_gets_a_lease_that_has_ended(store: StateStore) -> None:
    assert store.acquire_lease("w", "dead", HOUR)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE leases SET ends_at = ends_at - interval '2 hours'"))
    answers = run_concurrently([partial(store.acquire_lease, "w", name, HOUR) for name in NAMES])
    assert sorted(answers) == [False] * 7 + [True]


@committed_or_rolled_back
def test_second_process_waits_for_the_first(store: StateStore, commit: bool) -> None:
    first, second = run_while_open(
        store,
        lambda tx: tx.acquire_lease("w", "a", HOUR),
        lambda: store.acquire_lease("w", "b", HOUR),
        commit=commit,
    )
    assert second.waited
    assert (first, second.result()) == (True, not commit)


@committed_or_rolled_back
def test_lease_that_is_being_released_is_free_afterwards(store: StateStore, commit: bool) -> None:
    assert store.acquire_lease("w", "a", HOUR)
    _, second = run_while_open(
        store,
        lambda tx: tx.release_lease("w", "a"),
        lambda: store.acquire_lease("w", "b", HOUR),
        commit=commit,
    )
    assert second.waited
    assert second.result() is commit
