"""A keyed chain of a network, against reading and parsing its documents alone.

The call finds the objects that the network consists of, reads and parses their documents, and sorts
them. The reference knows their keys, reads their documents by key, and parses them. A second one
reads all documents of the scope, which is faster only because nothing else is in it.
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
BY_KEY = b"""
    SELECT o.document FROM gufe_objects AS o JOIN scopes AS s ON s.id = o.scope_id
    WHERE s.org = %s AND s.campaign = %s AND s.project = %s AND o.token = ANY(%s::uuid[])
"""
BY_SCOPE = b"""
    SELECT o.document FROM gufe_objects AS o JOIN scopes AS s ON s.id = o.scope_id
    WHERE s.org = %s AND s.campaign = %s AND s.project = %s
"""


def keyed_chains(run: Run) -> list[Measure]:
    """Measure `get_keyed_chain` of a large network."""
    size, rounds = run.size(2_000, 200), run.size(15, 2)
    scope = new_scope()
    with run.server.database() as url, opened(url) as store, connect(url) as connection:
        network = store.create_network(star(size, "star"), scope)
        keys = [key for key, _ in store.get_keyed_chain(network)]
        given = scope.to_tuple()
        tokens = "{" + ",".join(key.token for key in keys) + "}"

        def by_key() -> int:
            return _read_and_parse(connection, BY_KEY, (*given, tokens))

        def by_scope() -> int:
            return _read_and_parse(connection, BY_SCOPE, given)

        if not len(keys) == by_key() == by_scope():
            raise BenchError("the scope contains other objects than the chain")
        contestants = {
            "get_keyed_chain": lambda: clocked(lambda: store.get_keyed_chain(network)),
            "read by key and parse": lambda: clocked(by_key),
            "read a scope and parse": lambda: clocked(by_scope),
        }
        with run.step(f"get_keyed_chain, {size:,} transformations", rounds + 3) as advance:
            found = alternate(contestants, rounds, warmup=3, advance=lambda: advance(1))
    call, reference, whole = contestants
    title = f"get_keyed_chain, {size:,} transformations, against"
    return [
        compare(
            f"{title} reading by key and parsing",
            {name: found[name] for name in (call, reference)},
            target=TARGET,
            unit="ms",
            note=f"{len(keys):,} objects; the reference knows their keys, and does not sort them",
        ),
        compare(
            f"{title} reading the whole scope and parsing",
            {name: found[name] for name in (call, whole)},
            unit="ms",
            note="only because nothing else is in the scope, the reference need not look up keys",
        ),
    ]


def _read_and_parse(
    connection: psycopg.Connection[Any], statement: bytes, values: tuple[str | None, ...]
) -> int:
    rows = connection.execute(statement, values, binary=True).fetchall()
    return len([json.loads(gufe_adapter.unpack(document)) for (document,) in rows])
