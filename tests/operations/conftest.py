"""What tests of settlement and of history begin with."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support.campaigns import Campaign
from tests.support.claims import campaign_of_one_task


@pytest.fixture
def one(store: StateStore, scope: Scope) -> Campaign:
    """A task on a hub; `a`, which will fall silent, and `b` and `c`."""
    return campaign_of_one_task(store, scope, "b", "c")
