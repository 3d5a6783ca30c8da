"""The only module that opens transactions: one per call, or one for several.

An operation is a function ``name(tx, ...)``. `reads` and `writes` turn it into a method of a :class:`Transactional` that opens a
transaction, passes it in, commits, and turns the database's refusals into errors that explain themselves.
"""

from __future__ import annotations

import functools
import inspect
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from alchemistore.database.translation import translate_errors
from alchemistore.errors import StateStoreError, StoreUnavailableError

P = ParamSpec("P")
R = TypeVar("R")

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
READ_ONLY = "25006"
FEATURE_NOT_SUPPORTED = "0A000"
MAX_ATTEMPTS = 6
STANDBY = (
    "the database server is a standby, which refuses writes; check that ALCHEMISTORE_DATABASE_URL"
    " names the primary, or add 'target_session_attrs=read-write' to it"
)

READ_ONLY_FROM_HERE = text("SET LOCAL transaction_read_only TO on")


class Transactional:
    """Base of stores: each method runs in one transaction.

    Parameters
    ----------
    engine : Engine
        Source of connections; see :func:`alchemistore.database.engine.with_terms`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # The open transaction, if there is one, and the process that opened it.
        self.connection: Connection | None = None
        self._process = 0

    @contextmanager
    def transaction(
        self, readonly: bool = False, ignore_exceptions: bool = False
    ) -> Iterator[Self]:
        """Run several calls in one transaction.

        The transaction is committed at the end, and rolled back on any exception.

        Parameters
        ----------
        readonly : bool, default False
            Let the database refuse writes.
        ignore_exceptions : bool, default False
            After the rollback, suppress an :class:`Exception` instead of raising it.

        Yields
        ------
        StateStore
            This store, bound to the open transaction. Inside another transaction, this one is a
            savepoint.
        """
        try:
            with translate_errors(self.engine):
                if self.connection is not None:
                    with self._savepoint(self.connection, readonly):
                        yield self
                else:
                    with self._begun(readonly) as connection:
                        yield self._bound(connection)
        except Exception:
            if not ignore_exceptions:
                raise

    @contextmanager
    def _savepoint(self, connection: Connection, readonly: bool) -> Iterator[None]:
        self._require_own_process()
        with connection.begin_nested():
            if readonly:
                # PostgreSQL restores the access mode at the end of the savepoint.
                connection.execute(READ_ONLY_FROM_HERE)
            yield

    @contextmanager
    def _begun(self, readonly: bool) -> Iterator[Connection]:
        """Open a connection and a transaction on it.

        BEGIN is the first message on the connection, so a connection that died in the pool, or
        leads to a standby by now, is replaced before anything was done.
        """
        with ExitStack() as stack:
            for attempt in range(1, MAX_ATTEMPTS + 1):
                try:
                    connection = stack.enter_context(
                        self.engine.connect().execution_options(readonly=readonly)
                    )
                    stack.enter_context(connection.begin())
                    break
                except DBAPIError as error:
                    standby = _sqlstate(error) == FEATURE_NOT_SUPPORTED
                    if standby:
                        connection.invalidate(error)
                    stack.close()
                    if attempt < MAX_ATTEMPTS and (standby or error.connection_invalidated):
                        _pause(attempt)
                    elif standby:
                        raise StoreUnavailableError(STANDBY) from error
                    else:
                        raise
            try:
                yield connection
            except DBAPIError as error:
                if not readonly and _sqlstate(error) == READ_ONLY:
                    # The address leads to a standby now: the next attempt connects again.
                    connection.invalidate(error)
                raise

    def _bound(self, connection: Connection) -> Self:
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.connection, bound._process = connection, os.getpid()
        return bound

    def _require_own_process(self) -> None:
        if self._process != os.getpid():
            raise StateStoreError(
                "this transaction was opened by another process: a forked process must use the"
                " store itself and open a transaction of its own"
            )

    def run(self, operation: Callable[[Connection], R], readonly: bool) -> R:
        """Run an operation in a transaction, or in the open one, and return its answer.

        Parameters
        ----------
        operation : callable
            Takes the open transaction. It may run more than once, after a serialization failure, a
            deadlock or the loss of the connection before COMMIT.
        readonly : bool
            Let the database refuse writes.
        """
        if self.connection is not None:
            self._require_own_process()
            with translate_errors(self.engine):
                return operation(self.connection)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            done = False
            try:
                with self.transaction(readonly=readonly) as bound:
                    answer = operation(cast(Connection, bound.connection))
                    done = True
                return answer
            except Exception as error:
                cause = error.__cause__
                if (
                    attempt == MAX_ATTEMPTS
                    or not isinstance(cause, DBAPIError)
                    or not _repeatable(cause, done, readonly)
                ):
                    raise
                _pause(attempt)
        raise AssertionError("unreachable")


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  (jitter, not a secret)


def _sqlstate(error: DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def _repeatable(error: DBAPIError, done: bool, readonly: bool) -> bool:
    if _sqlstate(error) in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
        return True
    if _sqlstate(error) == READ_ONLY:
        return not readonly
    # Once COMMIT was sent, it is unknown whether it arrived.
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
        # alchemiscale passes an open transaction as `tx`; type checkers do not see this keyword.
        joined = cast(Transactional, kwargs.pop("tx", None) or store)
        # An iterator can be read only once, but a transaction may be retried.
        listed = [_listed(arg) for arg in args]
        named = {name: _listed(arg) for name, arg in kwargs.items()}
        return joined.run(lambda tx: operation(tx, *listed, **named), readonly)

    signature = inspect.signature(operation)
    store = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [store, *list(signature.parameters.values())[1:]]
    public = cast(Any, method)
    public.__signature__ = signature.replace(parameters=parameters)
    public.operation, public.readonly = operation, readonly
    return method


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value
