"""``make bench-http``: claims over HTTP through alchemiscale's compute API, and where the CPU goes.

Many clients of alchemiscale, one thread each, claim one task at a time from the compute API with
its workers. With ``--bolt``, the same load runs against alchemiscale's own store on a Neo4j server,
in a scope of its own; give it an empty database on this machine.

CPU times are those of processes, so that waiting does not count: the workers of the API, the
server of the database, the clients. Inside the workers, the calls of the store are timed thread by
thread; the rest is alchemiscale: HTTP, tokens, validation and JSON.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.http_side import OURS, read_account
from bench.report import FACTORS
from bench.run import Run, main
from bench.servers import connect
from bench.timing import BenchError, Measure, Target

PYTHON = "ALCHEMISTORE_SERVER_PYTHON"
CHECKOUT = Path(__file__).parents[1]
ORIGINAL = "original"
WORKERS = 4
PATIENCE = 120.0
# The part of the CPU time of a claim that may be spent in the store, without the database server.
SHARE = Target(1 / 3)
NOTE = (
    "CPU of the processes while the clients claim, divided by the claims; the store is what its"
    " calls take inside the workers, its driver included"
)


@dataclass(frozen=True)
class Side:
    """A store to measure.

    Attributes
    ----------
    name : str
    variables : mapping of str to str
        The variables that name its database.
    database_cpu : callable
        Returns the CPU seconds that the server of the database has taken so far.
    """

    name: str
    variables: Mapping[str, str]
    database_cpu: Callable[[], float]


@dataclass(frozen=True)
class Result:
    """A load, per claim in seconds."""

    rate: float
    p50: float
    p99: float
    clients: float
    alchemiscale: float
    store: float
    database: float
    calls: float

    @property
    def server(self) -> float:
        """The CPU time of API and database together."""
        return self.alchemiscale + self.store + self.database


def http(run: Run) -> list[Measure]:
    """Measure claims over HTTP."""
    python = os.environ.get(PYTHON)
    if not python:
        raise BenchError(f"{PYTHON} names no interpreter that has alchemiscale")
    hubs, tasks = 4, run.size(1_000, 200)
    clients, claims = 64, run.size(2_000, 300)
    results: dict[str, Result] = {}
    with run.server.database() as url:
        sides = [_ours(url)]
        if run.bolt:
            sides.append(_original(run.bolt))
        for side in sides:
            what = f"{side.name}: {clients} clients, {claims:,} claims"
            with run.step(what, 2) as advance:
                results[side.name] = _measure(python, side, hubs, tasks, clients, claims, advance)
    return _measures(results)


def _ours(url: str) -> Side:
    with connect(url) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        postmaster = backend.parent()
    assert postmaster is not None
    return Side(OURS, {"ALCHEMISTORE_DATABASE_URL": url}, lambda: _tree_cpu(postmaster))


def _original(bolt: str) -> Side:
    port = urlsplit(bolt).port
    pids = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
    } - {None}
    if len(pids) != 1:
        raise BenchError(f"no server of this machine listens at {bolt}, or its process is hidden")
    server = psutil.Process(pids.pop())
    login = {name: os.environ.get(name, "neo4j") for name in ("NEO4J_USER", "NEO4J_PASS")}
    return Side(ORIGINAL, {"NEO4J_URL": bolt, **login}, lambda: _tree_cpu(server))


def _tree_cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children, ended ones included."""
    times = [process.cpu_times()]
    for child in process.children(recursive=True):
        try:
            times.append(child.cpu_times())
        except psutil.NoSuchProcess:
            continue
    ended = process.cpu_times()
    return sum(one.user + one.system for one in times) + ended.children_user + ended.children_system


