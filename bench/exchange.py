"""Files into the store and out of it, against gufe's own reading and writing of the same JSON.

Adding is a whole call: parse the text, screen it, and store it durably into a new scope. Exporting
is a whole call as well: fetch the chain and write it as JSON. Neither builds an object. The
reference is gufe in memory, without a database. Memory is the peak that Python allocates.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from functools import partial

from alchemistore import add_file
from bench.networks import decode, encode, new_scope
from bench.run import Run
from bench.servers import opened
from bench.star import star
from bench.timing import Measure, Target, alternate, clocked, compare

TIME = Target(1.5)
MEMORY = Target(2.0)


def exchange(run: Run) -> list[Measure]:
    """Measure adding and exporting a network in the form of a keyed chain."""
    size = run.size(2_000, 200)
    name = f"{size:,} transformations"
    # gufe would find the parts of a network that is in memory, and build nothing.
    text = encode(star(size, "star"))
    with run.server.database() as url, opened(url) as store:
        added = _compare(
            run,
            f"add_file, {name}, against gufe's reading",
            {
                "add_file": lambda: add_file(store, text, new_scope()),
                "gufe reads": lambda: decode(text),
            },
        )
        stored = add_file(store, text, new_scope()).network
        assert stored is not None
        network = star(size, "star")
        exported = _compare(
            run,
            f"get_keyed_chain as JSON, {name}, against gufe's writing",
            {
                "get_keyed_chain": lambda: json.dumps(store.get_keyed_chain(stored)),
                "gufe writes": lambda: encode(network),
            },
        )
    return [*added, *exported]


def _compare(run: Run, what: str, actions: dict[str, Callable[[], object]]) -> list[Measure]:
    rounds = run.size(9, 2)
    contestants = {side: partial(clocked, action) for side, action in actions.items()}
    with run.step(what, rounds + 1) as advance:
        times = alternate(contestants, rounds, warmup=1, advance=lambda: advance(1))
    peaks = {side: [_peak(action)] for side, action in actions.items()}
    return [
        compare(what, times, target=TIME, unit="ms"),
        compare(f"{what}, memory", peaks, target=MEMORY, unit="MB"),
    ]


def _peak(action: Callable[[], object]) -> float:
    """Return the largest memory, in MB, that an action allocates."""
    gc.collect()
    tracemalloc.start()
    action()
    peak: int = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6
