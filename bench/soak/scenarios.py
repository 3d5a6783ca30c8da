"""The scenarios: each prepares servers, and says which faults happen during the load."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from alchemistore import S3ObjectStore, get_s3os
from alchemistore.local import LocalServers
from alchemistore.settings import S3ObjectStoreSettings
from bench.soak.load import Setup
from bench.soak.proxy import proxy
from bench.soak.servers import Pair, PgBouncer, Postgres, fill, small_disk

SKEW = 600.0
DISK_FULL_SECONDS = 3.0
TERMINATION = 0.25
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'
            AND pid <> pg_backend_pid()
        ORDER BY random() LIMIT 2
    ) AS chosen
"""


@dataclass
class Place:
    """The surroundings of a scenario.

    Attributes
    ----------
    directory : Path
        A directory for servers, which all users may enter; removed afterwards.
    small_disk : Path or None
        A directory on a small file system.
    """

    directory: Path
    small_disk: Path | None = None


Prepare = Callable[[Place], AbstractContextManager[Setup]]


@contextmanager
def started(directory: Path) -> Iterator[tuple[Postgres, str]]:
    """Yield a running server and its URL."""
    server = Postgres(directory)
    try:
        yield server, server.start()
    finally:
        server.stop()


@contextmanager
def calm(place: Place) -> Iterator[Setup]:
    """Run without faults, for comparison."""
    with started(place.directory / "server") as (_, url):
        yield Setup(url)


@contextmanager
def sigkill(place: Place) -> Iterator[Setup]:
    """Kill all processes of PostgreSQL and start it again."""
    with started(place.directory / "server") as (server, url):

        def fault(_: object) -> None:
            server.kill()
            server.start()

        yield Setup(url, fault)


@contextmanager
def immediate(place: Place) -> Iterator[Setup]:
    """Stop PostgreSQL by an immediate shutdown and start it again."""
    with started(place.directory / "server") as (server, url):

        def fault(_: object) -> None:
            server.shut_down_immediately()
            server.start()

        yield Setup(url, fault)


@contextmanager
def terminated(place: Place) -> Iterator[Setup]:
    """Terminate a random backend four times a second."""
    with started(place.directory / "server") as (_, url):
        yield Setup(url, nuisance=lambda ended: terminate(url, ended))


@contextmanager
def workers(place: Place) -> Iterator[Setup]:
    """Stop worker processes with SIGKILL and start others."""
    with started(place.directory / "server") as (_, url):
        yield Setup(url, lambda load: load.kill_worker())


@contextmanager
def s3(place: Place) -> Iterator[Setup]:
    """Run with a proxy that delays, refuses and cuts requests to the object store."""
    with started(place.directory / "server") as (_, url), ExitStack() as stack:
        servers = LocalServers(place.directory / "objects")
        stack.callback(servers.stop)
        servers.start(database=False)
        settings = {
            name: value for name, value in servers.environment().items() if name.startswith("AWS_")
        }
        between = stack.enter_context(proxy(settings["AWS_ENDPOINT_URL"]))

        def count(ended: threading.Event) -> int:
            ended.wait()
            between.troubled = False
            return sum(between.troubles.values())

        yield Setup(url, nuisance=count, bucket={**settings, "AWS_ENDPOINT_URL": between.url})


@contextmanager
def standby(place: Place) -> Iterator[Setup]:
    """Stop the primary and promote its synchronous standby, several times."""
    pair = Pair(place.directory)
    try:
        url = pair.start()

        def fault(_: object) -> None:
            pair.attach()
            pair.fail_over()

        yield Setup(url, fault)
    finally:
        pair.stop()


@contextmanager
def disk(place: Place) -> Iterator[Setup]:
    """Write the disk of PostgreSQL full for some seconds."""
    with (
        small_disk(place.directory / "disk", place.small_disk) as directory,
        started(directory / "server") as (server, url),
    ):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET max_wal_size = '64MB'")
            connection.execute("SELECT pg_reload_conf()")

        def fault(_: object) -> None:
            fill(directory, DISK_FULL_SECONDS)
            server.start()

        yield Setup(url, fault)


@contextmanager
def clocks(place: Place) -> Iterator[Setup]:
    """Run workers whose clocks are ten minutes fast, slow, or right."""
    with started(place.directory / "server") as (_, url):
        yield Setup(url, skews=(SKEW, -SKEW, 0.0))


@contextmanager
def old_transaction(place: Place) -> Iterator[Setup]:
    """Run beside a transaction that stays open from before the load."""
    with started(place.directory / "server") as (_, url):

        def hold(ended: threading.Event) -> int:
            with psycopg.connect(url) as connection:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                connection.execute("SELECT pg_current_xact_id(), count(*) FROM pg_class")
                ended.wait()
            return 1

        yield Setup(url, nuisance=hold)


@contextmanager
def pgbouncer(place: Place) -> Iterator[Setup]:
    """Run through PgBouncer in transaction mode, and restart it."""
    with started(place.directory / "server") as (server, _):
        pooler = PgBouncer(place.directory / "pgbouncer", server)
        try:
            pooler.start()

            def fault(_: object) -> None:
                pooler.kill()
                pooler.start()

            yield Setup(pooler.url, fault)
        finally:
            pooler.kill()


def terminate(url: str, ended: threading.Event) -> int:
    """Terminate random backends until told to end, and return how many."""
    count = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while not ended.wait(random.uniform(0.5, 1.5) * TERMINATION):
            count += connection.execute(TERMINATE).rowcount
    return count


def object_store(setup: Setup) -> S3ObjectStore | None:
    """Return the object store of a scenario, if it has one."""
    if setup.bucket is None:
        return None
    return get_s3os(S3ObjectStoreSettings.model_validate(setup.bucket))


SCENARIOS: dict[str, Prepare] = {
    "calm": calm,
    "sigkill": sigkill,
    "immediate": immediate,
    "terminated": terminated,
    "workers": workers,
    "s3": s3,
    "standby": standby,
    "disk": disk,
    "clocks": clocks,
    "old-transaction": old_transaction,
    "pgbouncer": pgbouncer,
}
