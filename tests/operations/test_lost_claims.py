"""Claims that their service has never learned of."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from alchemistore import Scope, StateStore
from tests.support.campaigns import Campaign, campaign, register
from tests.support.claims import claim

NOW = timedelta(0)


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    register(store, "b", "c")
    return campaign(store, scope, tasks=5)


def age(store: StateStore, seconds: int) -> None:
    """Let all claims be older."""
    for table in ("claims", "attempts"):
        with store.engine.begin() as connection:
            connection.execute(
                text(f"UPDATE {table} SET claimed_at = claimed_at - CAST(:age AS interval)"),
                {"age": timedelta(seconds=seconds)},
            )


def test_claim_before_a_later_one_of_its_service_is_lost(store: StateStore, made: Campaign) -> None:
    first = claim(store, made, "b")
    other = claim(store, made, "c")
    assert store.get_lost_claims() == []
    age(store, 61)
    claim(store, made, "b")
    [lost] = store.get_lost_claims()
    assert (lost.task, lost.attempt, lost.service, lost.outcome) == (first, 1, "b", None)
    assert lost.ended_at is None
    assert other not in {one.task for one in store.get_lost_claims()}


def test_claims_of_one_request_are_not_lost(store: StateStore, made: Campaign) -> None:
    claim(store, made, "b")
    age(store, 59)
    claim(store, made, "b")
    assert store.get_lost_claims() == []
    assert len(store.get_lost_claims(before=NOW)) == 1


def test_claim_is_lost_although_the_later_attempt_has_ended(
    store: StateStore, made: Campaign
) -> None:
    first = claim(store, made, "b")
    age(store, 100)
    store.set_task_complete([claim(store, made, "b")])
    assert [one.task for one in store.get_lost_claims()] == [first]


def test_lost_claims_are_listed_oldest_first(store: StateStore, made: Campaign) -> None:
    claimed = []
    for service in ("c", "b", "c", "b"):
        claimed.append(claim(store, made, service))
        age(store, 100)
    assert [one.task for one in store.get_lost_claims()] == claimed[:2]


def test_attempt_that_has_ended_is_not_lost(store: StateStore, made: Campaign) -> None:
    store.set_task_error([claim(store, made, "b")])
    age(store, 100)
    claim(store, made, "b")
    assert store.get_lost_claims() == []


def test_negative_time_is_refused(store: StateStore) -> None:
    with pytest.raises(ValueError, match="before must not be negative"):
        store.get_lost_claims(timedelta(seconds=-1))
