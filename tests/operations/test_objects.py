"""Stored objects, their keys, and answers to unknown keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gufe
import numpy as np
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY, GufeTokenizable

from alchemistore import (
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
    Task,
    TaskHub,
    TaskStatusEnum,
)
from alchemistore.errors import StateStoreError
from alchemistore.models import GufeKey
from tests.support import gufe_classes
from tests.support.campaigns import ZERO, Campaign, campaign, register, star
from tests.support.databases import row_counts
from tests.support.gufe_classes import Effort, Holder, Outer, PushProtocol, system


class Grid(Holder):
    """Has a key of its own, because gufe 0.4 cannot hash arrays."""

    def __init__(self, content: Any) -> None:
        self._key = gufe.tokenization.GufeKey("Grid-" + ZERO)
        super().__init__(content)


def parts(obj: Any) -> dict[str, Any]:
    """Return an object and all its parts by key."""
    found = {}
    if isinstance(obj, GufeTokenizable):
        found = {str(obj.key): obj, **parts(obj.to_shallow_dict())}
    elif isinstance(obj, dict | list | tuple):
        for item in obj.values() if isinstance(obj, dict) else obj:
            found.update(parts(item))
    return found


World = tuple[StateStore, Campaign, dict[str, ScopedKey]]


@pytest.fixture(scope="module")
def world(shared_store: StateStore) -> Iterator[World]:
    """A campaign and a key of each kind, in one database for all tests that change nothing."""
    made, keys = populate(shared_store, Scope("org", "campaign", "project"))
    before = row_counts(shared_store)
    yield shared_store, made, keys
    assert row_counts(shared_store) == before


# Getting


def test_get_network_returns_the_object_in_memory_or_decodes_an_equal_one(
    store: StateStore, scope: Scope
) -> None:
    network = gufe_classes.network()
    key = store.create_network(network, scope)
    assert store.get_gufe(key) is network
    assert store.get_gufe(str(key)) is network
    TOKENIZABLE_REGISTRY.clear()
    again = store.get_gufe(key)
    assert again is not network
    assert (again, again.key, again.name) == (network, network.key, network.name)
    assert (again.edges, again.nodes) == (network.edges, network.nodes)
    assert store.get_gufe(key) is again


def test_every_part_of_a_network_can_be_got_by_itself(store: StateStore, scope: Scope) -> None:
    network = gufe_classes.network()
    store.create_network(network, scope)
    inside = parts(network)
    assert {key.partition("-")[0] for key in inside} == {
        *(
            "AlchemicalNetwork",
            "Transformation",
            "NonTransformation",
            "ChemicalSystem",
            "Ball",
            "PushProtocol",
            "Effort",
        ),
    }
    for key, part in inside.items():
        assert store.check_existence(f"{key}-{scope}")
        assert store.get_gufe(f"{key}-{scope}") is part
        assert store.get_scoped_key(part, scope) == ScopedKey.from_str(f"{key}-{scope}")
    TOKENIZABLE_REGISTRY.clear()
    for key, part in inside.items():
        again = store.get_gufe(f"{key}-{scope}")
        assert (type(again), again.key) == (type(part), part.key)


def test_records_are_read_afresh_each_time(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    (task,) = made.tasks
    child = store.create_task(made.transformations[0], extends=task, creator="me")
    hub, record = store.get_gufe(made.hub), store.get_gufe(task)
    assert isinstance(hub, TaskHub)
    assert isinstance(record, Task)
    assert (hub.network, hub.weight, hub.key) == (str(made.network), 0.5, made.hub.gufe_key)
    assert (
        record.status,
        record.priority,
        record.creator,
        record.extends,
        record.claim,
        record.key,
    ) == (*(TaskStatusEnum.waiting, 10, None, None, None, task.gufe_key),)
    assert record.datetime_created.utcoffset() is not None
    assert (store.get_gufe(child).extends, store.get_gufe(child).creator) == (str(task), "me")
    store.set_taskhub_weight(made.network, 0.25)
    store.set_task_priority([task], 3)
    register(store, "service")
    assert store.claim_taskhub_tasks(made.hub, "service") == [task]
    assert store.get_gufe(made.hub).weight == 0.25
    changed = store.get_gufe(task)
    assert (changed.status, changed.priority, changed.claim) == (
        TaskStatusEnum.running,
        3,
        "service",
    )
    assert (record.status, record.priority) == (TaskStatusEnum.waiting, 10)
    ref = ProtocolDAGResultRef(
        obj_key=GufeKey(f"ProtocolDAGResult-{ZERO}"), scope=scope, ok=True, location="here"
    )
    assert store.get_gufe(store.set_task_result(task, ref)) == ref


def test_get_scoped_key_in_open_scopes(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    shared, only_here = star(3, "shared"), star(3, "only here")
    keys = {at: store.create_network(shared, at) for at in (scope, other_scope)}
    here = store.create_network(only_here, scope)
    for at in (scope, str(scope), Scope(), Scope("org"), "org-campaign-*"):
        assert store.get_scoped_key(only_here, at) == here
    for at, key in keys.items():
        assert store.get_scoped_key(shared, at) == key
    for at in (Scope(), "org-campaign-*"):
        with pytest.raises(StateStoreError):
            store.get_scoped_key(shared, at)
    for obj, nowhere in [
        (only_here, other_scope),
        (only_here, Scope("elsewhere")),
        (gufe_classes.network("new"), Scope()),
    ]:
        with pytest.raises(KeyError, match="No such object in database"):
            store.get_scoped_key(obj, nowhere)
    with pytest.raises((TypeError, ValueError)):
        store.get_scoped_key("AlchemicalNetwork", scope)


def test_get_scoped_key_of_records(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    ref = ProtocolDAGResultRef(obj_key=GufeKey(f"ProtocolDAGResult-{ZERO}"), scope=scope, ok=False)
    for key in (made.hub, made.tasks[0], store.set_task_result(made.tasks[0], ref)):
        assert store.check_existence(key)
        assert store.get_scoped_key(store.get_gufe(key), scope) == key
    with pytest.raises(KeyError, match="No such object in database"):
        store.get_scoped_key(Task(), scope)


def test_check_existence_and_get_gufe_of_missing_objects(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    for key in (
        made.network,
        made.hub,
        made.tasks[0],
        made.transformations[0],
        store.query_chemicalsystems()[0],
    ):
        assert store.check_existence(key) is store.check_existence(str(key)) is True
        token = key.gufe_key.token
        absent = [
            f"{key.gufe_key}-{other_scope}",
            f"Ball-{token}-{scope}",
            f"{key.qualname}-{ZERO}-{scope}",
        ]
        for other in [
            *absent,
            f"{key.qualname}-{token.upper()}x-{scope}",
            f"{key.qualname}-short-{scope}",
        ]:
            assert store.check_existence(other) is False
            with pytest.raises(KeyError, match="No such object in database"):
                store.get_gufe(other)


# Round trips


def _values() -> dict[str, Any]:
    return {
        "none": None,
        "empty": [{}, [], "", [[], {}, [{}]], {"": {"": None}}],
        "floats": [
            math.nan,
            math.inf,
            -math.inf,
            -0.0,
            1e22,
            1e16,
            5e-324,
            1.7976931348623157e308,
            0.1 + 0.2,
        ],
        "integers": [2**63, -(2**64), 10**400, 0, True, False],
        "texts": [
            "nul \x00",
            "\ud800",
            "\U0001f9ea",
            "\u2028",
            "e\u0301",
            "\\u0000",
            "'; --",
            '"',
            ":is_custom:",
        ],
        "long": "x" * 1_000_000,
        "path": Path("/a/b c"),
        "deep": [[[[[[[[["down"]]]]]]]]],
        "keys": {"NaN": 1, "null": 2, "$ref": 3, "nul \x00": 4},
    }


def test_contents_are_returned_exactly(store: StateStore, scope: Scope) -> None:
    holders = {label: Holder(value) for label, value in _values().items()}
    node = gufe.ChemicalSystem(
        {**holders, "none again": holders["none"], "inner": Outer.Inner([holders["empty"]])}
    )
    key = store.create_network(gufe.AlchemicalNetwork([], nodes=[node]), scope)
    TOKENIZABLE_REGISTRY.clear()
    (again,) = store.get_gufe(key).nodes
    assert again.key == node.key
    assert {
        label: repr(part.content) for label, part in again.components.items() if label in holders
    } == {label: repr(value) for label, value in _values().items()}
    assert {label: part.key for label, part in again.components.items()} == {
        label: part.key for label, part in node.components.items()
    }
    assert type(again.components["inner"]) is Outer.Inner
    assert again.components["inner"].content[0] is again.components["empty"]
    assert again.components["none again"] is again.components["none"]
    assert store.get_gufe(f"{node.components['inner'].key}-{scope}") is again.components["inner"]


def test_arrays_are_decoded_exactly(store: StateStore, scope: Scope) -> None:
    arrays = [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray([[1, 2], [3, 4]], dtype="i2"),
        np.array([math.nan, -0.0, math.inf], dtype=">f8"),
        np.array([], dtype="f4"),
        np.array(["a\x00b", "c"]),
        np.array([True, False]),
        np.array([1 + 2j]),
    ]
    node = gufe.ChemicalSystem({"grid": Grid(arrays)})
    key = store.create_network(gufe.AlchemicalNetwork([], nodes=[node]), scope)
    del node
    TOKENIZABLE_REGISTRY.clear()
    (again,) = store.get_gufe(key).nodes
    for found, array in zip(again.components["grid"].content, arrays, strict=True):
        np.testing.assert_array_equal(found, array)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_child_under_two_labels_is_returned_under_both(store: StateStore, scope: Scope) -> None:
    key = store.create_network(
        gufe.AlchemicalNetwork([], nodes=[system("twice"), gufe.ChemicalSystem({})]), scope
    )
    assert len(store.query_chemicalsystems()) == 2
    TOKENIZABLE_REGISTRY.clear()
    twice, empty = sorted(store.get_gufe(key).nodes, key=lambda node: -len(node.components))
    assert list(twice.components) == ["left", "right"]
    assert twice.components["left"] is twice.components["right"]
    assert dict(empty.components) == {}


def test_content_that_cannot_be_decoded_is_refused_and_not_stored(
    store: StateStore, scope: Scope
) -> None:
    class Local(Holder):
        pass

    for bad in (Grid({1, 2}), Grid(object()), Grid((Holder(1),)), Local(1)):
        edge = gufe.Transformation(
            system("a"), gufe.ChemicalSystem({"bad": bad}), PushProtocol(Effort())
        )
        with pytest.raises(ValueError, match=r"cannot be stored|inside a function"):
            store.create_network(gufe.AlchemicalNetwork([edge]), scope)
        TOKENIZABLE_REGISTRY.clear()
    assert not any(row_counts(store).values())


# Keys of nothing: what each call answers

MALFORMED = [
    "",
    "nonsense",
    "----",
    "a-b-c-d",
    "Task-{token}-*-*-*",
    "Task-{token}-org-campaign-project' OR '1'='1",
]
MALFORMED += [
    "Task-{token}-org-campaign-project-more",
    "Task-{token}-org-campaign-project\n",
    "Task-\0-org-campaign-project",
]
MALFORMED += [
    "{kind}-{token}-org-campaign-*",
    "{kind}-{token}-1-2-3",
    "'{kind}'-{token}-org-campaign-project",
]

LISTING: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(
        ["get_network_transformations", "get_network_chemicalsystems"], ("AlchemicalNetwork", [])
    ),
    **dict.fromkeys(
        ["get_transformation_networks", "get_transformation_chemicalsystems"],
        ("Transformation", []),
    ),
    **dict.fromkeys(
        ["get_chemicalsystem_networks", "get_chemicalsystem_transformations"],
        ("ChemicalSystem", []),
    ),
    **dict.fromkeys(["get_taskhub_tasks", "get_taskhub_unclaimed_tasks"], ("TaskHub", [])),
    **dict.fromkeys(["get_task_networks", "get_task_results", "get_task_failures"], ("Task", [])),
    **dict.fromkeys(
        ["get_transformation_results", "get_transformation_failures"], ("Transformation", [])
    ),
    "get_network_tasks": ("AlchemicalNetwork", []),
    "get_transformation_tasks": ("Transformation", []),
    "get_taskhub_actioned_tasks": ("TaskHub", {}),
    "get_task_actioned_networks": ("Task", {}),
    "get_network_status": ("AlchemicalNetwork", {}),
    "get_transformation_status": ("Transformation", {}),
}
SINGLE: dict[str, tuple[str, tuple[Any, ...]]] = {
    **dict.fromkeys(
        ["create_taskhub", "get_taskhub", "delete_taskhub", "delete_network"],
        ("AlchemicalNetwork", ()),
    ),
    "set_taskhub_weight": ("AlchemicalNetwork", (0.5,)),
    "get_taskhub_weight": ("AlchemicalNetwork", ()),
    **dict.fromkeys(["create_task", "set_tasks"], ("Transformation", ())),
    "get_task_transformation": ("Task", ()),
}
BULK: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["action_tasks", "cancel_tasks", "get_task_weights"], ("hub",)),
    "set_task_weights": ("hub", 0.3),
    "set_task_priority": (3,),
    "get_task_priority": (),
    "set_task_waiting": (),
    "get_task_status": (),
}


def populate(store: StateStore, scope: Scope) -> tuple[Campaign, dict[str, ScopedKey]]:
    """A campaign, and a key of each kind."""
    made = campaign(store, scope, tasks=3)
    keys = [
        made.network,
        made.hub,
        made.tasks[0],
        made.transformations[0],
        store.query_chemicalsystems()[0],
    ]
    return made, {
        key.qualname: key
        for key in [*keys, ScopedKey.from_str(f"{system('middle').components['left'].key}-{scope}")]
    }


def absent(key: ScopedKey, other_scope: Scope) -> list[str]:
    """Return unknown keys of the same kind."""
    return [
        f"{key.gufe_key}-{other_scope}",
        f"{key.qualname}-{ZERO}-{key.scope}",
        f"{key.qualname}-short-{key.scope}",
    ]


def malformed(key: ScopedKey) -> list[str]:
    """Return malformed keys."""
    return [text.format(kind=key.qualname, token=key.gufe_key.token) for text in MALFORMED]


def answers(call: Callable[..., Any], keys: Iterable[Any], *arguments: Any) -> dict[str, Any]:
    """Return the answer or the error for each key."""
    found = {}
    for key in keys:
        try:
            found[str(key)] = call(key, *arguments)
        except (KeyError, ValueError, TypeError) as error:
            found[str(key)] = next(
                kind for kind in (KeyError, ValueError, TypeError) if isinstance(error, kind)
            )
    return found


@pytest.mark.parametrize("call", LISTING)
def test_listing_calls_return_nothing_for_unknown_keys(
    world: World, other_scope: Scope, call: str
) -> None:
    store, _, keys = world
    kind, empty = LISTING[call]
    others = [key for other, key in keys.items() if other != kind]
    expected = {str(key): empty for key in absent(keys[kind], other_scope)}
    # The key of another object instead of a hub is a mistake.
    expected |= {str(key): ValueError if kind == "TaskHub" else empty for key in others}
    expected |= dict.fromkeys(malformed(keys[kind]), ValueError)
    assert answers(getattr(store, call), expected) == expected
    if call in ("get_taskhub_tasks", "get_taskhub_unclaimed_tasks"):
        missing = absent(keys[kind], other_scope)
        assert all(getattr(store, call)(key, return_gufe=True) == {} for key in missing)


@pytest.mark.parametrize("call", SINGLE)
def test_single_object_calls_refuse_unknown_keys(
    world: World, other_scope: Scope, call: str
) -> None:
    store, _, keys = world
    kind, arguments = SINGLE[call]
    # A missing network has no hub.
    missing = None if call == "get_taskhub" else KeyError
    expected: dict[str, Any] = dict.fromkeys(absent(keys[kind], other_scope), missing)
    expected |= {str(key): ValueError for other, key in keys.items() if other != kind}
    expected |= dict.fromkeys(malformed(keys[kind]), ValueError)
    before = row_counts(store)
    assert answers(getattr(store, call), expected, *arguments) == expected
    assert row_counts(store) == before


@pytest.mark.parametrize("call", BULK)
def test_bulk_calls_return_none_for_unknown_keys(
    store: StateStore, scope: Scope, other_scope: Scope, call: str
) -> None:
    made, keys = populate(store, scope)
    one, two, three = made.tasks
    arguments = [made.hub if argument == "hub" else argument for argument in BULK[call]]
    bad = [
        None,
        *absent(one, other_scope),
        *malformed(one),
        *(key for kind, key in keys.items() if kind != "Task"),
    ]
    method = getattr(store, call)
    if call == "action_tasks":
        store.cancel_tasks([one, two], made.hub)
    before = row_counts(store)
    assert method(bad, *arguments) == [None] * len(bad)
    assert method([], *arguments) == method(iter(()), *arguments) == []
    for single in (one, str(one)):
        with pytest.raises(TypeError):
            method(single, *arguments)
    assert row_counts(store) == before
    good = method([one, *bad, str(two), None, one], *arguments)
    assert good[1:-3] == [None] * len(bad)
    assert good[-2] is None
    first, second, again = good[0], good[-3], good[-1]
    assert (first, second) == ((one, two) if not call.startswith("get_") else (first, first))
    assert again == (None if call in ("action_tasks", "cancel_tasks") else first)
    assert first is not None
    assert method((key for key in [three, None]), *arguments)[1] is None


def test_check_existence_and_get_gufe_refuse_malformed_keys(world: World) -> None:
    store, _, keys = world
    expected = dict.fromkeys(malformed(keys["Task"]), ValueError)
    assert answers(store.check_existence, expected) == answers(store.get_gufe, expected) == expected


@pytest.mark.parametrize("call", [call for call, arguments in BULK.items() if "hub" in arguments])
def test_calls_with_a_missing_hub_return_none_and_with_another_key_raise(
    world: World, other_scope: Scope, call: str
) -> None:
    store, made, keys = world
    for hub in absent(made.hub, other_scope):
        arguments = [hub if argument == "hub" else argument for argument in BULK[call]]
        assert getattr(store, call)(made.tasks, *arguments) == [None] * 3
    for other in (key for kind, key in keys.items() if kind != "TaskHub"):
        arguments = [other if argument == "hub" else argument for argument in BULK[call]]
        with pytest.raises(ValueError, match="get_taskhub"):
            getattr(store, call)(made.tasks, *arguments)
    assert store.get_task_weights(made.tasks, made.hub) == [0.5] * 3
