"""Servers that can be killed: PostgreSQL, a pair of them, PgBouncer, and a small disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGQUIT

import psutil
import psycopg

from alchemistore.errors import StoreUnavailableError
from alchemistore.local import daemon
from alchemistore.local.postgres import DATABASE, PORT, SOCKET_NAME, SUPERUSER, PrivatePostgres

PATIENCE = 60.0
POOLER_PORT = 6432
SMALL = "500m"
# The disk of a server that has been killed or is full may need more than one try.
STARTS = 5


class Skipped(Exception):
    """A scenario cannot run on this machine; the text says why."""


def until(what: str, ready: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something is so.

    Raises
    ------
    StoreUnavailableError
        If it is not so in time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise StoreUnavailableError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


class Postgres:
    """A PostgreSQL server with durable defaults.

    Parameters
    ----------
    directory : Path
        The directory of its data.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o711, exist_ok=True)
        self.private = PrivatePostgres(directory)

    @property
    def process(self) -> psutil.Process:
        """The process of the running server."""
        process = self.private.process()
        if process is None:
            raise StoreUnavailableError(f"no PostgreSQL runs in {self.private.directory}")
        return process

    @property
    def user(self) -> str | None:
        """The system user that runs the server; ``None`` if it is that of this process."""
        return self.process.username() if os.geteuid() == 0 else None

    def start(self) -> str:
        """Start the server, or start it again, and return its URL."""
        for attempt in range(1, STARTS + 1):
            try:
                return self.private.start()
            except (StoreUnavailableError, psycopg.OperationalError):
                if attempt == STARTS:
                    raise
                time.sleep(1)
        raise AssertionError("unreachable")

    def kill(self) -> None:
        """Kill all processes of the server."""
        process = self.process
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        until("the server is dead", lambda: not daemon.alive(process))

    def shut_down_immediately(self) -> None:
        """Stop the server without a checkpoint; it recovers at the next start."""
        daemon.end(self.process, [(SIGQUIT, PATIENCE)])

    def stop(self) -> None:
        """Stop the server."""
        self.private.stop()


class Pair:
    """A primary and its synchronous standby, which change places.

    Parameters
    ----------
    directory : Path
        The directory of the data of both.
    """

    def __init__(self, directory: Path) -> None:
        self._primary = Postgres(directory / "one")
        self._standby = Postgres(directory / "two")
        self._attached = False

    def start(self) -> str:
        """Start both and return a URL that names both."""
        hosts = [
            str(server.private.data).replace("/", "%2F")
            for server in (self._primary, self._standby)
        ]
        self._primary.start()
        self._user, self._programs = (
            self._primary.user,
            Path(self._primary.process.exe()).parent,
        )
        self.attach()
        return (
            f"postgresql://{SUPERUSER}@{hosts[0]}:{PORT},{hosts[1]}:{PORT}/{DATABASE}"
            "?target_session_attrs=read-write"
        )

    def attach(self) -> None:
        """Make a standby, and let the primary wait for it at each commit."""
        if self._attached:
            return
        self._set_standbys("")
        home, data = self._standby.private.directory, self._standby.private.data
        shutil.rmtree(data, ignore_errors=True)
        if self._user is not None:
            shutil.chown(home, self._user)
        command: list[str | Path] = [
            *(self._programs / "pg_basebackup", "-D", data, "-R", "-X", "stream"),
            *("-h", self._primary.private.socket_directory(), "-p", str(PORT)),
            *("-U", SUPERUSER, "--checkpoint=fast", "--no-sync"),
        ]
        done = daemon.run(command, cwd=home, user=self._user)
        if done.returncode != 0:
            raise StoreUnavailableError(f"pg_basebackup failed: {done.stderr.strip()}")
        # The copy contains the lock of the primary's socket.
        (data / f"{SOCKET_NAME}.lock").unlink()
        command = [self._programs / "postgres", "-D", data]
        for setting in (
            "listen_addresses=",
            f"unix_socket_directories={data}",
            "unix_socket_permissions=0700",
            f"port={PORT}",
        ):
            command += ["-c", setting]
        daemon.spawn(
            command, log=self._standby.private.log, cwd=data, environment={}, user=self._user
        )
        self._set_standbys("*")
        until("the standby is synchronous", self._synchronous)
        self._attached = True

    def fail_over(self) -> None:
        """Kill the primary and promote the standby."""
        self._primary.kill()
        with self._connect(self._standby) as connection:
            # Waiting here would hold a snapshot, which replay may cancel.
            connection.execute("SELECT pg_promote(wait => false)")
        until("the standby is promoted", self._promoted)
        self._primary, self._standby = self._standby, self._primary
        self._attached = False

    def _promoted(self) -> bool:
        with self._connect(self._standby) as connection:
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)

    def stop(self) -> None:
        """Stop both."""
        for server in (self._standby, self._primary):
            server.stop()

    def _connect(self, server: Postgres) -> psycopg.Connection[tuple[object, ...]]:
        host = str(server.private.data)
        return psycopg.connect(
            host=host, port=PORT, user=SUPERUSER, dbname=DATABASE, autocommit=True
        )

    def _set_standbys(self, names: str) -> None:
        with self._connect(self._primary) as connection:
            # Without waiting for a standby that is gone.
            connection.execute("SET synchronous_commit = local")
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def _synchronous(self) -> bool:
        with self._connect(self._primary) as connection:
            found = connection.execute(
                "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"
            ).fetchone()
        return found is not None


