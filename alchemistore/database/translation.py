"""Errors of psycopg and SQLAlchemy as errors of this package, with advice that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    SQLAlchemyError,
    StatementError,
    TimeoutError as PoolTimeoutError,
)

from alchemistore.database.terms import Terms, quoted
from alchemistore.errors import (
    CONSTRAINT_ERRORS,
    SchemaError,
    StateStoreError,
    StoreUnavailableError,
)

CHECK_URL = "check that the server runs and that ALCHEMISTORE_DATABASE_URL names it"
PREPARED = (
    "another client's prepared statement is in the way: a pooler is between this process and"
    " PostgreSQL; set ALCHEMISTORE_PREPARE_STATEMENTS=false"
)


@contextmanager
def translate_errors(engine: Engine | None = None) -> Iterator[None]:
    """Raise errors of the database as errors of this package.

    Parameters
    ----------
    engine : Engine, optional
        The engine in use; messages mention its timeouts and its schema.
    """
    try:
        yield
    except PoolTimeoutError:
        raise StoreUnavailableError(
            "no database connection became free in time: all connections of this process are in"
            " use; raise ALCHEMISTORE_POOL_SIZE or call from fewer threads"
        ) from None
    except DBAPIError as error:
        raise translate(error, engine) from error
    except StatementError as error:
        # SQLAlchemy could not convert a parameter.
        kind = TypeError if isinstance(error.orig, TypeError) else ValueError
        raise kind(f"the database cannot take a value: {error.orig}") from error
    except InvalidRequestError as error:
        raise StateStoreError(
            "this transaction is finished or has failed; leave its 'with' block and open another"
        ) from error
    except SQLAlchemyError as error:
        raise StateStoreError(f"SQLAlchemy failed: {error}") from error
    except psycopg.Error as error:
        raise _translate(error, engine, lost=False) from error


@contextmanager
def translate_values() -> Iterator[None]:
    """Raise errors about the values of arguments as plain :class:`ValueError`."""
    try:
        yield
    except ValidationError as error:
        # The full text of a validation error repeats the values.
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ValueError("; ".join(reason.removeprefix(": ") for reason in reasons)) from error
    except UnicodeError as error:
        raise ValueError(
            f"the database cannot take a text that is not valid Unicode: {error.reason}"
            if isinstance(error, UnicodeEncodeError | UnicodeDecodeError)
            else f"the database cannot take a text: {error}"
        ) from error
    except OverflowError as error:
        raise ValueError(f"a number is too large: {error}") from error


def translate(error: DBAPIError, engine: Engine | None = None) -> Exception:
    """Return the error to raise for an error of the database.

    Parameters
    ----------
    error : DBAPIError
        The error.
    engine : Engine, optional
        The engine in use.
    """
    return _translate(error.orig, engine, lost=error.connection_invalidated)


def _translate(original: BaseException | None, engine: Engine | None, lost: bool) -> Exception:
    state: str = getattr(original, "sqlstate", None) or ""
    diagnostics = getattr(original, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    message: str = (primary or str(original)).strip()
    if state.startswith("23"):
        constraint = getattr(diagnostics, "constraint_name", None) or ""
        refusal = (StateStoreError, f"the database refused the change: {message}")
        kind, meaning = CONSTRAINT_ERRORS.get(constraint, refusal)
        return kind(meaning)
    terms: Terms | None = None
    if engine is not None:
        terms = engine.get_execution_options().get("terms")
    for states, make in _BY_STATE:
        if state.startswith(states):
            return make(message, terms)
    if not state and isinstance(original, psycopg.DataError):
        return ValueError(f"the database cannot take a value: {message}")
    if not state and isinstance(original, psycopg.ProgrammingError):
        return TypeError(f"the database cannot take a value: {message}")
    if lost or not state or state.startswith(("08", "28", "3D", "57P")):
        return StoreUnavailableError(
            f"cannot use the database: {message}; {_connection_advice(message, state)}"
        )
    return StateStoreError(f"the database refused: {message} (SQLSTATE {state})")


def _connection_advice(message: str, state: str) -> str:
    if state == "28P01" or "authentication failed" in message or "no password" in message:
        return "check user and password in ALCHEMISTORE_DATABASE_URL"
    if state == "3D000" or "does not exist" in message:
        return "create the database, or correct its name in ALCHEMISTORE_DATABASE_URL"
    if "too many" in message or "remaining connection slots" in message:
        return "raise max_connections on the server, use a pooler, or lower ALCHEMISTORE_POOL_SIZE"
    return CHECK_URL


def _schema(message: str, terms: Terms | None) -> Exception:
    where = f" in the schema {terms.schema!r}" if terms else ""
    return SchemaError(
        f"a table or column is missing{where} ({message}); run 'alchemistore database upgrade', and"
        " check ALCHEMISTORE_SCHEMA_NAME"
    )


def _rights(message: str, terms: Terms | None) -> Exception:
    schema = quoted(terms.schema) if terms else "alchemistore"
    return StateStoreError(
        f"the role of this connection lacks a right: {message}; as the owner of the tables, run"
        " 'alchemistore database grant ROLE --to service', which runs"
        f" GRANT USAGE ON SCHEMA {schema} TO role and"
        f" GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO role,"
        " or '--to monitor' for reading only; only the owner may change the schema"
    )


NOT_OURS = "the timeouts of role and server do not apply to the store's transactions"


def _statement_timeout(message: str, terms: Terms | None) -> Exception:
    # One SQLSTATE stands for both; messages of PostgreSQL may be in any language.
    administrator = "an administrator or a pooler cancelled it; try again"
    if terms is None or not terms.statement_timeout:
        advice = f"ALCHEMISTORE_STATEMENT_TIMEOUT is not set, and {NOT_OURS}, so {administrator}"
    elif "user request" in message:
        advice = administrator
    else:
        advice = (
            f"ALCHEMISTORE_STATEMENT_TIMEOUT is {terms.statement_timeout:g} s: raise it or use a"
            " smaller batch"
        )
    return StateStoreError(f"statement cancelled: {message}; nothing was changed. {advice}")


def _lock_timeout(message: str, terms: Terms | None) -> Exception:
    if terms is not None and terms.lock_timeout:
        advice = f"ALCHEMISTORE_LOCK_TIMEOUT is {terms.lock_timeout:g} s: raise it, or try again"
    else:
        advice = "another transaction holds the lock; try again"
    return StateStoreError(
        f"a lock was not available in time: {message}; nothing was changed. {advice}"
    )


def _idle_timeout(message: str, terms: Terms | None) -> Exception:
    if terms is not None and terms.idle_timeout:
        advice = (
            f"ALCHEMISTORE_IDLE_TIMEOUT is {terms.idle_timeout:g} s: raise it, or do less between"
            " the calls of a transaction"
        )
    else:
        advice = f"ALCHEMISTORE_IDLE_TIMEOUT is not set, and {NOT_OURS}; try again"
    return StoreUnavailableError(
        f"the transaction was ended: {message}; nothing was changed. {advice}"
    )


def _constant(kind: type[Exception], text: str) -> Callable[[str, Terms | None], Exception]:
    return lambda message, terms: kind(text.format(message=message))


# SQLSTATEs or their beginnings; the first match counts.
_BY_STATE: tuple[tuple[str | tuple[str, ...], Callable[[str, Any], Exception]], ...] = (
    (("42P01", "42703", "3F000"), _schema),
    ("42501", _rights),
    ("25006", _constant(StateStoreError, "cannot write in a read-only transaction")),
    (
        "25P02",
        _constant(
            StateStoreError,
            "an earlier call in this transaction has failed; leave its 'with' block and try again",
        ),
    ),
    (("25P03", "25P04"), _idle_timeout),
    ("57014", _statement_timeout),
    ("55P03", _lock_timeout),
    (
        ("40001", "40P01"),
        _constant(
            StateStoreError,
            "the call conflicts with concurrent ones: {message}; nothing was changed, try again",
        ),
    ),
    (
        "53100",
        _constant(
            StoreUnavailableError,
            "the disk of the database server is full: {message}; nothing was changed. Free space"
            " on the server, then try again",
        ),
    ),
    (
        "53300",
        _constant(
            StoreUnavailableError,
            "the database server has no free connection: {message}; raise max_connections on the"
            " server, use a pooler, or lower ALCHEMISTORE_POOL_SIZE",
        ),
    ),
    (
        "53",
        _constant(
            StoreUnavailableError,
            "the database server lacks resources: {message}; nothing was changed, try again with a"
            " smaller batch",
        ),
    ),
    ("54000", _constant(ValueError, "a value is too long for the database: {message}")),
    (("26000", "42P05"), _constant(StateStoreError, PREPARED)),
    ("22", _constant(ValueError, "the database cannot take a value: {message}")),
)
