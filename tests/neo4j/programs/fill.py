"""Fill a Neo4j with the original's own store: two scopes, and all kinds of nodes and edges.

Run by an interpreter with alchemiscale 0.8, gufe 1.x and stratocaster, as
``python fill.py bolt://127.0.0.1:PORT``; the database is emptied first.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from alchemiscale.models import Scope, ScopedKey
from alchemiscale.security.models import CredentialedComputeIdentity, CredentialedUserIdentity
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.models import (
    ComputeManagerID,
    ComputeManagerRegistration,
    ComputeManagerStatus,
    ComputeServiceID,
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    StrategyState,
)
from alchemiscale.storage.statestore import Neo4jStore
from gufe import AlchemicalNetwork, ChemicalSystem, NonTransformation, Transformation
from stratocaster.strategies import ConnectivityStrategy

from harmonic.protocol import HarmonicProtocol
from harmonic.system import HarmonicWell

# A time that is past wherever the recorded graph is read.
REGISTERED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
ONE, TWO = Scope("org", "campaign", "one"), Scope("org", "campaign", "two")


def connect(url: str) -> Any:
    """The original store on an empty database."""
    store = Neo4jStore(
        Neo4jStoreSettings(NEO4J_URL=url, NEO4J_USER="neo4j", NEO4J_PASS="x", NEO4J_DBNAME="neo4j")
    )
    store.reset()
    store.initialize()
    return store


def networks() -> tuple[AlchemicalNetwork, AlchemicalNetwork]:
    """Two networks that share a transformation and its end states."""
    protocol = HarmonicProtocol(HarmonicProtocol.default_settings())
    systems = [
        ChemicalSystem({"ligand": HarmonicWell(name, constant)}, name=name)
        for name, constant in (("anna", 8.0), ("bert", 36.0), ("cleo", 13.0))
    ]
    shared = Transformation(systems[0], systems[1], protocol, name="anna to bert")
    unnamed = Transformation(systems[1], systems[2], protocol)
    alone = NonTransformation(systems[2], protocol, name="cleo")
    return (
        AlchemicalNetwork([shared, unnamed, alone], name="three"),
        AlchemicalNetwork([shared], name="one"),
    )


def strategy() -> ConnectivityStrategy:
    """A strategy without parts."""
    return ConnectivityStrategy(ConnectivityStrategy.default_settings())


def reference(store: Any, task: ScopedKey, ok: bool, minutes: int) -> ScopedKey:
    """Give a task a reference to a result."""
    key = f"ProtocolDAGResult-{uuid4().hex}"
    folder = "results" if ok else "failures"
    return store.set_task_result(
        task,
        ProtocolDAGResultRef(
            location=f"protocoldagresult/{'/'.join(task.scope.to_tuple())}/{folder}/{key}/obj.json",
            obj_key=key,
            scope=task.scope,
            ok=ok,
            datetime_created=datetime(2025, 1, 2, 3, minutes, tzinfo=UTC),
            creator="service",
        ),
    )


def failure(text: str) -> Any:
    """What the store reads of a failed unit."""
    return SimpleNamespace(
        traceback=text, source_key=f"Unit-{uuid4().hex}", key=f"ProtocolUnitFailure-{uuid4().hex}"
    )


def register(store: Any) -> ComputeServiceID:
    """Register a manager and two services; one of them has failed."""
    managers = [ComputeManagerID.new_from_name(name) for name in ("manager", "broken")]
    now = REGISTERED
    for manager in managers:
        store.register_computemanager(
            ComputeManagerRegistration(
                name=manager.name,
                uuid=manager.uuid,
                last_status_update=now,
                status=ComputeManagerStatus.OK,
                detail="",
                saturation=0.5,
                registered=now,
            )
        )
    broken = managers[1]
    store.update_compute_manager_status(
        broken, ComputeManagerStatus.ERROR, detail="no nodes", update_time=now
    )
    service, other = (ComputeServiceID.new_from_name(name) for name in ("service", "other"))
    for name, manager in ((service, "manager"), (other, None)):
        store.register_computeservice(
            ComputeServiceRegistration(
                identifier=name, registered=now, heartbeat=now, manager_name=manager
            )
        )
    store.log_failure_compute_service(other, now - timedelta(seconds=5))
    return service


def main(url: str) -> None:
    """Fill the database."""
    # It warns of each outdated statement of the original.
    logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)
    store = connect(url)
    service = register(store)
    first, second = networks()
    network, hub, _ = store.assemble_network(first, ONE)
    _, small_hub, _ = store.assemble_network(second, ONE)
    other, other_hub, _ = store.assemble_network(second, TWO, state="inactive")
    store.set_taskhub_weight([network], [0.25])

    edges: dict[str, list[ScopedKey]] = {
        key.qualname: [] for key in store.get_network_transformations(network)
    }
    for key in sorted(store.get_network_transformations(network), key=str):
        edges[key.qualname].append(key)
    shared = store.get_scoped_key(next(iter(second.edges)), ONE)
    [alone] = edges["NonTransformation"]

    # A chain of which the first task is complete; a task with a result that is not on a hub.
    [done] = store.create_tasks([shared], creator="user")
    [child] = store.create_tasks([shared], [done], creator="user")
    store.create_tasks([shared], [child])
    store.action_tasks([done], hub)
    store.set_task_running([done])
    reference(store, done, ok=True, minutes=0)
    store.set_task_complete([done])

    # Waiting, running and failed tasks, on one hub or two, and priorities and weights.
    waiting = store.create_tasks([shared] * 3 + [alone])
    store.set_task_priority([waiting[0]], 3)
    store.action_tasks([child, *waiting], hub)
    store.action_tasks(waiting[1:3], small_hub)
    store.set_task_weights({waiting[1]: 0.75}, hub)
    claimed = [key for key in store.claim_taskhub_tasks(hub, service, count=1) if key]
    assert claimed == [waiting[0]]

    # A failure that a pattern has restarted, and one that no pattern knows.
    store.add_task_restart_patterns(hub, ["Out of memory", "CUDA.*"], 2)
    failing = store.create_tasks([alone, alone])
    store.action_tasks(failing, hub)
    for task, text in zip(failing, ("Out of memory: 1", "ValueError: NaN"), strict=True):
        store.set_task_running([task])
        ref = reference(store, task, ok=False, minutes=1)
        store.add_protocol_dag_result_ref_tracebacks([failure(text)], ref)
        store.set_task_error([task])
        store.resolve_task_restarts([task])

    # Ends: an invalid chain, a deleted task.
    [bad] = store.create_tasks([alone])
    store.create_tasks([alone], [bad])
    store.set_task_invalid([bad])
    store.set_task_deleted(store.create_tasks([alone]))

    # A strategy with a state, and one that failed.
    store.set_network_strategy(
        network,
        strategy(),
        StrategyState(mode="full", iterations=4, last_iteration=datetime(2025, 1, 2, tzinfo=UTC)),
    )
    store.set_network_strategy(
        other,
        strategy(),
        StrategyState(status="error", exception=("ValueError", "no"), traceback="at line 1"),
    )

    # A call for two scopes gives all tasks the scope of the last one.
    there = store.get_scoped_key(next(iter(second.edges)), TWO)
    wrong, right = store.create_tasks([shared, there])
    store.action_tasks([wrong], hub)
    store.action_tasks([right], other_hub)
    reference(store, wrong, ok=True, minutes=2)

    store.create_credentialed_entity(
        CredentialedUserIdentity(
            identifier="user", hashed_key="$2b$12$" + "u" * 53, email="user@example.org"
        )
    )
    store.add_scope("user", CredentialedUserIdentity, Scope("org"))
    store.add_scope("user", CredentialedUserIdentity, ONE)
    store.create_credentialed_entity(
        CredentialedComputeIdentity(identifier="cluster", hashed_key="$2b$12$" + "c" * 53)
    )
    store.close()


if __name__ == "__main__":
    main(sys.argv[1])
