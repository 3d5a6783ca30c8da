"""The three status counts against a bare grouped count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench.run import Run
from bench.seeding import SCOPE, scope_id, seed
from bench.servers import connect, opened
from bench.timing import BenchError, Measure, alternate, clocked, compare

STATUSES = ("waiting", "complete", "complete", "running", "error", "invalid", "deleted")
ALL = b"SELECT status, count(*) FROM tasks WHERE scope_id = %s GROUP BY status"
OF_TRANSFORMATION = b"""
    SELECT status, count(*) FROM tasks WHERE scope_id = %s AND transformation = %s GROUP BY status
"""


def counts(run: Run) -> list[Measure]:
    """Measure at two sizes; every task is in the network."""
    measures: list[Measure] = []
    for size in (run.size(10_000, 1_000), run.size(1_000_000, 5_000)):
        measures += _at(run, size)
    return measures


def _at(run: Run, size: int) -> list[Measure]:
    rounds, warmup = run.size(20, 5), 6
    measures = []
    with run.server.database() as url, opened(url) as store, connect(url) as connection:
        with run.step(f"seed {size:,} tasks", size) as advance:
            seed(store, url, size, statuses=STATUSES, actioned=False, advance=advance)
        network = store.query_networks()[0]
        transformation = store.get_network_transformations(network)[0]
        scope = scope_id(connection)

        def bare(statement: bytes, *values: Any) -> Any:
            return dict(connection.execute(statement, values).fetchall())

        every, one = (
            partial(bare, ALL, scope),
            partial(bare, OF_TRANSFORMATION, scope, transformation.token),
        )
        cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "get_scope_status": (lambda: store.get_scope_status(SCOPE), every),
            "get_network_status": (lambda: store.get_network_status(network), every),
            "get_transformation_status": (
                lambda: store.get_transformation_status(transformation),
                one,
            ),
        }
        with run.step(f"count {size:,} tasks", len(cases) * (rounds + warmup)) as advance:
            for name, (call, reference) in cases.items():
                if call() != reference():
                    raise BenchError(f"{name} does not count what the bare statement counts")
                contestants = {
                    "call": partial(clocked, call),
                    "bare count": partial(clocked, reference),
                }
                found = alternate(contestants, rounds, warmup=warmup, advance=lambda: advance(1))
                measures.append(
                    compare(
                        f"{name}, {size:,} tasks, against a bare grouped count", found, unit="ms"
                    )
                )
    return measures
