"""The connection to Neo4j: named queries, which only read, rows of plain values, and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from alchemistore.errors import GraphError, Neo4jNotInstalledError
from alchemistore.neo4j.queries import QUERIES

Row = Mapping[str, Any]

# Rows that the server sends at a time, so that neither side holds a whole answer.
FETCH_SIZE = 1000


class Graph(Protocol):
    """A source of rows, by the name of a query."""

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """Yield the rows of the answer to a query."""


class Neo4jGraph:
    """A graph in Neo4j. Only `write` changes it.

    Parameters
    ----------
    url : str
        ``bolt://host:port`` or ``neo4j://host:port``, without a user or password.
    user : str
        The user.
    password : str
        The password.
    database : str, default "neo4j"
        The name of the database.

    Raises
    ------
    ValueError
        If the URL is not such a URL, or contains a user or password.
    Neo4jNotInstalledError
        If the driver is not installed.
    """

    def __init__(self, url: str, user: str, password: str, database: str = "neo4j") -> None:
        self.address = checked_url(url)
        self.database = database
        self._driver_module = _driver_module()
        with self._translated():
            self._driver = self._driver_module.GraphDatabase.driver(
                url, auth=(user, password), notifications_min_severity="OFF"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._driver.close()

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """Yield the rows of the answer to a query as they arrive.

        Parameters
        ----------
        query : str
            The name of a query; see :data:`alchemistore.neo4j.queries.QUERIES`.
        **parameters
            The parameters of the query.

        Raises
        ------
        GraphError
            If the graph cannot be read. The message says why.
        """
        with (
            self._translated(),
            self._driver.session(
                database=self.database,
                default_access_mode=self._driver_module.READ_ACCESS,
                fetch_size=FETCH_SIZE,
            ) as session,
            session.begin_transaction() as transaction,
        ):
            for record in transaction.run(QUERIES[query], parameters):
                yield {name: plain(value) for name, value in record.items()}

    def write(self, statement: str, **parameters: Any) -> list[Row]:
        """Run a statement that writes, in a transaction of its own, and return the rows.

        It runs once, whatever happens.

        Parameters
        ----------
        statement : str
            The statement.
        **parameters
            Its parameters.

        Raises
        ------
        GraphError
            If the graph cannot be written. The message says why.
        """
        with (
            self._translated(),
            self._driver.session(database=self.database) as session,
        ):
            # A transaction that the driver manages would be repeated after a lost connection.
            return [
                {name: plain(value) for name, value in record.items()}
                for record in session.run(statement, parameters)
            ]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        errors = self._driver_module.exceptions
        try:
            yield
        except (errors.Neo4jError, errors.DriverError) as error:
            raise GraphError(
                f"the graph at {self.address} cannot be used:"
                f" {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            ) from error


def checked_url(url: str) -> str:
    """Return the URL of a graph.

    Raises
    ------
    ValueError
        If it is not one, or contains a user or password. The message does not repeat it then.
    """
    parts = urlsplit(url)
    if "@" in url:
        raise ValueError(
            "the URL of the graph contains a user or a password; remove them, and set NEO4J_USER"
            " and NEO4J_PASS instead"
        )
    if parts.scheme.partition("+")[0] not in ("bolt", "neo4j") or not parts.hostname:
        raise ValueError(f"{url!r:.200} is not the URL of a graph: expected bolt://host:port")
    return url


def _driver_module() -> ModuleType:
    try:
        import neo4j
        import neo4j.exceptions
    except ModuleNotFoundError as error:
        raise Neo4jNotInstalledError from error
    return neo4j


def plain(value: Any) -> Any:
    """Return a value of the driver as a value of Python; times become standard ones."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value.to_native() if hasattr(value, "to_native") else value
