"""Quotas: limits on the tasks of scopes."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest
from pydantic import ValidationError

from alchemistore import (
    Quota,
    QuotaError,
    RefusalReason,
    Scope,
    ScopedKey,
    StateStore,
)
from tests.support.campaigns import Campaign, campaign, created, move_to_status, register
from tests.support.databases import all_rows

LIMITS = ("waiting_per_transformation", "actioned_per_hub")


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Three transformations without tasks, and a hub."""
    return campaign(store, scope)


# limits


def test_no_quota_is_set_by_default(store: StateStore, scope: Scope) -> None:
    assert store.get_quota(scope) == Quota(scope=scope)
    assert store.get_quota("*-*-*") == Quota(scope=Scope())


def test_quotas_are_listed_as_they_were_set(store: StateStore) -> None:
    for scope, limit in (("org-a-b", 3), ("*-*-*", 1), ("org-*-*", 2), ("other-*-*", 4)):
        store.set_quota(scope, actioned_per_hub=limit)
    store.set_quota("org-a-*", waiting_per_transformation=0)
    store.set_quota("other-*-*")
    everything = [
        Quota(scope=Scope.from_str("*-*-*"), actioned_per_hub=1),
        Quota(scope=Scope.from_str("org-*-*"), actioned_per_hub=2),
        Quota(scope=Scope.from_str("org-a-*"), waiting_per_transformation=0),
        Quota(scope=Scope.from_str("org-a-b"), actioned_per_hub=3),
    ]
    assert store.query_quotas() == everything
    assert store.query_quotas("*-*-*") == everything
    assert store.query_quotas(Scope("org")) == everything[1:]
    assert store.query_quotas("org-a-*") == everything[2:]
    assert store.query_quotas("org-a-b") == everything[3:]
    assert store.query_quotas("other-*-*") == []
    with pytest.raises(ValueError, match="not a scope"):
        store.query_quotas("nonsense")


@pytest.mark.parametrize("limit", LIMITS)
def test_most_specific_scope_wins_for_each_limit(store: StateStore, limit: str) -> None:
    [other] = {*LIMITS} - {limit}
    store.set_quota("*-*-*", **{limit: 5, other: 50})
    store.set_quota("org-*-*", **{limit: 4})
    store.set_quota("org-a-*", **{other: 0})
    store.set_quota("org-a-b", **{limit: 3})
    expected = {
        "org-a-b": (3, 0),
        "org-a-c": (4, 0),
        "org-a-*": (4, 0),
        "org-b-b": (4, 50),
        "org-*-*": (4, 50),
        "other-a-b": (5, 50),
        "*-*-*": (5, 50),
    }
    for scope, (one, two) in expected.items():
        found = store.get_quota(scope)
        assert (getattr(found, limit), getattr(found, other)) == (one, two), scope
        assert str(found.scope) == scope


def test_quota_replaces_the_one_set_before(store: StateStore, scope: Scope) -> None:
    both = Quota(scope=scope, waiting_per_transformation=2, actioned_per_hub=3)
    assert store.set_quota(scope, 2, 3) == both
    assert store.set_quota(str(scope), actioned_per_hub=cast(int, np.int64(4))) == Quota(
        scope=scope, actioned_per_hub=4
    )
    store.set_quota("*-*-*", 7)
    answer = store.set_quota(scope)
    assert answer == store.get_quota(scope) == Quota(scope=scope, waiting_per_transformation=7)
    store.set_quota("*-*-*")
    assert len(all_rows(store)["quotas"]) == 0


@pytest.mark.parametrize("limit", LIMITS)
def test_wrong_limit_is_refused(store: StateStore, scope: Scope, limit: str) -> None:
    store.set_quota(scope, **{limit: 1})
    before = all_rows(store)
    wrong: Any
    for wrong in (-1, 2**63):
        with pytest.raises(ValueError, match=f"{limit} must be between 0 and"):
            store.set_quota(scope, **{limit: wrong})
    for wrong in (True, 1.5, "1"):
        with pytest.raises(TypeError, match=f"{limit} must be"):
            store.set_quota(scope, **{limit: wrong})
    for wrong in ("nonsense", "*-a-b", "a-b-c-d", f"{'x' * 300}-a-b"):
        with pytest.raises(ValueError, match=r"is not a scope|must be open|at most 300"):
            store.set_quota(wrong, **{limit: 1})
    assert all_rows(store) == before
    assert store.set_quota(scope, **{limit: 2**63 - 1}) == Quota(scope=scope, **{limit: 2**63 - 1})


@pytest.mark.parametrize("limit", LIMITS)
def test_record_of_a_quota_is_validated_and_frozen(scope: Scope, limit: str) -> None:
    made = Quota.model_validate({"scope": str(scope), limit: 3})
    assert made.scope == scope
    for wrong in (-1, True, "many", 2**63):
        with pytest.raises(ValidationError):
            Quota.model_validate({"scope": scope, limit: wrong})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, limit, 4)


