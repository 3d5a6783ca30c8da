"""Engines: the pool of connections, and what each connection and transaction has in common."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Any
from urllib.parse import parse_qsl

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.pool import ConnectionPoolEntry

from alchemistore.database import together
from alchemistore.database.plan_age import RENEW, PlanAge
from alchemistore.database.shortening import shortened
from alchemistore.database.terms import Isolation, Terms, begin, set_session
from alchemistore.settings import Settings, default_schema, get_settings

log = logging.getLogger(__name__)

SCHEMES = ("postgresql", "postgres")
EXPECTED = "expected 'postgresql://user:password@host:port/database'"
MALFORMED = (
    f"not a database URL: {EXPECTED}; write '@', ':', '/', '?', '#' and '%' inside user and"
    " password as %40, %3A, %2F, %3F, %23 and %25"
)
# The names under which a connection of the pool notes whether it leads to a pooler, the terms of
# its session, and the age of its plans.
POOLER, SESSION_TERMS, PLAN_AGE = "pooler", "session_terms", "plan_age"
# Connection parameters that have a place of their own in an SQLAlchemy URL.
_IN_URL = ("user", "password", "host", "port", "dbname")
# Connection parameters that `address` leaves out.
_SECRET = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")


def database_url(url: str) -> URL:
    """Return a PostgreSQL URL as SQLAlchemy takes it.

    Every form that libpq accepts is accepted, several hosts and ``target_session_attrs`` included.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host:port/database?parameter=value``.

    Raises
    ------
    ValueError
        If it is not the URL of a PostgreSQL database. The message never contains the URL, because
        it may contain a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"not a database URL: {EXPECTED}")
    if scheme.partition("+")[0] not in SCHEMES:
        raise ValueError(f"not a PostgreSQL URL: it starts with {scheme!r}, {EXPECTED}")
    _require_known_parameters(url)
    found = _parsed(f"postgresql://{rest}")
    if found is None:
        # Raised here, because the error of libpq may repeat a part of the password.
        raise ValueError(MALFORMED)
    host, port = str(found.get("host") or ""), str(found.get("port") or "")
    query: dict[str, Any] = {
        name: str(value) for name, value in found.items() if name not in _IN_URL
    }
    single = bool(host) and "," not in host and not host.startswith(("/", "@"))
    if "," in host:
        # SQLAlchemy takes several hosts as several `host` parameters.
        hosts = host.split(",")
        ports = port.split(",") if "," in port else [port] * len(hosts)
        if len(ports) != len(hosts):
            raise ValueError(f"the database URL has {len(hosts)} hosts, but {len(ports)} ports")
        query["host"] = tuple(
            f"{name}:{number}" if number else name
            for name, number in zip(hosts, ports, strict=True)
        )
    elif not single:
        query |= {name: value for name, value in (("host", host), ("port", port)) if value}
    return URL.create(
        "postgresql+psycopg",
        username=_text(found.get("user")),
        password=_text(found.get("password")),
        host=host if single else None,
        port=int(port) if single and port else None,
        database=_text(found.get("dbname")),
        query=query,
    )


def _parsed(url: str) -> dict[str, Any] | None:
    try:
        found = conninfo_to_dict(url)
    except (psycopg.Error, ValueError):
        return None
    ports = str(found.get("port") or "").split(",")
    if not all(0 < int(port) < 2**16 if port.isdecimal() else not port for port in ports):
        return None
    return found


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _require_known_parameters(url: str) -> None:
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    # Values may be secret; only the names are used.
    before, _, query = url.partition("?")
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    unknown = sorted({name for name in names if name not in known and name != "ssl"})
    if unknown and "@" in query and "@" not in before:
        raise ValueError(MALFORMED)
    if unknown:
        raise ValueError(
            f"the database URL has an unknown parameter: {', '.join(map(repr, unknown))}; see the"
            " section 'Parameter Key Words' of PostgreSQL's documentation of libpq"
        )


def schema_of(bind: Engine | Connection) -> str:
    """Return the schema of the tables of a store."""
    terms: Terms = bind.get_execution_options()["terms"]
    return terms.schema


def address(engine: Engine) -> str:
    """Return the URL of an engine's database without secrets."""
    return engine.url.difference_update_query(_SECRET).render_as_string(hide_password=True)


def make_engine(settings: Settings) -> Engine:
    """Return an engine. Nothing is connected yet, but an embedded server is started.

    Parameters
    ----------
    settings : Settings
        URL, pool, timeouts, application name.

    Raises
    ------
    StoreUnavailableError
        If the embedded server cannot be started.
    """
    if settings.embedded_directory is not None:
        # Only the embedded server needs the packages that it is made of.
        from alchemistore.local import database_url as start

        url = database_url(start(settings.embedded_directory))
    else:
        url = database_url(settings.database_url.get_secret_value())
    engine = create_engine(
        url,
        # The URL wins over these.
        connect_args={
            name: value
            for name, value in _connect_defaults(settings).items()
            if name not in url.query
        },
        # The store sends BEGIN itself, together with the terms of the transaction.
        isolation_level="AUTOCOMMIT",
        # The store has no hstore; looking for it opens a transaction without our terms.
        use_native_hstore=False,
        # Connections that were opened under load stay open, because opening one takes the server
        # as long as many calls. The last one used is used next, so that the others rest.
        pool_size=2 * settings.pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=settings.pool_timeout,
        pool_pre_ping=False,
        pool_recycle=1800,
    )
    terms = Terms(
        schema=settings.schema_name,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
        idle_timeout=settings.idle_timeout,
    )
    # Nobody else uses the sessions of this engine; prepared statements need the same.
    return _prepared(engine, terms=terms, keeps_sessions=settings.prepare_statements)


