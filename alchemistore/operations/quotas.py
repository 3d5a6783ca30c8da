"""Quotas: the largest numbers of waiting tasks of a transformation, and of tasks on a hub.

A limit is looked up by the calls that create and action tasks. Where there is one, they lock the
transformation or hub before they count, so that concurrent calls count one after the other. Other
calls are not affected: a task that returns to waiting is never refused, and tasks that are already
there stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.database.arguments import integer
from alchemistore.database.keys import parse_scope, scope_parameters
from alchemistore.database.planner import FENCE
from alchemistore.models import Quota, Records, Scope
from alchemistore.models.quota import LIMIT_MAX

# An open component of the scope of a quota.
ANY = "*"


def limit_of(column: str, org: str, campaign: str, project: str) -> str:
    """Return the SQL of the limit in a scope: that of the most specific scope which sets it.

    It is NULL if there is no limit.

    Parameters
    ----------
    column : str
        The column of the limit.
    org, campaign, project : str
        The SQL of the components of the scope.
    """
    return f"""(
        SELECT q.{column} FROM quotas AS q
        WHERE q.org IN ({org}, '{ANY}') AND q.campaign IN ({campaign}, '{ANY}')
            AND q.project IN ({project}, '{ANY}') AND q.{column} IS NOT NULL
        ORDER BY q.org = '{ANY}', q.campaign = '{ANY}', q.project = '{ANY}' LIMIT 1
    )"""


def room(limit: str, counted: str) -> str:
    """Return the SQL of how many rows more fit below a limit; NULL if there is no limit.

    Parameters
    ----------
    limit : str
        The SQL of the limit.
    counted : str
        The query for the rows. It is read up to the limit only.
    """
    return f"""CASE WHEN {limit} IS NOT NULL THEN greatest(
        0, {limit} - (SELECT count(*) FROM ({counted} LIMIT {limit}) AS counted)
    ) END"""


SET_QUOTA = text("""
    INSERT INTO quotas (org, campaign, project, waiting_per_transformation, actioned_per_hub)
    VALUES (:org, :campaign, :project, :waiting_per_transformation, :actioned_per_hub)
    ON CONFLICT (org, campaign, project) DO UPDATE SET
        waiting_per_transformation = excluded.waiting_per_transformation,
        actioned_per_hub = excluded.actioned_per_hub
""")
REMOVE_QUOTA = text("""
    DELETE FROM quotas WHERE org = :org AND campaign = :campaign AND project = :project
""")
_OF_SCOPE = (
    "CAST(:org AS text)",
    "CAST(:campaign AS text)",
    "CAST(:project AS text)",
)
GET_QUOTA = text(f"""
    SELECT {limit_of("waiting_per_transformation", *_OF_SCOPE)} AS waiting_per_transformation,
        {limit_of("actioned_per_hub", *_OF_SCOPE)} AS actioned_per_hub
""")
QUERY_QUOTAS = text("""
    SELECT org, campaign, project, waiting_per_transformation, actioned_per_hub FROM quotas
    WHERE (CAST(:org AS text) IS NULL OR org = :org)
        AND (CAST(:campaign AS text) IS NULL OR campaign = :campaign)
        AND (CAST(:project AS text) IS NULL OR project = :project)
    ORDER BY org, campaign, project
""")
# The given transformations, each once.
_TRANSFORMATIONS = """
    SELECT DISTINCT scope_id, token
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, token)
"""
_WAITING_TASKS = """
    SELECT FROM tasks AS t
    WHERE t.scope_id = x.scope_id AND t.transformation = x.token AND t.status = 'waiting'
"""
LOCK_LIMITED_TRANSFORMATIONS = text(f"""
    SELECT count(*) FROM (
        SELECT FROM ({_TRANSFORMATIONS} ORDER BY scope_id, token) AS x
        -- Rows are locked one at a time, in the order of their keys.
        CROSS JOIN LATERAL (
            SELECT FROM transformations AS tr
            WHERE tr.scope_id = x.scope_id AND tr.token = x.token FOR NO KEY UPDATE
        ) AS tr
    ) AS locked
""")
ROOM_OF_TRANSFORMATIONS = text(f"""
    SELECT x.scope_id, x.token, {room("x.allowed", _WAITING_TASKS)} AS room
    FROM (
        SELECT x.*,
            {limit_of("waiting_per_transformation", "s.org", "s.campaign", "s.project")} AS allowed
        FROM ({_TRANSFORMATIONS}) AS x JOIN scopes AS s ON s.id = x.scope_id
        {FENCE}
    ) AS x
