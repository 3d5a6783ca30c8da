"""Helpers for the tests of the private servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import psutil
import psycopg

from alchemistore import S3ObjectStore
from alchemistore.local import LocalServers, ServerStatus
from alchemistore.local.daemon import alive
from alchemistore.objectstore import get_s3os
from alchemistore.settings import S3ObjectStoreSettings


@contextmanager
def connect(servers: LocalServers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        servers.environment()["ALCHEMISTORE_DATABASE_URL"], autocommit=True
    ) as connection:
        yield connection


def object_store(servers: LocalServers) -> S3ObjectStore:
    found = {
        name: value for name, value in servers.environment().items() if name.startswith("AWS_")
    }
    return get_s3os(S3ObjectStoreSettings.model_validate(found))


def fill(servers: LocalServers) -> None:
    """Store data in both servers."""
    with connect(servers) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    fill_s3(servers)


def fill_s3(servers: LocalServers) -> None:
    object_store(servers).bucket_prefix.put("kept", b"42" * 1000, "text/plain")


def is_filled(servers: LocalServers) -> bool:
    with connect(servers) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    return row == (42,) and s3_is_filled(servers)


def s3_is_filled(servers: LocalServers) -> bool:
    return object_store(servers).bucket_prefix.get("kept") == b"42" * 1000


def kill(server: ServerStatus | None) -> None:
    """Kill a server and wait until its process has ended."""
    assert server is not None
    process = psutil.Process(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    while alive(process):
        os.sched_yield()


def listeners(server: ServerStatus | None) -> set[tuple[str, int]]:
    """Return the TCP addresses on which a server and its children listen."""
    assert server is not None
    process = psutil.Process(server.pid)
    found = set()
    for one in [process, *process.children(recursive=True)]:
        # Processes of PostgreSQL start and end with their clients.
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            connections = one.net_connections("inet")
            found |= {
                (each.laddr.ip, each.laddr.port)
                for each in connections
                if each.status == psutil.CONN_LISTEN
            }
    return found


class _Yes(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self.send_response(200)
        self.end_headers()

    do_GET = do_PUT

    def log_message(self, *_: object) -> None:
        """Write no log."""


@contextmanager
def always_ok_server(port: int) -> Iterator[None]:
    """Run an HTTP server that answers every PUT and GET with success."""
    with HTTPServer(("127.0.0.1", port), _Yes) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
