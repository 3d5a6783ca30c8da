"""A private PostgreSQL server and a private S3 server under one data directory.

Both servers are daemons. They keep running after the process that started them has ended, and serve
every process that uses the same directory, until :meth:`LocalServers.stop`. The data survive
restarts of the servers and of the machine.
"""

from __future__ import annotations

import os
import shutil
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
        The id of its process.
    address : str
        The directory of the Unix socket, or a URL.
    ports : dict
        The TCP ports on 127.0.0.1 that it uses, by name; empty for PostgreSQL.
    """

    pid: int
    address: str
    ports: dict[str, int]


@dataclass(frozen=True)
class LocalStatus:
    """The state of both servers. It contains no secrets.

    Attributes
    ----------
    directory : Path
        The data directory.
    database, s3 : ServerStatus or None
        ``None`` if the server is not running.
    """

    directory: Path
    database: ServerStatus | None
    s3: ServerStatus | None


class LocalServers:
    """The private servers of one data directory.

    Parameters
    ----------
    directory : Path or str
        The directory of all data, keys and logs; :meth:`start` creates it.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).expanduser().resolve()

    def __repr__(self) -> str:
        return f"LocalServers({str(self.directory)!r})"

    def start(self, *, database: bool = True, s3: bool = True) -> LocalStatus:
        """Start the servers that are not running yet. Several processes may do so at once.

        Parameters
        ----------
        database, s3 : bool, default True
            Which servers to start.

        Returns
        -------
        LocalStatus

        Raises
        ------
        StoreUnavailableError
            If a server is not installed, cannot use the directory, or does not start.
        """
        postgres, store = self._parts()
        with self._locked():
            if database:
                postgres.start()
            if s3:
                store.start()
        return self.status()

    def stop(self) -> None:
        """Stop both servers and end open sessions. Do nothing if no server is running."""
        if self.directory.exists():
            postgres, store = self._parts()
            with self._locked():
                store.stop()
                postgres.stop()

    def remove(self) -> None:
        """Stop both servers and delete the directory with all data, keys and logs.

        If :meth:`start` created a system user to run PostgreSQL for this directory, and the user
        runs no other process, the user is deleted, too.
        """
        self.stop()
        if self.directory.exists():
            self._parts()[0].remove_traces()
            shutil.rmtree(self.directory)

    def status(self) -> LocalStatus:
        """Return which servers are running."""
        postgres, store = self._parts()
        with self._translate_errors():
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

    def database_url(self) -> str:
        """Return the URL of the PostgreSQL server. Start it if necessary."""
        postgres, _ = self._parts()
        with self._translate_errors():
            url = postgres.url()
        if url is None:
            self.start(s3=False)
            url = self.environment()["ALCHEMISTORE_DATABASE_URL"]
        return url

    def environment(self) -> dict[str, str]:
        """Return the environment variables that tell programs how to reach the running servers.

        This is the only call that returns the keys of the S3 server.

        Returns
        -------
        dict
            ``ALCHEMISTORE_DATABASE_URL`` and the ``AWS_…`` variables, for the running servers.

        Raises
        ------
        StoreUnavailableError
            If no server is running.
        """
        from alchemistore.local.s3 import BUCKET, PREFIX, REGION

        postgres, store = self._parts()
        found = {}
        with self._translate_errors():
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
                f"no server is running in {self.directory};"
                " start the servers with: alchemistore local start"
            )
        return found

    def _parts(self) -> tuple[PrivatePostgres, PrivateS3]:
        try:
            from alchemistore.local.postgres import PrivatePostgres
            from alchemistore.local.s3 import PrivateS3
        except ModuleNotFoundError as error:
            raise StoreUnavailableError(
                f"the private servers need {error.name};"
                " install it with: pip install 'alchemistore[embedded]'"
            ) from error
        return PrivatePostgres(self.directory), PrivateS3(self.directory)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from alchemistore.local import daemon

        with self._translate_errors():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.directory.stat().st_uid
            if owner != os.geteuid():
                raise StoreUnavailableError(
                    f"{self.directory} belongs to user {owner}, but this process runs as user"
                    f" {os.geteuid()}; choose another data directory, or run this as its owner"
                )
            with daemon.exclusive(self.directory / "lock"):
                yield

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise StoreUnavailableError(
                f"{self.directory} cannot be used by user {os.geteuid()}: {error.strerror}:"
                f" {error.filename}; choose another data directory, or run this as its owner"
            ) from error
        except (NotADirectoryError, FileExistsError) as error:
            raise StoreUnavailableError(
                f"{self.directory} cannot hold the data: {error.strerror}: {error.filename};"
                " choose another data directory"
            ) from error


def database_url(directory: Path | str) -> str:
    """Return the URL of the private PostgreSQL of a directory. Start the server if necessary.

    Parameters
    ----------
    directory : Path or str
        The data directory.

    Returns
    -------
    str
        A ``postgresql://`` URL without a password: only the owner of the directory can reach the
        socket.
    """
    return LocalServers(directory).database_url()


def default_directory() -> Path:
    """Return the default data directory: below the home directory, or ``/var/lib`` for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/alchemistore")
    return (
        Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "alchemistore"
    )
