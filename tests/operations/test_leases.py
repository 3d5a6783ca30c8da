"""Leases: one holder at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from alchemistore import StateStore

HOUR = timedelta(hours=1)


def pass_time(store: StateStore, time: timedelta) -> None:
    """Make all leases end earlier."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE leases SET ends_at = ends_at - :time"), {"time": time})


def test_lease_has_one_holder_until_it_ends(store: StateStore) -> None:
    assert store.acquire_lease("work", "a", HOUR)
    assert not store.acquire_lease("work", "b", HOUR)
    assert store.acquire_lease("other work", "b", HOUR)
    pass_time(store, HOUR * 0.9)
    assert not store.acquire_lease("work", "b", HOUR)
    pass_time(store, HOUR * 0.2)
    assert store.acquire_lease("work", "b", HOUR)
    assert not store.acquire_lease("work", "a", HOUR)


def test_holder_renews_its_lease(store: StateStore) -> None:
    for _ in range(3):
        assert store.acquire_lease("work", "a", HOUR)
        pass_time(store, HOUR * 0.9)
        assert not store.acquire_lease("work", "b", HOUR)
    # Nobody has taken it since it has ended.
    pass_time(store, HOUR)
    assert store.acquire_lease("work", "a", HOUR)


def test_released_lease_is_free_at_once(store: StateStore) -> None:
    assert store.acquire_lease("work", "a", HOUR)
    assert not store.release_lease("work", "b")
    assert not store.release_lease("other work", "a")
    assert not store.acquire_lease("work", "b", HOUR)
    assert store.release_lease("work", "a")
    assert not store.release_lease("work", "a")
    assert store.acquire_lease("work", "b", HOUR)


@pytest.mark.parametrize("wrong", ["", "a\0b", "x" * 2001, "\ud800"], ids=ascii)
def test_text_that_cannot_be_stored_is_refused(store: StateStore, wrong: str) -> None:
    for name, holder in ((wrong, "a"), ("work", wrong)):
        with pytest.raises(ValueError, match=r"must not be empty|contains NUL|bytes"):
            store.acquire_lease(name, holder, HOUR)
        with pytest.raises(ValueError, match=r"must not be empty|contains NUL|bytes"):
            store.release_lease(name, holder)


@pytest.mark.parametrize("duration", [timedelta(0), -HOUR])
def test_duration_must_be_positive(store: StateStore, duration: timedelta) -> None:
    with pytest.raises(ValueError, match="duration must be positive"):
        store.acquire_lease("work", "a", duration)
