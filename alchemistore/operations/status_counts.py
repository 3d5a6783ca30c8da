"""Counts of tasks by status: of a scope, of networks and of a transformation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import overload

from sqlalchemy import Connection, text

from alchemistore.database.arguments import also_named
from alchemistore.database.keys import (
    parameters,
    parse_key,
    parse_one_or_many,
    scope_parameters,
)
from alchemistore.database.patterns import parse_pattern
from alchemistore.database.planner import FENCE, in_order_of_pages
from alchemistore.database.sql import IN_SCOPE, SCOPE_ID
from alchemistore.models import NetworkStateEnum, Scope, ScopedKey, StatusCounts
from alchemistore.operations import task_sets

COUNT_STATUSES_OF_SCOPE = text(f"""
    SELECT t.status, count(*) FROM tasks AS t JOIN scopes AS s ON s.id = t.scope_id
    WHERE {IN_SCOPE} GROUP BY t.status
""")
# A network without a mark, as previous versions create it, is active.
COUNT_STATUSES_OF_SCOPE_IN_STATE = text(f"""
    WITH
    -- The counts by transformation. There are far fewer transformations than tasks.
    counted AS MATERIALIZED (
        SELECT t.scope_id, t.transformation, t.status, count(*) AS tasks
        FROM tasks AS t JOIN scopes AS s ON s.id = t.scope_id
        WHERE {IN_SCOPE} GROUP BY t.scope_id, t.transformation, t.status
    )
    SELECT c.status, CAST(sum(c.tasks) AS bigint) FROM counted AS c
    WHERE EXISTS (
        SELECT FROM network_transformations AS n
        LEFT JOIN network_marks AS m ON m.scope_id = n.scope_id AND m.network = n.network
        WHERE n.scope_id = c.scope_id AND n.transformation = c.transformation
            AND coalesce(m.state, 'active') ~ :state
    )
    GROUP BY c.status
""")
_OF_TRANSFORMATIONS = in_order_of_pages(
    "t.scope_id = m.scope_id AND t.transformation = ANY(m.transformations)",
    never="t.scope_id = m.scope_id AND t.token = m.none",
)
COUNT_STATUSES_OF_NETWORKS = text(f"""
    WITH
    -- The transformations of each network. Read once, because four steps use them.
    members AS MATERIALIZED (
        SELECT x.position, x.scope_id, n.transformation
        FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]))
            WITH ORDINALITY AS x (scope_id, network, position)
        -- Looks up each network by key.
        CROSS JOIN LATERAL (
            SELECT n.transformation FROM network_transformations AS n
            WHERE n.scope_id = x.scope_id AND n.network = x.network {FENCE}
        ) AS n
    ),
    -- The scope with most of these transformations, if they are a quarter of all that it has.
    whole AS MATERIALIZED (
        SELECT m.scope_id FROM (
            SELECT scope_id, count(DISTINCT transformation) AS number FROM members GROUP BY scope_id
        ) AS m
        -- Counts no more than are needed for this decision.
        CROSS JOIN LATERAL (
            SELECT count(*) AS number FROM (
                SELECT FROM transformations AS t
                WHERE t.scope_id = m.scope_id LIMIT 4 * m.number + 1
            ) AS t
        ) AS present
        WHERE 4 * m.number >= present.number ORDER BY m.number DESC LIMIT 1
    ),
    -- The counts in this scope: all its tasks, read from end to end, which is the fastest way.
    counted AS (
        SELECT whole.scope_id, t.transformation, t.status, t.tasks FROM whole
        CROSS JOIN LATERAL (
            SELECT t.transformation, t.status, count(*) AS tasks FROM tasks AS t
            WHERE t.scope_id = whole.scope_id
            GROUP BY t.transformation, t.status {FENCE}
        ) AS t
    ),
    -- The counts in the other scopes: only the tasks of these transformations, each page once.
    sought AS (
        SELECT m.scope_id, t.transformation, t.status, t.tasks
        FROM (
            SELECT scope_id, array_agg(DISTINCT transformation) AS transformations,
                CAST(NULL AS uuid) AS none
            FROM members
            WHERE scope_id IS DISTINCT FROM (SELECT scope_id FROM whole) GROUP BY scope_id
        ) AS m
        CROSS JOIN LATERAL (
            SELECT t.transformation, t.status, count(*) AS tasks FROM tasks AS t
            WHERE {_OF_TRANSFORMATIONS}
            GROUP BY t.transformation, t.status {FENCE}
        ) AS t
    )
    SELECT m.position, c.status, CAST(sum(c.tasks) AS bigint) AS count
    FROM members AS m
    JOIN (SELECT * FROM counted UNION ALL SELECT * FROM sought) AS c
        ON c.scope_id = m.scope_id AND c.transformation = m.transformation
    GROUP BY m.position, c.status
