"""Refresh: update the queue rows of tasks from tasks, extends and actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.planner import FENCE, all_of, equal_unindexed
from alchemistore.database.sql import SCOPE_ID
from alchemistore.database.together import Together, together
from alchemistore.models.clock import now
from alchemistore.operations.queue.notify import NOTIFY, note_notification, should_notify
from alchemistore.operations.queue.race import WEIGHT_MIN, exponential, largest_race, seed
from alchemistore.operations.task_sets import REACHES, TASKS, Reach, form, row_locations

# Selects a queue row x whose task cannot be claimed, or is not on the hub with a weight above 0.
_NOT_CLAIMABLE = """
    WHERE eligible.priority IS NULL OR coalesce((
        SELECT a.weight FROM actions AS a
        WHERE a.scope_id = eligible.scope_id AND a.taskhub = x.taskhub
            AND a.task = eligible.task
    ), 0) = 0
"""


_DRAW = exponential("uuid_hash_extended(taskhub, uuid_hash_extended(task, :seed))")
# The steps that draw new races for groups of tasks, called `wanted`: each has the arrays `tasks`,
# `weights` and `places`, the locations of their queue rows.
_RACES = f"""
    -- Creates missing lanes, for the protocol and for any protocol, in the order of their keys
    -- so that concurrent calls do not deadlock.
    opened AS (
        INSERT INTO lanes (scope_id, taskhub, protocol, priority, visited_at)
        SELECT scope_id, taskhub, protocol, priority, :now FROM wanted
        UNION
        SELECT scope_id, taskhub, '', priority, :now FROM wanted
        ORDER BY 1, 2, 3, 4
        ON CONFLICT DO NOTHING
    ),
    -- The groups with the clock that their draws start from, so that they do not overtake: the
    -- largest race claimed, and at least the floors, below which no claim looks.
    clocks AS MATERIALIZED (
        SELECT wanted.*, greatest(
            (SELECT max(floor) FROM lanes AS l
                WHERE l.scope_id = wanted.scope_id AND l.taskhub = wanted.taskhub
                    AND l.priority = wanted.priority AND l.protocol IN ('', wanted.protocol)),
            {largest_race("wanted", "''")},
            {largest_race("wanted", "wanted.protocol")},
            0
        ) AS clock
        FROM wanted
    ),
    -- The tasks of the groups, each with its new race.
    drawn AS MATERIALIZED (
        SELECT scope_id, taskhub, task, priority, protocol, weight, place,
            clock
            + {_DRAW}
            / greatest(weight, {WEIGHT_MIN}) AS race
        FROM clocks
        CROSS JOIN LATERAL (
            SELECT x.* FROM unnest(tasks, weights, places) AS x (task, weight, place)
            {all_of("tasks")}
        ) AS x
    )
"""
_MOVE = """
    UPDATE queue AS q SET priority = drawn.priority, protocol = drawn.protocol,
        weight = drawn.weight, race = drawn.race
    FROM drawn WHERE q.ctid = drawn.place
