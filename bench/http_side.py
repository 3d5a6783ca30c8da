"""The parts of ``bench.http`` that need alchemiscale: fill a store, serve it, and load the server.

They run under the interpreter of ``ALCHEMISTORE_SERVER_PYTHON``, as
``python -m bench.http_side seed|serve|load SIDE ...``. The side is ``alchemistore`` for this store
and ``original`` for the one of alchemiscale.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

OURS = "alchemistore"
IDENTITY, KEY = "bench", "correct horse battery staple"
# Tasks created or actioned with one call. The original's time grows with the square of it.
BATCH = 200
# CPU seconds and number of calls of the store.
RECORD = struct.Struct("dQ")


class Account:
    """The CPU time that the threads of a process spend in calls of the store.

    Each process writes its sum to a file of its own, named by its id.

    Parameters
    ----------
    directory : Path
        The directory of the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._pid, self._file, self._seconds, self._calls = 0, -1, 0.0, 0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that is counted. Calls inside a call count once."""

        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._inside, "yes", False):
                return call(*args, **kwargs)
            self._inside.yes = True
            start = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self._inside.yes = False
                self._add(time.thread_time() - start)

        return counted

    def _add(self, seconds: float) -> None:
        with self._lock:
            if self._pid != os.getpid():
                # A worker that was forked has an account of its own.
                self._pid, self._seconds, self._calls = os.getpid(), 0.0, 0
                path = self._directory / str(self._pid)
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT)
            self._seconds += seconds
            self._calls += 1
            os.pwrite(self._file, RECORD.pack(self._seconds, self._calls), 0)


def read_account(directory: Path) -> tuple[float, int]:
    """Return the CPU seconds and the number of calls of all processes."""
    records = [RECORD.unpack(file.read_bytes()) for file in directory.iterdir()]
    return sum(seconds for seconds, _ in records), sum(calls for _, calls in records)


def _statestore(side: str) -> Any:
    if side == OURS:
        from alchemistore.alchemiscale import install

        install()
    from alchemiscale.storage import statestore

    return statestore


def serve(side: str, accounts: Path, arguments: Sequence[str]) -> None:
    """Run a command of alchemiscale; calls of the store are counted."""
    cls = _statestore(side).Neo4jStore
    account = Account(accounts)
    for name in dir(cls):
        call = getattr(cls, name)
        if callable(call) and name[0] != "_" and name not in ("transaction", "chainable"):
            setattr(cls, name, account.wrap(call))
    from alchemiscale.cli import cli

    cli(args=list(arguments))


def seed(side: str, org: str, hubs: int, tasks: int) -> None:
    """Create an identity, and networks with actioned tasks, each in a scope of its own."""
    module = _statestore(side)
    from alchemiscale.models import Scope, ScopedKey
    from alchemiscale.security.auth import hash_key
    from alchemiscale.security.models import CredentialedComputeIdentity
    from alchemiscale.settings import Neo4jStoreSettings

    from harmonic.protocol import HarmonicProtocol, HarmonicSettings
    from harmonic.system import build_network

    # It warns of its own statements.
    logging.getLogger("neo4j").setLevel(logging.ERROR)
    store = module.get_n4js(Neo4jStoreSettings())
    store.initialize()
    store.create_credentialed_entity(
        CredentialedComputeIdentity(identifier=IDENTITY, hashed_key=hash_key(KEY))
    )
    for number in range(hubs):
        scope = Scope(org, "http", f"project{number}")
        store.add_scope(IDENTITY, CredentialedComputeIdentity, scope)
        network = build_network(HarmonicProtocol(HarmonicSettings()))
        key, hub, _ = store.assemble_network(network, scope)
        transformations = sorted(map(str, store.get_network_transformations(key)))
        chosen = [transformations[i % len(transformations)] for i in range(tasks)]
        for start in range(0, tasks, BATCH):
            batch = [ScopedKey.from_str(one) for one in chosen[start : start + BATCH]]
            store.action_tasks(store.create_tasks(batch), hub)
    store.close()


def load(url: str, clients: int, claims: int) -> None:
    """Claim tasks with many clients, one task at a time, and print what it took.

    The program prints a line when each client has claimed once, and waits for a line before it
    begins.
    """
    from alchemiscale.compute.client import AlchemiscaleComputeClient
    from alchemiscale.models import Scope
    from alchemiscale.storage.models import ComputeServiceID

    left = claims
    lock = threading.Lock()
    warm, begin = threading.Barrier(clients + 1), threading.Barrier(clients + 1)

    def turns() -> Iterator[None]:
        nonlocal left
        while True:
            with lock:
                if left == 0:
                    return
                left -= 1
            yield

    def run(number: int) -> tuple[list[float], list[str]]:
        client = AlchemiscaleComputeClient(url, IDENTITY, KEY, use_local_cache=False)
        service = ComputeServiceID.new_from_name(f"client{number}")

        def claim() -> list[str]:
            tasks = client.claim_tasks([Scope()], service, count=1)
            return [str(task) for task in tasks if task is not None]

        try:
            client.register(service)
            claim()
            warm.wait()
        except BaseException:
            # The others must not wait for ever.
            warm.abort()
            raise
        begin.wait()
        seconds: list[float] = []
        claimed: list[str] = []
        for _ in turns():
            start = time.perf_counter()
            claimed += claim()
            seconds.append(time.perf_counter() - start)
        return seconds, claimed

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(run, number) for number in range(clients)]
        try:
            warm.wait()
        except threading.BrokenBarrierError:
            # A client has failed, and one of these raises its error.
            for one in running:
                if not isinstance(one.exception(), threading.BrokenBarrierError):
                    one.result()
        print("ready", flush=True)
        sys.stdin.readline()
        cpu, start = time.process_time(), time.perf_counter()
        begin.wait()
        results = [one.result() for one in running]
    seconds = [second for own, _ in results for second in own]
    claimed = [task for _, tasks in results for task in tasks]
    elapsed = time.perf_counter() - start
    percentiles = statistics.quantiles(seconds, n=100)
    document = {
        "seconds": elapsed,
        "cpu": time.process_time() - cpu,
        "requests": len(seconds),
        "claimed": len(claimed),
        "different": len(set(claimed)),
        "p50": percentiles[49],
        "p99": percentiles[98],
    }
    print(json.dumps(document), flush=True)


def main() -> None:
    """Run a part with the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.http_side")
    parts = parser.add_subparsers(dest="part", required=True)
    seeding = parts.add_parser("seed")
    serving = parts.add_parser("serve")
    loading = parts.add_parser("load")
    for part in (seeding, serving):
        part.add_argument("side")
    seeding.add_argument("org")
    for name in ("hubs", "tasks"):
        seeding.add_argument(name, type=int)
    serving.add_argument("accounts", type=Path)
    serving.add_argument("arguments", nargs=argparse.REMAINDER)
    loading.add_argument("url")
    for name in ("clients", "claims"):
        loading.add_argument(name, type=int)
    options = parser.parse_args()
    if options.part == "seed":
        seed(options.side, options.org, options.hubs, options.tasks)
    elif options.part == "serve":
        serve(options.side, options.accounts, options.arguments)
    else:
        load(options.url, options.clients, options.claims)


if __name__ == "__main__":
    main()