# waiting tasks


def test_tasks_beyond_the_quota_are_not_created(store: StateStore, made: Campaign) -> None:
    store.set_quota(made.hub.scope, waiting_per_transformation=2)
    first, second, third = made.transformations
    refusals = {"old": RefusalReason.missing}
    tasks = store.create_tasks([first, second, first, first, third, first], refusals=refusals)
    assert [task is None for task in tasks] == [False, False, False, True, False, True]
    assert refusals == {str(first): RefusalReason.quota}
    kept = [task for task in tasks if task is not None]
    assert [store.get_task_transformation(task, return_gufe=False)[0] for task in kept] == [
        first,
        second,
        first,
        third,
    ]
    assert store.query_tasks() == sorted(kept)
    refusals.clear()
    assert None not in store.create_tasks([str(second), third], refusals=refusals)
    assert refusals == {}
    assert store.create_tasks(made.transformations, refusals=refusals) == [None] * 3
    assert refusals == {str(edge): RefusalReason.quota for edge in made.transformations}


def test_single_task_beyond_the_quota_is_an_error(store: StateStore, made: Campaign) -> None:
    first, second, _ = made.transformations
    store.set_quota(made.hub.scope, waiting_per_transformation=1)
    store.create_task(first)
    before = all_rows(store)
    with pytest.raises(QuotaError, match=f"{first} has as many waiting tasks as its quota"):
        store.create_task(str(first))
    with pytest.raises(QuotaError, match=str(second)):
        store.set_tasks(second, count=2)
    assert all_rows(store) == before
    assert len(store.set_tasks(second, count=1)) == 1
    assert store.set_tasks(first, count=1) == store.get_transformation_tasks(first)
    with pytest.raises(QuotaError):
        store.set_tasks(first, count=2)


def test_all_tasks_or_none_are_created(store: StateStore, made: Campaign, scope: Scope) -> None:
    one, two, _ = made.transformations
    store.set_quota(scope, waiting_per_transformation=2)
    before = all_rows(store)
    refused = pytest.raises(QuotaError, match=f"{two} has as many waiting tasks as its quota")
    with refused:
        store.create_tasks([one, two, two, two, one], partly=False)
    with store.transaction() as tx, refused:
        tx.create_tasks([one, two, two, two], partly=False)
    assert all_rows(store) == before
    assert None not in store.create_tasks([one, two, two, one], partly=False)
    assert store.create_tasks([one, two], partly=True) == [None, None]


def test_quota_of_zero_refuses_all(store: StateStore, made: Campaign) -> None:
    store.set_quota("*-*-*", 0, 0)
    assert store.create_tasks(made.transformations) == [None] * 3
    store.set_quota(made.hub.scope, waiting_per_transformation=1)
    tasks = created(store.create_tasks(made.transformations))
    assert store.action_tasks(tasks, made.hub) == [None] * 3


def test_only_waiting_tasks_of_the_transformation_count(store: StateStore, made: Campaign) -> None:
    first, second, _ = made.transformations
    tasks = created(store.create_tasks([first] * 6))
    for task, status in zip(
        tasks, ("running", "error", "complete", "invalid", "deleted"), strict=False
    ):
        move_to_status(store, [task], status)
    store.create_task(second)
    store.set_quota(made.hub.scope, waiting_per_transformation=2)
    assert [task is None for task in store.create_tasks([first] * 3)] == [False, True, True]


def test_returning_to_waiting_is_never_refused(store: StateStore, made: Campaign) -> None:
    first = made.transformations[0]
    tasks = created(store.create_tasks([first] * 4))
    store.action_tasks(tasks, made.hub)
    register(store, "a", "b")
    for name in ("a", "b"):
        assert None not in store.claim_taskhub_tasks(made.hub, name, 2)
    store.set_quota(made.hub.scope, 1, 1)
    assert store.set_task_error(tasks[:1]) == tasks[:1]
    assert store.set_task_waiting(tasks[:2]) == tasks[:2]
    store.deregister_computeservice("a")
    store.deregister_computeservice("b")
    assert store.get_transformation_status(first) == {"waiting": 4}
    assert store.get_taskhub_tasks(made.hub) == tasks
    assert store.create_tasks([first]) == [None]


def test_quota_of_another_scope_does_not_count(
    store: StateStore, made: Campaign, scope: Scope, other_scope: Scope
) -> None:
    other = campaign(store, other_scope)
    store.set_quota(other_scope, 1, 1)
    mixed = [made.transformations[0], other.transformations[0]] * 2
    refusals: dict[str, RefusalReason] = {}
    tasks = store.create_tasks(mixed, refusals=refusals)
    assert [task is None for task in tasks] == [False, False, False, True]
    assert refusals == {str(other.transformations[0]): RefusalReason.quota}
    assert None not in store.action_tasks([tasks[0], tasks[2]], made.hub)


