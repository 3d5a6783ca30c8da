"""Strategies of networks."""

from __future__ import annotations

import pickle
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import gufe
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY
from sqlalchemy import text

from alchemistore import (
    MissingObjectError,
    Scope,
    ScopedKey,
    StateStore,
    StrategyModeEnum,
    StrategyState,
    StrategyStatusEnum,
    StrategyTaskScalingEnum,
)
from tests.support.campaigns import campaign, star
from tests.support.gufe_classes import Ball, Effort, PushProtocol, system


def strategy(mode: str = "work") -> Any:
    """Any object of gufe does; a protocol has settings in it."""
    return PushProtocol(Effort(mode))


def test_strategy_is_returned(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    assert store.get_strategy(network) is None
    made = Ball("strategy")
    key = store.set_strategy(made, network)
    assert key == store.get_scoped_key(made, scope)
    assert store.get_strategy(network) is made
    del made
    TOKENIZABLE_REGISTRY.clear()
    assert store.get_strategy(network) == store.get_gufe(str(key)) == Ball("strategy")


def test_new_strategy_replaces_the_old_one(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    first = store.set_strategy(strategy(), str(network))
    second = store.set_strategy(Ball("second"), str(network))
    assert first != second
    assert store.get_strategy(str(network)) == Ball("second")


def test_setting_it_again_changes_nothing(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    assert store.set_strategy(strategy(), network) == store.set_strategy(strategy(), network)
    assert store.get_strategy(network) == strategy()


def test_none_clears_the_strategy(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    store.set_strategy(strategy(), network)
    assert store.set_strategy(None, network) is None
    assert store.get_strategy(network) is None
    assert store.set_strategy(None, network) is None


def test_networks_and_scopes_have_strategies_of_their_own(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    one, two, elsewhere = (
        store.create_network(star(name=name), at)
        for name, at in (("one", scope), ("two", scope), ("one", other_scope))
    )
    store.set_strategy(Ball("one"), one)
    key = store.set_strategy(Ball("one"), elsewhere)
    assert key is not None
    assert key.scope == other_scope
    assert [store.get_strategy(network) for network in (one, two, elsewhere)] == [
        Ball("one"),
        None,
        Ball("one"),
    ]
    store.set_strategy(None, one)
    assert store.get_strategy(elsewhere) == Ball("one")


def test_strategy_leaves_the_members_of_the_network(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    store.set_strategy(strategy(), made.network)
    assert store.get_network_transformations(made.network) == made.transformations
    assert store.get_gufe(made.network) == star()
    assert store.create_network(star(), scope) == made.network
    assert store.get_strategy(made.network) == strategy()


def test_network_created_again_has_no_strategy(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    key = store.set_strategy(strategy(), network)
    store.delete_network(network)
    assert key is not None
    assert store.create_network(star(), scope) == network
    assert store.get_strategy(network) is None
    assert store.get_network_strategy_state(network) is None
    assert store.get_strategies_for_execution() == []


def test_parts_shared_by_strategy_and_network_are_stored_in_any_order(
    store: StateStore, scope: Scope
) -> None:
    first = store.create_network(star(name="first"), scope)
    store.set_strategy(PushProtocol(Effort("fail")), first)
    second = store.create_network(star(name="second", mode="fail"), scope)
    assert store.get_gufe(second) == star(name="second", mode="fail")


@pytest.mark.parametrize(
    "wrong",
    [
        system("new"),
        gufe.Transformation(system("a"), system("b"), strategy()),
        gufe.NonTransformation(system("a"), strategy()),
        star(name="strategy"),
        gufe.AlchemicalNetwork(name="empty"),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_network_member_is_refused_as_strategy(store: StateStore, scope: Scope, wrong: Any) -> None:
    network = store.create_network(star(), scope)
    with pytest.raises(ValueError, match="a strategy cannot contain"):
        store.set_strategy(wrong, network)
    with pytest.raises(KeyError):
        store.get_scoped_key(wrong, scope)
    assert store.get_strategy(network) is None


@pytest.mark.parametrize(
    "wrong", ["adaptive", 1, {"a": 1}, [], object()], ids=lambda wrong: type(wrong).__name__
)
def test_other_type_than_a_gufe_object_is_a_value_error(
    store: StateStore, scope: Scope, wrong: Any
) -> None:
    network = store.create_network(star(), scope)
    with pytest.raises(ValueError, match="expected a gufe object or None"):
        store.set_strategy(wrong, network)


def test_missing_network_is_a_key_error(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    missing = ScopedKey.from_str(f"AlchemicalNetwork-{uuid.uuid4().hex}-{scope}")
    elsewhere = ScopedKey.from_str(f"{network.gufe_key}-other-campaign-project")
    for key in (missing, elsewhere, f"AlchemicalNetwork-short-{scope}"):
        with pytest.raises(KeyError, match="No such object in database"):
            store.set_strategy(Ball("new"), key)
        with pytest.raises(KeyError, match="No such object in database"):
            store.get_strategy(key)
    with pytest.raises(KeyError):
        store.get_scoped_key(Ball("new"), Scope())


def test_key_of_another_class_is_a_value_error(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    for key in (made.hub, made.tasks[0], made.transformations[0], "nonsense", ""):
        with pytest.raises(ValueError, match="key"):
            store.set_strategy(None, key)
        with pytest.raises(ValueError, match="key"):
            store.get_strategy(key)


LONG_AGO = datetime(2020, 1, 2, 3, 4, 5, 678901, UTC)
FULL = StrategyState(
    mode=StrategyModeEnum.full,
    status=StrategyStatusEnum.error,
    iterations=7,
    sleep_interval=60,
    last_iteration=LONG_AGO,
    last_iteration_result_count=8,
    max_tasks_per_transformation=9,
    task_scaling=StrategyTaskScalingEnum.linear,
    exception=("ValueError", "NUL \0, half a surrogate \ud83e, and \x1a0000"),
    traceback="Traceback \0 \udfff",
)


@pytest.fixture
def network(store: StateStore, scope: Scope) -> ScopedKey:
    """A network with a strategy in its first state."""
    network = store.create_network(star(), scope)
    assert store.set_network_strategy(network, Ball("strategy")) is not None
    return network


def changed(state: StrategyState, **fields: Any) -> StrategyState:
    return state.model_copy(update=fields)


def iterated(state: StrategyState, **fields: Any) -> StrategyState:
    """The state after an execution."""
    return changed(
        state,
        iterations=state.iterations + 1,
        last_iteration=datetime.now(UTC),
        last_iteration_result_count=5,
        **fields,
    )


def take(store: StateStore, **options: Any) -> StrategyState:
    """Lease the only strategy that is due."""
    ((_, _, state),) = store.get_strategies_for_execution(**options)
    return state


def state_of(store: StateStore, network: ScopedKey) -> StrategyState:
    state = store.get_network_strategy_state(network)
    assert state is not None
    return state


def end_lease(store: StateStore) -> None:
    """Let the time of all leases run out."""
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE network_strategies SET lease_ends_at = now() - interval '1 second'")
        )


def test_strategy_is_set_with_a_state_and_removed(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    assert store.get_network_strategy(network) is None
    assert store.get_network_strategy_state(network) is None
    made = Ball("strategy")
    key = store.set_network_strategy(network, made, FULL)
    assert key == store.get_scoped_key(made, scope)
    assert store.get_network_strategy(network) is made
    assert store.get_strategy(network) is made
    assert store.get_network_strategy_state(str(network)) == FULL
    assert store.set_network_strategy(str(network), None) is None
    assert store.get_network_strategy(network) is None
    assert store.get_network_strategy_state(network) is None
    assert store.update_strategy_state(network, FULL) is None
    assert store.set_network_strategy(network, None) is None


def test_strategy_without_a_state_gets_the_default_one(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    store.set_network_strategy(network, Ball("strategy"), FULL)
    store.set_network_strategy(network, Ball("strategy"))
    assert state_of(store, network) == StrategyState()
    store.set_network_strategy(network, Ball("strategy"), FULL)
    store.set_strategy(Ball("another"), network)
    assert state_of(store, network) == StrategyState()


def test_strategy_with_parts_is_returned_with_them(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    made = strategy("fail")
    store.set_network_strategy(network, made)
    del made
    TOKENIZABLE_REGISTRY.clear()
    assert store.get_network_strategy(network) == strategy("fail")


def test_every_field_of_a_state_is_returned_as_it_was_given(
    store: StateStore, network: ScopedKey
) -> None:
    assert store.update_strategy_state(network, FULL) == network
    assert state_of(store, network) == FULL
    assert state_of(store, network).to_dict() == FULL.to_dict()
    assert store.update_strategy_state(str(network), StrategyState()) == network
    assert state_of(store, network) == StrategyState()


def test_time_without_a_zone_is_taken_as_utc(store: StateStore, network: ScopedKey) -> None:
    state = StrategyState(last_iteration=LONG_AGO.replace(tzinfo=None))
    store.update_strategy_state(network, state)
    assert state_of(store, network).last_iteration == LONG_AGO
    assert take(store).last_iteration == LONG_AGO


def test_strategy_that_no_network_has_is_deleted(store: StateStore, scope: Scope) -> None:
    one, two = (store.create_network(star(name=name), scope) for name in ("one", "two"))
    key = store.set_network_strategy(one, Ball("shared"))
    assert key is not None
    assert store.set_network_strategy(two, Ball("shared")) == key
    store.set_network_strategy(one, Ball("another"))
    assert store.check_existence(key)
    store.set_network_strategy(two, None)
    assert not store.check_existence(key)
    assert store.set_network_strategy(one, Ball("shared")) == key
    store.delete_network(one)
    assert not store.check_existence(key)


def test_unused_strategy_that_is_part_of_another_object_stays(
    store: StateStore, scope: Scope
) -> None:
    network = store.create_network(star(mode="fail"), scope)
    key = store.set_network_strategy(network, PushProtocol(Effort("fail")))
    store.set_network_strategy(network, None)
    assert key is not None
    assert store.check_existence(key)
    store.delete_network(network)
    assert store.check_existence(key)


def test_unknown_network_has_no_strategy(store: StateStore, scope: Scope) -> None:
    store.create_network(star(), scope)
    missing = ScopedKey.from_str(f"AlchemicalNetwork-{uuid.uuid4().hex}-{scope}")
    elsewhere = f"AlchemicalNetwork-{uuid.uuid4().hex}-other-campaign-project"
    for key in (missing, elsewhere, f"AlchemicalNetwork-short-{scope}"):
        assert store.get_network_strategy(key) is None
        assert store.get_network_strategy_state(key) is None
        assert store.update_strategy_state(key, StrategyState()) is None
        assert store.set_network_strategy(key, None) is None
        with pytest.raises(MissingObjectError, match="No such object in database"):
            store.set_network_strategy(key, Ball("new"))
    with pytest.raises(KeyError):
        store.get_scoped_key(Ball("new"), Scope())


def test_key_of_something_else_is_a_value_error_of_every_call(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    for key in (made.hub, made.tasks[0], made.transformations[0], "nonsense", ""):
        for call in (
            lambda key: store.set_network_strategy(key, Ball("new")),
            lambda key: store.set_network_strategy(key, None),
            store.get_network_strategy,
            store.get_network_strategy_state,
            lambda key: store.update_strategy_state(key, StrategyState()),
        ):
            with pytest.raises(ValueError, match="key"):
                call(key)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "sometimes"},
        {"status": None},
        {"iterations": -1},
        {"iterations": 2**63},
        {"sleep_interval": 0},
        {"max_tasks_per_transformation": 0},
        {"last_iteration": "yesterday"},
        {"exception": ("only one",)},
        {"traceback": 1},
    ],
    ids=str,
)
def test_invalid_state_is_a_value_error_and_changes_nothing(
    store: StateStore, network: ScopedKey, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StrategyState(**wrong)
    # Copies are not validated when they are made.
    bad = changed(state_of(store, network), **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        store.update_strategy_state(network, bad)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        store.set_network_strategy(network, Ball("another"), bad)
    assert state_of(store, network) == StrategyState()
    assert store.get_network_strategy(network) == Ball("strategy")


@pytest.mark.parametrize("wrong", [{"mode": "full"}, "awake", 1], ids=str)
def test_other_type_than_a_state_is_an_error(
    store: StateStore, network: ScopedKey, wrong: Any
) -> None:
    with pytest.raises((ValueError, TypeError), match="StrategyState"):
        store.update_strategy_state(network, wrong)
    with pytest.raises((ValueError, TypeError), match="StrategyState"):
        store.set_network_strategy(network, Ball("another"), wrong)
    assert store.get_network_strategy(network) == Ball("strategy")


def test_strategies_that_are_due_are_returned(store: StateStore, scope: Scope) -> None:
    states = {
        "awake": StrategyState(),
        "dormant": StrategyState(mode=StrategyModeEnum.full, status=StrategyStatusEnum.dormant),
        "long ago": StrategyState(last_iteration=LONG_AGO),
        "disabled": StrategyState(mode=StrategyModeEnum.disabled),
        "error": StrategyState(status=StrategyStatusEnum.error),
        "just now": StrategyState(last_iteration=datetime.now(UTC)),
    }
    networks = {name: store.create_network(star(name=name), scope) for name in states}
    store.create_network(star(name="without"), scope)
    for name, state in states.items():
        store.set_network_strategy(networks[name], Ball("strategy"), state)
    key = store.get_scoped_key(Ball("strategy"), scope)
    found = store.get_strategies_for_execution()
    assert sorted(found) == sorted(
        (networks[name], key, states[name]) for name in ("awake", "dormant", "long ago")
    )


def test_longer_of_the_two_sleep_intervals_counts(store: StateStore, network: ScopedKey) -> None:
    minute_ago = datetime.now(timezone(timedelta(hours=5))) - timedelta(seconds=60)
    for sleep_interval, least, due in [(30, 0, True), (30, 3600, False), (3600, 30, False)]:
        state = StrategyState(last_iteration=minute_ago, sleep_interval=sleep_interval)
        store.set_network_strategy(network, Ball("strategy"), state)
        found = store.get_strategies_for_execution(min_sleep_interval=least, lease=0)
        assert [row[0] for row in found] == ([network] if due else [])
    # Without an iteration, the interval begins in 1970.
    store.set_network_strategy(network, Ball("strategy"), StrategyState(sleep_interval=2**63 - 1))
    assert store.get_strategies_for_execution() == []


def test_strategies_are_filtered_by_each_component_of_the_scopes(store: StateStore) -> None:
    networks = {}
    for name in ("a-b-c", "a-b-d", "a-e-c", "f-b-c"):
        networks[name] = store.create_network(star(), name)
        store.set_network_strategy(networks[name], Ball("strategy"))

    def found(*scopes: str) -> list[str]:
        return sorted(
            str(network.scope)
            for network, _, _ in store.get_strategies_for_execution(scopes, lease=0)
        )

    assert found() == found("*-*-*") == found("f-b-c", "*-*-*") == sorted(networks)
    assert found("a-*-*") == ["a-b-c", "a-b-d", "a-e-c"]
    assert found("a-b-*") == ["a-b-c", "a-b-d"]
    assert found("a-b-c", "f-*-*") == ["a-b-c", "f-b-c"]
    assert found("x-*-*") == []
    assert len(store.get_strategies_for_execution(scopes=[Scope("f"), Scope("a", "e")])) == 2
    assert len(store.get_strategies_for_execution()) == 2


@pytest.mark.parametrize("lease", [-1, float("nan")])
def test_lease_of_no_duration_is_a_value_error(store: StateStore, lease: float) -> None:
    with pytest.raises(ValueError, match="lease must be"):
        store.get_strategies_for_execution(lease=lease)


def test_leased_strategy_is_given_to_nobody_else(store: StateStore, network: ScopedKey) -> None:
    take(store)
    assert store.get_strategies_for_execution() == []
    assert store.get_strategies_for_execution(lease=0) == []
    end_lease(store)
    assert take(store, lease=float("inf")) == StrategyState()
    assert store.get_strategies_for_execution() == []


def test_looking_without_a_lease_leaves_the_strategy_to_others(
    store: StateStore, network: ScopedKey
) -> None:
    assert take(store, lease=0) == take(store, lease=0) == take(store) == StrategyState()


def test_update_ends_the_lease(store: StateStore, network: ScopedKey) -> None:
    state = changed(take(store), sleep_interval=1, iterations=1, last_iteration=LONG_AGO)
    assert store.update_strategy_state(network, state) == network
    assert state_of(store, network) == state
    assert take(store) == state


def test_dormant_state_returned_as_it_is_ends_the_lease(
    store: StateStore, network: ScopedKey
) -> None:
    store.update_strategy_state(network, StrategyState(status=StrategyStatusEnum.dormant))
    assert store.update_strategy_state(network, take(store)) == network
    # The same from a strategist that rebuilt the state from its fields.
    assert store.update_strategy_state(network, StrategyState(**dict(take(store)))) == network
    assert take(store) == StrategyState(status=StrategyStatusEnum.dormant)


@pytest.mark.parametrize("rebuilt", [False, True], ids=["copied", "rebuilt from its fields"])
@pytest.mark.parametrize(
    "by_user",
    [
        {"mode": StrategyModeEnum.disabled},
        {"sleep_interval": 5},
        {"max_tasks_per_transformation": 50, "task_scaling": StrategyTaskScalingEnum.linear},
        {"status": StrategyStatusEnum.dormant},
    ],
    ids=str,
)
def test_update_of_a_strategist_keeps_what_a_user_changed_meanwhile(
    store: StateStore, network: ScopedKey, by_user: dict[str, Any], rebuilt: bool
) -> None:
    leased = take(store)
    store.update_strategy_state(network, changed(state_of(store, network), **by_user))
    # The lease goes on.
    assert store.get_strategies_for_execution() == []
    new = iterated(leased, status=StrategyStatusEnum.error, exception=("E", "m"), traceback="t")
    sent = StrategyState.from_dict(new.to_dict()) if rebuilt else pickle.loads(pickle.dumps(new))
    assert store.update_strategy_state(network, sent) == network
    assert state_of(store, network) == changed(new, **by_user)
    with store.engine.connect() as connection:
        ends = connection.scalar(text("SELECT lease_ends_at FROM network_strategies"))
    assert ends is None


def test_user_who_wakes_a_dormant_strategy_is_not_overwritten(
    store: StateStore, network: ScopedKey
) -> None:
    store.update_strategy_state(network, StrategyState(status=StrategyStatusEnum.dormant))
    for rebuild in (False, True):
        leased = take(store)
        woken = changed(state_of(store, network), status=StrategyStatusEnum.awake)
        store.update_strategy_state(network, woken)
        store.update_strategy_state(network, StrategyState(**dict(leased)) if rebuild else leased)
        assert state_of(store, network).status == "awake"
        store.update_strategy_state(network, StrategyState(status=StrategyStatusEnum.dormant))


def test_update_of_a_user_keeps_what_a_strategist_changed_meanwhile(
    store: StateStore, network: ScopedKey
) -> None:
    read = state_of(store, network)
    done = iterated(take(store))
    store.update_strategy_state(network, done)
    store.update_strategy_state(network, changed(read, mode=StrategyModeEnum.disabled))
    assert state_of(store, network) == changed(done, mode=StrategyModeEnum.disabled)


def test_new_state_of_a_user_replaces_all_fields_and_leaves_the_lease(
    store: StateStore, network: ScopedKey
) -> None:
    store.update_strategy_state(network, StrategyState(max_tasks_per_transformation=8))
    leased = take(store)
    store.update_strategy_state(network, StrategyState(mode=StrategyModeEnum.full))
    assert state_of(store, network) == StrategyState(mode=StrategyModeEnum.full)
    assert store.get_strategies_for_execution() == []
    store.update_strategy_state(network, iterated(leased))
    assert state_of(store, network).mode == "full"
    assert state_of(store, network).max_tasks_per_transformation == 3
    assert state_of(store, network).iterations == 1


def test_strategist_may_update_again_after_its_lease(store: StateStore, network: ScopedKey) -> None:
    first = iterated(take(store))
    store.update_strategy_state(network, first)
    second = changed(first, iterations=2)
    assert store.update_strategy_state(network, second) == network
    assert state_of(store, network) == second


def test_late_update_counts_until_another_strategist_has_the_strategy(
    store: StateStore, network: ScopedKey
) -> None:
    first = take(store)
    end_lease(store)
    late = iterated(first)
    assert store.update_strategy_state(network, late) == network
    assert state_of(store, network) == late
    store.update_strategy_state(network, StrategyState())
    first = take(store)
    end_lease(store)
    second = take(store)
    assert store.update_strategy_state(network, changed(iterated(first), iterations=9)) is None
    assert state_of(store, network) == StrategyState()
    assert store.get_strategies_for_execution() == []
    done = iterated(second)
    assert store.update_strategy_state(network, done) == network
    assert store.update_strategy_state(network, iterated(first)) is None
    assert state_of(store, network) == done


@pytest.mark.parametrize("rebuilt", [False, True], ids=["copied", "rebuilt from its fields"])
@pytest.mark.parametrize("removed", [False, True], ids=["set", "removed and set"])
def test_strategy_set_during_an_execution_has_a_state_of_its_own(
    store: StateStore, network: ScopedKey, removed: bool, rebuilt: bool
) -> None:
    done = iterated(take(store))
    if removed:
        store.set_network_strategy(network, None)
        assert store.get_strategies_for_execution() == []
    store.set_network_strategy(network, Ball("another"), StrategyState(mode=StrategyModeEnum.full))
    # The strategist is still at work on the network.
    assert store.get_strategies_for_execution() == []
    sent = StrategyState(**dict(done)) if rebuilt else done
    assert store.update_strategy_state(network, sent) is None
    assert take(store) == StrategyState(mode=StrategyModeEnum.full)


def test_lease_that_ran_out_does_not_outlive_a_new_strategy(
    store: StateStore, network: ScopedKey
) -> None:
    late = iterated(take(store))
    end_lease(store)
    store.set_network_strategy(network, Ball("another"))
    assert take(store) == StrategyState()
    assert store.update_strategy_state(network, late) is None


def test_strategy_without_a_state_has_the_default_one(
    store: StateStore, network: ScopedKey
) -> None:
    """A worker of an older release sets strategies without states."""
    for act in (
        lambda: state_of(store, network),
        lambda: take(store),
        lambda: store.update_strategy_state(network, StrategyState()),
    ):
        with store.engine.begin() as connection:
            connection.execute(text("DELETE FROM network_strategies"))
        assert act() in (StrategyState(), network)
    assert state_of(store, network) == StrategyState()


def test_state_of_a_deleted_network_is_deleted(store: StateStore, network: ScopedKey) -> None:
    late = iterated(take(store))
    store.delete_network(network)
    assert store.update_strategy_state(network, late) is None
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM network_strategies")) == 0


def test_network_stored_again_keeps_its_strategy_and_state(
    store: StateStore, scope: Scope, network: ScopedKey
) -> None:
    store.update_strategy_state(network, FULL)
    assert store.create_network(star(), scope) == network
    assert store.get_network_strategy(network) == Ball("strategy")
    assert state_of(store, network) == FULL
