"""Statements that are sent together: one round trip for several, BEGIN and COMMIT included.

A call whose connection is its own sends no BEGIN before its first statement. That goes with the
first statement, or is not needed: statements that are sent together without BEGIN are one
transaction, which PostgreSQL commits at their end, or undoes if one of them fails.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, Engine, TextClause, event
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.exc import DBAPIError

from alchemistore.database.shortening import shortened
from alchemistore.errors import OutcomeUnknownError

# The name under which a connection notes the BEGIN that it has not sent yet.
BEGIN = "begin"
# The same for a statement about the session, which goes before the first one after BEGIN.
FIRST = "first"
# The execution option that holds the statements to send together.
STATEMENTS = "alchemistore_statements"
COMMIT = "COMMIT"
_DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types for it


@dataclass
class Answer:
    """The answer to a statement, once it was sent.

    Attributes
    ----------
    rows : sequence
        The rows, with the columns as attributes.
    then : callable, optional
        Takes the rows when they are there.
    """

    rows: Sequence[Any] = ()
    then: Callable[[Sequence[Any]], None] | None = None

    def take(self, rows: Sequence[Any]) -> None:
        """Set the rows."""
        self.rows = rows
        if self.then is not None:
            self.then(rows)


# Texts of statements with their parameters and answers.
Statements: TypeAlias = list[tuple[str, dict[str, Any] | None, Answer]]


class Together:
    """A list of statements; calling it adds one."""

    def __init__(self, tx: Connection) -> None:
        self.tx = tx
        self._waits = BEGIN in tx.info
        self._statements: Statements = []

    def __call__(
        self,
        statement: TextClause,
        values: dict[str, Any],
        then: Callable[[Sequence[Any]], None] | None = None,
    ) -> Answer:
        """Add a statement.

        Parameters
        ----------
        statement : TextClause
            The statement.
        values : dict
            Its parameters; others are ignored.
        then : callable, optional
            Takes the rows of the answer when they are there.

        Returns
        -------
        Answer
            Its answer, empty until the statements were sent.
        """
        answer = Answer(then=then)
        if self._waits:
            self._statements.append((*compiled(statement, values), answer))
        else:
            result = self.tx.execute(statement, values)
            answer.take(result.all() if result.returns_rows else ())
        return answer

    def send(self, last: bool) -> None:
        """Send the statements. If they are the last ones of a call, commit."""
        if not self._statements:
            return
        statements, self._statements = self._statements, []
        started = _status(self.tx) is not TransactionStatus.IDLE
        first = self.tx.info.pop(FIRST, None)
        if first is not None:
            statements.insert(0, (first, None, Answer()))
        if not last and not started:
            statements.insert(0, (self.tx.info[BEGIN], None, Answer()))
        if last and started:
            statements.append((COMMIT, None, Answer()))
        try:
            self.tx.exec_driver_sql(
                ";\n".join(text for text, _, _ in statements),
                execution_options={STATEMENTS: statements},
            )
        except DBAPIError as error:
            unsure = last and not self.tx.get_execution_options().get("idempotent")
            if unsure and error.connection_invalidated:
                raise OutcomeUnknownError(str(error.orig).strip()) from error
            raise
        for _, _, answer in statements:
            answer.take(answer.rows)


@contextmanager
def together(tx: Connection, *, last: bool = False) -> Iterator[Together]:
    """Send statements together, at the end of the block.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    last : bool, default False
        These are the last statements of the operation. If the transaction is for its call alone, it
        is committed with them; see `transaction.writes_together`.

    Yields
    ------
    Together
        Adds a statement, and returns its answer, which is there after the block. In a transaction
        of several calls, and on a connection that others use, each statement is sent at once.
    """
    statements = Together(tx)
    yield statements
    statements.send(last and bool(tx.get_execution_options().get("ends_together")))


@lru_cache(maxsize=1024)
def _compiled(statement: TextClause) -> tuple[str, tuple[str, ...]]:
    found = statement.compile(dialect=_DIALECT)
    return shortened(found.string), tuple(found.params)


def compiled(statement: TextClause, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a statement and its parameters as the driver takes them."""
    text, names = _compiled(statement)
    return text, {name: values[name] for name in names}


def _status(tx: Connection) -> TransactionStatus:
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.info.transaction_status


def is_quiet(driver: psycopg.Connection[Any]) -> bool:
    """Check whether the server has sent nothing since the last answer, so the connection is alive.

    A server that ends a connection says so, or closes it.
    """
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return not poll.poll(0)


def register(engine: Engine) -> None:
    """Enable an engine to send statements together."""
    event.listen(engine, "do_execute", _execute)
    event.listen(engine, "do_executemany", _begin_first)
    event.listen(engine, "do_execute_no_params", _begin_first)


def _execute(
    cursor: psycopg.Cursor[Any], statement: str, parameters: Any, context: ExecutionContext
) -> bool:
    statements = context.execution_options.get(STATEMENTS)
    if statements is not None:
        carry_out(cursor, statements)
        return True
    first = _unsent(cursor, context)
    if not first:
        return False
    own = BEGIN not in context.root_connection.info
    if own or isinstance(cursor, psycopg.ServerCursor):
        return _begin_first(cursor, context, first=first)
    with cursor.connection.pipeline():
        for one in first:
            cursor.connection.execute(one)
        cursor.execute(statement.encode(), parameters)
    return True


def _begin_first(
    cursor: psycopg.Cursor[Any], *details: Any, first: Sequence[bytes] | None = None
) -> bool:
    for one in _unsent(cursor, details[-1]) if first is None else first:
        cursor.connection.execute(one)
    return False


def _unsent(cursor: psycopg.Cursor[Any], context: ExecutionContext) -> Sequence[bytes]:
    """Return what to send before a statement: BEGIN, if the transaction waits for it."""
    if not context.root_connection.get_execution_options().get("by_store"):
        return ()
    info = context.root_connection.info
    if BEGIN not in info and FIRST not in info:
        return ()
    idle = cursor.connection.info.transaction_status is TransactionStatus.IDLE
    statements = [info.get(BEGIN) if idle else None, info.pop(FIRST, None)]
    return [one.encode() for one in statements if one is not None]


def carry_out(cursor: psycopg.Cursor[Any], statements: Statements) -> None:
    """Carry out statements on the connection of a cursor, in one round trip."""
    connection = cursor.connection
    cursors = []
    with connection.pipeline():
        for text, values, _ in statements:
            one = connection.cursor(row_factory=namedtuple_row)
            cursors.append(one.execute(text.encode(), values))
    for one, (_, _, answer) in zip(cursors, statements, strict=True):
        if one.description is not None:
            answer.rows = one.fetchall()
        one.close()