def _measure(
    python: str,
    side: Side,
    hubs: int,
    tasks: int,
    clients: int,
    claims: int,
    advance: Callable[[float], None],
) -> Result:
    with tempfile.TemporaryDirectory(prefix="alchemistore-bench-http-") as directory:
        accounts = Path(directory) / "accounts"
        accounts.mkdir()
        program = [python, "-m", "bench.http_side"]
        environment = _environment(side.variables)
        org = f"bench{uuid.uuid4().hex[:8]}"
        subprocess.run(
            [*program, "seed", side.name, org, str(hubs), str(tasks)], env=environment, check=True
        )
        advance(1)
        serve = [*program, "serve", side.name, str(accounts), "compute", "api"]
        with (
            _serving(serve, environment, Path(directory) / "log") as (url, api),
            subprocess.Popen(
                [*program, "load", url, str(clients), str(claims)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as load,
        ):
            assert load.stdout is not None
            if load.stdout.readline().strip() != "ready":
                raise BenchError(f"{side.name}: the clients could not begin")

            def taken() -> tuple[float, float, float, int]:
                return (_tree_cpu(api), side.database_cpu(), *read_account(accounts))

            before = taken()
            answer, _ = load.communicate("go\n")
            after = taken()
            if load.returncode:
                raise BenchError(f"{side.name}: the clients failed")
            found = json.loads(answer)
        advance(1)
    if found["claimed"] != claims:
        raise BenchError(f"{side.name}: only {found['claimed']} of {claims} tasks were claimed")
    if found["different"] != claims:
        print(f"{side.name}: {claims - found['different']} tasks were claimed twice")
    in_api, in_database, in_store, calls = (b - a for a, b in zip(before, after, strict=True))
    return Result(
        rate=claims / found["seconds"],
        p50=found["p50"],
        p99=found["p99"],
        clients=found["cpu"] / claims,
        alchemiscale=(in_api - in_store) / claims,
        store=in_store / claims,
        database=in_database / claims,
        calls=calls / claims,
    )


@contextmanager
def _serving(
    command: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[tuple[str, psutil.Process]]:
    """Start the server; yield its URL and its first process when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--workers", str(WORKERS), "--host", "127.0.0.1", "--port", str(port)]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, *options], env=environment, stdout=output, stderr=output
        ) as server,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                    break
                except (urllib.error.URLError, TimeoutError) as error:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise BenchError(f"no server:\n{log.read_text()[-2000:]}") from error
                    time.sleep(0.1)
            yield url, psutil.Process(server.pid)
        finally:
            server.terminate()


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    foreign = ("ALCHEMISTORE_", "ALCHEMISCALE_", "NEO4J_", "AWS_", "JWT_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # Nothing connects to the object store.
    amazon = {"AWS_S3_BUCKET": "-", "AWS_S3_PREFIX": "-", "AWS_DEFAULT_REGION": "-"}
    return {
        **inherited,
        **amazon,
        "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'examples'}",
        "JWT_SECRET_KEY": "0" * 64,
        "OMP_NUM_THREADS": "1",
        "ALCHEMISTORE_MODULES": "harmonic",
        **variables,
    }


def _measures(results: Mapping[str, Result]) -> list[Measure]:
    ours = results[OURS]
    measures = []
    original = results.get(ORIGINAL)

    def against(name: str, of: Callable[[Result], float], unit: str = "s", note: str = "") -> None:
        if original is None:
            shown = of(ours) * FACTORS[unit][0]
            measures.append(Measure(f"{name} ({unit})", shown, "amount", note=note))
            return
        sides = ((OURS, of(ours)), (ORIGINAL, of(original)))
        measures.append(Measure(name, of(ours) / of(original), sides=sides, unit=unit, note=note))

    against("claims over HTTP", lambda one: one.rate, "tasks/s")
    against("time of a claim, median", lambda one: one.p50, "ms")
    against("time of a claim, 99th percentile", lambda one: one.p99, "ms")
    against("CPU of a claim: API and database", lambda one: one.server, "ms", NOTE)
    against("CPU of a claim: alchemiscale", lambda one: one.alchemiscale, "ms")
    against("CPU of a claim: the store in the API", lambda one: one.store, "ms")
    against("CPU of a claim: database server", lambda one: one.database, "ms")
    against("CPU of a claim: clients", lambda one: one.clients, "ms")
    for name, result in results.items():
        measures.append(
            Measure(
                f"share of the store in the CPU of a claim, {name}",
                result.store / result.server,
                "share",
                target=SHARE if name == OURS else None,
                note=f"{result.calls:.1f} calls of the store for each claim",
            )
        )
    return measures


if __name__ == "__main__":
    sys.exit(main("bench.http", "alchemistore: claims over HTTP", {"http": http}))