"""


def _refresh(touched: str) -> TextClause:
    obsolete = row_locations("queue", "eligible", columns=", x.taskhub", where=_NOT_CLAIMABLE)
    return text(f"""
        WITH
        -- The tasks whose queue rows may have to change. Read once, because several steps use them.
        touched AS MATERIALIZED ({touched}),
        -- The same tasks, with their priority and transformation if they are waiting and do not
        -- extend an incomplete task, else with NULL: decides which queue rows may exist.
        eligible AS MATERIALIZED (
            SELECT touched.scope_id, touched.task, t.priority, t.transformation
            -- The fence makes this a lookup of each task by key; a task without a row keeps NULL.
            FROM touched LEFT JOIN LATERAL (
                SELECT t.priority, t.transformation FROM tasks AS t
                WHERE t.scope_id = touched.scope_id AND t.token = touched.task
                    AND t.status = 'waiting' AND coalesce((
                        SELECT parent.status = 'complete' FROM extends AS e
                        JOIN tasks AS parent
                            ON parent.scope_id = e.scope_id AND parent.token = e.parent
                        WHERE e.scope_id = t.scope_id AND e.task = t.token
                    ), true)
                {FENCE}
            ) AS t ON true
        ),
        -- Deletes the queue rows of tasks that cannot be claimed from their hub.
        removed AS (DELETE FROM queue WHERE ctid = ANY({obsolete})),
        -- The places on hubs that need a new race: `place` is the location of a queue row with
        -- another priority or weight, or NULL if there is none. Unchanged rows keep their race.
        fresh AS MATERIALIZED (
            SELECT a.scope_id, a.taskhub, a.task, eligible.priority, eligible.transformation,
                a.weight, q.place
            FROM eligible
            -- Looks up the actions of each task by key.
            CROSS JOIN LATERAL (
                SELECT a.* FROM actions AS a
                WHERE a.scope_id = eligible.scope_id AND a.task = eligible.task
                    AND a.weight > 0 {FENCE}
            ) AS a
            -- Looks up the queue row of each action by scope and task, and only then compares hubs.
            LEFT JOIN LATERAL (
                SELECT q.ctid AS place, q.priority, q.weight FROM queue AS q
                WHERE q.scope_id = a.scope_id AND q.task = a.task
                    AND {equal_unindexed("q.taskhub", "a.taskhub")} {FENCE}
            ) AS q ON true
            WHERE eligible.priority IS NOT NULL
                AND (q.priority, q.weight) IS DISTINCT FROM (eligible.priority, a.weight)
        ),
        -- One row for each hub, transformation and priority, with its tasks in arrays: protocol and
        -- clock are the same for all of them and are looked up once.
        grouped AS MATERIALIZED (
            SELECT scope_id, taskhub, transformation, priority,
                array_agg(task) AS tasks, array_agg(weight) AS weights, array_agg(place) AS places
            FROM fresh GROUP BY scope_id, taskhub, transformation, priority
        ),
        -- The groups with their protocol, which names the lane.
        wanted AS MATERIALIZED (
            SELECT g.*, (
                SELECT tr.protocol FROM transformations AS tr
                WHERE tr.scope_id = g.scope_id AND tr.token = g.transformation
            ) AS protocol
            FROM grouped AS g
        ),
        {_RACES},
        -- Updates the queue rows that exist, by their location.
        moved AS ({_MOVE}),
        -- Inserts the others.
        entered AS (
            INSERT INTO queue (scope_id, taskhub, task, priority, protocol, weight, race)
            SELECT scope_id, taskhub, task, priority, protocol, weight, race
            FROM drawn WHERE place IS NULL
            ON CONFLICT DO NOTHING RETURNING scope_id
        )
        -- Notifies waiting services if there are some, and it was not done in the last second.
        SELECT {NOTIFY} FROM (SELECT FROM entered LIMIT 1) AS e
        WHERE (SELECT CAST(:notify AS boolean))
    """)


# A task that becomes complete makes those that extend it claimable, but not the next ones.
_ENTERING: tuple[Reach, ...] = ("tasks", "children")
REFRESH_QUEUE = {reach: _refresh(REACHES[reach]) for reach in _ENTERING}

# The next statements do less than a refresh, where it is known what can change.


def _leave(touched: str) -> TextClause:
    not_waiting = """
        WHERE coalesce((
            SELECT t.status FROM tasks AS t
            WHERE t.scope_id = touched.scope_id AND t.token = touched.task
        ), '') <> 'waiting'
    """
    return text(f"""
        WITH touched AS MATERIALIZED ({touched})
        -- Deletes the queue rows of those that are not waiting any more.
        DELETE FROM queue WHERE ctid = ANY({row_locations("queue", "touched", where=not_waiting)})
    """)


# One that becomes invalid or deleted takes all that extend it out of the queue.
_LEAVING: tuple[Reach, ...] = ("tasks", "descendants")
LEAVE_QUEUE = {reach: _leave(REACHES[reach]) for reach in _LEAVING}
LEAVE_HUB = text(f"""
    DELETE FROM queue WHERE ctid = ANY(ARRAY(
        SELECT q.place FROM ({TASKS}) AS x
        -- Looks up the queue rows of each task by key, and only then compares hubs.
        CROSS JOIN LATERAL (
            SELECT q.ctid AS place, q.taskhub FROM queue AS q
            WHERE q.scope_id = x.scope_id AND q.task = x.task {FENCE}
        ) AS q
        WHERE x.scope_id = {SCOPE_ID} AND q.taskhub = :token
    ))
