"""Let the original's own store check and read an exported graph, and compare it with the first."""

from __future__ import annotations

import logging
import sys
from typing import Any

from alchemiscale.models import Scope
from alchemiscale.security.models import CredentialedUserIdentity
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.statestore import Neo4jStore

logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)


def answers(url: str) -> dict[str, Any]:
    """What the original says about a graph."""
    store = Neo4jStore(
        Neo4jStoreSettings(NEO4J_URL=url, NEO4J_USER="neo4j", NEO4J_PASS="x", NEO4J_DBNAME="neo4j")
    )
    store.check()
    found: dict[str, Any] = {"networks": sorted(map(str, store.query_networks()))}
    for network in sorted(store.query_networks(), key=str):
        hub = store.get_taskhub(network)
        tasks = sorted(store.get_network_tasks(network), key=lambda key: str(key.gufe_key))
        found[str(network)] = [
            store.get_gufe(network).key,
            sorted(key for key, _ in store.get_keyed_chain(network)),
            store.get_network_state([network]),
            store.get_taskhub_weight([network]),
            sorted(
                (key.gufe_key, weight)
                for key, weight in store.get_taskhub_actioned_tasks([hub])[0].items()
            ),
            store.get_task_restart_patterns([hub])[hub],
            store.get_network_strategy(network),
            store.get_network_strategy_state(network),
            [key.gufe_key for key in tasks],
            store.get_task_status(tasks),
            store.get_task_priority(tasks),
            [sorted(key.gufe_key for key in store.get_task_results(task)) for task in tasks],
            [sorted(key.gufe_key for key in store.get_task_failures(task)) for task in tasks],
            sorted(str(key.gufe_key) for key in store.get_taskhub_unclaimed_tasks(hub)),
        ]
    found["user"] = store.get_credentialed_entity("user", CredentialedUserIdentity)
    found["scopes"] = store.list_scopes("user", CredentialedUserIdentity)
    found["manager"] = store.get_compute_manager_id("manager")
    found["status"] = store.get_scope_status(Scope("org", "campaign"))
    store.close()
    return found


first, second = answers(sys.argv[1]), answers(sys.argv[2])
assert first.keys() == second.keys()
for name, value in first.items():
    assert value == second[name], (name, value, second[name])
sys.stdout.write("equal")
