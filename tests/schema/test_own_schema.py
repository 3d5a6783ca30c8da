"""The schema of the store: beside other applications, under another name, for limited roles."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import make_url, text

from alchemistore import Scope, StateStore
from alchemistore.database import migrations
from alchemistore.errors import SchemaError
from alchemistore.settings import Settings
from tests.support.campaigns import campaign, register
from tests.support.databases import libpq
from tests.support.roles import as_role, database_name, execute, new_role

CHECKOUT = Path(__file__).parents[2]
MAIN = "from alchemistore.cli import main; main()"
RunSql = Callable[[str], None]

# Another application uses Alembic too, and has tables whose names are names of ours.
OTHER = """
    CREATE TABLE {schema}.tasks (id int PRIMARY KEY, title text);
    CREATE TABLE {schema}.claims (id int PRIMARY KEY);
    CREATE TABLE {schema}.alembic_version (version_num text PRIMARY KEY);
    INSERT INTO {schema}.tasks VALUES (1, 'theirs');
    INSERT INTO {schema}.alembic_version VALUES ('{revision}')
"""


def create_other(url: str, schema: str, revision: str = "c0ffee") -> None:
    execute(url, f"CREATE SCHEMA IF NOT EXISTS {schema}")
    execute(url, *OTHER.format(schema=schema, revision=revision).split(";"))


def fetch(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(libpq(url)) as connection:
        return connection.execute(query.encode()).fetchall()


def other_data(url: str, schema: str) -> list[tuple[object, ...]]:
    return fetch(
        url,
        f"SELECT title, version_num, (SELECT count(*) FROM {schema}.claims)"
        f" FROM {schema}.tasks, {schema}.alembic_version",
    )


@contextmanager
def store_in(url: str, schema: str = "alchemistore") -> Iterator[StateStore]:
    settings = Settings.model_validate({"database_url": url, "schema_name": schema})
    with closing(StateStore(settings)) as store:
        yield store


def use(store: StateStore) -> int:
    """Create, claim and check; return the number of tasks."""
    made = campaign(store, Scope("org", "campaign", "project"), tasks=3)
    register(store, "service")
    assert None not in store.claim_taskhub_tasks(made.hub, "service", count=2)
    store.check()
    return len(store.query_tasks())


def test_reset_leaves_other_applications_alone(empty_database: str) -> None:
    others = ("public", "alchemistore_2", "tasks", "a_schema")
    for schema in others:
        create_other(empty_database, schema, "0001")
    with store_in(empty_database) as store:
        store.initialize()
        use(store)
        store.reset()
        with pytest.raises(SchemaError, match="no alchemistore schema"):
            store.check()
    for schema in others:
        assert other_data(empty_database, schema) == [("theirs", "0001", 0)]
    assert fetch(empty_database, "SELECT to_regnamespace('alchemistore')") == [(None,)]


@pytest.mark.parametrize("revision", ["c0ffee", "0001"])
def test_reset_refuses_tables_that_alchemistore_did_not_make(
    empty_database: str, revision: str
) -> None:
    create_other(empty_database, "alchemistore", revision)
    with store_in(empty_database) as store, pytest.raises(SchemaError, match="SCHEMA_NAME"):
        store.reset()
    assert other_data(empty_database, "alchemistore") == [("theirs", revision, 0)]


def test_reset_refuses_tables_without_a_revision(database: str) -> None:
    execute(database, "DELETE FROM alchemistore.alembic_version")
    with store_in(database) as store, pytest.raises(SchemaError, match="nothing was removed"):
        store.reset()
    assert fetch(database, "SELECT count(*) FROM alchemistore.tasks") == [(0,)]


def test_reset_refuses_one_foreign_table_among_its_own(database: str) -> None:
    execute(
        database,
        "DROP TABLE alchemistore.requests",
        "CREATE TABLE alchemistore.requests (id int, note text)",
    )
    with store_in(database) as store, pytest.raises(SchemaError, match=r"\(requests\): nothing"):
        store.reset()
    assert fetch(database, "SELECT count(*) FROM alchemistore.tasks") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TYPE alchemistore.theirs AS ENUM ('a')",
        "CREATE FUNCTION alchemistore.theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SEQUENCE alchemistore.theirs",
        "CREATE VIEW alchemistore.theirs AS SELECT 1 AS one",
        'CREATE COLLATION alchemistore.theirs FROM "C"',
    ],
)
def test_reset_keeps_the_schema_if_something_else_is_in_it(database: str, statement: str) -> None:
    execute(database, statement)
    with store_in(database) as store:
        store.reset()
        assert fetch(
            database,
            "SELECT count(*) FROM pg_depend"
            " WHERE refobjid = to_regnamespace('alchemistore') AND deptype = 'n'",
        ) == [(1,)]
        store.initialize()
        store.check()


def test_reset_keeps_the_schema_public(empty_database: str) -> None:
    with store_in(empty_database, "public") as store:
        store.initialize()
        store.reset()
    assert fetch(empty_database, "SELECT to_regnamespace('public') IS NULL") == [(False,)]


def test_reset_removes_nothing_if_something_else_needs_a_table(database: str) -> None:
    execute(database, "CREATE VIEW public.theirs AS SELECT token FROM alchemistore.tasks")
    with store_in(database) as store:
        with pytest.raises(Exception, match="depend on it"):
            store.reset()
        store.check()


# Roles that may do little


@pytest.fixture
def role(empty_database: str) -> Iterator[str]:
    """A role that may only connect, in a database in which nobody else may do anything."""
    with new_role(empty_database) as name:
        execute(
            empty_database,
            f"REVOKE ALL ON DATABASE {database_name(empty_database)} FROM PUBLIC",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {database_name(empty_database)} TO {name}",
        )
        yield name


def test_role_that_may_create_schemas_can_create_ours(empty_database: str, role: str) -> None:
    name = database_name(empty_database)
    execute(empty_database, f"GRANT CREATE ON DATABASE {name} TO {role}")
    with store_in(as_role(empty_database, role)) as store:
        store.initialize()
        assert use(store) == 3
        store.reset()
        store.initialize()


@pytest.mark.parametrize(
    "given",
    [
        "CREATE SCHEMA alchemistore AUTHORIZATION {role}",
        "CREATE SCHEMA alchemistore; GRANT USAGE, CREATE ON SCHEMA alchemistore TO {role}",
    ],
    ids=["owner of the schema", "guest in the schema"],
)
def test_role_with_an_empty_schema_can_use_it(empty_database: str, role: str, given: str) -> None:
    execute(empty_database, *given.format(role=role).split(";"))
    with store_in(as_role(empty_database, role)) as store:
        store.initialize()
        assert use(store) == 3
        # The role could not create the schema again, so it stays.
        store.reset()
        store.initialize()
        store.check()


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("SELECT 1", r"GRANT CREATE ON DATABASE .*, or CREATE SCHEMA .* AUTHORIZATION"),
        ("CREATE SCHEMA alchemistore", "GRANT USAGE, CREATE ON SCHEMA"),
        (
            "CREATE SCHEMA alchemistore; GRANT USAGE ON SCHEMA alchemistore TO {role}",
            "GRANT USAGE, CREATE ON SCHEMA",
        ),
    ],
    ids=["nothing", "no right", "usage only"],
)
def test_role_without_a_right_is_told_which_one(
    empty_database: str, role: str, given: str, advice: str
) -> None:
    execute(empty_database, *given.format(role=role).split(";"))
    with store_in(as_role(empty_database, role)) as store, pytest.raises(SchemaError, match=advice):
        store.initialize()


def test_role_that_follows_the_advice_can_create_the_schema(empty_database: str, role: str) -> None:
    with store_in(as_role(empty_database, role)) as store:
        for _ in range(2):
            with pytest.raises(SchemaError) as refused:
                store.initialize()
            # The first advice is a right on the database; an existing schema needs another one.
            statement = str(refused.value).partition("run ")[2].partition(", or")[0]
            execute(empty_database, "CREATE SCHEMA IF NOT EXISTS alchemistore", statement)
        store.initialize()
        store.check()


def test_closed_schema_public_is_named_in_the_refusal(empty_database: str, role: str) -> None:
    refused = pytest.raises(SchemaError, match='CREATE ON SCHEMA "public"')
    with store_in(as_role(empty_database, role), "public") as store, refused:
        store.initialize()


def test_upgrade_of_tables_of_another_role_names_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_role(database) as name:
        execute(database, f"GRANT ALL ON SCHEMA alchemistore TO {name}")
        execute(database, f"GRANT ALL ON ALL TABLES IN SCHEMA alchemistore TO {name}")
        monkeypatch.setattr(migrations, "head", lambda: "9999")
        refused = pytest.raises(SchemaError, match=r"belong to the role .*connect as that role")
        with store_in(as_role(database, name)) as store, refused:
            store.initialize()


# Encodings


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_with_another_encoding_is_refused(
    server: object, run_sql: RunSql, empty_database: str, encoding: str
) -> None:
    name = f"{make_url(empty_database).database}_{encoding.lower()}"
    run_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    url = make_url(empty_database).set(database=name).render_as_string(hide_password=False)
    refused = pytest.raises(SchemaError, match=f"{encoding}: .*'UTF8' TEMPLATE template0")
    try:
        with store_in(url) as store, refused:
            store.initialize()
        assert fetch(url, "SELECT to_regnamespace('alchemistore')") == [(None,)]
    finally:
        run_sql(f"DROP DATABASE {name} WITH (FORCE)")


# Another name

NAMES = ["other", "public", "_x1", "select", "a" * 63]


@pytest.mark.parametrize("name", NAMES)
def test_schema_can_have_another_name(empty_database: str, name: str) -> None:
    with store_in(empty_database, name) as store:
        store.initialize()
        assert use(store) == 3
        store.reset()
        store.initialize()
        store.check()
    used = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'alembic_version'"
    assert fetch(empty_database, used) == [(name,)]


def program(url: str, schema: str, *arguments: str) -> str:
    """Run Python as an operator does, with the settings in the environment."""
    environment = {
        **{name: value for name, value in os.environ.items() if "ALCHEMISTORE_" not in name},
        "ALCHEMISTORE_DATABASE_URL": url,
        "ALCHEMISTORE_SCHEMA_NAME": schema,
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_use_the_schema_that_the_environment_names(empty_database: str) -> None:
    program(empty_database, "other", "-m", "alembic", "upgrade", "head")
    assert migrations.head() in program(empty_database, "other", "-m", "alembic", "current")
    with store_in(empty_database, "other") as store:
        assert use(store) == 3
    checked = program(empty_database, "other", "-c", MAIN, "database", "check")
    assert checked == "No problems found.\n"
    program(empty_database, "other", "-m", "alembic", "downgrade", "base")
    assert fetch(empty_database, "SELECT to_regnamespace('alchemistore')") == [(None,)]


def test_offline_sql_uses_the_schema_that_the_environment_names(empty_database: str) -> None:
    printed = program(empty_database, "other", "-m", "alembic", "upgrade", "head", "--sql")
    execute(empty_database, printed)
    with store_in(empty_database, "other") as store:
        assert use(store) == 3
    assert fetch(empty_database, "SELECT to_regnamespace('alchemistore')") == [(None,)]


def test_settings_win_over_options_in_the_url(empty_database: str) -> None:
    create_other(empty_database, "public")
    options = "-c search_path=public -c statement_timeout=99s -c default_transaction_read_only=on"
    separator = "&" if "?" in empty_database else "?"
    url = f"{empty_database}{separator}options={quote(options)}"
    with store_in(url, "other") as store:
        store.initialize()
        assert use(store) == 3
        with store.engine.begin() as connection:
            assert connection.scalar(text("SHOW statement_timeout")) == "0"
            assert connection.scalar(text("SELECT current_schema()")) == "other"
    assert other_data(empty_database, "public") == [("theirs", "c0ffee", 0)]


def test_two_schemas_in_one_database_do_not_disturb_each_other(empty_database: str) -> None:
    scope = Scope("org", "campaign", "project")
    with store_in(empty_database, "one") as one, store_in(empty_database, "two") as two:
        one.initialize()
        two.initialize()
        made = campaign(one, scope, tasks=3)
        assert two.query_tasks() == []
        assert use(two) == 3
        assert one.get_task_status(made.tasks) == ["waiting"] * 3
        two.reset()
        one.check()
        assert one.query_tasks() == sorted(made.tasks)
        two.initialize()
        assert two.query_tasks() == []
