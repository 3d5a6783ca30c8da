"""The embedded default: a private PostgreSQL and a private S3 server under one data directory.

Both are daemons: they outlive the process that starts them and serve every process that names the same directory, until
:meth:`LocalServers.stop`. Data survive restarts of the servers and of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alchemistore.errors import StoreUnavailableError

if TYPE_CHECKING:
    from alchemistore.local.postgres import PrivatePostgres
    from alchemistore.local.s3 import PrivateS3

__all__ = ["LocalServers", "LocalStatus", "ServerStatus", "database_url", "default_directory"]


@dataclass(frozen=True)
class ServerStatus:
    """A running server.

    Attributes
    ----------
    pid : int
        Its process.
    address : str
        Where it listens: a directory with the Unix socket, or a URL.
    ports : dict
        The TCP ports of 127.0.0.1 that it uses, by name; empty for PostgreSQL.
    """

    pid: int
    address: str
    ports: dict[str, int]


@dataclass(frozen=True)
class LocalStatus:
    """What runs. Holds no secrets.

    Attributes
    ----------
    directory : Path
        The data directory.
    database, s3 : ServerStatus or None
        ``None`` for a server that does not run.
    """

    directory: Path
    database: ServerStatus | None
    s3: ServerStatus | None


class LocalServers:
    """The private servers of one data directory.

    Parameters
    ----------
    directory : Path or str
        Holds all data, keys and logs; made by :meth:`start`.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).expanduser().resolve()

    def __repr__(self) -> str:
        return f"LocalServers({str(self.directory)!r})"

    def start(self, *, database: bool = True, s3: bool = True) -> LocalStatus:
        """Start the servers that do not run yet; several processes may do so at once.

        Parameters
        ----------
        database, s3 : bool, default True
            Which servers are wanted.

        Returns
        -------
        LocalStatus

        Raises
        ------
        StoreUnavailableError
            A server is not installed, cannot use the directory, or does not start; the text says what to do.
        """
        postgres, store = self._parts()
        with self._locked():
            if database:
                postgres.start()
            if s3:
                store.start()
        return self.status()

    def stop(self) -> None:
        """Stop both servers; open sessions are ended. Nothing happens when none runs."""
        if self.directory.exists():
            postgres, store = self._parts()
            with self._locked():
                store.stop()
                postgres.stop()

    def status(self) -> LocalStatus:
        """Tell what runs."""
        postgres, store = self._parts()
        with self._explained():
            server, weed = postgres.process(), store.process()
            return LocalStatus(
                directory=self.directory,
                database=None
                if server is None
                else ServerStatus(server.pid, postgres.socket_directory(), {}),
                s3=None
                if weed is None
                else ServerStatus(weed.pid, store.endpoint(), store.ports()),
            )

    def environment(self) -> dict[str, str]:
        """Give the environment variables by which every program finds the running servers.

        This is the one place that gives away the keys of the S3 server.

        Returns
        -------
        dict
            ``ALCHEMISTORE_DATABASE_URL`` and the ``AWS_…`` names, of the servers that run.

        Raises
        ------
        StoreUnavailableError
            No server runs.
        """
        from alchemistore.local.s3 import BUCKET, PREFIX, REGION

        postgres, store = self._parts()
        found = {}
        with self._explained():
            if url := postgres.url():
                found["ALCHEMISTORE_DATABASE_URL"] = url
            if store.process() is not None:
                access_key, secret_key = store.keys()
                found |= {
                    "AWS_ENDPOINT_URL": store.endpoint(),
                    "AWS_S3_BUCKET": BUCKET,
                    "AWS_S3_PREFIX": PREFIX,
                    "AWS_DEFAULT_REGION": REGION,
                    "AWS_ACCESS_KEY_ID": access_key,
                    "AWS_SECRET_ACCESS_KEY": secret_key,
                }
        if not found:
            raise StoreUnavailableError(
                f"no server runs in {self.directory}; start them with: alchemistore local start"
            )
        return found

    def _parts(self) -> tuple[PrivatePostgres, PrivateS3]:
        try:
            from alchemistore.local.postgres import PrivatePostgres
            from alchemistore.local.s3 import PrivateS3
        except ModuleNotFoundError as error:
            raise StoreUnavailableError(
                f"the private servers need {error.name}; install them with: pip install 'alchemistore[embedded]'"
            ) from error
        return PrivatePostgres(self.directory), PrivateS3(self.directory)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from alchemistore.local import daemon

        with self._explained():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.directory.stat().st_uid
            if owner != os.geteuid():
                raise StoreUnavailableError(
                    f"{self.directory} belongs to user {owner}, and this runs as user {os.geteuid()};"
                    " choose another data directory, or run this as its owner"
                )
            with daemon.exclusive(self.directory / "lock"):
                yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise StoreUnavailableError(
                f"{self.directory} cannot be used by user {os.geteuid()}: {error.strerror}: {error.filename};"
                " choose another data directory, or run this as the user that owns it"
            ) from error
        except (NotADirectoryError, FileExistsError) as error:
            raise StoreUnavailableError(
                f"{self.directory} cannot hold the data: {error.strerror}: {error.filename}; choose another data directory"
            ) from error


def database_url(directory: Path | str) -> str:
    """Give the ``postgresql://`` URL of the private PostgreSQL of a directory, which is started when it does not run.

    Parameters
    ----------
    directory : Path or str
        The data directory.

    Returns
    -------
    str
        A URL without password: only the user that owns the directory can reach the socket.
    """
    servers = LocalServers(directory)
    postgres, _ = servers._parts()
    with servers._explained():
        url = postgres.url()
    if url is None:
        servers.start(s3=False)
        url = servers.environment()["ALCHEMISTORE_DATABASE_URL"]
    return url


def default_directory() -> Path:
    """Give the data directory for somebody who names none: below the home directory, or ``/var/lib`` for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/alchemistore")
    return (
        Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "alchemistore"
    )
