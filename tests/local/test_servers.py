"""The private servers start once, serve all processes, keep their data, and survive crashes."""

from __future__ import annotations

import os
import pwd
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from alchemistore.local import LocalServers, database_url
from alchemistore.local.daemon import free_ports, run
from alchemistore.local.postgres import STILL_IN_USE, SYSTEM_USER
from tests.support.local_servers import (
    always_ok_server,
    connect,
    fill,
    fill_s3,
    is_filled,
    kill,
    listeners,
    object_store,
    s3_is_filled,
)

START = """
import sys
from alchemistore.local import LocalServers
print(LocalServers(sys.argv[1]).start())
"""
HOLD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from alchemistore.local.daemon import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def python(code: str, argument: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(argument)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_both_servers_work_and_keep_their_data_over_a_restart(servers: LocalServers) -> None:
    status = servers.start()
    assert status.database is not None
    assert status.s3 is not None
    fill(servers)
    object_store(servers).check()
    before = servers.environment()
    servers.stop()
    assert (
        not psutil.pid_exists(status.s3.pid)
        or psutil.Process(status.s3.pid).status() == psutil.STATUS_ZOMBIE
    )
    assert (servers.status().database, servers.status().s3) == (None, None)
    servers.start()
    assert is_filled(servers)
    # Addresses and keys stay the same.
    assert servers.environment() == before


def test_starting_again_changes_nothing(local_servers: LocalServers) -> None:
    assert (
        local_servers.start()
        == local_servers.status()
        == LocalServers(local_servers.directory).start()
    )


def test_servers_outlive_their_starting_process(created_servers: LocalServers) -> None:
    servers = created_servers
    with python(START, servers.directory) as starter:
        assert starter.wait() == 0
    assert servers.start() == servers.status()
    fill(servers)


def test_several_processes_start_one_pair_of_servers(created_servers: LocalServers) -> None:
    servers = created_servers
    starters = [python(START, servers.directory) for _ in range(4)]
    answers = {starter.communicate()[0] for starter in starters}
    assert [starter.returncode for starter in starters] == [0] * 4
    assert answers == {f"{servers.status()}\n"}


def test_data_survive_a_kill_of_both_servers(created_servers: LocalServers) -> None:
    servers = created_servers
    status = servers.start()
    fill(servers)
    kill(status.database)
    kill(status.s3)
    assert (servers.status().database, servers.status().s3) == (None, None)
    again = servers.start()
    assert again.database != status.database
    assert is_filled(servers)


def test_start_waits_for_the_last_process_of_a_killed_server(created_servers: LocalServers) -> None:
    servers = created_servers
    status = servers.start(s3=False)
    assert status.database is not None
    children = psutil.Process(status.database.pid).children()
    checkpointer = next(child for child in children if "checkpointer" in " ".join(child.cmdline()))
    checkpointer.suspend()
    kill(status.database)
    log = servers.directory / "postgres.log"
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(servers.start, s3=False)
        while STILL_IN_USE not in log.read_text():
            assert not start.done()
        checkpointer.resume()
        assert start.result().database is not None


def test_lock_of_a_killed_process_is_free(created_servers: LocalServers) -> None:
    servers = created_servers
    with python(HOLD, servers.directory / "lock") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        servers.start(s3=False)
    assert servers.status().database is not None


def test_process_with_the_reused_id_of_a_killed_server_is_not_mistaken_for_it(
    created_servers: LocalServers,
) -> None:
    servers = created_servers
    status = servers.start(s3=False)
    kill(status.database)
    # PostgreSQL checks processes of its own user only.
    user = SYSTEM_USER if os.geteuid() == 0 else None
    with subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, user=user
    ) as stranger:
        file = servers.directory / "postgres" / "postmaster.pid"
        file.write_text(re.sub(r"^\d+", str(stranger.pid), file.read_text()))
        assert servers.status().database is None
        again = servers.start(s3=False).database
        assert again is not None
        assert again.pid != stranger.pid
        servers.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_s3_server_of_a_killed_starter_is_found(
    servers: LocalServers,
) -> None:
    status = servers.start(database=False)
    note = servers.directory / "s3" / "state.json"
    assert status.s3 is not None
    note.write_text(note.read_text().replace(str(status.s3.pid), str(2**22)))
    assert servers.start(database=False).s3 == status.s3


