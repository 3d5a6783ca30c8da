"""Calls that take a request identifier, and connections that are lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from uuid import UUID

import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExecutionContext

from alchemistore import (
    ComputeManagerID,
    ComputeManagerRegistration,
    ComputeServiceRegistration,
    Scope,
    StateStore,
)
from alchemistore.database import together
from alchemistore.database.together import Statements
from tests.support.campaigns import Campaign, campaign, register, star
from tests.support.databases import end_backend, libpq, rolled_back, row_counts

Call = Callable[[StateStore, Campaign, UUID | None], Any]
Moment = Literal["in the call", "before COMMIT", "after COMMIT"]
REGISTRATION = ComputeServiceRegistration.from_now("c")
MANAGER = ComputeManagerID(f"manager-{'1' * 32}")
NEW_MANAGER = ComputeManagerRegistration.from_now(f"new_manager-{'2' * 32}")

CALLS: dict[str, Call] = {
    "claim_taskhub_tasks": lambda store, made, request: store.claim_taskhub_tasks(
        made.hub, "a", count=3, request=request
    ),
    "claim_tasks": lambda store, made, request: store.claim_tasks(
        [made.hub.scope], "a", count=3, request=request
    ),
    "create_task": lambda store, made, request: store.create_task(
        made.transformations[0], creator="me", request=request
    ),
    "create_tasks": lambda store, made, request: store.create_tasks(
        made.transformations, request=request
    ),
    "create_network": lambda store, made, request: store.create_network(
        star(2, "new"), made.hub.scope, request=request
    ),
    "register_computeservice": lambda store, made, request: store.register_computeservice(
        REGISTRATION, request=request
    ),
    "deregister_computeservice": lambda store, made, request: store.deregister_computeservice(
        "b", request=request
    ),
    "log_failure_compute_service": lambda store, made, request: store.log_failure_compute_service(
        "b", request=request
    ),
    "register_computemanager": lambda store, made, request: store.register_computemanager(
        NEW_MANAGER, request=request
    ),
    "clear_errored_computemanager": lambda store, made, request: store.clear_errored_computemanager(
        MANAGER, request=request
    ),
    "delete_network": lambda store, made, request: store.delete_network(
        made.network, request=request
    ),
    "delete_taskhub": lambda store, made, request: store.delete_taskhub(
        made.network, request=request
    ),
    "delete_task": lambda store, made, request: store.delete_task(made.tasks[0], request=request),
}


def campaign_with_services(store: StateStore, scope: Scope) -> Campaign:
    """Store eight tasks on a hub, the last held by the service `b`; `a` is idle.

    There is also a manager, whose status is ERROR.
    """
    made = campaign(store, scope, tasks=8)
    register(store, "a", "b")
    store.register_computemanager(ComputeManagerRegistration.from_now(MANAGER))
    store.update_compute_manager_status(MANAGER, "ERROR", "it broke")
    store.set_task_priority(made.tasks[7:], 1)
    assert store.claim_taskhub_tasks(made.hub, "b") == made.tasks[7:]
    return made


def rows(store: StateStore) -> Counter[str]:
    """Return the number of rows of each table."""
    return Counter(row_counts(store))


def effect(store: StateStore, call: Call, made: Campaign) -> dict[str, int]:
    """Return by how many rows a call changes each table; undone."""
    before = rows(store)
    with rolled_back(store) as tx:
        call(tx, made, None)
        after = rows(tx)
    return difference(before, after)


def difference(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    """Return by how much the number of rows of each table has changed, except requests."""
    return {
        name: after[name] - before[name]
        for name in before
        if after[name] != before[name] and name != "requests"
    }


@contextmanager
def connection_lost(store: StateStore, url: str, moment: Moment) -> Iterator[list[int]]:
    """Let the server end the connection of the next transaction; yields its process id."""
    lost: list[int] = []

    def end(driver: psycopg.Connection[Any]) -> None:
        lost.append(driver.info.backend_pid)
        with psycopg.connect(libpq(url), autocommit=True) as other:
            end_backend(other, lost[0])

    def lose(connection: Connection, *details: Any) -> None:
        if lost:
            return
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        if moment == "after COMMIT":
            # What the client takes for its COMMIT fails, although the changes are committed.
            driver.commit()
            driver.execute("BEGIN")
        end(driver)

    def lose_autocommit(
        cursor: Any, statement: str, parameters: Any, context: ExecutionContext
    ) -> bool:
        if lost or not context.execution_options.get("autocommit"):
            return False
        driver = cursor.connection
        if moment == "after COMMIT":
            # The answer to the statement, which is its own transaction, is lost.
            cursor.execute(statement, parameters)
        end(driver)
        driver.execute("SELECT")
        return True

    def lose_together(cursor: psycopg.Cursor[Any], statements: Statements) -> None:
        # Statements that are sent with COMMIT.
        commits = not lost and statements[-1][0] == together.COMMIT
        if not commits or moment == "after COMMIT":
            carry_out(cursor, statements)
        if commits and moment != "in the call":
            end(cursor.connection)
            cursor.connection.execute("SELECT")

    carry_out = together.carry_out
    name = "after_cursor_execute" if moment == "in the call" else "commit"
    event.listen(store.engine, "do_execute", lose_autocommit)
    event.listen(store.engine, name, lose)
    together.carry_out = lose_together
    try:
        yield lost
    finally:
        together.carry_out = carry_out
        event.remove(store.engine, "do_execute", lose_autocommit)
        event.remove(store.engine, name, lose)
