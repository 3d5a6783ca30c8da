"""Staging tables: rows of the graph until they are merged into the tables of the store.

They are temporary and end with the transaction. Each page of rows takes one statement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, TextClause, text

from alchemistore.errors import GraphError
from alchemistore.models.text import escape
from alchemistore.neo4j.pages import pages

# Rows that one statement stages.
PAGE = 2000

NAME = 'text COLLATE "C"'
OPTIONAL = " NULL"
TEXTS = "text[]"

MAY_STAGE = text("""
    SELECT has_database_privilege(current_database(), 'TEMPORARY') AS allowed,
        quote_ident(current_database()) AS database, quote_ident(current_user) AS role
""")


@dataclass(frozen=True)
class Staged:
    """A staging table.

    Attributes
    ----------
    columns : dict of str to str
        The types of its columns.
    key : str
        The columns of its primary key.
    computed : dict of str to tuple of (str, str)
        The types of columns that PostgreSQL computes, and how.
    """

    columns: dict[str, str]
    key: str
    computed: dict[str, tuple[str, str]] = field(default_factory=dict)

    def create(self, kind: str) -> TextClause:
        """Return the statement that creates the table."""
        computed = {name: type_ for name, (type_, _) in self.computed.items()}
        columns = [
            f"{name} {type_}{'' if type_.endswith(OPTIONAL) else ' NOT NULL'}"
            for name, type_ in (self.columns | computed).items()
        ]
        return text(f"""
            CREATE TEMPORARY TABLE IF NOT EXISTS graph_{kind} (
                {", ".join(columns)}, PRIMARY KEY ({self.key})
            ) ON COMMIT DROP
        """)

    def insert(self, kind: str) -> TextClause:
        """Return the statement that adds rows, given as one array for each column."""
        types = {name: type_.removesuffix(OPTIONAL) for name, type_ in self.columns.items()}
        arrays = ", ".join(
            # An array of arrays would need rows of one length, so that these are JSON.
            f"CAST(:{name} AS {'text' if type_ in (TEXTS, NAME) else type_}[])"
            for name, type_ in types.items()
        )
        values = ", ".join(
            f"CASE WHEN x.{name} IS NOT NULL"
            f" THEN ARRAY(SELECT jsonb_array_elements_text(CAST(x.{name} AS jsonb))) END AS {name}"
            if type_ == TEXTS
            else f"x.{name}"
            for name, type_ in types.items()
        )
        expressions = "".join(f", {expression}" for _, expression in self.computed.values())
        return text(f"""
            INSERT INTO graph_{kind} ({", ".join([*self.columns, *self.computed])})
            SELECT *{expressions} FROM (
                SELECT {values} FROM unnest({arrays}) AS x ({", ".join(self.columns)})
            ) AS y
            ON CONFLICT DO NOTHING
        """)


STAGED = {
    "networks": Staged({"network": "uuid"}, "network"),
    "hubs": Staged({"network": "uuid", "taskhub": "uuid", "weight": "float8"}, "network"),
    "marks": Staged({"network": "uuid", "mark": "uuid", "state": "text"}, "network"),
    "strategies": Staged(
        {
            "network": "uuid",
            "strategy": "uuid",
            "mode": "text",
            "status": "text",
            "iterations": "bigint",
            "sleep_interval": "bigint",
            "last_iteration_at": "timestamptz NULL",
            "last_iteration_result_count": "bigint",
            "max_tasks_per_transformation": "bigint",
            "task_scaling": "text",
            "exception": f"{TEXTS}{OPTIONAL}",
            "traceback": "text NULL",
        },
        "network",
    ),
    "tasks": Staged(
        {
            "task": "uuid",
            "transformation": "uuid",
            "status": NAME,
            "priority": "bigint",
            "creator": "text NULL",
            "created_at": "timestamptz",
            "parent": "uuid NULL",
            "service": f"{NAME}{OPTIONAL}",
            "claimed_at": "timestamptz NULL",
        },
        "task",
    ),
    "actions": Staged({"taskhub": "uuid", "task": "uuid", "weight": "float8"}, "taskhub, task"),
    "patterns": Staged(
        {"taskhub": "uuid", "token": "uuid", "pattern": "text", "max_retries": "integer"},
        "taskhub, token",
    ),
    "counters": Staged(
        {"taskhub": "uuid", "task": "uuid", "pattern": "uuid", "retries": "integer"},
        "taskhub, task, pattern",
    ),
    "results": Staged(
        {
            "result": "uuid",
            "obj_key": NAME,
            "location": f"{NAME}{OPTIONAL}",
            "scope": NAME,
            "ok": "boolean",
            "creator": "text NULL",
            "datetime_created": "timestamptz NULL",
        },
        "result",
    ),
    "links": Staged({"task": "uuid", "result": "uuid"}, "task, result"),
    "tracebacks": Staged(
        {
            "result": "uuid",
            "tracebacks": TEXTS,
            "source_keys": TEXTS,
            "failure_keys": TEXTS,
            "size": "bigint",
        },
        "result, token",
        # As `add_protocol_dag_result_ref_tracebacks` computes it.
        {
            "token": (
                "uuid",
                "CAST(md5(CAST(ROW(tracebacks, source_keys, failure_keys) AS text)) AS uuid)",
            )
        },
    ),
    "services": Staged(
        {
            "identifier": NAME,
            "registered_at": "timestamptz",
            "heartbeat_at": "timestamptz",
            "manager_name": f"{NAME}{OPTIONAL}",
        },
        "identifier",
    ),
    "failures": Staged(
        {"service": NAME, "failed_at": "timestamptz", "token": "uuid"},
        "service, failed_at, token",
    ),
    "managers": Staged(
        {
            "name": NAME,
            "uuid": "uuid",
            "registered_at": "timestamptz",
            "status": "text",
            "detail": "text NULL",
            "saturation": "float8 NULL",
            "status_updated_at": "timestamptz",
        },
        "name",
    ),
    "identities": Staged(
        {
            "type": NAME,
            "identifier": NAME,
            "hashed_key": "text",
            "expires_at": "timestamptz NULL",
            "disabled": "boolean",
            "email": "text NULL",
            "full_name": "text NULL",
            "scopes": TEXTS,
        },
        "type, identifier",
    ),
    # The tasks whose places in the queue may have to change.
    "touched": Staged({"task": "uuid"}, "task"),
}
CREATE = [table.create(kind) for kind, table in STAGED.items()]
INSERT = {kind: table.insert(kind) for kind, table in STAGED.items()}
_ALL = ", ".join(f"graph_{kind}" for kind in STAGED)
EMPTY = text(f"TRUNCATE {_ALL}")
ANALYZE = text(f"ANALYZE {_ALL}")


def create(tx: Connection) -> None:
    """Create the staging tables, or empty them.

    Raises
    ------
    GraphError
        If the role may not create temporary tables. The message says what to do.
    """
    allowed, database, role = tx.execute(MAY_STAGE).one()
    if not allowed:
        raise GraphError(
            "an import needs temporary tables, which its role may not create; let an administrator"
            f" run: GRANT TEMPORARY ON DATABASE {database} TO {role}"
        )
    for statement in CREATE:
        tx.execute(statement)
    tx.execute(EMPTY)


def stage(tx: Connection, kind: str, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to a staging table, page by page."""
    for page in pages(rows, PAGE):
        columns = STAGED[kind].columns
        tx.execute(INSERT[kind], {name: [row[name] for row in page] for name in columns})


def analyze(tx: Connection) -> None:
    """Update the statistics of the staging tables."""
    tx.execute(ANALYZE)


def texts(found: Sequence[str]) -> str:
    """Return texts as a value of a column of texts, in the form in which texts are stored."""
    return json.dumps([escape(text) for text in found])
