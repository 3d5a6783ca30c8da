"""Networks at the same moment: nothing twice, nothing half, nothing lost when one of two is rolled back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from threading import Barrier
from typing import TypeVar

import gufe
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY
from sqlalchemy import func, select, text

from alchemistore import Scope, ScopedKey, StateStore
from alchemistore.tables import Base
from tests.builders import campaign, star
from tests.unit import gufe_classes

T = TypeVar("T")
N = 8


class RolledBackError(Exception):
    """Ends a transaction without committing it."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads; each call of a store in them has a connection of its own."""
    with ThreadPoolExecutor(N) as pool:
        yield pool


def together(pool: ThreadPoolExecutor, calls: list[Callable[[], T]]) -> list[T]:
    """Make calls at the same moment, one in each thread."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(60)
        return call()

    return list(pool.map(run, calls, timeout=60))


def until_it_waits(store: StateStore, future: Future[T]) -> Future[T]:
    """Come back when a call waits for a lock of another transaction, or is done without."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    with store._engine.connect() as connection:
        while not future.done() and connection.execute(waiting).scalar_one() == 0:
            connection.rollback()
    return future


def counts(store: StateStore) -> dict[str, int]:
    """Count the rows of every table, as seen from the open transaction if there is one."""
    with nullcontext(store._connection) if store._connection else store._engine.connect() as connection:
        tables = Base.metadata.sorted_tables
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


def alone(store: StateStore, scope: Scope, *networks: gufe.AlchemicalNetwork) -> dict[str, int]:
    """Give the counts after storing networks one after the other, in a transaction that is undone."""
    found = {}
    with store.transaction(ignore_exceptions=True) as tx:
        for network in networks:
            tx.create_network(network, scope)
        found = counts(tx)
        raise RolledBackError
    return found


def whole(store: StateStore, key: ScopedKey, network: gufe.AlchemicalNetwork) -> bool:
    """Tell whether a network can be read from the database alone."""
    TOKENIZABLE_REGISTRY.clear()
    again = store.get_gufe(key)
    return bool(again is not network and again.key == network.key and again.edges == network.edges)


def test_eight_threads_that_create_the_same_network_create_one(store: StateStore, scope: Scope, pool: ThreadPoolExecutor) -> None:
    network = gufe_classes.network()
    expected = alone(store, scope, network)
    keys = together(pool, [lambda: store.create_network(network, scope)] * N)
    assert len(set(keys)) == 1
    assert counts(store) == expected
    assert whole(store, keys[0], network)


def test_eight_threads_that_create_overlapping_networks_share_the_parts(
    store: StateStore, scope: Scope, pool: ThreadPoolExecutor
) -> None:
    networks = [star(n + 2, f"star {n}") for n in range(N)]
    expected = alone(store, scope, *networks)
    keys = together(pool, [partial(store.create_network, network, scope) for network in networks])
    assert counts(store) == expected
    assert set(store.query_networks()) == set(keys)
    assert all(whole(store, key, network) for key, network in zip(keys, networks, strict=True))


def test_eight_threads_in_scopes_of_their_own(store: StateStore, pool: ThreadPoolExecutor) -> None:
    network = star()
    scopes = [Scope("org", "new", f"project{n}") for n in range(N)]
    keys = together(pool, [partial(store.create_network, network, at) for at in scopes])
    assert [key.scope for key in keys] == scopes
    assert len(store.query_transformations()) == 3 * N


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
@pytest.mark.parametrize("name", ["first", "second"], ids=["the same", "overlapping"])
@pytest.mark.parametrize("known", [True, False], ids=["known scope", "new scope"])
def test_a_network_is_whole_whatever_becomes_of_one_that_shares_its_parts(
    store: StateStore, scope: Scope, pool: ThreadPoolExecutor, commit: bool, name: str, known: bool
) -> None:
    if known:
        store.create_network(gufe.AlchemicalNetwork([], name="makes the scope"), scope)
    first, network = star(3, "first"), star(4, name) if name == "second" else star(3, "first")
    expected = alone(store, scope, first, network) if commit else alone(store, scope, network)
    try:
        with store.transaction() as tx:
            tx.create_network(first, scope)
            future = until_it_waits(store, pool.submit(store.create_network, network, scope))
            if not commit:
                raise RolledBackError
    except RolledBackError:
        assert not commit
    key = future.result(60)
    assert counts(store) == expected
    assert whole(store, key, network)
    assert store.get_network_transformations(key) == sorted(ScopedKey.from_str(f"{edge.key}-{scope}") for edge in network.edges)


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
def test_creating_again_what_is_being_deleted(store: StateStore, scope: Scope, pool: ThreadPoolExecutor, commit: bool) -> None:
    made = campaign(store, scope, tasks=3)
    network = star()
    try:
        with store.transaction() as tx:
            tx.delete_network(made.network)
            future = until_it_waits(store, pool.submit(store.create_network, network, scope))
            came_first = future.done()
            if not commit:
                raise RolledBackError
    except RolledBackError:
        assert not commit
    assert future.result(60) == made.network
    if commit and came_first:
        assert store.query_networks() == store.query_taskhubs() == []
        return
    assert whole(store, made.network, network)
    assert set(store.get_network_transformations(made.network)) == set(made.transformations)
    assert store.query_taskhubs() == ([] if commit else [made.hub])


def test_eight_threads_that_delete_a_network_delete_it_once(store: StateStore, scope: Scope, pool: ThreadPoolExecutor) -> None:
    made = campaign(store, scope, tasks=3)

    def delete() -> ScopedKey | None:
        try:
            return store.delete_network(made.network)
        except KeyError:
            return None

    answers = together(pool, [delete] * N)
    assert sorted(map(str, answers)) == sorted([str(made.network), *["None"] * (N - 1)])
    assert store.query_networks() == store.query_taskhubs() == []
    assert set(store.query_tasks()) == set(made.tasks)


def test_deleting_networks_that_share_parts_while_creating_others(
    store: StateStore, scope: Scope, pool: ThreadPoolExecutor
) -> None:
    old = [campaign(store, scope, name=f"old {n}").network for n in range(4)]
    new = [star(3 + n, f"new {n}") for n in range(4)]
    calls: list[Callable[[], ScopedKey]] = [partial(store.delete_network, key) for key in old]
    calls += [partial(store.create_network, network, scope) for network in new]
    answers = together(pool, calls)
    assert answers[:4] == old
    assert set(store.query_networks()) == set(answers[4:])
    assert all(whole(store, key, network) for key, network in zip(answers[4:], new, strict=True))


@pytest.mark.parametrize("first", ["the hub", "the deletion"])
def test_a_hub_of_a_network_that_is_being_deleted(store: StateStore, scope: Scope, pool: ThreadPoolExecutor, first: str) -> None:
    network = store.create_network(star(), scope)
    with store.transaction() as tx:
        if first == "the hub":
            hub = tx.create_taskhub(network)
            deleting = until_it_waits(store, pool.submit(store.delete_network, network))
        else:
            tx.delete_network(network)
            creating = until_it_waits(store, pool.submit(store.create_taskhub, network))
    if first == "the hub":
        assert deleting.result(60) == network
        assert not store.check_existence(hub)
    else:
        with pytest.raises(KeyError, match="No such object in database"):
            creating.result(60)
    assert store.query_networks() == store.query_taskhubs() == []