def _connect_defaults(settings: Settings) -> dict[str, Any]:
    return {
        "application_name": settings.application_name,
        "connect_timeout": settings.connect_timeout,
        "client_encoding": "utf8",
        # TCP keepalives: a vanished server is noticed within two minutes.
        "keepalives_idle": 60,
        "keepalives_interval": 10,
        "keepalives_count": 6,
        **({} if settings.prepare_statements else {"prepare_threshold": None}),
    }


def with_terms(engine: Engine, terms: Terms | None = None) -> Engine:
    """Return an engine, on the same pool, whose transactions state their terms.

    Parameters
    ----------
    engine : Engine
        An engine that uses psycopg.
    terms : Terms, optional
        The terms; by default those of the engine, or else the default schema without timeouts.
    """
    if "terms" in engine.get_execution_options() and terms is None:
        return engine
    return _prepared(
        engine, isolation_level="AUTOCOMMIT", terms=terms or Terms(schema=default_schema())
    )


def _prepared(engine: Engine, **options: Any) -> Engine:
    """Return an engine with execution options and the listeners of the store."""
    stated = engine.execution_options(**options)
    # Error messages go to logs.
    stated.hide_parameters = True
    event.listen(stated, "begin", _begin)
    event.listen(stated, "before_cursor_execute", _prepare, retval=True)
    event.listen(engine.pool, "checkout", _inspect)
    together.register(stated)
    return dispose_on_fork(stated)


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    terms: Terms | None = options["terms"]
    version = driver.info.server_version
    connection.info.pop(together.BEGIN, None)
    connection.info.pop(together.FIRST, None)
    if options.get("by_store") and options.get("keeps_sessions") and not connection.info[POOLER]:
        if connection.info.get(SESSION_TERMS) != terms:
            connection.exec_driver_sql(set_session(options["terms"], version))
            connection.info[SESSION_TERMS] = terms
        old = connection.info.setdefault(PLAN_AGE, PlanAge()).count()
        if options.get("autocommit"):
            _send_first(connection, old)
            return
        terms = None
    else:
        old = False
        # Others may change settings of the session.
        connection.info.pop(SESSION_TERMS, None)
    isolation: Isolation = options.get("isolation", "READ COMMITTED")
    statements = begin(terms, version, isolation, options.get("readonly", False))
    if terms is None and options.get("deferred") and together.is_quiet(driver):
        connection.info[together.BEGIN] = statements
    else:
        connection.exec_driver_sql(statements)
    _send_first(connection, old)


def _send_first(connection: Connection, old: bool) -> None:
    """Send a statement that drops the plans of the session with the next one, if they are old."""
    if old:
        connection.info[together.FIRST] = RENEW


def _prepare(
    _connection: Connection,
    cursor: psycopg.Cursor[Any],
    statement: str,
    parameters: Any,
    context: ExecutionContext,
    _many: bool,
) -> tuple[str, Any]:
    """Shorten a statement, and request a binary answer if it has the option ``binary``."""
    if context.execution_options.get("binary"):
        cursor.format = Format.BINARY
    return shortened(statement), parameters


def _inspect(driver: psycopg.Connection[Any], record: ConnectionPoolEntry, _proxy: object) -> None:
    if POOLER in record.info:
        return
    record.info[POOLER] = behind_pooler(driver)
    if record.info[POOLER]:
        log.info("connected through a pooler; statements are not prepared")
        # The next transaction may run on a connection that knows other prepared statements.
        driver.prepare_threshold = None
    _CONNECTIONS.add(driver)


def behind_pooler(connection: psycopg.Connection[Any]) -> bool:
    """Check whether a pooler such as PgBouncer is between a connection and PostgreSQL.

    A pooler announces a process id of its own, not that of the server process.
    """
    autocommit = connection.autocommit
    # A session that waits in a transaction could be ended by a timeout of the server.
    connection.autocommit = True
    with psycopg.ClientCursor(connection) as cursor:
        row = cursor.execute("SELECT pg_backend_pid()").fetchone()
    connection.autocommit = autocommit
    return row is None or row[0] != connection.info.backend_pid


# The engines of this process, and their connections, which a forked child must not use.
_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
_CONNECTIONS: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()
_LOCK = threading.Lock()


def dispose_on_fork(engine: Engine) -> Engine:
    """Dispose of the connections in forked children, and return the engine."""
    with _LOCK:
        _ENGINES.add(engine)
    return engine


def _forget_connections() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for connection in list(_CONNECTIONS):
        if not connection.closed:
            # Nothing that the child sends on an inherited connection reaches the server.
            os.dup2(nowhere, connection.fileno())
    os.close(nowhere)
    for engine in list(_ENGINES):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


def engine_from_environment() -> Engine:
    """Return an engine for the database that the environment names."""
    return make_engine(get_settings())
