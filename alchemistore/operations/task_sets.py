"""Sets of tasks: as a statement takes them, with what extends them, locked, and where their rows are."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, TextClause, text

# The tasks a statement is about, as (scope_id, task); each once.
TASKS = "SELECT scope_id, task FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, task)"

# From tasks to rows of a large table goes a LATERAL with OFFSET 0, or a subquery for one value: then each is looked up by the key,
# whatever the statistics say of the tables. A join of lists that exist only in the statement has no key, and none is joined here.
_BELOW = """
    CROSS JOIN LATERAL (
        SELECT e.scope_id, e.task FROM extends AS e WHERE e.scope_id = {above}.scope_id AND e.parent = {above}.task OFFSET 0
    ) AS e
"""
CHILDREN = f"{TASKS} UNION SELECT e.scope_id, e.task FROM ({TASKS}) AS x {_BELOW.format(above='x')}"


def tree(roots: str) -> str:
    """Give the body of a recursive query called `tree`: tasks, and all that extends them, directly or not."""
    return f"{roots} UNION SELECT e.scope_id, e.task FROM tree {_BELOW.format(above='tree')}"


DESCENDANTS = (
    f"WITH RECURSIVE tree (scope_id, task) AS ({tree(TASKS)}) SELECT scope_id, task FROM tree"
)


def row_locations(table: str, tasks: str, key: str = "task") -> str:
    """Give an array of the places (`ctid`) of the rows of a table that belong to tasks, which must be locked: then no row moves.

    A statement that changes ``WHERE ctid = ANY(places)`` looks each row up by its key, as the above.

    Parameters
    ----------
    table : str
        The table; it has the columns scope_id and `key`.
    tasks : str
        What precedes in the statement with the columns scope_id and task, and, for attempts, attempt.
    key : str, default "task"
        The column of the table that holds the task.
    """
    and_attempt = f"AND x.attempt = {tasks}.attempt" if table == "attempts" else ""
    return f"""ARRAY(
        SELECT x.ctid FROM {tasks} CROSS JOIN LATERAL (
            SELECT x.ctid FROM {table} AS x WHERE x.scope_id = {tasks}.scope_id AND x.{key} = {tasks}.task {and_attempt} OFFSET 0
        ) AS x
    )"""


def _lock(tasks: str) -> TextClause:
    return text(f"""
        SELECT count(*) FROM (
            SELECT FROM (SELECT scope_id, task FROM ({tasks}) AS x ORDER BY scope_id, task) AS x
            CROSS JOIN LATERAL (
                SELECT FROM tasks AS t WHERE t.scope_id = x.scope_id AND t.token = x.task FOR NO KEY UPDATE
            ) AS t
        ) AS locked
    """)


# About tasks, or them and what extends them, directly or down to the end.
Reach = Literal["tasks", "children", "descendants"]
REACHES: dict[Reach, str] = {"tasks": TASKS, "children": CHILDREN, "descendants": DESCENDANTS}
LOCK = {reach: _lock(tasks) for reach, tasks in REACHES.items()}


def lock(tx: Connection, tasks: dict[str, Any], reach: Reach = "tasks") -> int:
    """Lock tasks until the end of the transaction.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    tasks : dict
        Their ``scope_ids`` and ``tokens``, as of :attr:`Keys.parameters`.
    reach : "tasks", "children" or "descendants", default "tasks"
        Whether to lock what extends them, too.

    Returns
    -------
    int
        How many there are.
    """
    return tx.execute(LOCK[reach], tasks).scalar_one()  # type: ignore[no-any-return]  # count(*)