""")
COUNT_STATUSES_OF_TRANSFORMATION = text(f"""
    SELECT t.status, count(*) FROM tasks AS t
    WHERE t.scope_id = {SCOPE_ID} AND t.transformation = :token GROUP BY t.status
""")


def get_scope_status(
    tx: Connection,
    scope: Scope | str,
    network_state: NetworkStateEnum | str | None = NetworkStateEnum.active,
) -> StatusCounts:
    """Count the tasks in a scope by status, whether actioned or not.

    Parameters
    ----------
    scope : Scope or str
        The scope; open components match anything.
    network_state : NetworkStateEnum or str or None, default active
        Count only tasks whose transformation is in at least one network whose state matches this
        pattern, such as ``active|inactive``; see `query_networks`. ``None`` counts all tasks,
        including those whose networks have been deleted with `delete_network`.

    Returns
    -------
    StatusCounts
        A dict of str to int without zero counts. A task counts once, however many networks it
        belongs to.

    Raises
    ------
    ValueError
        If `scope` is malformed, or the pattern cannot be used.
    """
    values = scope_parameters(scope)
    if network_state is None:
        rows = tx.execute(COUNT_STATUSES_OF_SCOPE, values)
    else:
        state = parse_pattern(network_state, "the state of networks")
        rows = tx.execute(COUNT_STATUSES_OF_SCOPE_IN_STATE, {**values, "state": state})
    return StatusCounts((status, count) for status, count in rows)


@overload
def get_network_status(  # type: ignore[overload-overlap]  # a str is iterable, too
    tx: Connection, network: ScopedKey | str
) -> StatusCounts: ...
@overload
def get_network_status(
    tx: Connection, network: Iterable[ScopedKey | str | None]
) -> list[StatusCounts]: ...
@overload
def get_network_status(
    tx: Connection, *, networks: Iterable[ScopedKey | str | None]
) -> list[StatusCounts]: ...
@also_named(networks="network")
def get_network_status(
    tx: Connection, network: ScopedKey | str | Iterable[ScopedKey | str | None]
) -> StatusCounts | list[StatusCounts]:
    """Count the tasks of a network's transformations by status.

    Parameters
    ----------
    network : ScopedKey or str, or iterable of them
        A network, or several.
    networks : iterable of ScopedKey or str, optional
        Second name of `network`.

    Returns
    -------
    StatusCounts, or list of them
        Dicts of str to int without zero counts; empty if there is no such network. A list if
        `network` is an iterable.
    """
    single, keys = parse_one_or_many(tx, network, "AlchemicalNetwork", later=True)
    counts: list[dict[str, int]] = [{} for _ in keys.distinct]
    for row in task_sets.execute(tx, COUNT_STATUSES_OF_NETWORKS, keys.parameters):
        counts[row.position - 1][row.status] = row.count
    # A copy for each position, because a network may be given twice.
    listed = [StatusCounts(answer or {}) for answer in keys.align_values(counts)]
    return listed[0] if single else listed


def get_transformation_status(tx: Connection, transformation: ScopedKey | str) -> StatusCounts:
    """Count the tasks of a transformation by status.

    Zero counts are omitted. The result is empty if there is no such transformation.
    """
    key = parameters(parse_key(transformation))
    rows = tx.execute(COUNT_STATUSES_OF_TRANSFORMATION, key)
    return StatusCounts((status, count) for status, count in rows)
