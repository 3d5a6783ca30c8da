"""Run the tests on a private server of Debian's PostgreSQL package: `make test-postgres15`.

The server exists during the run only: its data are in a temporary directory.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

BINARIES = Path(os.environ.get("POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))
SERVER = "ALCHEMISTORE_TEST_DATABASE_URL"
# PostgreSQL refuses to run as root; Debian's package creates this user.
UNPRIVILEGED = "postgres"
# Data of tests need not survive a power cut.
CONFIGURATION = {
    "max_connections": 200,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "256MB",
}


def _run(program: str, *arguments: str) -> None:
    command = [str(BINARIES / program), *arguments]
    # As root, also drop the groups of root.
    other: dict[str, Any] = (
        {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
        if os.geteuid() == 0
        else {}
    )
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, **other)


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a server, which is stopped and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="alchemistore-postgres-") as directory:
        # The server's own user creates the data directory.
        Path(directory).chmod(0o777)
        data, port = f"{directory}/data", _free_port()
        _run("initdb", "--pgdata", data, "--username=postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        settings = {
            **CONFIGURATION,
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": directory,
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = f"{directory}/log"
        try:
            _run("pg_ctl", "start", "--wait", "-D", data, "-l", log, "-o", options)
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            if Path(data, "postmaster.pid").exists():
                _run("pg_ctl", "stop", "--wait", "-D", data, "-m", "immediate")


def main(arguments: list[str]) -> int:
    """Run pytest with some arguments, and return its exit code."""
    if not (BINARIES / "pg_ctl").exists():
        sys.stderr.write(
            f"there is no PostgreSQL in {BINARIES}: install it ('apt-get install postgresql-15'),"
            " or set POSTGRES_BIN to the directory of another version's programs\n"
        )
        return 2
    with server() as url:
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.run(command, env={**os.environ, SERVER: url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
