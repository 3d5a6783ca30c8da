"""Fixtures for the tests of settlement and history."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support.campaigns import Campaign
from tests.support.claims import campaign_of_one_task


@pytest.fixture
def one(store: StateStore, scope: Scope) -> Campaign:
    """A task on a hub, the silent service `a`, and the services `b` and `c`."""
    return campaign_of_one_task(store, scope, "b", "c")