class PgBouncer:
    """A PgBouncer in transaction mode in front of a server.

    Parameters
    ----------
    directory : Path
        The directory of its configuration and its socket.
    server : Postgres
        The running server.
    """

    def __init__(self, directory: Path, server: Postgres) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise Skipped("pgbouncer is not installed: apt-get install pgbouncer")
        self._directory, self._user = directory, server.user
        directory.mkdir(mode=0o711)
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            f"""\
[databases]
{DATABASE} = host={server.private.socket_directory()} port={PORT} user={SUPERUSER}
[pgbouncer]
pool_mode = transaction
default_pool_size = 12
listen_port = {POOLER_PORT}
unix_socket_dir = {directory}
unix_socket_mode = 0700
auth_type = any
ignore_startup_parameters = extra_float_digits
"""
        )
        if self._user is not None:
            shutil.chown(directory, self._user)
            shutil.chown(configuration, self._user)
        self._command = [program, "-q", str(configuration)]
        self._process: psutil.Process | None = None
        self.url = f"postgresql://{SUPERUSER}@/{DATABASE}?host={directory}&port={POOLER_PORT}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self._directory / f".s.PGSQL.{POOLER_PORT}").unlink(missing_ok=True)
        self._process = daemon.spawn(
            self._command,
            log=self._directory / "pgbouncer.log",
            cwd=self._directory,
            environment={},
            user=self._user,
        )
        until("PgBouncer answers", self._answers)

    def kill(self) -> None:
        """Kill it, and with it all connections of its clients."""
        if self._process is not None:
            daemon.end(self._process, [(SIGKILL, PATIENCE)])

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def small_disk(directory: Path, given: Path | None) -> Iterator[Path]:
    """Yield an empty directory on a small file system.

    Parameters
    ----------
    directory : Path
        Where to mount one.
    given : Path, optional
        A directory on a small file system that exists.

    Raises
    ------
    Skipped
        If none is given, and this process may not mount one.
    """
    if given is not None:
        made = given / f"soak-{os.getpid()}"
        made.mkdir()
        try:
            yield made
        finally:
            shutil.rmtree(made)
        return
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SMALL},mode=0711", "alchemistore-soak"]
    try:
        done = subprocess.run(
            ["mount", *options, str(directory)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise Skipped(f"{error.filename} is not installed; pass --small-disk") from error
    if done.returncode != 0:
        raise Skipped(f"a tmpfs cannot be mounted ({done.stderr.strip()}); pass --small-disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path, seconds: float) -> None:
    """Fill the disk of a directory, and free it again after some seconds."""
    ballast = directory / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                # Space that the server frees meanwhile is taken, too.
                with suppress(OSError):
                    while file.write(bytes(65_536)):
                        continue
                time.sleep(0.1)
    finally:
        ballast.unlink()
