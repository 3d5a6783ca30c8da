"""Fill a Neo4j with networks through alchemiscale's own store, and with waiting tasks by Cypher.

It runs under an interpreter with alchemiscale, as
``python -m bench.graph_fill BOLT NETWORKS TRANSFORMATIONS TASKS``.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys

from alchemiscale.models import Scope
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.statestore import Neo4jStore
from gufe import AlchemicalNetwork, ChemicalSystem, Transformation

# The original's call takes a time that grows with the square of the number of tasks.
ADD_TASKS = """
    MATCH (n:AlchemicalNetwork)-[:DEPENDS_ON]->(e:Transformation)
    MATCH (h:TaskHub)-[:PERFORMS]->(n)
    CALL (e, h) {
        UNWIND range(1, $each) AS number
        WITH e, h, replace(randomUUID(), '-', '') AS token
        CREATE (t:GufeTokenizable:Task {
            _org: 'bench', _campaign: 'graph', _project: 'one', _gufe_key: 'Task-' + token,
            _scoped_key: 'Task-' + token + '-bench-graph-one', _key: 'Task-' + token,
            status: 'waiting', priority: 10, datetime_created: datetime(), _json_props: []
        })
        CREATE (t)-[:PERFORMS]->(e)
        CREATE (h)-[:ACTIONS {weight: 0.5, task: t._scoped_key}]->(t)
    } IN TRANSACTIONS OF 200 ROWS
"""


def main(url: str, networks: int, transformations: int, tasks: int) -> None:
    """Fill the database, after everything in it was removed."""
    from harmonic.protocol import HarmonicProtocol
    from harmonic.system import HarmonicWell

    logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)
    settings = Neo4jStoreSettings(
        NEO4J_URL=url,
        NEO4J_USER=os.environ.get("NEO4J_USER", "neo4j"),
        NEO4J_PASS=os.environ.get("NEO4J_PASS", ""),
        NEO4J_DBNAME="neo4j",
    )
    store = Neo4jStore(settings)
    store.reset()
    store.initialize()
    protocol = HarmonicProtocol(HarmonicProtocol.default_settings())
    for place in range(networks):
        wells = [HarmonicWell(f"{place}-{n}", 1.0 + n) for n in range(transformations + 1)]
        systems = [ChemicalSystem({"ligand": well}, name=well.name) for well in wells]
        edges = [
            Transformation(start, end, protocol, name=f"{start.name} to {end.name}")
            for start, end in itertools.pairwise(systems)
        ]
        store.assemble_network(
            AlchemicalNetwork(edges, name=f"network {place}"), Scope("bench", "graph", "one")
        )
    with store.graph.session() as session:
        session.run(ADD_TASKS, each=tasks // (networks * transformations)).consume()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
