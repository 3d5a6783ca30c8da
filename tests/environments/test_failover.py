"""Failover: an address that leads to the primary, then to a standby, and back."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from alchemistore import Scope, StateStore, StoreUnavailableError
from alchemistore.database import transaction
from alchemistore.local import daemon
from alchemistore.local.postgres import SOCKET_NAME, SYSTEM_USER, PrivatePostgres
from alchemistore.monitoring.collection import Collection
from alchemistore.monitoring.readings import database_parts
from tests.support.campaigns import campaign
from tests.support.concurrency import Running
from tests.support.servers import parent_of_data

USER = SYSTEM_USER if os.geteuid() == 0 else None
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _url(sockets: Path | str, **parameters: str) -> str:
    more = "".join(f"&{name}={value}" for name, value in parameters.items())
    return f"postgresql://postgres@/alchemistore?host={sockets}&port=5432{more}"


@dataclass(frozen=True)
class Pair:
    """A primary, a standby, and an address that leads to one of them."""

    primary: PrivatePostgres
    standby: Path
    address: Path

    @property
    def url(self) -> str:
        return _url(self.address)

    def lead_to_primary(self) -> None:
        self._lead(Path(self.primary.socket_directory()))

    def lead_to_standby(self) -> None:
        self._lead(self.standby)

    def _lead(self, sockets: Path) -> None:
        link = self.address / "link"
        link.symlink_to(sockets / SOCKET_NAME)
        link.rename(self.address / SOCKET_NAME)

    def catch_up(self) -> None:
        """Wait until the standby has all that the primary has."""
        with psycopg.connect(_url(self.primary.socket_directory()), autocommit=True) as connection:
            row = connection.execute("SELECT CAST(pg_current_wal_lsn() AS text)").fetchone()
        assert row is not None
        with psycopg.connect(_url(self.standby), autocommit=True) as connection:
            for _ in range(3000):
                query = "SELECT pg_last_wal_replay_lsn() >= CAST(%s AS pg_lsn)"
                if connection.execute(query, row).fetchone() == (True,):
                    return
                time.sleep(0.01)
        raise AssertionError("the standby does not catch up")


def _wait_for(url: str, log: Path) -> None:
    for _ in range(3000):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"the standby does not start: {log.read_text()}")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    directory = Path(tempfile.mkdtemp(prefix="alchemistore-pair-", dir=parent_of_data()))
    directory.chmod(0o755)
    made = {name: directory / name for name in ("primary", "standby", "address")}
    for one in made.values():
        one.mkdir()
        if USER is not None:
            shutil.chown(one, USER, USER)
    primary = PrivatePostgres(made["primary"])
    url = primary.start()
    with closing(StateStore(url)) as store:
        store.initialize()
    process = primary.process()
    assert process is not None
    programs = Path(process.exe()).parent
    data = made["standby"] / "data"
    options = ("--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream")
    done = daemon.run(
        [programs / "pg_basebackup", "-d", _url(primary.socket_directory()), "-D", data, *options],
        cwd=made["standby"],
        environment=ENVIRONMENT,
        user=USER,
    )
    assert done.returncode == 0, done.stderr
    log = made["standby"] / "log"
    settings = ("listen_addresses=", f"unix_socket_directories={made['standby']}", "fsync=off")
    command: list[str | Path] = [programs / "postgres", "-D", data]
    for one_setting in settings:
        command += ["-c", one_setting]
    standby = daemon.spawn(
        command, log=log, cwd=made["standby"], environment=ENVIRONMENT, user=USER
    )
    assert standby is not None
    try:
        _wait_for(_url(made["standby"]), log)
        yield Pair(primary, made["standby"], made["address"])
    finally:
        if standby is not None:
            daemon.end(standby, [(2, 30), (9, 30)])
        primary.stop()
        shutil.rmtree(directory)


@pytest.fixture
def store(pair: Pair) -> Iterator[StateStore]:
    """A store at the address, which leads to the primary."""
    pair.lead_to_primary()
    with closing(StateStore(pair.url)) as store:
        yield store
        pair.lead_to_primary()
        store.close()
        store.reset()
        store.initialize()


def _fill_pool(store: StateStore) -> None:
    """Open as many connections as the pool keeps, and more."""
    with (
        store.transaction(readonly=True) as a,
        store.transaction(readonly=True) as b,
        store.transaction(readonly=True) as c,
        store.transaction(readonly=True) as d,
        store.transaction(readonly=True) as e,
        store.transaction(readonly=True) as f,
        store.transaction(readonly=True) as g,
    ):
        for one in (a, b, c, d, e, f, g):
            one.query_tasks()


def test_standby_answers_reads_and_refuses_writes_with_advice(
    pair: Pair, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2)
    pair.catch_up()
    with closing(StateStore(_url(pair.standby))) as standby:
        assert standby.query_tasks() == sorted(made.tasks, key=str)
        assert standby.get_network_status(made.network) == {"waiting": 2}
        assert standby.wait_for_tasks([scope], timeout=0)
        assert not standby.wait_for_tasks(["nothing-*-*"], timeout=0.2)
        collection = Collection(database_parts(standby.engine, timedelta(minutes=30)), 10.0)
        collection.refresh()
        assert collection.errors() == {}
        found = {one.family: one.numbers for one in collection.samples()}
        assert found["database_standby"] == (1,)
        with standby.transaction(readonly=True) as tx:
            assert tx.query_tasks() == sorted(made.tasks, key=str)
        with pytest.raises(StoreUnavailableError, match=r"standby.*target_session_attrs=primary"):
            standby.set_task_priority(made.tasks, 2)
        with pytest.raises(StoreUnavailableError, match="standby"), standby.transaction():
            pass


def test_write_after_failback_works_at_once_with_a_pool_full_of_connections_to_the_standby(
    pair: Pair, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    store.close()
    pair.lead_to_standby()
    _fill_pool(store)
    pair.lead_to_primary()
    assert store.set_task_priority(made.tasks, 2) == made.tasks
    with store.transaction() as tx:
        assert tx.get_task_priority(made.tasks) == [2]


def test_write_that_reaches_the_standby_is_repeated_until_the_address_leads_to_the_primary(
    pair: Pair, store: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = campaign(store, scope, tasks=1)
    store.close()
    pair.lead_to_standby()
    pauses = []

    def pause(attempt: int) -> None:
        pauses.append(attempt)
        if attempt == 3:
            pair.lead_to_primary()

    monkeypatch.setattr(transaction, "pause", pause)
    assert store.set_task_priority(made.tasks, 3) == made.tasks
    assert pauses == [1, 2, 3]


def _restart(pair: Pair) -> None:
    pair.primary.stop()
    pair.primary.start()
    pair.lead_to_primary()


CALLS: list[Callable[[StateStore], Any]] = [
    lambda store: store.query_tasks(),
    lambda store: store.create_tasks([]),
    lambda store: store.maintain_queue(),
    lambda store: store.check(),
    lambda store: store.initialize(),
    lambda store: store.wait_for_tasks(timeout=0),
]


def test_first_call_after_a_restart_of_the_server_works(pair: Pair, store: StateStore) -> None:
    for call in CALLS:
        _fill_pool(store)
        _restart(pair)
        call(store)
    _fill_pool(store)
    _restart(pair)
    assert store._store_check()
    _fill_pool(store)
    _restart(pair)
    with store.transaction() as tx:
        assert tx.query_tasks() == []


def test_waiting_survives_a_restart_of_the_server(
    pair: Pair, store: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alchemistore.store.POLL_SECONDS", (0.05, 0.1))
    made = campaign(store, scope, tasks=1, action=False)
    waiting = Running(lambda: store.wait_for_tasks([scope], timeout=60))
    assert not waiting.done.wait(0.3)
    _restart(pair)
    assert not waiting.done.wait(0.3)
    store.action_tasks(made.tasks, made.hub)
    assert waiting.result()


@pytest.mark.parametrize(
    ("attribute", "in_recovery"), [("primary", False), ("read-write", False), ("standby", True)]
)
def test_url_with_several_hosts_finds_the_server_of_the_wanted_kind(
    pair: Pair, store: StateStore, attribute: str, in_recovery: bool
) -> None:
    hosts = f"{pair.standby},{pair.primary.socket_directory()}"
    for order in (hosts, ",".join(reversed(hosts.split(",")))):
        url = _url(order, target_session_attrs=attribute)
        with closing(StateStore(url)) as found, found.transaction(readonly=True) as tx:
            assert tx.connection is not None
            assert tx.connection.scalar(text("SELECT pg_is_in_recovery()")) is in_recovery
