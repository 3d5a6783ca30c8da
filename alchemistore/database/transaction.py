"""Transactions: one per call, or one for several calls. No other module opens transactions.

An operation is a function ``name(tx, ...)``. `reads` and `writes` turn it into a method of a
:class:`Transactional`. The method opens a transaction, passes it to the operation, commits, and
translates the errors of the database.
"""

from __future__ import annotations

import functools
import inspect
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    OperationalError,
    TimeoutError as PoolTimeoutError,
)

from alchemistore.errors import (
    CONSTRAINT_ERRORS,
    SchemaError,
    StateStoreError,
    StoreUnavailableError,
)

P = ParamSpec("P")
R = TypeVar("R")

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
UNDEFINED_TABLE = "42P01"
UNDEFINED_COLUMN = "42703"
READ_ONLY = "25006"
QUERY_CANCELED = "57014"
MAX_ATTEMPTS = 6


def translate(error: DBAPIError) -> Exception:
    """Return the error to raise instead of a database error, or the same error.

    Parameters
    ----------
    error : DBAPIError
        The error of the driver.
    """
    original = error.orig
    state = getattr(original, "sqlstate", None)
    diagnostics = getattr(original, "diag", None)
    if isinstance(error, IntegrityError) and diagnostics is not None:
        kind, meaning = CONSTRAINT_ERRORS.get(
            diagnostics.constraint_name or "",
            (StateStoreError, f"the database refused the change: {diagnostics.message_primary}"),
        )
        return kind(meaning)
    if state in (UNDEFINED_TABLE, UNDEFINED_COLUMN):
        return SchemaError(
            "the database has no such table or column"
            f" ({getattr(diagnostics, 'message_primary', None)});"
            " upgrade the schema with 'alchemistore database upgrade'"
        )
    if state == READ_ONLY:
        return StateStoreError(
            "cannot write in a read-only transaction; open one with readonly=False"
        )
    if state == QUERY_CANCELED:
        return StateStoreError(
            f"the database cancelled the statement: {str(original).strip()}; nothing was changed."
            " Raise ALCHEMISTORE_STATEMENT_TIMEOUT or use smaller batches"
        )
    if error.connection_invalidated or (
        isinstance(error, OperationalError) and (state is None or state[:2] in ("08", "28", "57"))
    ):
        return StoreUnavailableError(_unavailable(str(original).strip(), state))
    return error


def _unavailable(message: str, state: str | None) -> str:
    if state == "28P01" or "authentication failed" in message:
        advice = "check user and password in ALCHEMISTORE_DATABASE_URL"
    elif "does not exist" in message:
        advice = "create the database, or correct its name in ALCHEMISTORE_DATABASE_URL"
    else:
        advice = "check that the server runs and that ALCHEMISTORE_DATABASE_URL names it"
    return f"cannot use the database: {message}; {advice}"


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise errors of the database as errors that say what to do."""
    try:
        yield
    except PoolTimeoutError:
        raise StoreUnavailableError(
            "no database connection became free in time: all connections of this process are in"
            " use; raise ALCHEMISTORE_POOL_SIZE or call from fewer threads"
        ) from None
    except DBAPIError as error:
        better = translate(error)
        if better is error:
            raise
        raise better from error


class Transactional:
    """A store whose calls each run in one transaction.

    Parameters
    ----------
    engine : Engine
        The source of connections.

    Attributes
    ----------
    engine : Engine
        The source of connections.
    connection : Connection or None
        The connection of the open transaction; ``None`` outside a transaction.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.connection: Connection | None = None

    @contextmanager
    def transaction(
        self, readonly: bool = False, ignore_exceptions: bool = False
    ) -> Iterator[Self]:
        """Run several calls in one transaction, which is rolled back on any exception.

        Parameters
        ----------
        readonly : bool, default False
            Refuse calls that write.
        ignore_exceptions : bool, default False
            Suppress an :class:`Exception` after the rollback instead of raising it.

        Yields
        ------
        StateStore
            This store, bound to the open transaction. Inside another transaction, this one is a
            savepoint.
        """
        try:
            with translate_errors():
                if self.connection is not None:
                    with self.connection.begin_nested():
                        yield self
                else:
                    with self.engine.connect() as connection:
                        if readonly:
                            connection = connection.execution_options(postgresql_readonly=True)
                        with connection.begin():
                            yield self._bound(connection)
        except Exception:
            if not ignore_exceptions:
                raise

    def _bound(self, connection: Connection) -> Self:
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.connection = connection
        return bound

    def run(self, operation: Callable[[Connection], R], readonly: bool) -> R:
        """Return the result of an operation, run in the open transaction or in a new one.

        Parameters
        ----------
        operation : callable
            Takes the open transaction. It may run more than once: after a serialization failure, a
            deadlock or the loss of the connection before COMMIT.
        readonly : bool
            Refuse writes.
        """
        if self.connection is not None:
            with translate_errors():
                return operation(self.connection)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            done = False
            try:
                with self.transaction(readonly=readonly) as bound:
                    answer = operation(cast(Connection, bound.connection))
                    done = True
                return answer
            except (DBAPIError, StoreUnavailableError) as error:
                cause = error.__cause__ if isinstance(error, StoreUnavailableError) else error
                if (
                    attempt == MAX_ATTEMPTS
                    or not isinstance(cause, DBAPIError)
                    or not _worth_another_try(cause, done)
                ):
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  (jitter, no secret)
        raise AssertionError("unreachable")


def _worth_another_try(error: DBAPIError, done: bool) -> bool:
    if getattr(error.orig, "sqlstate", None) in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
        return True
    # An idle connection of the pool may be dead. After COMMIT was sent, the outcome is unknown.
    return error.connection_invalidated and not done


def reads(
    operation: Callable[Concatenate[Connection, P], R],
) -> Callable[Concatenate[Transactional, P], R]:
    """Return a method that runs an operation in a read-only transaction."""
    return _method(operation, readonly=True)


def writes(
    operation: Callable[Concatenate[Connection, P], R],
) -> Callable[Concatenate[Transactional, P], R]:
    """Return a method that runs an operation in a transaction."""
    return _method(operation, readonly=False)


def _method(
    operation: Callable[Concatenate[Connection, P], R], readonly: bool
) -> Callable[Concatenate[Transactional, P], R]:
    @functools.wraps(operation)
    def method(store: Transactional, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # alchemiscale passes the open transaction as `tx`; type checkers do not know this keyword.
        joined = cast(Transactional, kwargs.pop("tx", None) or store)
        positional = [repeatable(value) for value in args]
        named = {name: repeatable(value) for name, value in kwargs.items()}
        return joined.run(lambda tx: operation(tx, *positional, **named), readonly)

    # The public signature has `self` where the operation has the transaction.
    signature = inspect.signature(operation)
    store = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [store, *list(signature.parameters.values())[1:]]
    public = cast(Any, method)
    public.__signature__ = signature.replace(parameters=parameters)
    public.operation, public.readonly = operation, readonly
    return method


def repeatable(value: Any) -> Any:
    """Return a list of an iterator's items, and any other value unchanged.

    An iterator can be read only once, but an operation may run more than once.
    """
    return list(value) if isinstance(value, Iterator) else value
