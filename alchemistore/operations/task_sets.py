"""Sets of tasks in a statement: given tasks, tasks that extend them, their locks and their rows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, CursorResult, TextClause, text

from alchemistore.database.planner import FENCE
from alchemistore.database.together import Together

# The tasks that a statement is given, as (scope_id, task); each once.
TASKS = """
    SELECT scope_id, task
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, task)
"""
# The same for one task. PostgreSQL expects ten rows of a list that it does not know, so that it
# would plan a statement with a list of one again in each call.
ONE_TASK = """
    SELECT (CAST(:scope_ids AS bigint[]))[1] AS scope_id, (CAST(:tokens AS uuid[]))[1] AS task
"""
_SCOPE_IDS = "CAST(:scope_ids AS bigint[])"
# The id of the scope that all given tasks are in. It is looked up once for each statement.
_SCOPE_ID = """(
    SELECT id FROM scopes
    WHERE org = :keys_org AND campaign = :keys_campaign AND project = :keys_project
)"""
_SAME_SCOPE_IDS = f"array_fill({_SCOPE_ID}, ARRAY[cardinality(CAST(:tokens AS uuid[]))])"


def _extending(parents: str) -> str:
    """Return the join from tasks, as (scope_id, task), to the tasks that extend them, called ``e``.

    Each parent is looked up by key. A list that exists only in the statement has no statistics, so
    the planner must not choose the order of this join.
    """
    return f"""
        CROSS JOIN LATERAL (
            SELECT e.scope_id, e.task FROM extends AS e
            WHERE e.scope_id = {parents}.scope_id AND e.parent = {parents}.task {FENCE}
        ) AS e
    """


def tree(roots: str) -> str:
    """Return the body of a recursive CTE named ``tree``: tasks and everything that extends them."""
    return f"{roots} UNION SELECT e.scope_id, e.task FROM tree {_extending('tree')}"


CHILDREN = f"{TASKS} UNION SELECT e.scope_id, e.task FROM ({TASKS}) AS x {_extending('x')}"
DESCENDANTS = f"""
    -- The given tasks and everything that extends them, directly or not.
    WITH RECURSIVE tree (scope_id, task) AS ({tree(TASKS)})
    SELECT scope_id, task FROM tree
"""


def row_locations(
    table: str, tasks: str, key: str = "task", *, columns: str = "", where: str = ""
) -> str:
    """Return an SQL array of the locations (``ctid``) of the rows of a table that belong to tasks.

    A statement that changes rows ``WHERE ctid = ANY(...)`` of this array reads no others, whatever
    the statistics say. The tasks must be locked, because a row that is updated moves.

    Parameters
    ----------
    table : str
        A table with the columns scope_id and `key`. It is called ``x`` in `columns` and `where`.
    tasks : str
        An earlier CTE with the columns scope_id and task, and attempt if the table is attempts.
    key : str, default "task"
        The column of the table that holds the task.
    columns : str, optional
        Further columns of the table that `where` needs, each preceded by a comma.
    where : str, optional
        A WHERE clause that selects some of these rows.
    """
    and_attempt = f"AND x.attempt = {tasks}.attempt" if table == "attempts" else ""
    return f"""ARRAY(
        SELECT x.ctid FROM {tasks} CROSS JOIN LATERAL (
            SELECT x.ctid {columns} FROM {table} AS x
            WHERE x.scope_id = {tasks}.scope_id AND x.{key} = {tasks}.task
                {and_attempt} {FENCE}
        ) AS x {where}
    )"""


def _lock(tasks: str) -> TextClause:
    return text(f"""
        SELECT count(*) FROM (
            SELECT FROM (SELECT scope_id, task FROM ({tasks}) AS x ORDER BY scope_id, task) AS x
            -- Rows are locked one at a time, in the order of their keys, as looked up.
            CROSS JOIN LATERAL (
                SELECT FROM tasks AS t
                WHERE t.scope_id = x.scope_id AND t.token = x.task FOR NO KEY UPDATE
            ) AS t
        ) AS locked
    """)


# The given tasks only, or also the tasks that extend them, directly or to any depth.
Reach = Literal["tasks", "children", "descendants"]
REACHES: dict[Reach, str] = {"tasks": TASKS, "children": CHILDREN, "descendants": DESCENDANTS}
LOCK_TASKS = {reach: _lock(tasks) for reach, tasks in REACHES.items()}


@lru_cache(maxsize=1024)
def for_one(statement: TextClause) -> TextClause:
    """Return a statement about tasks in its form for a single task."""
    return text(statement.text.replace(TASKS, ONE_TASK))


@lru_cache(maxsize=1024)
def in_one_scope(statement: TextClause) -> TextClause:
    """Return a statement about tasks in its form for tasks of one scope, which it looks up."""
    first = statement.text.replace(f"({_SCOPE_IDS})[1]", _SCOPE_ID)
    return text(first.replace(_SCOPE_IDS, _SAME_SCOPE_IDS))


def form(statement: TextClause, values: dict[str, Any]) -> TextClause:
    """Return a statement about tasks in the form that fits its parameters.

    Parameters
    ----------
    statement : TextClause
        A statement that contains `TASKS`, or the same arrays.
    values : dict
        Its parameters: those of :attr:`Keys.parameters`, and others.
    """
    tokens: str | list[UUID] = values["tokens"]
    count = tokens.count(",") + (tokens != "{}") if isinstance(tokens, str) else len(tokens)
    if count == 1:
        statement = for_one(statement)
    return statement if "scope_ids" in values else in_one_scope(statement)


def execute(tx: Connection, statement: TextClause, values: dict[str, Any]) -> CursorResult[Any]:
    """Return the answer to a statement about tasks, in its form for one task if there is one.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    statement : TextClause
        A statement that contains `TASKS`.
    values : dict
        Its parameters: those of :attr:`Keys.parameters`, and others.
    """
    return tx.execute(form(statement, values), values)


def lock(tx: Connection, tasks: dict[str, Any], reach: Reach = "tasks") -> int:
    """Lock tasks until the end of the transaction and return how many exist.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    tasks : dict
        Which ones, as in :attr:`Keys.parameters`.
    reach : "tasks", "children" or "descendants", default "tasks"
        Whether to lock the tasks that extend them, too.

    Returns
    -------
    int
        The number of locked tasks.
    """
    return int(execute(tx, LOCK_TASKS[reach], tasks).scalar_one())


def lock_with(send: Together, tasks: dict[str, Any], reach: Reach = "tasks") -> None:
    """Lock tasks, with other statements; see `lock`."""
    send(form(LOCK_TASKS[reach], tasks), tasks)
