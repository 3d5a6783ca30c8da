"""All helpers of the settlement tests: ``from tests.support import settlement as s``."""

from tests.support.campaigns import Campaign, campaign, chain, register
from tests.support.claims import claim, claim_rows, expire_silent
from tests.support.databases import all_rows, rolled_back
from tests.support.history import attempts, history_of, outcomes, status
from tests.support.results import (
    ENVIRONMENT,
    assert_listed,
    ok_or_failed,
    ref,
    reference_key,
    settle,
)
from tests.support.task_states import TASK_STATES

__all__ = [
    "ENVIRONMENT",
    "TASK_STATES",
    "Campaign",
    "all_rows",
    "assert_listed",
    "attempts",
    "campaign",
    "chain",
    "claim",
    "claim_rows",
    "expire_silent",
    "history_of",
    "ok_or_failed",
    "outcomes",
    "ref",
    "reference_key",
    "register",
    "rolled_back",
    "settle",
    "status",
]
