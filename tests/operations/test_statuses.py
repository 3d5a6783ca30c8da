"""Status transitions and their effects on hubs, claims, attempts and descendants."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from alchemistore import RefusalReason, Scope, ScopedKey, StateStore, TaskStatusEnum
from tests.support.campaigns import (
    STATUSES,
    campaign,
    chain,
    created,
    move_to_status,
    register,
    tree,
)
from tests.support.history import attempts, statuses

# From each status: the statuses that can be set.
TABLE = {
    "waiting": {"waiting", "running", "invalid", "deleted"},
    "running": {"waiting", "running", "complete", "error", "invalid", "deleted"},
    "complete": {"complete", "invalid", "deleted"},
    "error": {"waiting", "error", "invalid", "deleted"},
    "invalid": {"invalid"},
    "deleted": {"deleted"},
}
TERMINAL = ["invalid", "deleted"]
# What an attempt ends with when the status of its task is set.
OUTCOMES = {
    "waiting": "released",
    "complete": "complete",
    "error": "error",
    "invalid": "invalid",
    "deleted": "deleted",
}


def missing_task(scope: Scope) -> ScopedKey:
    return ScopedKey.from_str(f"Task-{uuid4().hex}-{scope}")


def second_hub(store: StateStore, scope: Scope, tasks: Sequence[ScopedKey]) -> ScopedKey:
    """A hub of another network that shares its transformations, with the same tasks on it."""
    hub = campaign(store, scope, name="second").hub
    assert store.action_tasks(tasks, hub) == list(tasks)
    return hub


@pytest.mark.parametrize("start", STATUSES)
def test_each_setter_accepts_the_transitions_of_the_table(
    store: StateStore, scope: Scope, start: str
) -> None:
    made = campaign(store, scope)
    answered, followed = {}, {}
    for wanted in STATUSES:
        tasks = created(store.create_tasks(made.transformations * 3))
        move_to_status(store, tasks, start)
        by_name, by_text, by_enum = tasks[:3], tasks[3:6], tasks[6:]
        answers = [
            *getattr(store, f"set_task_{wanted}")(by_name),
            *store.set_task_status(by_text, wanted),
            *store.set_task_status(by_enum, TaskStatusEnum(wanted)),
        ]
        answered[wanted] = {True: answers == tasks, False: answers == [None] * 9}
        followed[wanted] = set(statuses(store, tasks))
    assert answered == {
        wanted: {True: wanted in TABLE[start], False: wanted not in TABLE[start]}
        for wanted in STATUSES
    }
    assert followed == {
        wanted: {wanted if wanted in TABLE[start] else start} for wanted in STATUSES
    }


@pytest.mark.parametrize("status", ["error", "running"])
def test_waiting_task_that_is_refused_can_still_be_claimed(
    store: StateStore, scope: Scope, status: str
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=1)
    assert store.set_task_status(made.tasks, status, only_from="running") == [None]
    assert store.claim_taskhub_tasks(made.hub, "a") == made.tasks


@pytest.mark.parametrize("only_from", ["error", ["error", "complete"], iter(["error"])])
def test_only_from_refuses_tasks_with_another_status(
    store: StateStore, scope: Scope, only_from: Any
) -> None:
    failed, running, waiting = campaign(store, scope, tasks=3).tasks
    move_to_status(store, [failed], "error")
    move_to_status(store, [running], "running")
    refusals: dict[str, RefusalReason] = {}
    asked = [running, failed, waiting]
    answer = store.set_task_status(asked, "waiting", refusals=refusals, only_from=only_from)
    assert answer == [None, failed, None]
    assert refusals == dict.fromkeys(map(str, (running, waiting)), RefusalReason.status)
    assert statuses(store, asked) == ["running", "waiting", "waiting"]


def test_only_from_does_not_allow_what_the_table_forbids(store: StateStore, scope: Scope) -> None:
    [task] = campaign(store, scope, tasks=1).tasks
    move_to_status(store, [task], "complete")
    assert store.set_task_status([task], "waiting", only_from="complete") == [None]
    assert store.set_task_status([task], "waiting", only_from=()) == [None]
    with pytest.raises(ValueError, match="it is complete"):
        store.set_task_status([task], "waiting", True, only_from=["complete"])
    with pytest.raises(ValueError, match="nonsense"):
        store.set_task_status([task], "waiting", only_from=["nonsense"])
    assert statuses(store, [task]) == ["complete"]


@pytest.mark.parametrize("start", STATUSES)
def test_raise_error_names_the_refused_task_and_changes_nothing(
    store: StateStore, scope: Scope, start: str
) -> None:
    made = campaign(store, scope)
    for wanted in STATUSES:
        good, bad = created(store.create_tasks(made.transformations[:2]))
        move_to_status(store, [bad], start)
        if wanted in ("complete", "error"):
            move_to_status(store, [good], "running")
        before = statuses(store, [good, bad])
        if wanted in TABLE[start]:
            assert store.set_task_status([good, bad], wanted, raise_error=True) == [good, bad]
            continue
        with pytest.raises(ValueError, match="Cannot set task") as refusal:
            store.set_task_status([good, bad], wanted, raise_error=True)
        assert all(word in str(refusal.value) for word in (str(bad), start, wanted))
        with pytest.raises(ValueError, match="Cannot set task"):
            getattr(store, f"set_task_{wanted}")([good, bad], raise_error=True)
        assert statuses(store, [good, bad]) == before


def test_raise_error_counts_a_missing_task_as_refused(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    move_to_status(store, made.tasks, "running")
    for wanted, bad in product(
        STATUSES, [missing_task(scope), None, made.hub, made.transformations[0]]
    ):
        with pytest.raises(ValueError, match="Cannot set task") as refusal:
            store.set_task_status([*made.tasks, bad], wanted, raise_error=True)
        assert str(bad) in str(refusal.value)
    assert statuses(store, made.tasks) == ["running"]
    assert store.get_taskhub_tasks(made.hub) == made.tasks


@pytest.mark.parametrize("wanted", STATUSES)
def test_setter_returns_one_entry_per_input(
    store: StateStore, scope: Scope, other_scope: Scope, wanted: str
) -> None:
    made = campaign(store, scope, tasks=3)
    second_hub(store, scope, made.tasks)
    move_to_status(store, made.tasks, "running")
    a, b, c = made.tasks
    elsewhere = ScopedKey.from_str(f"{a.gufe_key}-{other_scope}")
    asked = [b, None, a, missing_task(scope), b, str(c), made.hub, elsewhere, made.network]
    assert store.set_task_status(iter(asked), wanted) == [b, None, a, None, b, c, None, None, None]
    assert statuses(store, made.tasks) == [wanted] * 3
    assert store.set_task_status([], wanted) == []
    assert store.set_task_status([], wanted, raise_error=True) == []


def test_get_task_status_returns_statuses_in_order(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3)
    a, b, c = made.tasks
    move_to_status(store, [a], "error")
    move_to_status(store, [b], "deleted")
    elsewhere = ScopedKey.from_str(f"{a.gufe_key}-{other_scope}")
    asked = [c, None, b, missing_task(scope), str(a), c, made.hub, elsewhere]
    answers = [
        TaskStatusEnum.waiting,
        None,
        TaskStatusEnum.deleted,
        None,
        TaskStatusEnum.error,
        TaskStatusEnum.waiting,
    ]
    assert store.get_task_status(iter(asked)) == [*answers, None, None]
    assert store.get_task_status([]) == []


def test_token_of_a_task_in_the_key_of_another_kind_is_no_task(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    disguised = str(made.tasks[0]).replace("Task", "TaskHub", 1)
    assert store.get_task_status([disguised]) == [None]
    assert store.set_task_running([disguised]) == [None]
    assert statuses(store, made.tasks) == ["waiting"]


def test_single_task_instead_of_a_list_is_a_type_error(store: StateStore, scope: Scope) -> None:
    [task] = campaign(store, scope, tasks=1).tasks
    calls: Any = store
    for single in (task, str(task)):
        with pytest.raises(TypeError, match="list of keys"):
            calls.get_task_status(single)
        with pytest.raises(TypeError, match="list of keys"):
            calls.set_task_running(single)
    assert statuses(store, [task]) == ["waiting"]


def test_unknown_status_is_refused(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    for tasks, unknown in product(
        [made.tasks, []], ["", "Waiting", "done", "TaskStatusEnum.waiting"]
    ):
        with pytest.raises(ValueError):
            store.set_task_status(tasks, unknown)
    assert statuses(store, made.tasks) == ["waiting"]


@pytest.mark.parametrize("wanted", STATUSES)
def test_status_change_updates_hubs_and_claims(
    store: StateStore, scope: Scope, wanted: str
) -> None:
    made = campaign(store, scope, tasks=2)
    hubs = [made.hub, second_hub(store, scope, made.tasks)]
    store.set_task_weights(made.tasks, made.hub, 0.25)
    register(store, "a")
    assert set(store.claim_taskhub_tasks(made.hub, "a", count=2)) == set(made.tasks)
    task, other = made.tasks
    assert store.set_task_status([task], wanted) == [task]

    stays = wanted in ("waiting", "running", "error")
    assert [store.get_taskhub_tasks(hub) for hub in hubs] == [made.tasks if stays else [other]] * 2
    assert store.get_task_weights([task], made.hub) == [0.25 if stays else None]
    assert store.get_task_weights([task], hubs[1]) == [0.5 if stays else None]
    unclaimed = [task] if stays and wanted != "running" else []
    assert [store.get_taskhub_unclaimed_tasks(hub) for hub in hubs] == [unclaimed] * 2

    [attempt] = attempts(store, task)
    assert attempt.outcome == OUTCOMES.get(wanted)
    assert (attempt.ended_at is None) == (wanted == "running")
    assert attempt.ended_at is None or attempt.ended_at >= attempt.claimed_at
    assert [attempt.outcome for attempt in attempts(store, other)] == [None]
    assert store.get_gufe(task).claim == ("a" if wanted == "running" else None)
    again = [task] if wanted == "waiting" else [None]
    assert store.claim_taskhub_tasks(hubs[1], "a") == again


def test_error_set_to_waiting_is_claimable_again(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    register(store, "a", "b")
    for service, ending in [("a", "error"), ("b", "error"), ("a", "waiting"), ("b", "error")]:
        assert store.claim_taskhub_tasks(made.hub, service, count=2) == [*made.tasks, None]
        assert store.set_task_status(made.tasks, ending) == made.tasks
        if ending == "error":
            assert store.claim_taskhub_tasks(made.hub, service) == [None]
            assert store.set_task_waiting(made.tasks) == made.tasks
    history = [
        (a.attempt, a.service, a.hostname, a.outcome) for a in attempts(store, made.tasks[0])
    ]
    assert history == [
        (1, "a", "host", "error"),
        (2, "b", "host", "error"),
        (3, "a", "host", "released"),
        (4, "b", "host", "error"),
    ]


def test_running_by_hand_makes_no_claim(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    register(store, "a")
    by_hand, other = made.tasks
    assert store.set_task_running([by_hand]) == [by_hand]
    assert attempts(store, by_hand) == ()
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks
    assert store.claim_taskhub_tasks(made.hub, "a", count=2) == [other, None]
    assert store.get_taskhub_unclaimed_tasks(made.hub) == [by_hand]
    assert store.set_task_waiting([by_hand]) == [by_hand]
    assert store.claim_taskhub_tasks(made.hub, "a", count=2) == [by_hand, None]


@pytest.mark.parametrize("wanted", TERMINAL)
@pytest.mark.parametrize("root_is_on_a_hub", [True, False])
def test_terminal_status_is_set_on_every_descendant(
    store: StateStore, scope: Scope, wanted: str, root_is_on_a_hub: bool
) -> None:
    made = campaign(store, scope)
    root, *below = tasks = tree(store, made.transformations[0])
    line = chain(store, made.transformations[0], 2)
    actioned = [*(tasks if root_is_on_a_hub else below), *line]
    store.action_tasks(actioned, made.hub)
    other_hub = second_hub(store, scope, below)
    assert store.set_task_status([root], wanted) == [root]
    assert statuses(store, tasks) == [wanted] * 7
    assert statuses(store, line) == ["waiting"] * 2
    assert store.get_taskhub_tasks(made.hub) == sorted(line)
    assert store.get_taskhub_tasks(other_hub) == []


@pytest.mark.parametrize("wanted", TERMINAL)
def test_terminal_status_leaves_ancestors_and_siblings(
    store: StateStore, scope: Scope, wanted: str
) -> None:
    made = campaign(store, scope)
    tasks = tree(store, made.transformations[0])
    store.action_tasks(tasks, made.hub)
    assert store.set_task_status([tasks[1]], wanted) == [tasks[1]]
    expected = ["waiting", wanted, "waiting", wanted, wanted, "waiting", "waiting"]
    assert statuses(store, tasks) == expected
    left = [task for task, status in zip(tasks, expected, strict=True) if status == "waiting"]
    assert store.get_taskhub_tasks(made.hub) == sorted(left)


@pytest.mark.parametrize("wanted", TERMINAL)
def test_descendants_lose_their_claims(store: StateStore, scope: Scope, wanted: str) -> None:
    made = campaign(store, scope)
    root, child, grandchild = chain(store, made.transformations[0], 3)
    register(store, "a")
    store.set_task_running([root, child])
    store.set_task_complete([root, child])
    store.action_tasks([grandchild], made.hub)
    assert store.claim_taskhub_tasks(made.hub, "a") == [grandchild]
    assert store.set_task_status([root], wanted) == [root]
    assert statuses(store, [root, child, grandchild]) == [wanted] * 3
    [attempt] = attempts(store, grandchild)
    assert attempt.outcome == wanted
    assert attempt.ended_at is not None
    assert attempt.ended_at >= attempt.claimed_at
    assert store.get_taskhub_tasks(made.hub) == []
    assert store.set_task_complete([grandchild]) == [None]
    assert store.deregister_computeservice("a") == "a"
    assert statuses(store, [grandchild]) == [wanted]


@pytest.mark.parametrize("wanted", TERMINAL)
def test_waiting_descendants_leave_the_queue(store: StateStore, scope: Scope, wanted: str) -> None:
    made = campaign(store, scope)
    root, child, grandchild = chain(store, made.transformations[0], 3)
    register(store, "a")
    store.set_task_running([root, child])
    store.set_task_complete([root, child])
    store.action_tasks([grandchild], made.hub)
    assert store.get_taskhub_unclaimed_tasks(made.hub) == [grandchild]
    assert store.set_task_status([root], wanted) == [root]
    assert store.get_taskhub_unclaimed_tasks(made.hub) == []
    assert store.claim_taskhub_tasks(made.hub, "a") == [None]


@pytest.mark.parametrize("wanted", TERMINAL)
def test_terminal_descendants_keep_their_status(
    store: StateStore, scope: Scope, wanted: str
) -> None:
    made = campaign(store, scope)
    root = store.create_task(made.transformations[0])
    children = {
        status: store.create_task(made.transformations[0], extends=root) for status in STATUSES
    }
    for status, child in children.items():
        move_to_status(store, [child], status)
    assert store.set_task_status([root], wanted) == [root]
    expected = [status if status in TERMINAL else wanted for status in STATUSES]
    assert statuses(store, list(children.values())) == expected


@pytest.mark.parametrize("wanted", TERMINAL)
def test_terminal_status_of_root_and_descendants_in_one_call(
    store: StateStore, scope: Scope, wanted: str
) -> None:
    made = campaign(store, scope)
    root, child, grandchild = chain(store, made.transformations[0], 3)
    other = "deleted" if wanted == "invalid" else "invalid"
    move_to_status(store, [grandchild], other)
    assert store.set_task_status([grandchild, child, root, child], wanted) == [
        None,
        child,
        root,
        child,
    ]
    assert statuses(store, [root, child, grandchild]) == [wanted, wanted, other]


@pytest.mark.parametrize(("start", "wanted"), [("invalid", "deleted"), ("deleted", "invalid")])
def test_refused_root_leaves_its_descendants(
    store: StateStore, scope: Scope, start: str, wanted: str
) -> None:
    made = campaign(store, scope)
    tasks = chain(store, made.transformations[0], 3)
    others = chain(store, made.transformations[1], 3)
    store.action_tasks(others, made.hub)
    move_to_status(store, [tasks[0]], start)
    with pytest.raises(ValueError, match="Cannot set task"):
        store.set_task_status([others[0], tasks[0]], wanted, raise_error=True)
    assert statuses(store, tasks + others) == [start] * 3 + ["waiting"] * 3
    assert store.get_taskhub_tasks(made.hub) == sorted(others)
    assert store.set_task_status([tasks[0], others[1]], wanted) == [None, others[1]]
    assert statuses(store, tasks + others) == [start] * 3 + ["waiting", wanted, wanted]


def test_terminal_status_reaches_the_end_of_a_long_chain(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    line = chain(store, made.transformations[0], 100)
    store.action_tasks(line, made.hub)
    assert store.set_task_invalid(line[:1]) == line[:1]
    assert statuses(store, line) == ["invalid"] * 100
    assert store.get_taskhub_tasks(made.hub) == []
