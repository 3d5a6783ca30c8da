"""The terms of a transaction: settings that the store relies on.

Defaults of the server, the database, the role or the URL cannot change them. They are set once for
each connection of the store. On connections that others may change, such as those of a pooler, they
are sent together with BEGIN and end with the transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Isolation = Literal["READ COMMITTED", "REPEATABLE READ"]

# PostgreSQL 17 introduced `transaction_timeout`.
TRANSACTION_TIMEOUT_VERSION = 170000

# Settings that change how values are read, written or compared.
_FIXED = {
    "TimeZone": "'UTC'",
    "DateStyle": "'ISO, YMD'",
    "IntervalStyle": "'postgres'",
    "client_encoding": "'UTF8'",
    "bytea_output": "'hex'",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    # Compiling a statement takes seconds, and costs of recursive statements are overestimated.
    "jit": "off",
}


@dataclass(frozen=True)
class Terms:
    """The settings that a store states in every transaction.

    Attributes
    ----------
    schema : str
        The schema of the tables.
    statement_timeout, lock_timeout, idle_timeout : float, default 0
        Seconds after which PostgreSQL cancels a statement, a wait for a lock, or a transaction that
        is idle; 0 means never.
    """

    schema: str
    statement_timeout: float = 0.0
    lock_timeout: float = 0.0
    idle_timeout: float = 0.0

    @property
    def search_path(self) -> str:
        """The search path: the schema, and temporary tables last."""
        return f"{quoted(self.schema)}, pg_temp"


def quoted(identifier: str) -> str:
    """Return an identifier as a quoted identifier of SQL."""
    return '"' + identifier.replace('"', '""') + '"'


@lru_cache
def begin(terms: Terms | None, server_version: int, isolation: Isolation, readonly: bool) -> str:
    """Return the statements that open a transaction under some terms.

    Parameters
    ----------
    terms : Terms or None
        The terms, which then end with the transaction; ``None`` if the session has them.
    server_version : int
        The version of PostgreSQL, such as 180004.
    isolation : "READ COMMITTED" or "REPEATABLE READ"
        The isolation level.
    readonly : bool
        Let PostgreSQL refuse writes.
    """
    values = {} if terms is None else _values(terms, server_version)
    access = "READ ONLY" if readonly else "READ WRITE"
    return "; ".join(
        [
            f"BEGIN ISOLATION LEVEL {isolation}, {access}, NOT DEFERRABLE",
            *(f"SET LOCAL {name} TO {value}" for name, value in values.items()),
        ]
    )


@lru_cache
def set_session(terms: Terms, server_version: int) -> str:
    """Return the statements that set the terms for a session.

    Nothing but another ``SET`` in the same session changes them, not even a reload of the server's
    configuration.

    Parameters
    ----------
    terms : Terms
        The terms.
    server_version : int
        The version of PostgreSQL, such as 180004.
    """
    return "; ".join(
        [
            "SET SESSION CHARACTERISTICS AS TRANSACTION"
            " ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE",
            *(f"SET {name} TO {value}" for name, value in _values(terms, server_version).items()),
        ]
    )


def _values(terms: Terms, server_version: int) -> dict[str, str]:
    return {
        "search_path": terms.search_path,
        "statement_timeout": _milliseconds(terms.statement_timeout),
        "lock_timeout": _milliseconds(terms.lock_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(terms.idle_timeout),
        **({"transaction_timeout": "0"} if server_version >= TRANSACTION_TIMEOUT_VERSION else {}),
        **_FIXED,
    }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
