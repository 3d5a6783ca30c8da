"""A keyed chain of a network, against reading and parsing its documents alone.

The call finds the objects that the network consists of, reads and parses their documents, and sorts
them. The reference reads all documents of the scope, in which nothing else is, and parses them.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg

from alchemistore import gufe_adapter
from bench.networks import new_scope
from bench.run import Run
from bench.servers import connect, opened
from bench.star import star
from bench.timing import BenchError, Measure, Target, alternate, clocked, compare

TARGET = Target(1.2)
READ = b"""
    SELECT o.document FROM gufe_objects AS o JOIN scopes AS s ON s.id = o.scope_id
    WHERE s.org = %s AND s.campaign = %s AND s.project = %s
"""


def keyed_chains(run: Run) -> list[Measure]:
    """Measure `get_keyed_chain` of a large network."""
    size, rounds = run.size(2_000, 200), run.size(15, 2)
    scope = new_scope()
    with run.server.database() as url, opened(url) as store, connect(url) as connection:
        network = store.create_network(star(size, "star"), scope)
        length = len(store.get_keyed_chain(network))
        if length != _read_and_parse(connection, scope.to_tuple()):
            raise BenchError("the scope contains other objects than the chain")
        contestants = {
            "get_keyed_chain": lambda: clocked(lambda: store.get_keyed_chain(network)),
            "read and parse": lambda: clocked(
                lambda: _read_and_parse(connection, scope.to_tuple())
            ),
        }
        with run.step(f"get_keyed_chain, {size:,} transformations", rounds + 3) as advance:
            found = alternate(contestants, rounds, warmup=3, advance=lambda: advance(1))
    return [
        compare(
            f"get_keyed_chain, {size:,} transformations, against reading and parsing",
            found,
            target=TARGET,
            unit="ms",
            note=f"{length:,} objects; the reference needs neither to find nor to sort them",
        )
    ]


def _read_and_parse(connection: psycopg.Connection[Any], scope: tuple[str | None, ...]) -> int:
    rows = connection.execute(READ, scope, binary=True).fetchall()
    return len([json.loads(gufe_adapter.unpack(document)) for (document,) in rows])