""")


def set_quota(
    tx: Connection,
    scope: Scope | str,
    waiting_per_transformation: int | None = None,
    actioned_per_hub: int | None = None,
) -> Quota:
    """Set the limits of a scope, in place of those set for it before.

    A limit applies in all scopes below this one, except where a more specific scope has a limit of
    its own. Tasks beyond a new limit stay, and calls that are in progress may not notice it.

    Parameters
    ----------
    scope : Scope or str
        The scope; components may be open.
    waiting_per_transformation : int, optional
        The largest number of waiting tasks of one transformation. `create_tasks` creates no more;
        tasks that return to waiting are not refused. Default: the limit of the next broader scope
        that has one.
    actioned_per_hub : int, optional
        The largest number of tasks on one hub. `action_tasks` adds no more. Default: the limit of
        the next broader scope that has one.

    Returns
    -------
    Quota
        The limits that now apply in this scope.

    Raises
    ------
    ValueError
        If the scope is malformed or too long, or a limit is negative.
    TypeError
        If a limit is not an integer.
    """
    parsed = parse_scope(scope).require_storable()
    limits = {
        "waiting_per_transformation": _limit(
            "waiting_per_transformation", waiting_per_transformation
        ),
        "actioned_per_hub": _limit("actioned_per_hub", actioned_per_hub),
    }
    if all(limit is None for limit in limits.values()):
        tx.execute(REMOVE_QUOTA, _components(parsed))
    else:
        tx.execute(SET_QUOTA, {**_components(parsed), **limits})
    return get_quota(tx, parsed)


def get_quota(tx: Connection, scope: Scope | str) -> Quota:
    """Return the limits that apply in a scope.

    Parameters
    ----------
    scope : Scope or str
        The scope. With open components, only limits of this scope and broader ones are considered.

    Returns
    -------
    Quota
        Each limit is that of the most specific scope that has one, and ``None`` if none has.

    Raises
    ------
    ValueError
        If the scope is malformed.
    """
    parsed = parse_scope(scope)
    row = tx.execute(GET_QUOTA, _components(parsed)).one()
    return Quota(
        scope=parsed,
        waiting_per_transformation=row.waiting_per_transformation,
        actioned_per_hub=row.actioned_per_hub,
    )


def query_quotas(tx: Connection, scope: Scope | str | None = None) -> Records[Quota]:
    """Find the quotas that were set, as they were set; `get_quota` returns what applies.

    Parameters
    ----------
    scope : Scope or str, default all
        Only quotas of this scope and of scopes within it; open components match anything.

    Returns
    -------
    Records of Quota
        In the order of organisation, campaign and project, broader scopes first.

    Raises
    ------
    ValueError
        If the scope is malformed.
    """
    return Records(
        Quota(
            scope=Scope(row.org, row.campaign, row.project),
            waiting_per_transformation=row.waiting_per_transformation,
            actioned_per_hub=row.actioned_per_hub,
        )
        for row in tx.execute(QUERY_QUOTAS, scope_parameters(scope))
    )


def _components(scope: Scope) -> dict[str, str]:
    names = ("org", "campaign", "project")
    return {name: part or ANY for name, part in zip(names, scope.to_tuple(), strict=True)}


def _limit(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    if not 0 <= (limit := integer(value, name)) <= LIMIT_MAX:
        raise ValueError(f"{name} must be between 0 and {LIMIT_MAX}, not {limit}")
    return limit


def lock_and_count(
    tx: Connection, scope_ids: Sequence[int], transformations: Sequence[UUID | None]
) -> dict[tuple[int, UUID | None], int | None]:
    """Lock transformations and return how many waiting tasks more each may have.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    scope_ids, transformations : sequence of int and of UUID
        Their scope ids and tokens.

    Returns
    -------
    dict of (int, UUID) to int or None
        By scope id and token; ``None`` if there is no limit.
    """
    values: dict[str, Any] = {"scope_ids": list(scope_ids), "tokens": list(transformations)}
    tx.execute(LOCK_LIMITED_TRANSFORMATIONS, values)
    # A separate statement, which sees everything that was committed before the locks were granted.
    rows = tx.execute(ROOM_OF_TRANSFORMATIONS, values)
    return {(row.scope_id, row.token): row.room for row in rows}
