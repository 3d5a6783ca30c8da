"""Mistakes in arguments raise errors, so that they do not look like no work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.campaigns import ZERO, Campaign, campaign, register
from tests.support.databases import row_counts
from tests.support.gufe_classes import PushProtocol

Act = Callable[[StateStore, Campaign, Any], Any]
# With the answer for a missing hub.
HUB_CALLS: dict[str, tuple[Act, Any]] = {
    "claim_taskhub_tasks": (lambda s, m, hub: s.claim_taskhub_tasks(hub, "a", 2), [None] * 2),
    "get_taskhub_tasks": (lambda s, m, hub: s.get_taskhub_tasks(hub), []),
    "get_taskhub_tasks, dict": (lambda s, m, hub: s.get_taskhub_tasks(hub, return_gufe=True), {}),
    "get_taskhub_unclaimed_tasks": (lambda s, m, hub: s.get_taskhub_unclaimed_tasks(hub), []),
    "get_taskhub_actioned_tasks": (lambda s, m, hub: s.get_taskhub_actioned_tasks(hub), {}),
    "get_taskhub_actioned_tasks, list": (
        lambda s, m, hub: s.get_taskhub_actioned_tasks(iter([hub, hub])),
        [{}, {}],
    ),
    "action_tasks": (lambda s, m, hub: s.action_tasks(m.tasks, hub), [None] * 2),
    "cancel_tasks": (lambda s, m, hub: s.cancel_tasks(m.tasks, hub), [None] * 2),
    "set_task_weights": (lambda s, m, hub: s.set_task_weights(m.tasks, hub, 0.1), [None] * 2),
    "get_task_weights": (lambda s, m, hub: s.get_task_weights(m.tasks, hub), [None] * 2),
    "wait_for_tasks": (lambda s, m, hub: s.wait_for_tasks(taskhubs=[hub], timeout=0), False),
}
STATUS_CALLS: dict[str, Act] = {
    "query_tasks": lambda s, m, status: s.query_tasks(status=status),
    "get_network_tasks": lambda s, m, status: s.get_network_tasks(m.network, status),
    "get_transformation_tasks": lambda s, m, status: s.get_transformation_tasks(
        m.transformations[0], status=status
    ),
    "set_task_status": lambda s, m, status: s.set_task_status(m.tasks, status),
}
PROTOCOL_CALLS: dict[str, Act] = {
    "claim_taskhub_tasks": lambda s, m, protocols: s.claim_taskhub_tasks(
        m.hub, "a", protocols=protocols
    ),
    "claim_tasks": lambda s, m, protocols: s.claim_tasks([m.hub.scope], "a", protocols=protocols),
    "wait_for_tasks": lambda s, m, protocols: s.wait_for_tasks(protocols=protocols, timeout=0),
}


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Two tasks on a hub, and the service `a`."""
    register(store, "a")
    return campaign(store, scope, tasks=2)


@pytest.mark.parametrize("name", HUB_CALLS)
def test_key_of_another_kind_for_a_hub_is_refused(
    store: StateStore, made: Campaign, name: str
) -> None:
    call, _ = HUB_CALLS[name]
    before = row_counts(store)
    for wrong in (made.network, str(made.network), made.tasks[0], made.transformations[0]):
        with pytest.raises(ValueError, match=r"not the key of a TaskHub; get_taskhub returns"):
            call(store, made, wrong)
    with pytest.raises(
        ValueError, match=r"input does not appear to be a `ScopedKey`: .* is not a scoped key"
    ):
        call(store, made, "nonsense")
    assert row_counts(store) == before
    assert store.get_task_weights(made.tasks, made.hub) == [0.5] * 2


@pytest.mark.parametrize("name", HUB_CALLS)
def test_missing_hub_has_no_tasks(
    store: StateStore, made: Campaign, scope: Scope, other_scope: Scope, name: str
) -> None:
    call, answer = HUB_CALLS[name]
    elsewhere = ScopedKey.from_str(f"{made.hub.gufe_key}-{other_scope}")
    for missing in (None, f"TaskHub-{ZERO}-{scope}", f"TaskHub-short-{scope}", elsewhere):
        assert call(store, made, missing) == answer


@pytest.mark.parametrize("status", ["RUNNING", "no status", "", "' OR '1'='1", 5])
@pytest.mark.parametrize("name", STATUS_CALLS)
def test_unknown_status_is_refused(
    store: StateStore, made: Campaign, name: str, status: Any
) -> None:
    with pytest.raises(
        ValueError, match="is not a valid TaskStatusEnum: expected one of waiting, running"
    ):
        STATUS_CALLS[name](store, made, status)


@pytest.mark.parametrize(
    "protocols",
    [
        "PushProtocol",
        PushProtocol,
        [PushProtocol],
        {"PushProtocol"},
        iter(["NoProtocol", PushProtocol]),
        ("PushProtocol", PushProtocol),
    ],
    ids=["name", "class", "classes", "set", "iterator", "both"],
)
def test_one_protocol_or_several_are_names_or_classes(
    store: StateStore, made: Campaign, protocols: Any
) -> None:
    names = list(protocols) if not isinstance(protocols, str | type) else protocols
    for call in PROTOCOL_CALLS.values():
        answer = call(store, made, names)
        assert answer
        assert answer != [None]
        store.set_task_waiting(made.tasks)


@pytest.mark.parametrize("service", ["a", "not registered"])
@pytest.mark.parametrize(
    "wrong", [[], (), iter(()), "", ["1st"], ["a b"], [None], [5], 5, PushProtocol.__call__]
)
@pytest.mark.parametrize("name", PROTOCOL_CALLS)
def test_protocols_that_are_empty_or_no_names_are_refused(
    store: StateStore, made: Campaign, name: str, wrong: Any, service: str
) -> None:
    with pytest.raises(ValueError, match=r"protocols is empty|is not a protocol"):
        PROTOCOL_CALLS[name](store, made, wrong)
    with pytest.raises(ValueError, match=r"protocols is empty|is not a protocol"):
        store.claim_taskhub_tasks(made.hub, service, 0, wrong if wrong else [])
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks


def test_one_scope_to_wait_for_is_not_taken_as_letters(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    one: Any
    for one in (scope, str(scope)):
        assert store.wait_for_tasks(one, timeout=0)
        assert not store.wait_for_tasks(exclude_scopes=one, timeout=0)
