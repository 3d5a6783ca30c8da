"""The part of ``bench.original`` that needs alchemiscale: its own store on a Neo4j server.

Run by the interpreter of ``ALCHEMISTORE_SERVER_PYTHON``, as ``python -m bench.original_side
bolt://...``. Each line on standard input is a command and a number; the answer is the seconds that
the calls took:

    fill 1000       create a network and put so many waiting tasks on its hub
    submit 100      create and action tasks
    claim 1         claim a task
    settle 1        store a reference to a result and complete the task that was claimed last
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

# The original's time grows with the square of a batch, so tasks are copied instead.
CHUNK = 10_000
COPY = """
    MATCH (template:Task {_scoped_key: $template})-[p:PERFORMS]->(edge)
    MATCH (hub:TaskHub {_scoped_key: $hub})
    UNWIND $tokens AS token
    CREATE (task:%s {_scoped_key: 'Task-' + token + $scope, _gufe_key: 'Task-' + token})
    SET task += $properties
    CREATE (task)-[performs:PERFORMS]->(edge)
    SET performs = properties(p)
    CREATE (hub)-[:ACTIONS {weight: 0.5, task: task._scoped_key}]->(task)
"""


class Original:
    """alchemiscale's own store with one hub.

    Parameters
    ----------
    url : str
        An empty Neo4j server.
    """

    def __init__(self, url: str) -> None:
        from alchemiscale.settings import Neo4jStoreSettings
        from alchemiscale.storage.models import ComputeServiceID, ComputeServiceRegistration
        from alchemiscale.storage.statestore import Neo4jStore

        self._store = Neo4jStore(
            Neo4jStoreSettings(
                NEO4J_URL=url, NEO4J_USER="neo4j", NEO4J_PASS="x", NEO4J_DBNAME="neo4j"
            )
        )
        self._store.reset()
        self._store.initialize()
        self._service = ComputeServiceID.new_from_name("bench")
        self._store.register_computeservice(ComputeServiceRegistration.from_now(self._service))
        self._hub: Any = None
        self._edges: list[Any] = []
        self._claimed: Any = None

    def fill(self, count: int) -> None:
        """Create a network, and put tasks on its hub: one by its calls, the others as copies."""
        from alchemiscale.models import Scope

        from harmonic.protocol import HarmonicProtocol, HarmonicSettings
        from harmonic.system import build_network

        scope = Scope("bench", "bench", f"p{uuid4().hex}")
        network = build_network(HarmonicProtocol(HarmonicSettings()))
        key, self._hub, _ = self._store.assemble_network(network, scope)
        self._edges = sorted(self._store.get_network_transformations(key), key=str)
        [template] = self._store.create_tasks(self._edges[:1])
        self._store.action_tasks([template], self._hub)
        [[labels, properties]] = self._store.execute_query(
            "MATCH (task:Task {_scoped_key: $key}) RETURN labels(task), properties(task)",
            key=str(template),
        ).records
        for unique in ("_scoped_key", "_gufe_key"):
            del properties[unique]
        for start in range(1, count, CHUNK):
            self._store.execute_query(
                COPY % ":".join(f"`{label}`" for label in labels),
                template=str(template),
                hub=str(self._hub),
                scope=f"-{scope}",
                properties=properties,
                tokens=[uuid4().hex for _ in range(min(CHUNK, count - start))],
            )

    def submit(self, count: int) -> None:
        """Create and action tasks, as the servers of alchemiscale do."""
        edges = self._edges * (count // len(self._edges) + 1)
        self._store.action_tasks(self._store.create_tasks(edges[:count]), self._hub)

    def claim(self, count: int) -> None:
        """Claim tasks, and remember the last."""
        claimed = self._store.claim_taskhub_tasks(self._hub, self._service, count)
        assert None not in claimed
        self._claimed = claimed[-1]

    def settle(self, _: int) -> None:
        """Store a reference to a result, and complete the task, as the compute API does."""
        from alchemiscale.storage.models import ProtocolDAGResultRef

        key = f"ProtocolDAGResult-{uuid4().hex}"
        ref = ProtocolDAGResultRef(
            location=f"bench/{key}", obj_key=key, scope=self._claimed.scope, ok=True
        )
        self._store.set_task_result(self._claimed, ref)
        self._store.set_task_complete([self._claimed])


def main(url: str) -> None:
    """Carry out commands until standard input ends."""
    # It warns of its own statements.
    logging.getLogger("neo4j").setLevel(logging.ERROR)
    store = Original(url)
    commands: dict[str, Callable[[int], None]] = {
        "fill": store.fill,
        "submit": store.submit,
        "claim": store.claim,
        "settle": store.settle,
    }
    print("ready", flush=True)
    for line in sys.stdin:
        command, count = line.split()
        start = time.perf_counter()
        commands[command](int(count))
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
