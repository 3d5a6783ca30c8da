"""Query plans of the statements that calls send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql
from sqlalchemy import Connection, event, text

from alchemistore import StateStore
from alchemistore.tables import metadata

_NUMBERS = count()
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "
LARGE = {"actions", "attempts", "claims", "extends", "queue", "results", "task_results", "tasks"}
SMALL = {table.name for table in metadata.sorted_tables} - LARGE
REMOVED = ("Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")


@dataclass(frozen=True)
class Node:
    """One step of a plan, with the rows that went through it in all its loops."""

    kind: str
    relation: str
    rows: float
    touched: float

    def __str__(self) -> str:
        return f"{self.kind} {self.relation}: {self.rows:.0f} rows, {self.touched:.0f} touched"


@dataclass(frozen=True)
class Plan:
    """The plan of a statement."""

    statement: str
    nodes: tuple[Node, ...]
    # Pages of tables and indexes, each as often as it was visited.
    pages: int

    @property
    def touched(self) -> float:
        """Rows that passed through scans, sorts and joins, without scans of small tables."""
        return sum(node.touched for node in self.nodes if node.relation not in SMALL)

    def __str__(self) -> str:
        worst = sorted(self.nodes, key=lambda node: -node.touched)[:5]
        return f"{' '.join(self.statement.split())[:150]} ...\n" + "\n".join(
            f"    {node}" for node in worst
        )


@dataclass
class Plans:
    """The plans of a call."""

    plans: list[Plan] = field(default_factory=list)

    @property
    def touched(self) -> float:
        return sum(plan.touched for plan in self.plans)

    @property
    def pages(self) -> int:
        return sum(plan.pages for plan in self.plans)

    @property
    def nodes(self) -> list[Node]:
        return [node for plan in self.plans for node in plan.nodes]

    def __str__(self) -> str:
        return "\n" + "\n".join(map(str, sorted(self.plans, key=lambda plan: -plan.touched)[:3]))


def _nodes(plan: dict[str, Any]) -> Iterator[Node]:
    loops = plan["Actual Loops"]
    rows = plan["Actual Rows"] * loops
    # An index is named after its table.
    relation = (
        plan.get("Relation Name")
        or plan.get("CTE Name")
        or plan.get("Index Name", "").partition("__")[0]
    )
    yield Node(
        plan["Node Type"],
        relation,
        rows,
        rows + sum(plan.get(removed, 0) for removed in REMOVED) * loops,
    )
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _type(value: Any) -> str:
    """The type of a value for the driver; ``unknown`` for text and ``None``."""
    if isinstance(value, list):
        of = {_type(one) for one in value} - {"unknown"}
        return f"{of.pop()}[]" if of else "unknown"
    names = {
        bool: "boolean",
        int: "bigint",
        float: "double precision",
        UUID: "uuid",
        datetime: "timestamptz",
    }
    return names.get(type(value), "unknown")


def _explain(cursor: Cursor[Any], statement: str, values: Any, generic: bool) -> Plan:
    # The driver sends every value beside the statement; PREPARE wants them numbered.
    with cursor.connection.cursor() as other:
        other.execute("SAVEPOINT explained")
        if generic:
            names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
            numbered = re.sub(
                r"%\((\w+)\)s(::\w+(?:\[\])?)?",
                lambda m: f"${names.index(m[1]) + 1}{m[2] or ''}",
                statement,
            )
            given = sql.SQL(", ").join(sql.Literal(values[name]) for name in names)
            other.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            types = f"({', '.join(_type(values[name]) for name in names)})" if names else ""
            name = f"explained_{next(_NUMBERS)}"
            other.execute(f"PREPARE {name} {types} AS {numbered}".replace("%%", "%").encode())
            call = sql.SQL("EXECUTE {}").format(sql.Identifier(name)) + (
                sql.SQL("({})").format(given) if names else sql.SQL("")
            )
            other.execute(sql.SQL(EXPLAIN) + call)
        else:
            other.execute((EXPLAIN + statement).encode(), values)
        row = other.fetchone()
        assert row is not None
        plan = row[0][0]["Plan"]
        nodes = tuple(_nodes(plan))
        pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        if generic:
            other.execute(f"DEALLOCATE {name}".encode())
        other.execute("ROLLBACK TO SAVEPOINT explained")
    return Plan(statement, nodes, pages)


@contextmanager
def collect_plans(store: StateStore, generic: bool = False) -> Iterator[Plans]:
    """Collect the plans of all statements; each one runs twice, the first time rolled back."""
    found = Plans()

    def explain(
        connection: Any, cursor: Any, statement: str, values: Any, context: Any, executemany: bool
    ) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE"):
            found.plans.append(_explain(cursor, statement, values, generic))

    event.listen(store.engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", explain)


def forget_statistics(tx: Connection) -> None:
    """Remove all statistics for this transaction, as if no table had been analyzed."""
    tables = [table.name for table in metadata.sorted_tables]
    tx.execute(text("SET LOCAL allow_system_table_mods = on"))
    tx.execute(
        text("""
            DELETE FROM pg_statistic
            WHERE starelid = ANY(CAST(CAST(:tables AS text[]) AS regclass[]))
        """),
        {"tables": tables},
    )
    tx.execute(
        text("""
            UPDATE pg_class SET reltuples = -1, relpages = 0, relallvisible = 0
            WHERE oid = ANY(CAST(CAST(:tables AS text[]) AS regclass[]))
        """),
        {"tables": tables},
    )


# Columns whose values many tasks share.
COMMON = [
    "kind",
    "lane",
    "network",
    "outcome",
    "priority",
    "protocol",
    "scope_id",
    "service",
    "status",
    "taskhub",
]


def skew_statistics(tx: Connection) -> None:
    """Set statistics for this transaction as if each common column had one distinct value."""
    tx.execute(text("SET LOCAL allow_system_table_mods = on"))
    tx.execute(
        text("""
            UPDATE pg_statistic AS s
            SET stadistinct = 1,
                stakind1 = 0, stakind2 = 0, stakind3 = 0, stakind4 = 0, stakind5 = 0
            FROM pg_attribute AS a
            WHERE a.attrelid = s.starelid AND a.attnum = s.staattnum
                AND a.attname = ANY(CAST(:common AS text[]))
                AND s.starelid = ANY(CAST(CAST(:tables AS text[]) AS regclass[]))
        """),
        {"tables": [table.name for table in metadata.sorted_tables], "common": COMMON},
    )
