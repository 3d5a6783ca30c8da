"""Merges: statements that make a table equal to a staging table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, text

from alchemistore.neo4j.report import PartReport

# The last step of `Merge.merged`.
COUNTS = "SELECT count(*) FILTER (WHERE added), count(*) FILTER (WHERE NOT added) FROM new"


class Merge(NamedTuple):
    """The statements that make a table equal to a staging table.

    Attributes
    ----------
    kind : str
        The kind of objects.
    removed : TextClause or None
        Removes what is not staged, and returns a row for each. ``None`` if something else does it.
    merged : TextClause
        Adds and changes rows, and returns how many.
    """

    kind: str
    removed: TextClause | None
    merged: TextClause


def touch(task: str) -> str:
    """Return a step that notes the tasks whose places in the queue may have to change."""
    return f"""touched AS (
        INSERT INTO graph_touched SELECT DISTINCT {task} FROM new ON CONFLICT DO NOTHING
    )"""


def removed(table: str, condition: str, task: str = "") -> TextClause:
    """Return the statement that deletes the rows of a scope that are not staged.

    Parameters
    ----------
    table : str
        The table; it is named t in the condition.
    condition : str
        Selects the staged row.
    task : str, optional
        The column of the task whose place in the queue may have to change.
    """
    gone = f"""
        DELETE FROM {table} AS t
        WHERE t.scope_id = :scope_id AND NOT EXISTS ({condition})
    """
    if not task:
        return text(f"{gone} RETURNING 1")
    return text(f"WITH new AS ({gone} RETURNING {task}), {touch(task)} SELECT 1 FROM new")


def remove(
    tx: Connection, report: PartReport, merges: Sequence[Merge], values: dict[str, Any]
) -> None:
    """Remove the rows that the graph does not have; those that refer to others first."""
    for one in reversed(merges):
        if one.removed is not None:
            report.count(one.kind, removed=len(tx.execute(one.removed, values).all()))


def merge(
    tx: Connection, report: PartReport, merges: Sequence[Merge], values: dict[str, Any]
) -> None:
    """Add and change rows, in the order of the merges."""
    for one in merges:
        added, changed = tx.execute(one.merged, values).one()
        report.count(one.kind, added=added, changed=changed)
