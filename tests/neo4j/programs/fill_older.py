"""Fill a Neo4j with the own store of alchemiscale 0.4, 0.5 or 0.6: one scope, one network.

Run by an interpreter with that version, as ``python fill_older.py bolt://127.0.0.1:PORT 0.6``; the
database is emptied first. Then `python -m tests.neo4j.test_real_graph BOLT_URL FILE` records it.
The recorded graphs were written by the state stores of 0.4.0, 0.5.3 and 0.6.2 with gufe 1.9, and
their times were moved to the past.
"""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from alchemiscale.models import Scope, ScopedKey
from alchemiscale.security.models import CredentialedComputeIdentity, CredentialedUserIdentity
from alchemiscale.storage.models import (
    ComputeServiceID,
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
)
from alchemiscale.storage.statestore import Neo4jStore
from gufe import AlchemicalNetwork, ChemicalSystem, NonTransformation, Transformation
from neo4j import GraphDatabase

from harmonic.protocol import HarmonicProtocol
from harmonic.system import HarmonicWell

SCOPE = Scope("org", "campaign", "one")
# These versions write times without a zone.
NOW = datetime(2025, 1, 2, 3, 4, 5)


def reference(store: Any, task: ScopedKey, ok: bool) -> ScopedKey:
    """Give a task a reference to a result."""
    key = f"ProtocolDAGResult-{uuid4().hex}"
    return store.set_task_result(
        task,
        ProtocolDAGResultRef(
            location=f"protocoldagresult/org/campaign/one/{key}/obj.json",
            obj_key=key,
            scope=SCOPE,
            ok=ok,
            datetime_created=NOW,
            creator="service",
        ),
    )


def main(url: str, version: str) -> None:
    """Fill the database."""
    minor = int(version.split(".")[1])
    store = Neo4jStore(GraphDatabase.driver(url, auth=("neo4j", "x")))
    store.reset()
    store.initialize()
    protocol = HarmonicProtocol(HarmonicProtocol.default_settings())
    systems = [
        ChemicalSystem({"ligand": HarmonicWell(name, constant)}, name=name)
        for name, constant in (("anna", 8.0), ("bert", 36.0), ("cleo", 13.0))
    ]
    named = Transformation(systems[0], systems[1], protocol, name="anna to bert")
    unnamed = Transformation(systems[1], systems[2], protocol)
    # 0.4 has tasks of transformations only.
    alone = [NonTransformation(systems[2], protocol, name="cleo")] if minor >= 5 else []
    service = ComputeServiceID(f"service-{uuid4().hex}")
    store.register_computeservice(
        ComputeServiceRegistration(identifier=service, registered=NOW, heartbeat=NOW)
    )
    content = AlchemicalNetwork([named, unnamed, *alone], name="three")
    network, hub, _ = store.assemble_network(content, SCOPE)
    store.set_taskhub_weight([network], [0.25])
    edge, other = (store.get_scoped_key(one, SCOPE) for one in (named, unnamed))
    [done] = store.create_tasks([edge], creator="user")
    [child] = store.create_tasks([edge], [done], creator="user")
    waiting = store.create_tasks([edge] * 3)
    failing = store.create_tasks([other] * 2)
    store.action_tasks([done, child, *waiting, *failing], hub)
    store.set_task_running([done])
    reference(store, done, ok=True)
    store.set_task_complete([done])
    store.set_task_priority([waiting[0]], 3)
    store.set_task_weights({waiting[1]: 0.75}, hub)
    if minor >= 6:
        store.add_task_restart_patterns(hub, ["Out of memory", "CUDA.*"], 2)
    store.claim_taskhub_tasks(hub, service, count=1)
    for task, text in zip(failing, ("Out of memory: 1", "ValueError: NaN"), strict=True):
        store.set_task_running([task])
        ref = reference(store, task, ok=False)
        if minor >= 6:
            failure = SimpleNamespace(
                traceback=text,
                source_key=f"Unit-{uuid4().hex}",
                key=f"ProtocolUnitFailure-{uuid4().hex}",
            )
            store.add_protocol_dag_result_ref_tracebacks([failure], ref)
        store.set_task_error([task])
        if minor >= 6:
            store.resolve_task_restarts([task])
    [bad] = store.create_tasks([edge])
    store.create_tasks([edge], [bad])
    store.set_task_invalid([bad])
    store.set_task_deleted(store.create_tasks([edge]))
    store.create_credentialed_entity(
        CredentialedUserIdentity(
            identifier="user", hashed_key="$2b$12$" + "u" * 53, email="user@example.org"
        )
    )
    store.add_scope("user", CredentialedUserIdentity, SCOPE)
    store.create_credentialed_entity(
        CredentialedComputeIdentity(identifier="cluster", hashed_key="$2b$12$" + "c" * 53)
    )


if __name__ == "__main__":
    logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)
    main(*sys.argv[1:])