""")
SET_PRIORITY_IN_QUEUE = text(f"""
    WITH
    -- The queue rows of these tasks with another priority, one group for each hub and protocol.
    wanted AS MATERIALIZED (
        SELECT q.scope_id, q.taskhub, q.protocol, CAST(:priority AS bigint) AS priority,
            array_agg(q.task) AS tasks, array_agg(q.weight) AS weights, array_agg(q.place) AS places
        FROM ({TASKS}) AS x
        -- Looks up the queue rows of each task by key.
        CROSS JOIN LATERAL (
            SELECT q.*, q.ctid AS place FROM queue AS q
            WHERE q.scope_id = x.scope_id AND q.task = x.task AND q.priority <> :priority {FENCE}
        ) AS q
        GROUP BY q.scope_id, q.taskhub, q.protocol
    ),
    {_RACES}
    {_MOVE}
""")


def refresh(tx: Connection, tasks: dict[str, Any], reach: Reach = "tasks") -> None:
    """Update the queue rows of tasks from tasks, extends and actions.

    Parameters
    ----------
    tx : Connection
        The open transaction, in which the tasks are locked.
    tasks : dict
        Which ones, as in :attr:`Keys.parameters`.
    reach : "tasks" or "children", default "tasks"
        Whether to include the tasks that extend them, also those created since the locks were
        requested.
    """
    with together(tx) as send:
        refresh_with(send, tasks, reach)


def refresh_with(send: Together, tasks: dict[str, Any], reach: Reach = "tasks") -> None:
    """Update the queue rows of tasks, with other statements; see `refresh`."""
    tx = send.tx
    values = {**tasks, "now": now(), "seed": seed(tx), "notify": should_notify(tx)}

    def then(notified: Sequence[Any]) -> None:
        if notified:
            note_notification(tx)

    send(form(REFRESH_QUEUE[reach], values), values, then)


def leave_queue_with(send: Together, tasks: dict[str, Any], reach: Reach = "tasks") -> None:
    """Remove tasks that are not waiting any more from the queue, with other statements.

    Parameters
    ----------
    send : Together
        Adds the statement.
    tasks : dict
        Which ones, as in :attr:`Keys.parameters`. They are locked.
    reach : "tasks" or "descendants", default "tasks"
        Whether to include the tasks that extend them, directly or not.
    """
    send(form(LEAVE_QUEUE[reach], tasks), tasks)


def leave_hub_with(send: Together, values: dict[str, Any]) -> None:
    """Remove locked tasks from the queue of a hub that they have left, with other statements.

    Parameters
    ----------
    send : Together
        Adds the statement.
    values : dict
        The tasks, as in :attr:`Keys.parameters`, and the hub, as in :func:`parameters`.
    """
    send(form(LEAVE_HUB, values), values)


def set_priority_with(send: Together, values: dict[str, Any]) -> None:
    """Set the priority of the queue rows of locked tasks, with other statements.

    Parameters
    ----------
    send : Together
        Adds the statement.
    values : dict
        The tasks, as in :attr:`Keys.parameters`, and their new ``priority``.
    """
    more = {"now": now(), "seed": seed(send.tx)}
    send(form(SET_PRIORITY_IN_QUEUE, values), {**values, **more})
