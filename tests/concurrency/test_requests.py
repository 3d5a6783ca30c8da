"""Concurrent calls with one identifier."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from alchemistore import Scope, StateStore
from alchemistore.database.transaction import FreshRequest
from tests.support.campaigns import Campaign
from tests.support.concurrency import (
    Running,
    committed_or_rolled_back,
    run_concurrently,
    run_while_open,
)
from tests.support.requests import CALLS, campaign_with_services, difference, effect, rows


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Eight tasks on a hub; the service `b` has claimed the last, `a` is idle."""
    return campaign_with_services(store, scope)


@pytest.mark.parametrize("name", CALLS)
def test_calls_at_the_same_moment_are_carried_out_once(
    store: StateStore, made: Campaign, name: str
) -> None:
    request, call = uuid4(), CALLS[name]
    expected, before = effect(store, call, made), rows(store)
    answers = run_concurrently([partial(call, store, made, request)] * 3)
    assert answers == [answers[0]] * 3
    assert difference(before, rows(store)) == expected


@committed_or_rolled_back
@pytest.mark.parametrize("name", CALLS)
def test_second_call_waits_for_the_transaction_of_the_first(
    store: StateStore, made: Campaign, name: str, commit: bool
) -> None:
    request, call = uuid4(), CALLS[name]
    expected, before = effect(store, call, made), rows(store)
    first, second = run_while_open(
        store,
        lambda tx: call(tx, made, request),
        lambda: call(store, made, request),
        commit=commit,
    )
    assert second.waited
    answer = second.result()
    assert answer == first or not commit
    assert difference(before, rows(store)) == expected


@pytest.mark.parametrize("name", [name for name in CALLS if name != "create_network"])
def test_repeat_of_a_call_waits_for_the_transaction_that_was_lost(
    store: StateStore, made: Campaign, name: str
) -> None:
    request = uuid4()
    # What the store does by itself: the first attempt, and the next one after a lost connection.
    fresh = FreshRequest(int=request.int)
    call: Any = CALLS[name]
    with store.transaction() as tx:
        first = call(tx, made, fresh)
        again = Running(lambda: call(store, made, request))
        assert again.waits_for(tx)
    assert again.result() == first
