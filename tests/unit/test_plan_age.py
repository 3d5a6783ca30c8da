"""How often a session makes its plans anew."""

from __future__ import annotations

import pytest

from alchemistore.database.plan_age import CALLS, SECONDS, PlanAge


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1000.0]
    monkeypatch.setattr("alchemistore.database.plan_age.time.monotonic", lambda: moment[0])
    return moment


def test_plans_are_made_anew_when_the_number_of_calls_has_doubled(clock: list[float]) -> None:
    age = PlanAge(made_at=clock[0])
    renewed = [call for call in range(1, 1001) if age.count()]
    assert renewed == [CALLS, 2 * CALLS, 4 * CALLS, 8 * CALLS]


def test_plans_are_made_anew_after_a_while_but_not_in_each_call(clock: list[float]) -> None:
    age = PlanAge(made_at=clock[0])
    assert not age.count()
    clock[0] += SECONDS
    assert age.count()
    assert not age.count()
    clock[0] += SECONDS / 2
    assert not age.count()
    clock[0] += SECONDS / 2
    assert age.count()
