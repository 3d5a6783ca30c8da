"""Migrations create exactly the declared tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import text

from alchemistore import StateStore
from alchemistore.database import migrations
from alchemistore.database.engine import make_engine
from alchemistore.settings import Settings
from alchemistore.tables import metadata
from tests.support.catalog import Catalog, catalog_of, is_empty, read_catalog
from tests.support.databases import libpq

CHECKOUT = Path(__file__).parents[2]


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(CHECKOUT / "migrations"))
    return ScriptDirectory.from_config(config)


# From the oldest to the newest, each with the one before it.
REVISIONS = [
    (one.revision, str(one.down_revision or "base"))
    for one in reversed(list(_scripts().walk_revisions()))
]


@pytest.fixture
def declared(empty_database: str) -> Catalog:
    """The catalog of the tables as the code declares them."""
    engine = make_engine(Settings.from_url(empty_database))
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA alchemistore"))
        metadata.create_all(connection)
        catalog = read_catalog(connection)
        metadata.drop_all(connection)
    engine.dispose()
    return catalog


def alembic(*arguments: str, url: str | None = None) -> str:
    """Run Alembic as an operator does, from the checkout, with the URL in the environment."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ALCHEMISTORE_")
    }
    if url is not None:
        environment["ALCHEMISTORE_DATABASE_URL"] = url
    command = [sys.executable, "-m", "alembic", *arguments]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_revisions_form_one_line_with_one_head() -> None:
    assert len(_scripts().get_heads()) == 1
    assert REVISIONS[-1][0] == migrations.head()
    assert [before for _, before in REVISIONS] == [
        "base",
        *(revision for revision, _ in REVISIONS[:-1]),
    ]


def test_new_migration_follows_the_head_and_states_the_rules(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "migrations", tmp_path / "migrations")
    config = Config(CHECKOUT / "alembic.ini")
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    created = command.revision(config, message="add a column", rev_id="next")
    assert isinstance(created, Script)
    assert created.down_revision == migrations.head()
    source = Path(created.path).read_text()
    assert "Expand, then contract." in source
    assert "lock_timeout" in source


def test_alembic_from_the_checkout_makes_the_declared_tables(
    declared: Catalog, empty_database: str
) -> None:
    alembic("upgrade", "head", url=empty_database)
    assert catalog_of(empty_database) == declared


def test_alembic_works_from_the_checkout_in_both_directions(empty_database: str) -> None:
    alembic("upgrade", "head", url=empty_database)
    assert migrations.head() in alembic("current", url=empty_database)
    alembic("downgrade", "base", url=empty_database)
    assert is_empty(catalog_of(empty_database))


def test_initialize_creates_the_declared_tables(declared: Catalog, empty_database: str) -> None:
    store = StateStore(empty_database)
    store.initialize()
    assert catalog_of(empty_database) == declared
    assert store.problems() == []
    store.close()


def test_declared_schema_has_no_code_in_the_database(declared: Catalog) -> None:
    assert not declared["triggers"]
    assert not declared["functions"]
    assert not declared["types"]


def test_offline_sql_creates_the_declared_tables(declared: Catalog, empty_database: str) -> None:
    printed = alembic("upgrade", "head", "--sql")
    with psycopg.connect(libpq(empty_database), autocommit=True) as connection:
        connection.execute(printed.encode())
    assert catalog_of(empty_database) == declared
    store = StateStore(empty_database)
    assert store.problems() == []
    store.close()


def test_every_revision_upgrades_downgrades_and_upgrades_again(
    declared: Catalog, empty_database: str
) -> None:
    engine = make_engine(Settings.from_url(empty_database))
    before = catalog_of(empty_database)
    assert is_empty(before)
    for revision, previous in REVISIONS:
        migrations.upgrade(engine, revision)
        up = catalog_of(empty_database)
        migrations.downgrade(engine, previous)
        assert catalog_of(empty_database) == before, revision
        migrations.upgrade(engine, revision)
        assert catalog_of(empty_database) == up, revision
        before = up
    assert before == declared
    engine.dispose()


