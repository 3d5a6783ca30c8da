"""Initialize, check and reset."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, text

from alchemistore import Scope, StateStore
from alchemistore.errors import CheckError, SchemaError
from alchemistore.maintenance import schema_diff
from alchemistore.maintenance.findings import FindingKind
from tests.support.campaigns import campaign
from tests.support.catalog import catalog_of, is_empty


@pytest.fixture
def worn(database: str) -> Iterator[StateStore]:
    """A store whose schema a test may spoil."""
    store = StateStore(database)
    yield store
    store.close()


@pytest.fixture
def bare(empty_database: str) -> Iterator[StateStore]:
    """A store whose database is empty."""
    store = StateStore(empty_database)
    yield store
    store.close()


def run(store: StateStore, *statements: str) -> None:
    with store.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_fresh_schema_has_no_problems(worn: StateStore) -> None:
    assert list(worn.problems()) == []
    worn.check()


def test_initialize_twice_changes_nothing(worn: StateStore, database: str, scope: Scope) -> None:
    made = campaign(worn, scope, tasks=2)
    before = catalog_of(database)
    worn.initialize()
    assert catalog_of(database) == before
    assert worn.query_tasks() == made.tasks


@pytest.mark.parametrize("call", [StateStore.check, StateStore.problems], ids=["check", "problems"])
def test_missing_schema_is_an_error_that_names_the_command(
    bare: StateStore, call: Callable[[StateStore], object]
) -> None:
    with pytest.raises(SchemaError, match="alchemistore database init"):
        call(bare)


def test_call_without_schema_is_an_error_that_names_the_command(
    bare: StateStore, scope: Scope
) -> None:
    with pytest.raises(SchemaError, match="alchemistore database"):
        bare.query_tasks()
    with pytest.raises(SchemaError, match="alchemistore database"):
        campaign(bare, scope)


@pytest.mark.parametrize(
    "call",
    [StateStore.check, StateStore.problems, StateStore.initialize],
    ids=["check", "problems", "initialize"],
)
def test_newer_schema_is_an_error_that_says_what_to_do(
    worn: StateStore, call: Callable[[StateStore], object]
) -> None:
    run(worn, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match=r"9999.*newer; install"):
        call(worn)


def test_older_schema_is_an_error_that_names_the_command(
    worn: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alchemistore.database import migrations

    monkeypatch.setattr(migrations, "head", lambda: "9999")
    with pytest.raises(SchemaError, match=r"too old.*9999.*alchemistore database upgrade"):
        worn.check()


DRIFT = {
    "a dropped check": (
        "ALTER TABLE tasks DROP CONSTRAINT tasks__priority__ck",
        "tasks__priority__ck",
    ),
    "a dropped foreign key": (
        "ALTER TABLE claims DROP CONSTRAINT claims__compute_services__fk",
        "claims__compute_services__fk",
    ),
    "a dropped unique key": (
        "ALTER TABLE taskhubs DROP CONSTRAINT taskhubs__scope_id_network__uq",
        "taskhubs__scope_id_network__uq",
    ),
    "a dropped primary key": ("ALTER TABLE queue DROP CONSTRAINT queue__pk", "queue__pk"),
    "a constraint of somebody else's": (
        "ALTER TABLE tasks ADD CONSTRAINT odd CHECK (priority < 7)",
        "odd",
    ),
    "a check that says something else": (
        "ALTER TABLE tasks DROP CONSTRAINT tasks__priority__ck,"
        " ADD CONSTRAINT tasks__priority__ck CHECK (priority >= 0)",
        "tasks__priority__ck",
    ),
    "a foreign key that does something else": (
        "ALTER TABLE attempts DROP CONSTRAINT attempts__tasks__fk,"
        " ADD CONSTRAINT attempts__tasks__fk"
        " FOREIGN KEY (scope_id, task) REFERENCES tasks (scope_id, token)",
        "attempts__tasks__fk",
    ),
    "a dropped index": ("DROP INDEX queue__race__ix", "queue__race__ix"),
    "an index on something else": (
        "DROP INDEX queue__race__ix;"
        " CREATE INDEX queue__race__ix ON queue (scope_id, taskhub, race)",
        "queue__race__ix",
    ),
    "another column type": ("ALTER TABLE tasks ALTER COLUMN attempts TYPE bigint", "attempts"),
    "another collation": (
        'ALTER TABLE tasks ALTER COLUMN status TYPE text COLLATE "default"',
        "status",
    ),
    "another default": ("ALTER TABLE lanes ALTER COLUMN floor SET DEFAULT 7", "floor"),
    "a column that may be NULL": (
        "ALTER TABLE tasks ALTER COLUMN created_at DROP NOT NULL",
        "created_at",
    ),
    "a dropped column": ("ALTER TABLE tasks DROP COLUMN creator", "creator"),
    "a column of somebody else's": ("ALTER TABLE tasks ADD COLUMN odd text", "odd"),
    "a dropped table": ("DROP TABLE status_changes", "status_changes"),
}


@pytest.mark.parametrize(("statements", "named"), DRIFT.values(), ids=DRIFT)
def test_schema_drift_is_reported_by_name(
    shared_store: StateStore, statements: str, named: str
) -> None:
    with shared_store.engine.connect() as connection:
        assert schema_diff.drift(connection) == []
        for statement in statements.split(";"):
            connection.execute(text(statement))
        found = schema_diff.drift(connection)
        assert [finding for finding in found if named in finding.text]
        assert {finding.kind for finding in found} == {FindingKind.schema}
        connection.rollback()


def test_check_lists_every_problem(worn: StateStore) -> None:
    run(worn, "DROP INDEX queue__race__ix", "ALTER TABLE tasks DROP CONSTRAINT tasks__priority__ck")
    with pytest.raises(CheckError) as raised:
        worn.check()
    assert len(raised.value.problems) == 2
    for named in ("queue__race__ix", "tasks__priority__ck"):
        assert [problem for problem in raised.value.problems if named in problem]
        assert named in str(raised.value)
    assert tuple(worn.problems()) == raised.value.problems


def test_missing_table_is_reported_and_raises_no_database_error(
    worn: StateStore,
) -> None:
    run(worn, "DROP TABLE status_changes")
    with pytest.raises(CheckError, match="status_changes"):
        worn.check()


def test_missing_table_used_by_invariants_is_reported(worn: StateStore) -> None:
    run(worn, "DROP TABLE queue")
    with pytest.raises(CheckError, match="queue"):
        worn.check()


def test_check_changes_nothing_and_runs_beside_writers(worn: StateStore, scope: Scope) -> None:
    made = campaign(worn, scope, tasks=2)
    with worn.engine.begin() as connection:
        connection.execute(text("UPDATE tasks SET reason = 'being written'"))
        worn.check()
    assert worn.query_tasks() == made.tasks


def test_reset_removes_everything_and_initialize_works_again(
    worn: StateStore, database: str, scope: Scope
) -> None:
    before = catalog_of(database)
    campaign(worn, scope, tasks=2)
    worn.reset()
    assert is_empty(catalog_of(database))
    with worn.engine.connect() as connection:
        assert connection.scalar(text("SELECT to_regclass('alembic_version')")) is None
    with pytest.raises(SchemaError, match="alchemistore database init"):
        worn.check()
    worn.initialize()
    worn.check()
    assert catalog_of(database) == before
    assert worn.query_tasks() == []
    campaign(worn, scope, tasks=2)
    worn.check()


def test_reset_without_a_schema_does_nothing(bare: StateStore) -> None:
    bare.reset()
    with pytest.raises(SchemaError):
        bare.check()


FOREIGN = (
    "CREATE TABLE their_notes (id int PRIMARY KEY, note text);"
    " CREATE INDEX their_index ON their_notes (note)"
)


def _notes(connection: Connection) -> list[str]:
    return list(connection.scalars(text("SELECT note FROM their_notes")))


def test_foreign_tables_are_left_alone(worn: StateStore) -> None:
    run(worn, *FOREIGN.split(";"), "INSERT INTO their_notes VALUES (1, 'mine')")
    worn.check()
    worn.initialize()
    worn.reset()
    with worn.engine.connect() as connection:
        assert _notes(connection) == ["mine"]
        assert connection.scalar(text("SELECT to_regclass('their_index')")) is not None
    worn.initialize()
    worn.check()


def test_schema_is_created_beside_foreign_tables(bare: StateStore) -> None:
    run(bare, *FOREIGN.split(";"))
    with pytest.raises(SchemaError):
        bare.check()
    bare.initialize()
    bare.check()
