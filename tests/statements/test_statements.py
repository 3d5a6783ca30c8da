"""The rendered statements: they are up to date, the calls send them, and a server runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import TextClause, TextualSelect, event

from alchemistore import Scope, StateStore, TaskStatusEnum
from alchemistore.database.shortening import without_comments
from alchemistore.operations.task_sets import in_one_scope
from tests.statements.render import FOLDER, SAMPLE, SAMPLES, files
from tests.support.campaigns import campaign, register
from tests.support.databases import libpq
from tests.support.results import ref

FILES = files()


def test_no_rendered_file_is_left_over() -> None:
    assert set(FOLDER.glob("*.sql")) == {*FILES, FOLDER / "sample.sql"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rendered_file_equals_the_statement_in_the_code(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "run `make statements`"


def test_rendered_files_run_on_a_database_with_the_schema(database: str) -> None:
    sample = (FOLDER / "sample.sql").read_text(encoding="utf-8")
    with psycopg.connect(libpq(database), autocommit=True) as connection:
        for path in FILES:
            script = path.read_text(encoding="utf-8").replace(SAMPLE, sample)
            connection.execute(script.encode())
            assert connection.execute("SELECT count(*) FROM scopes").fetchone() == (0,)


def test_rendered_statements_are_those_that_calls_send(store: StateStore, scope: Scope) -> None:
    sent: set[str] = set()

    def record(
        connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        sent.add(statement)

    made = campaign(store, scope, tasks=3)
    register(store, "service")
    event.listen(store.engine, "before_cursor_execute", record)
    for protocols in (None, ["PushProtocol"]):
        store.claim_taskhub_tasks(made.hub, "service", protocols=protocols)
        store.claim_tasks([scope], "service", protocols=protocols)
    store.set_task_priority(made.tasks, 3)
    for task in made.tasks:
        store.settle_task(task, ref(scope), "service", environment={"gufe": "1.0"})
    for status in TaskStatusEnum:
        store.set_task_status(made.tasks, status)
    store.cancel_tasks(made.tasks, made.hub)
    store.maintain_queue()
    event.remove(store.engine, "before_cursor_execute", record)

    dialect = store.engine.dialect
    # Several statements may be sent together.
    texts = "\n".join(without_comments(statement) for statement in sent)
    missing = [
        name
        for name, sample in SAMPLES.items()
        if not any(
            without_comments(str(form.compile(dialect=dialect))).strip() in texts
            for form in forms(sample.statement)
        )
    ]
    assert missing == []


def forms(statement: TextClause | TextualSelect) -> list[TextClause | TextualSelect]:
    """A statement, and its form for tasks of one scope, which also looks up the scope."""
    if isinstance(statement, TextualSelect):
        return [statement]
    return [statement, in_one_scope(statement)]
