"""Refresh: update the queue rows of tasks from tasks, extends and actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.planner import FENCE, all_of, equal_unindexed
from alchemistore.database.together import Together, together
from alchemistore.models.clock import now
from alchemistore.operations.queue.notify import NOTIFY, note_notification, should_notify
from alchemistore.operations.queue.race import WEIGHT_MIN, exponential, largest_race, seed
from alchemistore.operations.task_sets import REACHES, Reach, form, row_locations

# Selects a queue row x whose task cannot be claimed, or is not on the hub with a weight above 0.
_NOT_CLAIMABLE = """
    WHERE eligible.priority IS NULL OR coalesce((
        SELECT a.weight FROM actions AS a
        WHERE a.scope_id = eligible.scope_id AND a.taskhub = x.taskhub
            AND a.task = eligible.task
    ), 0) = 0
"""


def _refresh(touched: str) -> TextClause:
    obsolete = row_locations("queue", "eligible", columns=", x.taskhub", where=_NOT_CLAIMABLE)
    draw = exponential("uuid_hash_extended(taskhub, uuid_hash_extended(task, :seed))")
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
        -- Creates missing lanes, for the protocol and for any protocol, in the order of their keys
        -- so that concurrent refreshes do not deadlock.
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
        -- The tasks of the groups, each with its new race, for the update and the insert below.
        drawn AS MATERIALIZED (
            SELECT scope_id, taskhub, task, priority, protocol, weight, place,
                clock
                + {draw}
                / greatest(weight, {WEIGHT_MIN}) AS race
            FROM clocks
            CROSS JOIN LATERAL (
                SELECT x.* FROM unnest(tasks, weights, places) AS x (task, weight, place)
                {all_of("tasks")}
            ) AS x
        ),
        -- Updates the queue rows that exist, by their location.
        moved AS (
            UPDATE queue AS q SET priority = drawn.priority, protocol = drawn.protocol,
                weight = drawn.weight, race = drawn.race
            FROM drawn WHERE q.ctid = drawn.place
        ),
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


REFRESH_QUEUE = {reach: _refresh(tasks) for reach, tasks in REACHES.items()}


def refresh(tx: Connection, tasks: dict[str, Any], reach: Reach = "tasks") -> None:
    """Update the queue rows of tasks from tasks, extends and actions.

    Parameters
    ----------
    tx : Connection
        The open transaction, in which the tasks are locked.
    tasks : dict
        Which ones, as in :attr:`Keys.parameters`.
    reach : "tasks", "children" or "descendants", default "tasks"
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
