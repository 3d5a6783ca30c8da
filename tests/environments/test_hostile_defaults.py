"""Every call works whatever the defaults of the database and of the role are."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import text

from alchemistore import Scope, Settings, StateStore, StateStoreError, StoreUnavailableError
from alchemistore.database.engine import database_url
from alchemistore.tables import metadata
from tests.conftest import NewDatabase
from tests.machine.test_machine import Machine
from tests.support.calls import (
    ABOUT_ONE,
    CALLS,
    CASES,
    Act,
    Prepare,
    World,
    arguments,
    make_user,
    make_world,
    try_tasks,
)
from tests.support.campaigns import Campaign, campaign, register
from tests.support.concurrency import run_while_open
from tests.support.databases import libpq, rolled_back
from tests.support.machines import run_machine
from tests.support.results import ref

SESSION = {
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "'iso_8601'",
    "TimeZone": "'Pacific/Chatham'",
    "bytea_output": "'escape'",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "row_security": "off",
    "client_encoding": "'LATIN1'",
    "statement_timeout": "'100ms'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "default_transaction_deferrable": "on",
    "default_transaction_read_only": "on",
    "xmloption": "'document'",
    "jit": "on",
}
# What a transaction of the store states, as `pg_settings` shows it.
STATED = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",
    "lock_timeout": "0",
    "row_security": "on",
    "search_path": "alchemistore, pg_temp",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "transaction_deferrable": "off",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "transform_null_equals": "off",
}
# Where the defaults are set, with which isolation, and on which search path.
PLACES = [
    ("DATABASE", "'repeatable read'", "nowhere"),
    ("ROLE", "'serializable'", "lure, public, pg_catalog"),
]
SLOW = 0.3


@pytest.fixture(scope="module", params=PLACES, ids=[place for place, _, _ in PLACES])
def hostile_url(
    request: pytest.FixtureRequest, new_database: NewDatabase, run_sql: Callable[[str], None]
) -> Iterator[str]:
    """The URL of a database with bad defaults, for a role that is not a superuser."""
    place, isolation, path = request.param
    role = f"hostile_{uuid.uuid4().hex}"
    run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'hostile'")
    with new_database() as url:
        parsed = database_url(url)
        run_sql(f"ALTER DATABASE {parsed.database} OWNER TO {role}")
        run_sql(f"ALTER DATABASE {parsed.database} RESET search_path")
        with psycopg.connect(libpq(url)) as connection:
            connection.execute("CREATE SCHEMA lure")
            for table in [*metadata.tables, "alembic_version"]:
                connection.execute(f"CREATE TABLE lure.{table} (wrong integer)".encode())
            connection.execute(f"GRANT ALL ON SCHEMA lure TO {role}".encode())
            connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA lure TO {role}".encode())
            known = connection.execute("SELECT name FROM pg_settings").fetchall()
        settings = {
            **SESSION,
            "default_transaction_isolation": isolation,
            "search_path": path,
            "transaction_timeout": "'100ms'",
        }
        for name, value in settings.items():
            if (name,) in known or name.lower() in {one.lower() for (one,) in known}:
                target = parsed.database if place == "DATABASE" else role
                run_sql(f"ALTER {place} {target} SET {name} TO {value}")
        user = parsed.set(username=role, password="hostile")
        yield user.render_as_string(hide_password=False)
    run_sql(f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def hostile_world(hostile_url: str) -> Iterator[World]:
    with closing(StateStore(hostile_url)) as store:
        store.initialize()
        made = make_world(store, size=3)
        make_user(store)
        yield made
        store.check()


@pytest.fixture
def hostile(hostile_world: World) -> StateStore:
    return hostile_world.store


@pytest.fixture
def made(hostile: StateStore) -> Iterator[Campaign]:
    scope = Scope("org", "hostile", f"p{uuid.uuid4().hex}")
    register(hostile, scope.project or "")
    yield campaign(hostile, scope, tasks=2)
    hostile.deregister_computeservice(scope.project or "")


def test_defaults_are_hostile_to_a_plain_connection(hostile_url: str) -> None:
    with psycopg.connect(libpq(hostile_url), autocommit=True) as connection:
        found = {
            name: connection.execute(f"SHOW {name}".encode()).fetchone()
            for name in ("transaction_read_only", "extra_float_digits", "bytea_output")
        }
        with pytest.raises((psycopg.errors.QueryCanceled, psycopg.errors.TransactionTimeout)):
            connection.execute("SELECT pg_sleep(60)")
    assert found == {
        "transaction_read_only": ("on",),
        "extra_float_digits": ("-15",),
        "bytea_output": ("escape",),
    }


@pytest.mark.parametrize(
    ("name", "act", "prepare"), CASES, ids=[f"{name} {i}" for i, (name, _, _) in enumerate(CASES)]
)
def test_bulk_call_works(hostile_world: World, name: str, act: Act, prepare: Prepare) -> None:
    with rolled_back(hostile_world.store) as tx:
        act(tx, prepare(tx, hostile_world, False), False)


def test_every_call_is_tried() -> None:
    assert {*CALLS} == {name for name, _, _ in CASES} | ABOUT_ONE


@pytest.mark.parametrize("name", sorted(ABOUT_ONE))
def test_call_about_one_object_works(hostile_world: World, name: str) -> None:
    with rolled_back(hostile_world.store) as tx:
        if name == "create_taskhub":
            tx.delete_taskhub(hostile_world[False].network)
        if name == "get_task_transformation":
            tx.set_task_waiting(hostile_world[False].tasks)
        if name == "set_attempt_log":
            try_tasks(tx, hostile_world)
        getattr(tx, name)(**arguments(hostile_world, name))


def test_statement_wait_and_idle_time_have_no_limit(
    hostile: StateStore, hostile_url: str, made: Campaign
) -> None:
    with hostile.transaction() as tx:
        assert tx.connection is not None
        tx.connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": SLOW})
        time.sleep(SLOW)
        assert tx.set_task_priority(made.tasks, 3) == made.tasks

    def holding(tx: StateStore) -> None:
        tx.set_task_priority(made.tasks, 4)
        time.sleep(SLOW)

    _, second = run_while_open(
        hostile, holding, lambda: hostile.set_task_priority(made.tasks, 5), commit=True
    )
    assert second.result() == made.tasks
    assert hostile.get_task_priority(made.tasks) == [5, 5]


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
def test_task_that_extends_one_being_settled_becomes_claimable(
    hostile: StateStore, made: Campaign, commit: bool
) -> None:
    parent = made.tasks[0]
    edge = hostile.get_task_transformation(parent, return_gufe=False)[0]

    def extend() -> object:
        with hostile.transaction() as tx:
            child = tx.create_task(edge, extends=parent)
            assert tx.action_tasks([child], made.hub) == [child]
        return child

    _, second = run_while_open(
        hostile, lambda tx: tx.settle_task(parent, ref(parent.scope)), extend, commit=commit
    )
    child = second.result()
    service = parent.scope.project or ""
    claimed = hostile.claim_taskhub_tasks(made.hub, service, count=10)
    assert (child in claimed) is commit
    assert (parent in claimed) is not commit


def test_waiting_for_tasks_works(hostile: StateStore, made: Campaign) -> None:
    assert hostile.wait_for_tasks([made.network.scope])
    assert not hostile.wait_for_tasks(["nothing-*-*"], timeout=0.2)


def test_life_cycle_works(
    new_database: NewDatabase, run_sql: Callable[[str], None], hostile_url: str
) -> None:
    with closing(
        StateStore(Settings(database_url=hostile_url, schema_name="second"))  # type: ignore[arg-type]  # pydantic makes a secret of it
    ) as store:
        assert store._store_check()
        store.initialize()
        store.initialize()
        store.check()
        assert store.query_tasks() == []
        store.reset()


def test_store_agrees_with_the_model(hostile_url: str) -> None:
    settings = Settings(database_url=hostile_url, schema_name="model")  # type: ignore[arg-type]  # pydantic makes a secret of it
    with closing(StateStore(settings)) as store:
        store.initialize()
        run_machine(partial(Machine, store), 4, 12)
        store.reset()


def test_nested_read_only_transaction_refuses_writes_and_the_outer_writes_afterwards(
    hostile: StateStore, made: Campaign
) -> None:
    with hostile.transaction() as tx:
        with (
            pytest.raises(StateStoreError, match="read-only"),
            tx.transaction(readonly=True) as inner,
        ):
            inner.set_task_priority(made.tasks, 7)
        with tx.transaction(readonly=True) as inner:
            assert inner.get_task_priority(made.tasks) == [10, 10]
        assert tx.set_task_priority(made.tasks, 8) == made.tasks
    assert hostile.get_task_priority(made.tasks) == [8, 8]


# our own settings


def _store(url: str, **fields: object) -> StateStore:
    return StateStore(Settings.model_validate({"database_url": url, **fields}))


def test_own_timeouts_win_and_messages_name_them(hostile: StateStore, hostile_url: str) -> None:
    sleep = text("SELECT pg_sleep(60)")
    with (
        closing(_store(hostile_url, statement_timeout=0.05)) as store,
        pytest.raises(StateStoreError, match=r"ALCHEMISTORE_STATEMENT_TIMEOUT is 0\.05 s"),
        store.transaction() as tx,
    ):
        assert tx.connection is not None
        tx.connection.execute(sleep)
    with (
        hostile.transaction() as holder,
        closing(_store(hostile_url, lock_timeout=0.05)) as store,
        pytest.raises(StateStoreError, match=r"ALCHEMISTORE_LOCK_TIMEOUT is 0\.05 s"),
        store.transaction() as tx,
    ):
        assert holder.connection is not None
        assert tx.connection is not None
        holder.connection.execute(text("LOCK TABLE tasks"))
        tx.connection.execute(text("LOCK TABLE tasks"))
    with (
        closing(_store(hostile_url, idle_timeout=0.05)) as store,
        pytest.raises(StoreUnavailableError, match=r"ALCHEMISTORE_IDLE_TIMEOUT is 0\.05 s"),
        store.transaction() as tx,
    ):
        time.sleep(SLOW)
        tx.query_tasks()


def test_cancelled_statement_is_not_blamed_on_a_timeout(
    hostile: StateStore, hostile_url: str
) -> None:
    def cancel_itself(store: StateStore) -> str:
        with pytest.raises(StateStoreError) as raised, store.transaction() as tx:
            assert tx.connection is not None
            tx.connection.execute(text("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)"))
        return str(raised.value)

    assert "an administrator" in cancel_itself(hostile)
    with closing(_store(hostile_url, statement_timeout=60)) as store:
        assert "an administrator" in cancel_itself(store)


def test_transaction_states_every_setting_that_the_store_relies_on(hostile_url: str) -> None:
    url = f"{hostile_url}{'&' if '?' in hostile_url else '?'}client_encoding=LATIN1"
    query = text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
    with closing(_store(url)) as store, store.transaction() as tx:
        assert tx.connection is not None
        rows = tx.connection.execute(query, {"names": [*STATED]}).all()
    assert {row.name: row.setting for row in rows} == STATED


def test_options_of_the_url_apply_but_do_not_change_the_terms(
    hostile_url: str, hostile_world: World
) -> None:
    options = quote("-c work_mem=5MB -c statement_timeout=90 -c search_path=lure")
    url = f"{hostile_url}{'&' if '?' in hostile_url else '?'}options={options}"
    with closing(_store(url, statement_timeout=30)) as store:
        with store.transaction() as tx:
            assert tx.connection is not None
            assert tx.connection.scalar(text("SHOW work_mem")) == "5MB"
            assert tx.connection.scalar(text("SHOW statement_timeout")) == "30s"
            assert tx.connection.scalar(text("SHOW search_path")) == "alchemistore, pg_temp"
        assert set(hostile_world[False].tasks) <= set(store.query_tasks())