def test_errors_come_before_the_quota_and_create_nothing(
    store: StateStore, made: Campaign, other_scope: Scope
) -> None:
    store.set_quota("*-*-*", waiting_per_transformation=1)
    first = made.transformations[0]
    task = store.create_task(first)
    missing = ScopedKey.from_str(f"{first.gufe_key}-{other_scope}")
    with pytest.raises(KeyError):
        store.create_tasks([first, missing])
    with pytest.raises(ValueError, match="Cannot extend"):
        store.create_tasks([first, made.transformations[1]], [None, task])
    with pytest.raises(KeyError):
        store.create_task(missing)
    assert store.query_tasks() == [task]


def test_extensions_are_created_for_the_accepted_entries(store: StateStore, made: Campaign) -> None:
    first, second, _ = made.transformations
    parents = created(store.create_tasks([first, second]))
    store.set_quota(made.hub.scope, waiting_per_transformation=2)
    answers = store.create_tasks([first, first, second], [parents[0], None, parents[1]])
    assert answers[1] is None
    children = created([answers[0], answers[2]])
    assert [store.get_gufe(child).extends for child in children] == [*map(str, parents)]


def test_repeated_request_returns_the_first_answer_with_its_refusals(
    store: StateStore, made: Campaign
) -> None:
    store.set_quota(made.hub.scope, waiting_per_transformation=1)
    request, wanted = uuid4(), made.transformations[:1] * 2
    first = store.create_tasks(wanted, request=request)
    assert first[1] is None
    store.set_quota(made.hub.scope)
    refusals: dict[str, RefusalReason] = {}
    assert store.create_tasks(wanted, refusals=refusals, request=request) == first
    assert refusals == {str(wanted[0]): RefusalReason.quota}


# tasks on hubs


def test_tasks_beyond_the_quota_of_a_hub_are_not_actioned(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    other = campaign(store, scope, name="other")
    tasks = created(store.create_tasks(made.transformations * 2))
    move_to_status(store, tasks[1:2], "invalid")
    store.action_tasks(tasks[2:3], made.hub)
    store.set_quota(scope, actioned_per_hub=3)
    missing = f"{tasks[0].gufe_key}-org-campaign-nowhere"
    refusals: dict[str, RefusalReason] = {}
    asked: list[ScopedKey | str | None] = [missing, *reversed(tasks), tasks[5]]
    answer = store.action_tasks(asked, made.hub, refusals=refusals)
    assert answer == [None, tasks[5], tasks[4], None, None, None, None, None]
    assert refusals == {
        missing: RefusalReason.missing,
        str(tasks[3]): RefusalReason.quota,
        str(tasks[2]): RefusalReason.already_actioned,
        str(tasks[1]): RefusalReason.status,
        str(tasks[0]): RefusalReason.quota,
    }
    assert store.get_taskhub_tasks(made.hub) == [tasks[2], tasks[4], tasks[5]]
    # Each hub has its own tasks.
    assert store.action_tasks(tasks[2:], other.hub) == [*tasks[2:5], None]


def test_task_that_leaves_a_hub_makes_room(store: StateStore, made: Campaign) -> None:
    tasks = created(store.create_tasks(made.transformations))
    store.set_quota(made.hub.scope, actioned_per_hub=1)
    assert store.action_tasks(tasks, made.hub) == [tasks[0], None, None]
    assert store.action_tasks(tasks, made.hub) == [None] * 3
    move_to_status(store, tasks[:1], "complete")
    assert store.action_tasks(tasks[1:], made.hub) == [tasks[1], None]
    store.cancel_tasks(tasks[1:2], made.hub)
    assert store.action_tasks(tasks[2:], made.hub) == [tasks[2]]
    # One in error stays on the hub.
    move_to_status(store, tasks[2:], "error")
    assert store.action_tasks(tasks[1:2], made.hub) == [None]


def test_tasks_beyond_a_lowered_quota_stay(store: StateStore, made: Campaign) -> None:
    tasks = created(store.create_tasks(made.transformations))
    assert store.action_tasks(tasks, made.hub) == tasks
    store.set_quota(made.hub.scope, 1, 1)
    assert store.get_taskhub_tasks(made.hub) == tasks
    assert store.set_task_weights(tasks, made.hub, 0.25) == tasks
    register(store, "a")
    assert None not in store.claim_taskhub_tasks(made.hub, "a", 3)


def test_hub_that_is_missing_has_no_quota(store: StateStore, made: Campaign) -> None:
    [task] = created(store.create_tasks(made.transformations[:1]))
    store.set_quota(made.hub.scope, actioned_per_hub=1)
    store.delete_taskhub(made.network)
    refusals: dict[str, RefusalReason] = {}
    assert store.action_tasks([task], made.hub, refusals=refusals) == [None]
    assert refusals == {str(task): RefusalReason.no_hub}
