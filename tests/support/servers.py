"""Private servers: one pair per test run, shared by all workers of pytest-xdist."""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import psutil
import psycopg
import pytest
from pydantic import SecretStr

from alchemistore import S3ObjectStore
from alchemistore.local import LocalServers, database_url
from alchemistore.local.daemon import exclusive
from alchemistore.local.postgres import PrivatePostgres
from alchemistore.objectstore import get_s3os
from alchemistore.settings import S3ObjectStoreSettings

PREFIX = "alchemistore-test-"
MAX_CONNECTIONS = "200"
# Data of tests need not survive a power cut.
FAST = {
    "max_connections": MAX_CONNECTIONS,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


# A file system in memory, and the bytes that must be free there.
MEMORY, SPACE = Path("/dev/shm"), 4 * 2**30


def parent_of_data() -> Path:
    """Return the directory for the data of servers, in memory if there is room.

    To copy a database takes an eighth of the CPU time there.
    """
    usable = (
        os.access(MEMORY, os.W_OK)
        and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
        and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) >= SPACE
    )
    return MEMORY if usable else Path(tempfile.gettempdir())


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this run share."""
    run = tmp_path_factory.getbasetemp()
    return run.parent if "PYTEST_XDIST_WORKER" in os.environ else run


@pytest.fixture(scope="session")
def servers_directory(run_directory: Path) -> Iterator[Path]:
    """The data directory of this run's servers; the last worker stops them and removes it."""
    note = run_directory / "servers"
    # One lock for all test runs of this user, because each cleans up after the others.
    lock = Path(tempfile.gettempdir()) / f"{PREFIX}{os.geteuid()}.lock"
    with exclusive(lock):
        _remove_abandoned()
        # Not below pytest's directory: as root, PostgreSQL's own user cannot enter that.
        directory = Path(note.read_text()) if note.exists() else None
        if directory is None or not directory.exists():
            directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent_of_data()))
        note.write_text(str(directory))
        _write_users(directory, [*_users(directory), os.getpid()])
    yield directory
    with exclusive(lock):
        _write_users(directory, [pid for pid in _users(directory) if pid != os.getpid()])
        if not _users(directory):
            note.unlink()
            _remove(directory)


@pytest.fixture(scope="session")
def database_server(servers_directory: Path) -> str:
    """The URL of a PostgreSQL server that is fast and not durable."""
    with exclusive(servers_directory / "tuning.lock"):
        url = database_url(servers_directory)
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute("SHOW max_connections").fetchone()
            if found == (MAX_CONNECTIONS,):
                return url
            for name, value in FAST.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
        PrivatePostgres(servers_directory).stop()
        return database_url(servers_directory)


@pytest.fixture(scope="session")
def s3_server(servers_directory: Path) -> S3ObjectStoreSettings:
    """The settings of a SeaweedFS server."""
    servers = LocalServers(servers_directory)
    servers.start(database=False)
    environment = servers.environment()
    return S3ObjectStoreSettings.model_validate(
        {name: environment[name] for name in environment if name.startswith("AWS_")}
    )


@pytest.fixture(scope="session")
def local_servers(
    servers_directory: Path, database_server: str, s3_server: S3ObjectStoreSettings
) -> LocalServers:
    """Both servers, running."""
    return LocalServers(servers_directory)


@pytest.fixture
def fresh_directory() -> Iterator[Path]:
    """A directory for separate private servers, not created yet, which every user may enter."""
    parent = Path(tempfile.mkdtemp(prefix="alchemistore-fresh-", dir=parent_of_data()))
    # PostgreSQL does not run as root.
    parent.chmod(0o755)
    yield parent / "data"
    _throw_away(parent / "data")
    shutil.rmtree(parent)


def discard_bucket(settings: S3ObjectStoreSettings) -> None:
    """Remove a bucket and its objects; SeaweedFS reserves some of its few volumes for each."""
    client = get_s3os(settings).bucket_prefix.client
    with contextlib.suppress(client.exceptions.NoSuchBucket):
        client.delete_bucket(Bucket=settings.AWS_S3_BUCKET)


@pytest.fixture
def bucket(s3_server: S3ObjectStoreSettings) -> Iterator[S3ObjectStoreSettings]:
    """The settings of a separate bucket, which does not exist yet."""
    settings = s3_server.model_copy(update={"AWS_S3_BUCKET": f"test-{uuid.uuid4().hex}"})
    yield settings
    discard_bucket(settings)


@pytest.fixture
def objects(bucket: S3ObjectStoreSettings) -> S3ObjectStore:
    """A separate, empty object store."""
    objects = get_s3os(bucket)
    objects.initialize()
    return objects


def variables(url: str, settings: S3ObjectStoreSettings) -> dict[str, str]:
    """Return the variables that name a database and an object store."""
    return {
        "ALCHEMISTORE_DATABASE_URL": url,
        **{
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in settings
            if value is not None
        },
    }


def _users(directory: Path) -> list[int]:
    """Return the live processes that use the servers; a worker may have been killed."""
    file = directory / "users.json"
    return (
        [pid for pid in json.loads(file.read_text()) if psutil.pid_exists(pid)]
        if file.exists()
        else []
    )


def _write_users(directory: Path, users: list[int]) -> None:
    (directory / "users.json").write_text(json.dumps(users))


def _remove_abandoned() -> None:
    """Remove the directories of test runs that were killed."""
    for directory in chain.from_iterable(
        parent.glob(f"{PREFIX}*/") for parent in (MEMORY, Path(tempfile.gettempdir()))
    ):
        if (
            directory.stat().st_uid == os.geteuid()
            and (directory / "users.json").exists()
            and not _users(directory)
        ):
            _remove(directory)


def _throw_away(directory: Path) -> None:
    """Stop servers whose data is not needed."""
    servers = LocalServers(directory)
    s3 = servers.status().s3
    if s3 is not None:
        # An orderly shutdown takes seconds.
        os.kill(s3.pid, signal.SIGKILL)
    servers.stop()


def _remove(directory: Path) -> None:
    # Two test runs may both see that it is not in use.
    with exclusive(Path(tempfile.gettempdir()) / f".{PREFIX}{os.geteuid()}.lock"):
        if directory.exists():
            _throw_away(directory)
            # A server that was ended may still be tidying up.
            shutil.rmtree(directory, ignore_errors=True)