def test_ports_in_use_are_survived(servers: LocalServers) -> None:
    status = servers.start(database=False)
    fill_s3(servers)
    servers.stop()
    assert status.s3 is not None
    with socket.create_server(("127.0.0.1", status.s3.ports["s3.port"])):
        again = servers.start(database=False)
        assert again.s3 is not None
        assert again.s3.ports["s3.port"] != status.s3.ports["s3.port"]
        assert s3_is_filled(servers)


def test_foreign_server_on_the_port_is_not_mistaken_for_ours(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = servers.start(database=False)
    servers.stop()
    assert status.s3 is not None
    # The other server starts after the check of the ports, and accepts every request.
    monkeypatch.setattr("alchemistore.local.daemon.ports_are_free", lambda ports: True)
    with always_ok_server(status.s3.ports["s3.port"]):
        again = servers.start(database=False)
        assert again.s3 is not None
        assert ("127.0.0.1", again.s3.ports["s3.port"]) in listeners(again.s3)
        object_store(servers).check()


def test_s3_server_missing_from_its_recorded_port_is_started_again(servers: LocalServers) -> None:
    status = servers.start(database=False)
    assert status.s3 is not None
    note = servers.directory / "s3" / "state.json"
    (port,) = free_ports(1)
    note.write_text(note.read_text().replace(str(status.s3.ports["s3.port"]), str(port)))
    assert servers.start(database=False).s3 != status.s3
    object_store(servers).check()


def test_database_url_starts_postgresql_only(servers: LocalServers) -> None:
    url = database_url(servers.directory)
    assert (
        url == database_url(servers.directory) == servers.environment()["ALCHEMISTORE_DATABASE_URL"]
    )
    assert servers.status().s3 is None
    assert "AWS_ENDPOINT_URL" not in servers.environment()


def test_database_speaks_utf8_and_utc_and_sorts_by_code_point(local_servers: LocalServers) -> None:
    with connect(local_servers) as connection:
        row = connection.execute(
            "SELECT current_setting('server_encoding'), current_setting('timezone'),"
            " 'Z' < 'a' COLLATE \"default\""
        ).fetchone()
    assert row == ("UTF8", "UTC", True)


def test_libpq_settings_in_the_environment_are_ignored(
    created_servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = created_servers
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    servers.start(s3=False)
    with connect(servers) as connection:
        assert connection.execute("SHOW port").fetchone() == ("5432",)


def test_incomplete_database_is_created_again(servers: LocalServers) -> None:
    half = servers.directory / "initdb-killed"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    servers.start(s3=False)
    assert not half.exists()


def test_any_directory_path_is_accepted(fresh_directory: Path) -> None:
    servers = LocalServers(fresh_directory / ("deep/" * 40 + 'it\'s "odd", ü $HOME'))
    try:
        servers.start()
        fill(servers)
        servers.stop()
        servers.start()
        assert is_filled(servers)
    finally:
        servers.stop()


def test_symbolic_link_leads_to_the_same_servers(
    local_servers: LocalServers, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(local_servers.directory)
    assert LocalServers(link).start() == local_servers.status()


def test_servers_listen_on_localhost_only(local_servers: LocalServers) -> None:
    status = local_servers.status()
    assert listeners(status.database) == set()
    found = listeners(status.s3)
    assert {address for address, _ in found} == {"127.0.0.1"}
    assert status.s3 is not None
    ports = status.s3.ports
    assert {port for _, port in found} <= {*ports.values(), ports["admin.port"] + 10_000}


def test_stop_without_running_servers_changes_nothing(servers: LocalServers) -> None:
    servers.stop()
    assert not servers.directory.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL has its own user for root only")
def test_programs_that_the_user_of_postgresql_cannot_reach_are_copied(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alchemistore.local.postgres.can_run", lambda binaries, user: False)
    servers.start(s3=False)
    status = servers.status()
    assert status.database is not None
    assert psutil.Process(status.database.pid).cmdline()[0].startswith(str(servers.directory))
    copied = next(servers.directory.glob("postgresql-*/*/*/bin/psql"))
    answer = run([copied, "-V"], cwd=Path("/"), user=SYSTEM_USER)
    assert answer.stdout.startswith("psql (PostgreSQL)")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root creates a user for PostgreSQL")
def test_removal_deletes_the_directory_and_the_user_created_for_it(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = f"pgtest{os.getpid()}"
    monkeypatch.setattr("alchemistore.local.postgres.SYSTEM_USER", user)
    status = servers.start(s3=False)
    assert status.database is not None
    assert psutil.Process(status.database.pid).username() == user
    servers.remove()
    assert not servers.directory.exists()
    assert user not in {entry.pw_name for entry in pwd.getpwall()}
