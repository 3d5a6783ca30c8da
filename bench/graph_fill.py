"""Fill a Neo4j with networks through alchemiscale's own store; with tasks and results by Cypher.

It runs under an interpreter with alchemiscale, as
``python -m bench.graph_fill BOLT NETWORKS TRANSFORMATIONS TASKS RESULTS``.
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
# One result for each of these tasks, which are complete then; each tenth is a failure instead.
ADD_RESULTS = """
    MATCH (h:TaskHub)-[a:ACTIONS]->(t:Task)-[:PERFORMS]->(e) WITH * LIMIT $results
    CALL (a, t, e) {
        WITH a, t, e, replace(randomUUID(), '-', '') AS token, rand() >= 0.1 AS ok
        CREATE (r:GufeTokenizable:ProtocolDAGResultRef {
            _org: 'bench', _campaign: 'graph', _project: 'one', _json_props: [],
            _gufe_key: 'ProtocolDAGResultRef-' + token,
            _scoped_key: 'ProtocolDAGResultRef-' + token + '-bench-graph-one',
            location: 'protocoldagresult/bench/graph/one/' + e._gufe_key + '/'
                + CASE WHEN ok THEN 'results' ELSE 'failures' END
                + '/ProtocolDAGResult-' + token + '/obj.json.zst',
            obj_key: 'ProtocolDAGResult-' + token, scope: 'bench-graph-one', ok: ok,
            datetime_created: toString(datetime()), creator: 'service'
        })
        CREATE (t)-[:RESULTS_IN]->(r)
        FOREACH (_ IN CASE WHEN ok THEN [] ELSE [1] END |
            CREATE (b:GufeTokenizable:Tracebacks {
                _org: 'bench', _campaign: 'graph', _project: 'one', _json_props: [],
                _gufe_key: 'Tracebacks-' + token,
                _scoped_key: 'Tracebacks-' + token + '-bench-graph-one',
                tracebacks: [reduce(all = '', n IN range(1, 100) | all + 'line of a traceback\n')],
                source_keys: ['Unit-' + token], failure_keys: ['ProtocolUnitFailure-' + token]
            })
            CREATE (b)-[:DETAILS]->(r)
        )
        SET t.status = CASE WHEN ok THEN 'complete' ELSE 'error' END
        FOREACH (_ IN CASE WHEN ok THEN [1] ELSE [] END | DELETE a)
    } IN TRANSACTIONS OF 2000 ROWS
"""


def main(url: str, networks: int, transformations: int, tasks: int, results: int) -> None:
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
        session.run(ADD_RESULTS, results=results).consume()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
