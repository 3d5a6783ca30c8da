"""Concurrent creation and deletion of networks that share parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import gufe
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY

from alchemistore import DocumentConflictError, Scope, ScopedKey, StateStore
from tests.support import gufe_classes
from tests.support.campaigns import campaign, star
from tests.support.concurrency import (
    Running,
    committed_or_rolled_back,
    run_concurrently,
    run_while_open,
)
from tests.support.databases import rolled_back, row_counts
from tests.support.gufe_classes import keyed_chain_of

N = 8


def alone(store: StateStore, scope: Scope, *networks: gufe.AlchemicalNetwork) -> dict[str, int]:
    """Return the counts after storing networks serially, in a transaction that is rolled back."""
    with rolled_back(store) as tx:
        for network in networks:
            tx.create_network(network, scope)
        return row_counts(tx)


def whole(store: StateStore, key: ScopedKey, network: gufe.AlchemicalNetwork) -> bool:
    """Check whether a network can be read from the database alone."""
    TOKENIZABLE_REGISTRY.clear()
    again = store.get_gufe(key)
    return bool(again is not network and again.key == network.key and again.edges == network.edges)


def test_concurrent_creation_of_a_network_creates_one(store: StateStore, scope: Scope) -> None:
    network = gufe_classes.network()
    expected = alone(store, scope, network)
    keys = run_concurrently([lambda: store.create_network(network, scope)] * N)
    assert len(set(keys)) == 1
    assert row_counts(store) == expected
    assert whole(store, keys[0], network)


def test_concurrent_creation_of_overlapping_networks_shares_parts(
    store: StateStore, scope: Scope
) -> None:
    networks = [star(n + 2, f"star {n}") for n in range(N)]
    expected = alone(store, scope, *networks)
    keys = run_concurrently([partial(store.create_network, network, scope) for network in networks])
    assert row_counts(store) == expected
    assert set(store.query_networks()) == set(keys)
    assert all(whole(store, key, network) for key, network in zip(keys, networks, strict=True))


def test_concurrent_creation_in_separate_scopes_is_independent(store: StateStore) -> None:
    network = star()
    scopes = [Scope("org", "new", f"project{n}") for n in range(N)]
    keys = run_concurrently([partial(store.create_network, network, at) for at in scopes])
    assert [key.scope for key in keys] == scopes
    assert len(store.query_transformations()) == 3 * N


@committed_or_rolled_back
@pytest.mark.parametrize("name", ["first", "second"], ids=["the same", "overlapping"])
@pytest.mark.parametrize("known", [True, False], ids=["known scope", "new scope"])
def test_network_is_complete_after_commit_or_rollback_of_an_overlapping_one(
    store: StateStore, scope: Scope, commit: bool, name: str, known: bool
) -> None:
    if known:
        store.create_network(gufe.AlchemicalNetwork([], name="makes the scope"), scope)
    first, network = star(3, "first"), star(4, name) if name == "second" else star(3, "first")
    expected = alone(store, scope, first, network) if commit else alone(store, scope, network)
    _, creating = run_while_open(
        store,
        lambda tx: tx.create_network(first, scope),
        partial(store.create_network, network, scope),
        commit=commit,
    )
    key = creating.result()
    assert row_counts(store) == expected
    assert whole(store, key, network)
    assert store.get_network_transformations(key) == sorted(
        ScopedKey.from_str(f"{edge.key}-{scope}") for edge in network.edges
    )


@committed_or_rolled_back
def test_changed_document_is_compared_with_one_that_is_stored_meanwhile(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    store.create_network(gufe.AlchemicalNetwork([], name="makes the scope"), scope)
    chain = keyed_chain_of(gufe_classes.network())
    forged = copy.deepcopy(chain)
    forged[-1][1]["name"] = "forged"
    _, creating = run_while_open(
        store,
        lambda tx: tx.create_network(chain, scope),
        partial(store.create_network, forged, scope),
        commit=commit,
    )
    if commit:
        with pytest.raises(DocumentConflictError, match=r"name is .net. in the stored document"):
            creating.result()
    else:
        assert creating.result().gufe_key == chain[-1][0]


@committed_or_rolled_back
def test_create_network_waits_for_its_concurrent_deletion(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    made = campaign(store, scope, tasks=3)
    network = star()
    _, creating = run_while_open(
        store,
        lambda tx: tx.delete_network(made.network),
        partial(store.create_network, network, scope),
        commit=commit,
    )
    assert creating.result() == made.network
    if commit and not creating.waited:
        assert store.query_networks() == store.query_taskhubs() == []
        return
    assert whole(store, made.network, network)
    assert set(store.get_network_transformations(made.network)) == set(made.transformations)
    assert store.query_taskhubs() == ([] if commit else [made.hub])


def test_concurrent_deletion_of_a_network_deletes_it_once(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3)

    def delete() -> ScopedKey | None:
        try:
            return store.delete_network(made.network)
        except KeyError:
            return None

    answers = run_concurrently([delete] * N)
    assert sorted(map(str, answers)) == sorted([str(made.network), *["None"] * (N - 1)])
    assert store.query_networks() == store.query_taskhubs() == []
    assert set(store.query_tasks()) == set(made.tasks)


def test_deletion_and_creation_of_overlapping_networks_do_not_conflict(
    store: StateStore, scope: Scope
) -> None:
    old = [campaign(store, scope, name=f"old {n}").network for n in range(4)]
    new = [star(3 + n, f"new {n}") for n in range(4)]
    calls: list[Callable[[], ScopedKey]] = [partial(store.delete_network, key) for key in old]
    calls += [partial(store.create_network, network, scope) for network in new]
    answers = run_concurrently(calls)
    assert answers[:4] == old
    assert set(store.query_networks()) == set(answers[4:])
    assert all(whole(store, key, network) for key, network in zip(answers[4:], new, strict=True))


@pytest.mark.parametrize("first", ["the hub", "the deletion"])
def test_create_taskhub_and_delete_network_wait_for_each_other(
    store: StateStore, scope: Scope, first: str
) -> None:
    network = store.create_network(star(), scope)
    with store.transaction() as tx:
        if first == "the hub":
            hub = tx.create_taskhub(network)
            deleting = Running(partial(store.delete_network, network))
            deleting.waits_for(tx)
        else:
            tx.delete_network(network)
            creating = Running(partial(store.create_taskhub, network))
            creating.waits_for(tx)
    if first == "the hub":
        assert deleting.result() == network
        assert not store.check_existence(hub)
    else:
        with pytest.raises(KeyError, match="No such object in database"):
            creating.result()
    assert store.query_networks() == store.query_taskhubs() == []


def test_concurrent_assembly_of_a_network_makes_one_hub_and_one_mark(
    store: StateStore, scope: Scope
) -> None:
    states = ["active", "inactive"] * (N // 2)
    keys = run_concurrently(
        [partial(store.assemble_network, star(), scope, state) for state in states]
    )
    assert len(set(keys)) == 1
    network, hub, _ = keys[0]
    assert store.query_networks() == [network]
    assert store.query_taskhubs() == [hub]
    assert store.get_network_state(network) in states


@committed_or_rolled_back
def test_assemble_network_waits_for_its_concurrent_deletion(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    made = campaign(store, scope, tasks=3)
    network = star()
    _, assembling = run_while_open(
        store,
        lambda tx: tx.delete_network(made.network),
        partial(store.assemble_network, network, scope, "inactive"),
        commit=commit,
    )
    assert assembling.result()[:2] == (made.network, made.hub)
    assert whole(store, made.network, network)
    assert store.query_taskhubs() == [made.hub]
    assert store.get_network_state(made.network) == "inactive"
    assert store.get_taskhub_tasks(made.hub) == ([] if commit else sorted(made.tasks))


@committed_or_rolled_back
def test_set_network_state_waits_for_the_deletion_of_a_network(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    one, two = (store.create_network(star(1, name), scope) for name in ("one", "two"))
    _, setting = run_while_open(
        store,
        lambda tx: tx.delete_network(one),
        lambda: store.set_network_state([two, one], ["inactive", "inactive"]),
        commit=commit,
    )
    assert setting.waited
    assert setting.result() == [two, None if commit else one]
    assert store.get_network_state([two, one]) == ["inactive", None if commit else "inactive"]


def test_states_of_the_same_networks_are_set_without_deadlock(
    store: StateStore, scope: Scope
) -> None:
    networks = [store.create_network(star(1, f"net {n}"), scope) for n in range(5)]
    run_concurrently(
        [
            partial(store.set_network_state, networks[:: 1 if n % 2 else -1], state)
            for n, state in enumerate(["active", "inactive", "invalid", "deleted"] * 2)
        ]
    )
    assert len(set(store.get_network_state(networks))) == 1
