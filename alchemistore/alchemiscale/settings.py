"""Find the database in the settings of alchemiscale."""

from __future__ import annotations

import os
from typing import Protocol
from urllib.parse import quote, urlsplit

from pydantic import SecretStr
from sqlalchemy import URL

from alchemistore.database.engine import SCHEMES
from alchemistore.settings import EMBEDDED, Settings

DATABASE_URL = "ALCHEMISTORE_DATABASE_URL"
BOLT = ("bolt", "neo4j")
# URLs with user and password.
WHOLE = (*(f"{scheme}://" for scheme in SCHEMES), "postgresql+psycopg://", EMBEDDED)


class Neo4jSettings(Protocol):
    """The settings that alchemiscale has for its database."""

    @property
    def NEO4J_URL(self) -> str: ...

    @property
    def NEO4J_USER(self) -> str: ...

    @property
    def NEO4J_PASS(self) -> str: ...

    @property
    def NEO4J_DBNAME(self) -> str: ...


def store_settings(given: Neo4jSettings) -> Settings:
    """Return the settings of the store.

    Pool, timeouts and schema are those of the ``ALCHEMISTORE_...`` variables.

    Parameters
    ----------
    given : Neo4jStoreSettings
        The settings of alchemiscale. ``NEO4J_URL`` is one of

        - ``postgresql://user:password@host:port/database`` or ``embedded:///directory``, used as
          it is;
        - ``bolt://host:port/database``, which means the PostgreSQL server there, with
          ``NEO4J_USER`` and ``NEO4J_PASS``;
        - ``bolt://host:port`` or empty, which means the database of ``ALCHEMISTORE_DATABASE_URL``.
          If this is not set, ``bolt://host:port`` means the database ``NEO4J_DBNAME`` there.

    Raises
    ------
    ValueError
        If it is another URL, or names no database. The message does not contain the URL.
    """
    return Settings(database_url=SecretStr(_database_url(given)))


def _database_url(given: Neo4jSettings) -> str:
    url = given.NEO4J_URL
    if url.startswith(WHOLE):
        return url
    if url and url.partition("://")[0] not in BOLT:
        raise ValueError(
            "NEO4J_URL is not the URL of a database: expected"
            " 'postgresql://user:password@host:port/database', or 'bolt://host:port/database' with"
            " NEO4J_USER and NEO4J_PASS"
        )
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError(
            "NEO4J_URL must not contain a user or a password; set NEO4J_USER and NEO4J_PASS"
        )
    database = parts.path.removeprefix("/")
    if not database and (named := os.environ.get(DATABASE_URL)):
        return named
    if not parts.netloc:
        raise ValueError(
            f"no database is named: set NEO4J_URL, or leave it empty and set {DATABASE_URL}"
        )
    # It is a space if `complete_environment` has set it.
    user, password = quote(given.NEO4J_USER.strip(), safe=""), quote(given.NEO4J_PASS, safe="")
    login = f"{user}:{password}@" if user else ""
    query = f"?{parts.query}" if parts.query else ""
    name = database or quote(given.NEO4J_DBNAME, safe="")
    return f"postgresql://{login}{parts.netloc}/{name}{query}"


def complete_environment() -> None:
    """Set the variables that alchemiscale requires, if only ours names the database.

    Without ``NEO4J_URL``, the value of ``ALCHEMISTORE_DATABASE_URL`` takes its place, and user and
    password, which are part of it, become empty.
    """
    if (url := os.environ.get(DATABASE_URL)) and not os.environ.get("NEO4J_URL"):
        os.environ["NEO4J_URL"] = url
    if os.environ.get("NEO4J_URL", "").startswith(WHOLE):
        for name in ("NEO4J_USER", "NEO4J_PASS"):
            # A space, because the command line of alchemiscale takes an empty variable as not set.
            os.environ.setdefault(name, " ")


def graph_address(url: URL) -> str:
    """Return ``host:port/database``; after ``bolt://``, it leads to the same database.

    Parameters
    ----------
    url : URL
        The URL of an engine.
    """
    hosts = url.host or url.query.get("host", "")
    port = url.port or url.query.get("port", "")
    if isinstance(hosts, tuple):
        place = ",".join(hosts)
    else:
        # The directory of a Unix socket is one name, with its slashes escaped.
        host = hosts if ":" not in hosts else f"[{hosts}]"
        place = f"{quote(host, safe='[]:')}:{port}" if port else quote(host, safe="[]:")
    return f"{place}/{quote(url.database or '', safe='')}"
