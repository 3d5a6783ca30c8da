"""Import of a graph of alchemiscale, against reading the graph alone.

Run it with an interpreter that has alchemiscale 0.8 and gufe 1.x, on a Neo4j and a PostgreSQL whose
contents may be lost. With ``--back``, another Neo4j, the export is measured, too::

    PYTHONPATH=.:examples ALCHEMISTORE_MODULES=harmonic NEO4J_PASS=... \
        python -m bench.graph --bolt bolt://localhost:7687 --url postgresql://.../postgres
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alchemistore.neo4j.exporter import GraphExport
from alchemistore.neo4j.graph import Neo4jGraph
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.verification import Verification
from bench.servers import Server, opened

EMPTY = "MATCH (n) DETACH DELETE n"


def main() -> None:
    """Fill the graph in another process, and measure the steps of a move in this one."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bolt", required=True, help="the Neo4j; its contents are lost")
    options.add_argument("--url", required=True, help="a database of the PostgreSQL")
    options.add_argument("--networks", type=int, default=100)
    options.add_argument("--transformations", type=int, default=200)
    options.add_argument("--tasks", type=int, default=100_000)
    options.add_argument("--results", type=int, default=20_000)
    options.add_argument("--back", help="the Neo4j to export into; its contents are lost")
    options.add_argument("--filled", action="store_true", help="the graph is filled already")
    given = options.parse_args()
    sizes = [
        str(size) for size in (given.networks, given.transformations, given.tasks, given.results)
    ]
    if not given.filled:
        subprocess.run([sys.executable, "-m", "bench.graph_fill", given.bolt, *sizes], check=True)
    password = os.environ.get("NEO4J_PASS", "")
    user = os.environ.get("NEO4J_USER", "neo4j")
    with (
        Neo4jGraph(given.bolt, user, password) as graph,
        Server(given.url).database() as url,
        opened(url) as store,
    ):
        reader = GraphReader(graph)
        with measured("read the graph alone"):
            for scope in reader.scopes().scopes:
                for network in reader.networks(scope):
                    for _ in reader.objects(network.key):
                        pass
                for kind in (reader.tasks, reader.results, reader.tracebacks):
                    for _ in kind(scope):
                        pass
        with measured("first import"):
            list(GraphImport(store, reader, given.bolt).run())
        with measured("second import, no changes"):
            reports = list(GraphImport(store, reader, given.bolt).run())
        with measured("comparison"):
            different = sum(
                len(one.different)
                for report in reports
                if "-" in report.part
                for one in Verification(store, reader).part(report)
            )
        if different or any(any(report.counts.values()) for report in reports):
            sys.exit(f"the import is wrong: {different} objects differ")
        if given.back:
            with Neo4jGraph(given.back, user, password) as back:
                back.write(EMPTY)
                with measured("export"):
                    list(GraphExport(store, back).run())


@contextmanager
def measured(step: str) -> Iterator[None]:
    """Print the time of a step, and the peak memory of the process so far."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{step:<28} {seconds:8.1f} s   peak {peak:6.0f} MiB")


if __name__ == "__main__":
    main()
