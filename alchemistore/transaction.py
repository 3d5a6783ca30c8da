"""The only module that opens transactions: one per call, or one for several.

An operation is a function ``name(tx, ...)``. `reads` and `writes` turn it into a method of a :class:`Transactional` that opens a
transaction, passes it in, commits, and turns the database's refusals into errors that explain themselves.
"""

from __future__ import annotations

import functools
import inspect
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from alchemistore.errors import SchemaError, StateStoreError, StoreUnavailableError

P = ParamSpec("P")
R = TypeVar("R")

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
UNDEFINED_TABLE = "42P01"
UNDEFINED_COLUMN = "42703"
READ_ONLY = "25006"
QUERY_CANCELED = "57014"
TRIES = 6

# What a refused constraint means to the caller. The names are part of the schema, and tested against it.
REFUSALS: dict[str, tuple[type[Exception], str]] = {
    "compute_services__pk": (ValueError, "a compute service is already registered under this identifier"),
    "compute_services__identifier__ck": (ValueError, "the identifier of a compute service may not be empty"),
    "identities__identifier__ck": (ValueError, "the identifier of an identity may not be empty"),
    "claims__compute_services__fk": (KeyError, "the compute service is not registered"),
    "extends__tasks__parent__fk": (ValueError, "a task can only extend a task of the same transformation"),
    "tasks__priority__ck": (ValueError, "priority must be between 1 and 2**63 - 1, inclusive"),
    "actions__weight__ck": (ValueError, "weight must be between 0.0 and 1.0 (inclusive)"),
    "taskhubs__weight__ck": (ValueError, "weight must be between 0.0 and 1.0 (inclusive)"),
    "taskhubs__networks__fk": (KeyError, "No such object in database: the network of the hub"),
    "tasks__transformations__fk": (KeyError, "No such object in database: the transformation of the task"),
}


def translate(error: DBAPIError) -> Exception:
    """Give the error that says to a user what a database error means; the original when it says enough itself.

    Parameters
    ----------
    error : DBAPIError
        What the driver raised.
    """
    original = error.orig
    state = getattr(original, "sqlstate", None)
    diagnostics = getattr(original, "diag", None)
    if isinstance(error, IntegrityError) and diagnostics is not None:
        kind, meaning = REFUSALS.get(
            diagnostics.constraint_name or "",
            (StateStoreError, f"the database refused the change: {diagnostics.message_primary}"),
        )
        return kind(meaning)
    if state in (UNDEFINED_TABLE, UNDEFINED_COLUMN):
        return SchemaError(
            f"the database has no such table or column ({getattr(diagnostics, 'message_primary', None)});"
            " bring the schema up to date with 'alchemistore database upgrade'"
        )
    if state == READ_ONLY:
        return StateStoreError("this transaction is read-only, and the call writes")
    if state == QUERY_CANCELED:
        return StateStoreError(
            f"the database gave up: {str(original).strip()}; nothing was changed. If a statement may take longer,"
            " raise ALCHEMISTORE_STATEMENT_TIMEOUT, or ask for less at once"
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
def translated() -> Iterator[None]:
    """Raise what the database refuses as errors that explain themselves."""
    try:
        yield
    except PoolTimeoutError:
        raise StoreUnavailableError(
            "no database connection became free in time: all connections of this process are in use;"
            " raise ALCHEMISTORE_POOL_SIZE or call from fewer threads"
        ) from None
    except DBAPIError as error:
        better = translate(error)
        if better is error:
            raise
        raise better from error


class Transactional:
    """Something whose methods each run in one transaction.

    Parameters
    ----------
    engine : Engine
        Where connections come from.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    @contextmanager
    def transaction(self, readonly: bool = False, ignore_exceptions: bool = False) -> Iterator[Self]:
        """Run several calls in one transaction, which is committed at the end and rolled back on any exception.

        Parameters
        ----------
        readonly : bool, default False
            Let the database refuse whatever writes.
        ignore_exceptions : bool, default False
            After the rollback, swallow an :class:`Exception` instead of raising it.

        Yields
        ------
        StateStore
            This store, bound to the open transaction. Inside another transaction this one is a savepoint.
        """
        try:
            with translated():
                if self._connection is not None:
                    with self._connection.begin_nested():
                        yield self
                else:
                    with self._engine.connect() as connection:
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
        bound._connection = connection
        return bound

    def _run(self, operation: Callable[[Connection], R], readonly: bool) -> R:
        if self._connection is not None:
            with translated():
                return operation(self._connection)
        for attempt in range(1, TRIES + 1):
            done = False
            try:
                with self.transaction(readonly=readonly) as bound:
                    answer = operation(cast(Connection, bound._connection))
                    done = True
                return answer
            except (DBAPIError, StoreUnavailableError) as error:
                cause = error.__cause__ if isinstance(error, StoreUnavailableError) else error
                if attempt == TRIES or not isinstance(cause, DBAPIError) or not _worth_another_try(cause, done):
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  (jitter, not a secret)
        raise AssertionError("unreachable")


def _worth_another_try(error: DBAPIError, done: bool) -> bool:
    if getattr(error.orig, "sqlstate", None) in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
        return True
    # A pooled connection may have died in its sleep. Once the commit was sent, nobody knows whether it arrived.
    return error.connection_invalidated and not done


class BoundCall(Generic[P, R]):
    """A call of a store."""

    def __init__(self, store: Transactional, operation: Callable[Concatenate[Connection, P], R], readonly: bool) -> None:
        self._store = store
        self._operation = operation
        self._readonly = readonly
        functools.update_wrapper(cast(Any, self), operation)
        self.__signature__ = _public_signature(operation)

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, tx: Transactional, **kwargs: Any) -> R: ...
    def __call__(  # type: ignore[misc]  # no operation has a parameter called tx
        self, *args: Any, tx: Transactional | None = None, **kwargs: Any
    ) -> R:
        store = self._store if tx is None else tx
        # An iterator can be read once, a transaction may have to be tried twice.
        again = tuple(_listed(arg) for arg in args)
        named = {name: _listed(arg) for name, arg in kwargs.items()}
        return store._run(lambda connection: self._operation(connection, *again, **named), self._readonly)


class Call(Generic[P, R]):
    """A public call: an operation as a method of a store."""

    def __init__(self, operation: Callable[Concatenate[Connection, P], R], readonly: bool) -> None:
        self.operation = operation
        self.readonly = readonly
        functools.update_wrapper(cast(Any, self), operation)
        self.__signature__ = _public_signature(operation)

    def __call__(self, store: Transactional, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it as a function of the class, the store first."""
        return BoundCall(store, self.operation, self.readonly)(*args, **kwargs)

    @overload
    def __get__(self, store: None, owner: type) -> Self: ...
    @overload
    def __get__(self, store: Transactional, owner: type) -> BoundCall[P, R]: ...
    def __get__(self, store: Transactional | None, owner: type) -> Self | BoundCall[P, R]:
        return self if store is None else BoundCall(store, self.operation, self.readonly)


def reads(operation: Callable[Concatenate[Connection, P], R]) -> Call[P, R]:
    """Make an operation that only reads a public call; the database refuses it anything else."""
    return Call(operation, readonly=True)


def writes(operation: Callable[Concatenate[Connection, P], R]) -> Call[P, R]:
    """Make an operation that writes a public call: all of it happens or nothing."""
    return Call(operation, readonly=False)


@functools.cache
def _public_signature(operation: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(operation)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value