def test_tracebacks_move_to_their_table_and_back(empty_database: str) -> None:
    engine = make_engine(Settings.from_url(empty_database))
    migrations.upgrade(engine, "0005")
    old = "SELECT result, tracebacks FROM task_results ORDER BY result"
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text(
                "INSERT INTO task_results (scope_id, task, result, tracebacks, created_at)"
                " SELECT 1, gen_random_uuid(), CAST(md5(told) AS uuid),"
                " CAST(nullif(told, 'NULL') AS text[]), now()"
                " FROM unnest(ARRAY['{a,é}', '{}', '{\"\"}', 'NULL']) AS told"
            )
        )
        connection.execute(
            text(
                "INSERT INTO results (scope_id, token, obj_key, scope, ok, created_at)"
                " SELECT scope_id, result, 'ProtocolDAGResult-1', 'a-b-c', false, now()"
                " FROM task_results"
            )
        )
        before = connection.execute(text(old)).all()
    migrations.upgrade(engine, "0006")
    with engine.begin() as connection:
        moved = connection.execute(text("SELECT tracebacks, size FROM tracebacks ORDER BY size"))
        assert [tuple(row) for row in moved] == [([""], 0), (["a", "é"], 3)]
    migrations.downgrade(engine, "0005")
    with engine.begin() as connection:
        after = connection.execute(text(old)).all()
    # An empty list is nothing.
    assert after == [(result, told or None) for result, told in before]
    engine.dispose()


def test_downgrade_to_base_removes_all_own_tables(database: str) -> None:
    engine = make_engine(Settings.from_url(database))
    migrations.downgrade(engine, "base")
    assert is_empty(catalog_of(database))
    with engine.connect() as connection:
        assert migrations.revision(connection) is None
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 0
    engine.dispose()


def test_failed_upgrade_leaves_nothing_behind(empty_database: str) -> None:
    engine = make_engine(Settings.from_url(empty_database))
    with engine.begin() as connection:
        # The name is taken, by a table that is not ours.
        connection.execute(text("CREATE SCHEMA alchemistore"))
        connection.execute(text("CREATE TABLE claims (note text)"))
    before = catalog_of(empty_database)
    with pytest.raises(Exception, match="claims"):
        migrations.upgrade(engine)
    assert catalog_of(empty_database) == before
    engine.dispose()


WAITING = """
    SELECT count(DISTINCT pid) FROM pg_locks
    WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def _while_locked(url: str, upgrades: Callable[[], list[Future[None]]]) -> None:
    """Start upgrades while the migration lock is held; release it when both wait or have failed."""
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [migrations.MIGRATION_LOCK])
        running = upgrades()
        # Threads may wait for one another in Python already; then only one of them ever waits here.
        patience = 100
        while patience and not any(one.done() for one in running):
            row = connection.execute(WAITING).fetchone()
            waiting = row[0] if row else 0
            patience = 0 if waiting == len(running) else patience - (waiting > 0)
            threading.Event().wait(0.01)
    for one in running:
        one.result()


def test_concurrent_upgrades_by_processes_wait_for_each_other(
    declared: Catalog, empty_database: str
) -> None:
    def upgrade() -> None:
        alembic("upgrade", "head", url=empty_database)

    with ThreadPoolExecutor(2) as runners:
        _while_locked(empty_database, lambda: [runners.submit(upgrade) for _ in range(2)])
    assert catalog_of(empty_database) == declared


def test_concurrent_upgrades_by_threads_wait_for_each_other(
    declared: Catalog, empty_database: str
) -> None:
    with closing(StateStore(empty_database)) as one, closing(StateStore(empty_database)) as other:
        with ThreadPoolExecutor(2) as threads:
            _while_locked(
                empty_database, lambda: [threads.submit(store.initialize) for store in (one, other)]
            )
        assert catalog_of(empty_database) == declared
