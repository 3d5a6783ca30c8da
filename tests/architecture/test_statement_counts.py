"""Bulk calls send the same statements for one object and for a thousand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text

from alchemistore import StateStore
from tests.support.calls import ABOUT_ONE, CASES, Act, Prepare, World, make_world
from tests.support.databases import rolled_back

# The forms of a list of tasks: one task, and tasks of one scope, whose id the statement looks up.
SCOPE = r"\( SELECT id FROM scopes WHERE org = \S+ AND campaign = \S+ AND project = \S+ \)"
TOKENS = r"CAST\(\S+ AS uuid\[\]\)"
SAME_SCOPE = re.compile(rf"array_fill\(({SCOPE}), ARRAY\[cardinality\({TOKENS}\)\]\)")
ONE_TASK = re.compile(
    rf"SELECT (?:\((CAST\(\S+ AS bigint\[\]\))\)\[1\]|({SCOPE})) AS scope_id,"
    rf" \(({TOKENS})\)\[1\] AS task"
)
TASKS = r"SELECT scope_id, task FROM unnest(\1\2, \3) AS x (scope_id, task)"


@pytest.fixture(scope="module")
def world(shared_store: StateStore) -> World:
    return make_world(shared_store)


@contextmanager
def statements(store: StateStore) -> Iterator[list[str]]:
    """Collects the statements that are sent."""
    sent: list[str] = []

    def note(
        connection: Any, cursor: Any, statement: str, values: Any, context: Any, executemany: bool
    ) -> None:
        assert not executemany
        # Raising floors depends on time, not on the number of objects.
        if "candidate_xid" not in statement:
            # A limit may stand in the statement, for the planner to know it, and a single task has
            # a form of its own.
            plain = re.sub(r"LIMIT \d+", "LIMIT n", statement)
            alike = SAME_SCOPE.sub(r"\1", " ".join(plain.split()))
            sent.append(ONE_TASK.sub(TASKS, alike))

    event.listen(store.engine, "before_cursor_execute", note)
    yield sent
    event.remove(store.engine, "before_cursor_execute", note)


def sent_by(world: World, act: Act, prepare: Prepare, many: bool) -> list[str]:
    sent: list[str] = []
    with rolled_back(world.store) as tx:
        made = prepare(tx, world, many)
        with statements(world.store) as sent:
            act(tx, made, many)
    return sent


@pytest.mark.parametrize(
    ("name", "act", "prepare"), CASES, ids=[f"{name} {i}" for i, (name, _, _) in enumerate(CASES)]
)
def test_thousand_items_take_as_many_statements_as_one(
    world: World, name: str, act: Act, prepare: Prepare
) -> None:
    one, thousand = (
        sent_by(world, act, prepare, many=False),
        sent_by(world, act, prepare, many=True),
    )
    assert one
    assert thousand == one


def test_every_call_is_counted_or_takes_one_object() -> None:
    calls = {
        name for name in dir(StateStore) if hasattr(getattr(StateStore, name, None), "operation")
    }
    assert calls - {name for name, _, _ in CASES} == ABOUT_ONE


def test_statement_counter_counts(world: World) -> None:
    with world.store.engine.connect() as connection, statements(world.store) as sent:
        connection.execute(text("SELECT 1"))
        connection.execute(text("SELECT 2"))
    # The first statement of a transaction is BEGIN with its terms.
    assert sent[0].startswith("BEGIN")
    assert sent[1:] == ["SELECT 1", "SELECT 2"]
