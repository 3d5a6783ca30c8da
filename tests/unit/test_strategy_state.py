"""The state of a strategy: validation, equality, and what it was when it was read."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from alchemistore import StrategyModeEnum, StrategyState

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


class DriverTime:
    """A time as some drivers return it."""

    def to_native(self) -> datetime:
        return MOMENT


def test_defaults_are_those_of_the_reference() -> None:
    assert StrategyState().to_dict() == {
        "mode": "partial",
        "status": "awake",
        "iterations": 0,
        "sleep_interval": 3600,
        "last_iteration": None,
        "last_iteration_result_count": 0,
        "max_tasks_per_transformation": 3,
        "task_scaling": "exponential",
        "exception": None,
        "traceback": None,
    }


def test_dict_and_back_is_the_same_state() -> None:
    state = StrategyState(mode=StrategyModeEnum.full, last_iteration=MOMENT, exception=("E", "m"))
    assert StrategyState.from_dict(state.to_dict()) == state
    assert type(state.to_dict()["mode"]) is str


@pytest.mark.parametrize("given", [MOMENT, MOMENT.replace(tzinfo=None), DriverTime()])
def test_time_of_the_last_iteration_is_in_utc(given: Any) -> None:
    assert StrategyState(last_iteration=given).last_iteration == MOMENT


def test_unknown_fields_are_ignored() -> None:
    assert StrategyState.from_dict({"colour": "red"}) == StrategyState()


def test_state_cannot_be_changed() -> None:
    state = StrategyState()
    with pytest.raises(ValidationError, match="frozen"):
        state.iterations = 1


def test_what_it_was_when_read_does_not_count_for_equality() -> None:
    plain, read = StrategyState(), StrategyState().read(uuid4())
    assert plain == read
    assert hash(plain) == hash(read)
    assert plain != StrategyState(iterations=1)
    assert plain != {}


def test_copies_remember_what_they_were_when_read() -> None:
    lease = uuid4()
    read = StrategyState(iterations=3).read(lease)
    for copied in (
        read.model_copy(update={"iterations": 4}),
        copy.copy(read),
        copy.deepcopy(read),
        pickle.loads(pickle.dumps(read)),
    ):
        assert copied.origin is not None
        assert copied.origin.values["iterations"] == 3
        assert copied.origin.lease == lease
    assert StrategyState(**dict(read)).origin is None
