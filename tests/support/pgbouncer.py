"""A private PgBouncer in front of the test server."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

from alchemistore.local import daemon
from alchemistore.local.postgres import SYSTEM_USER

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
POOL_SIZE = 2


@contextmanager
def pgbouncer(server: URL) -> Iterator[URL]:
    """Run PgBouncer in transaction mode with few connections; yield the URL for the databases."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed; on Debian: apt install pgbouncer")
    # Neither PgBouncer nor PostgreSQL runs as root, and only the owner of the server may connect.
    user = SYSTEM_USER if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="alchemistore-pgbouncer-"))
    directory.chmod(0o755)
    [port] = daemon.free_ports(1)
    target = {
        "host": server.query.get("host") or server.host,
        "port": server.query.get("port") or server.port,
        "user": server.username,
        "password": server.password,
    }
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        "[databases]\n"
        f"* = {' '.join(f'{name}={value}' for name, value in target.items() if value)}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\nserver_round_robin = 0\n"
        f"default_pool_size = {POOL_SIZE}\nmax_client_conn = 200\n"
    )
    process = daemon.spawn(
        [PROGRAM, configuration],
        log=directory / "pgbouncer.log",
        cwd=directory,
        environment=dict(os.environ),
        user=user,
    )
    assert process is not None
    url = URL.create("postgresql", server.username, host="127.0.0.1", port=port)
    try:
        _wait(url.set(database=server.database), directory / "pgbouncer.log")
        yield url
    finally:
        if process is not None:
            daemon.end(process, [(15, 10), (9, 10)])
        shutil.rmtree(directory)


def _wait(url: URL, log: Path) -> None:
    for _ in range(500):
        try:
            psycopg.connect(url.render_as_string(hide_password=False)).close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"PgBouncer does not start: {log.read_text()}")
