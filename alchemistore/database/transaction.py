"""The only module that opens transactions: one per call, or one for several.

An operation is a function ``name(tx, ...)``. `reads` and `writes` turn it into a method of a
:class:`Transactional` that opens a transaction, passes it in, and commits. Errors of the database
are raised as errors of this package.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, RootTransaction, Transaction, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from alchemistore.database.arguments import misfit
from alchemistore.database.translation import translate_errors, translate_values
from alchemistore.errors import OutcomeUnknownError, StateStoreError, StoreUnavailableError
from alchemistore.models.clock import now, uuid7

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
READ_ONLY = "25006"
FEATURE_NOT_SUPPORTED = "0A000"
# What a standby answers to a write, and to BEGIN READ WRITE.
ON_STANDBY = (READ_ONLY, FEATURE_NOT_SUPPORTED)
MAX_ATTEMPTS = 6
# How long a call with a request identifier asks for its outcome after it lost the connection during
# COMMIT: long enough for a restart or a failover.
OUTCOME_SECONDS = 60.0
STANDBY = (
    "the database server is a standby, which refuses writes; check that ALCHEMISTORE_DATABASE_URL"
    " names the primary, or add 'target_session_attrs=primary' to it"
)

OTHER_PROCESS = (
    "this transaction was opened by another process: a forked process must use the store itself and"
    " open a transaction of its own"
)
FAILED = (
    "an earlier call in this transaction failed, so nothing was changed; let its error leave the"
    " 'with' block, or make the call in a transaction inside this one"
)

READ_ONLY_FROM_HERE = text("SET LOCAL transaction_read_only TO on")


@contextmanager
def open_transaction(engine: Engine, **options: Any) -> Iterator[Connection]:
    """Open a connection and a transaction on it, which is committed at the end.

    BEGIN is the first message on the connection, so a connection that died in the pool, or leads to
    a standby by now, is replaced before anything was done. With `autocommit`, there is no BEGIN:
    the only statement is the transaction. With `deferred`, BEGIN is sent with the first statement.

    Parameters
    ----------
    engine : Engine
        Source of connections; see :func:`alchemistore.database.engine.with_terms`.
    **options
        Execution options: `isolation`, `readonly`, `autocommit`, `deferred`, `call`, and
        `idempotent`: the call may be executed again if the connection is lost, so that its outcome
        does not matter.
    """
    process = os.getpid()
    with ExitStack() as stack:
        connection, transaction = _begin(engine, stack, options)
        try:
            yield connection
        except BaseException as error:
            if os.getpid() != process:
                # The connection belongs to the parent process.
                connection.invalidate()
            elif not options.get("readonly") and _sqlstate(error) in ON_STANDBY:
                # The address leads to a standby now: the next attempt connects again.
                connection.invalidate()
                engine.dispose()
            _roll_back(transaction)
            if options.get("autocommit") and not options.get("idempotent") and _is_lost(error):
                raise OutcomeUnknownError(str(error).strip()) from error
            raise
        if os.getpid() != process:
            connection.invalidate()
            raise StateStoreError(OTHER_PROCESS)
        if _has_failed(connection):
            # PostgreSQL would answer COMMIT by a rollback, without an error.
            raise StateStoreError(FAILED)
        try:
            transaction.commit()
        except DBAPIError as error:
            if _is_lost(error) and not (options.get("readonly") or options.get("idempotent")):
                raise OutcomeUnknownError(str(error.orig).strip()) from error
            raise


def _begin(
    engine: Engine, stack: ExitStack, options: dict[str, Any]
) -> tuple[Connection, RootTransaction]:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            connection = engine.connect().execution_options(by_store=True, **options)
            stack.enter_context(connection)
            return connection, stack.enter_context(connection.begin())
        except DBAPIError as error:
            stack.close()
            standby = _sqlstate(error) == FEATURE_NOT_SUPPORTED
            if standby:
                # Other connections of the pool lead there, too.
                engine.dispose()
            if attempt < MAX_ATTEMPTS and (standby or error.connection_invalidated):
                pause(attempt)
            elif standby:
                raise StoreUnavailableError(STANDBY) from error
            else:
                raise
    raise AssertionError("unreachable")


def _roll_back(transaction: Transaction) -> None:
    try:
        transaction.rollback()
    except SQLAlchemyError as error:
        # The terms end when a statement fails, so a timeout of the server may end the session.
        # The first error is the one to raise.
        log.info("the connection was lost before the rollback: %s", error)


def _has_failed(connection: Connection) -> bool:
    if connection.invalidated:
        return True
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.info.transaction_status == TransactionStatus.INERROR


@dataclass(frozen=True)
class Call:
    """A call, which may run more than once.

    Attributes
    ----------
    identifier : UUID
        A UUIDv7, the same each time that the call runs.
    made_at : datetime
        When it was made.
    again : bool
        Whether it runs again, and so may have been carried out before.
    """

    identifier: UUID = field(default_factory=uuid7)
    made_at: datetime = field(default_factory=now)
    again: bool = False


def call_of(tx: Connection) -> Call:
    """Return the call that a transaction is for; a new one in a transaction of several calls."""
    made: Call | None = tx.get_execution_options().get("call")
    return made or Call()


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
                    with open_transaction(self.engine, readonly=readonly) as connection:
                        yield self._bound(connection)
        except Exception:
            if not ignore_exceptions:
                raise

    @contextmanager
    def _savepoint(self, connection: Connection, readonly: bool) -> Iterator[None]:
        self._require_own_process()
        savepoint = connection.begin_nested()
        try:
            if readonly:
                # PostgreSQL restores the access mode at the end of the savepoint.
                connection.execute(READ_ONLY_FROM_HERE)
            yield
            savepoint.commit()
        except BaseException:
            _roll_back(savepoint)
            raise

    def _bound(self, connection: Connection) -> Self:
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.connection, bound._process = connection, os.getpid()
        return bound

    def _require_own_process(self) -> None:
        if self._process != os.getpid():
            raise StateStoreError(OTHER_PROCESS)

    def run(
        self,
        operation: Callable[[Connection, bool], R],
        readonly: bool,
        known: bool = False,
        autocommit: bool = False,
        idempotent: bool = False,
        ends_together: bool = False,
        remembers: bool = False,
    ) -> R:
        """Run an operation in a transaction, or in the open one, and return its answer.

        The operation may run more than once: after a serialization failure, a deadlock, or the loss
        of the connection before COMMIT.

        Parameters
        ----------
        operation : callable
            Takes the open transaction, and whether it runs again.
        readonly : bool
            The operation only reads, so BEGIN and COMMIT are not sent when it runs for the first
            time, and it may run again if the connection is lost.
        known : bool, default False
            The operation recognises whether it was carried out before, so it is also repeated when
            the connection was lost during COMMIT, for up to :data:`OUTCOME_SECONDS`.
        autocommit : bool, default False
            Do not send BEGIN and COMMIT when the operation runs for the first time, because it
            executes one statement.
        idempotent : bool, default False
            The operation may run again if the connection is lost.
        ends_together : bool, default False
            The operation sends its last statements together with COMMIT.
        remembers : bool, default False
            When the operation runs again, its answer is remembered afterwards, so that COMMIT comes
            later.
        """
        if self.connection is not None:
            self._require_own_process()
            with translate_errors(self.engine), translate_values():
                return operation(self.connection, False)
        unknown: OutcomeUnknownError | None = None
        end = 0.0
        made = Call()
        for attempt in itertools.count(1):
            try:
                with (
                    translate_errors(self.engine),
                    open_transaction(
                        self.engine,
                        readonly=readonly,
                        autocommit=(autocommit or readonly) and attempt == 1,
                        deferred=True,
                        ends_together=ends_together and not (remembers and attempt > 1),
                        idempotent=idempotent or readonly,
                        call=made if attempt == 1 else replace(made, again=True),
                    ) as connection,
                    translate_values(),
                ):
                    return operation(connection, attempt > 1)
            except Exception as error:
                if known and unknown is None and isinstance(error, OutcomeUnknownError):
                    unknown, end = error, time.monotonic() + OUTCOME_SECONDS
                if unknown is not None and isinstance(error, StoreUnavailableError):
                    # Only the database knows the outcome: ask until it is back.
                    if time.monotonic() > end:
                        raise unknown from error
                elif not _repeatable(error, readonly, known):
                    raise
                elif attempt >= MAX_ATTEMPTS:
                    if _sqlstate(error) in ON_STANDBY:
                        raise StoreUnavailableError(STANDBY) from error
                    raise
                log.info("a call is repeated after attempt %d: %s", attempt, error)
                pause(min(attempt, MAX_ATTEMPTS))
        raise AssertionError("unreachable")


def pause(attempt: int) -> None:
    """Wait for a random time that grows with the number of attempts."""
    time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  (jitter, not a secret)


def _sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of the database, translated or not."""
    cause = error if isinstance(error, DBAPIError) else error.__cause__
    state: str | None = getattr(getattr(cause, "orig", None), "sqlstate", None)
    return state


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _repeatable(error: Exception, readonly: bool, known: bool) -> bool:
    """Check whether a call that failed with a translated error may be repeated."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError):
        return False
    if isinstance(error, OutcomeUnknownError):
        return known
    state = _sqlstate(cause)
    if state in ON_STANDBY:
        return not readonly
    return state in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED) or cause.connection_invalidated


@contextmanager
def savepoint(tx: Connection) -> Iterator[Callable[[], None]]:
    """Open a savepoint, which is undone by an exception.

    Yields
    ------
    callable
        Undoes what was done since; the savepoint cannot be used afterwards.
    """
    with tx.begin_nested() as opened:
        yield opened.rollback


class FreshRequest(UUID):
    """A request identifier that the store has made for a call that runs for the first time."""

    __slots__ = ()


def reads(
    operation: Callable[Concatenate[Connection, P], R],
) -> Callable[Concatenate[Transactional, P], R]:
    """Return a method for an operation that only reads.

    BEGIN and COMMIT are not sent. As in a transaction at READ COMMITTED, each statement reads what
    was committed before it.
    """
    return _method(operation, readonly=True)


def writes(
    operation: Callable[Concatenate[Connection, P], R],
) -> Callable[Concatenate[Transactional, P], R]:
    """Return a method that runs an operation in a transaction."""
    return _method(operation, readonly=False)


def writes_together(
    operation: Callable[Concatenate[Connection, P], R],
    *,
    known: bool = False,
    idempotent: bool = False,
) -> Callable[Concatenate[Transactional, P], R]:
    """Return a method for an operation that sends its last statements together with COMMIT.

    Parameters
    ----------
    operation : callable
        The operation. It changes nothing after ``together(tx, last=True)``. If it takes a request
        identifier, one that the store has made need not be remembered.
    known : bool, default False
        It recognises whether it was carried out before, so it is repeated if the connection is lost
        meanwhile.
    idempotent : bool, default False
        It may be carried out twice, so it is repeated then.
    """
    return _method(
        operation, readonly=False, known=known, idempotent=idempotent, ends_together=True
    )


def writes_in_autocommit(
    operation: Callable[Concatenate[Connection, P], R],
) -> Callable[Concatenate[Transactional, P], R]:
    """Return a method for an operation that takes a request identifier.

    With an identifier that the store has made, the operation executes one statement, so that BEGIN
    and COMMIT are not sent.
    """
    return _method(operation, readonly=False, autocommit=True)


def idempotent_in_autocommit(
    operation: Callable[Concatenate[Connection, P], R],
) -> Callable[Concatenate[Transactional, P], R]:
    """Return a method for an operation that writes with one statement, which may be repeated.

    BEGIN and COMMIT are not sent. The statement is repeated if the connection is lost.
    """
    return _method(operation, readonly=False, autocommit=True, idempotent=True)


def _method(
    operation: Callable[Concatenate[Connection, P], R],
    readonly: bool,
    autocommit: bool = False,
    known: bool = False,
    idempotent: bool = False,
    ends_together: bool = False,
) -> Callable[Concatenate[Transactional, P], R]:
    @functools.wraps(operation)
    def method(store: Transactional, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # alchemiscale passes an open transaction as `tx`; type checkers do not see this keyword.
        joined = kwargs.pop("tx", None) or store
        if not isinstance(joined, Transactional):
            raise TypeError(
                "tx must be an open transaction, as store.transaction() yields it, not"
                f" {type(joined).__name__}"
            )
        # An iterator can be read only once, but a transaction may be retried.
        listed = [_listed(arg) for arg in args]
        named = {name: _listed(arg) for name, arg in kwargs.items()}
        given = named.pop("request", None) if takes_request else None

        def call(tx: Connection, **more: Any) -> R:
            try:
                return operation(tx, *listed, **named, **more)
            except (AttributeError, TypeError) as error:
                reason = misfit(operation, listed, named)
                if reason is None:
                    raise
                raise TypeError(reason) from error

        if not takes_request:
            return joined.run(
                lambda tx, again: call(tx),
                readonly,
                known=known,
                autocommit=autocommit,
                idempotent=idempotent,
                ends_together=ends_together,
            )
        if given is None and joined.connection is None:
            return joined.run(
                _identified(call),
                readonly,
                known=True,
                autocommit=autocommit,
                ends_together=ends_together,
                remembers=True,
            )
        return joined.run(
            lambda tx, again: call(tx, request=given), readonly, known=given is not None
        )

    signature = inspect.signature(operation)
    takes_request = "request" in signature.parameters
    store = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [store, *list(signature.parameters.values())[1:]]
    public = cast(Any, method)
    public.__signature__ = signature.replace(parameters=parameters)
    public.operation, public.readonly, public.autocommit = operation, readonly, autocommit
    return method


def _identified(call: Callable[..., R]) -> Callable[[Connection, bool], R]:
    """Return an operation under an identifier of its own."""
    identifier = FreshRequest(int=uuid7().int)

    def run(tx: Connection, again: bool) -> R:
        return call(tx, request=UUID(int=identifier.int) if again else identifier)

    return run


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value
