"""Corrections: rows that were read from documents which turned out to be wrong.

A network, transformation or chemical system has rows of its own, and tasks, hubs and the queue
depend on them. When the right document takes the place of a wrong one, these rows follow.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from alchemistore.database.keys import scoped
from alchemistore.models import ScopedKey
from alchemistore.operations.actions import cancel_tasks
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.task_sets import lock

# The networks whose chemical systems may have changed: one, and all that have certain edges.
_CONCERNED = """
    concerned AS MATERIALIZED (
        SELECT CAST(:network AS uuid) AS network
        UNION
        SELECT network FROM network_transformations
        WHERE scope_id = :scope_id AND transformation = ANY(CAST(:edges AS uuid[]))
    ),
    -- The end states of their transformations.
    ends AS MATERIALIZED (
        SELECT DISTINCT c.network, s.chemical_system
        FROM concerned AS c
        JOIN network_transformations AS n ON n.scope_id = :scope_id AND n.network = c.network
        JOIN transformation_chemical_systems AS s
            ON s.scope_id = n.scope_id AND s.transformation = n.transformation
    )
"""
REMOVE_WRONG_SYSTEMS = text(f"""
    WITH {_CONCERNED},
    -- What the documents of these networks refer to.
    listed AS MATERIALIZED (
        SELECT c.network, unnest(o.children) AS chemical_system
        FROM concerned AS c JOIN gufe_objects AS o ON o.scope_id = :scope_id AND o.token = c.network
    )
    DELETE FROM network_chemical_systems AS n USING concerned AS c
    WHERE n.scope_id = :scope_id AND n.network = c.network
        AND (n.network, n.chemical_system) NOT IN (SELECT network, chemical_system FROM ends)
        AND (n.network, n.chemical_system) NOT IN (SELECT network, chemical_system FROM listed)
""")
ADD_RIGHT_SYSTEMS = text(f"""
    WITH {_CONCERNED}
    INSERT INTO network_chemical_systems (scope_id, network, chemical_system)
    SELECT :scope_id, network, chemical_system FROM ends ORDER BY network, chemical_system
    ON CONFLICT DO NOTHING
""")
# Tasks on the hub of a network whose transformation is not, or is no longer, in the network.
FIND_STRAY_TASKS = text("""
    SELECT h.token AS taskhub, a.task
    FROM taskhubs AS h
    JOIN actions AS a ON a.scope_id = h.scope_id AND a.taskhub = h.token
    JOIN tasks AS t ON t.scope_id = a.scope_id AND t.token = a.task
    WHERE h.scope_id = :scope_id AND h.network = :network AND NOT EXISTS (
        SELECT FROM network_transformations AS n
        WHERE n.scope_id = h.scope_id AND n.network = h.network
            AND n.transformation = t.transformation
    )
""")
FIND_TASKS_OF_EDGES = text("""
    SELECT token FROM tasks
    WHERE scope_id = :scope_id AND transformation = ANY(CAST(:edges AS uuid[]))
""")
# `refresh` adds them again, with the protocol that the transformations have now.
REMOVE_FROM_QUEUE = text("""
    DELETE FROM queue AS q USING tasks AS t, transformations AS tr
    WHERE q.scope_id = :scope_id AND q.task = ANY(CAST(:tokens AS uuid[]))
        AND t.scope_id = q.scope_id AND t.token = q.task
        AND tr.scope_id = t.scope_id AND tr.token = t.transformation
        AND q.protocol <> tr.protocol
""")


def correct_dependents(tx: Connection, network: ScopedKey, scope_id: int, edges: str) -> None:
    """Update what depends on corrected rows of a network and of transformations.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    network : ScopedKey
        The network.
    scope_id : int
        Id of its scope.
    edges : str
        The tokens of the transformations whose documents were replaced, as an array of PostgreSQL.
    """
    values: dict[str, Any] = {"scope_id": scope_id, "network": network.token, "edges": edges}
    tx.execute(REMOVE_WRONG_SYSTEMS, values)
    tx.execute(ADD_RIGHT_SYSTEMS, values)
    strays = tx.execute(FIND_STRAY_TASKS, values).all()
    tokens = [*{*(row.task for row in strays), *tx.scalars(FIND_TASKS_OF_EDGES, values)}]
    if not tokens:
        return
    tasks = {"scope_ids": [scope_id] * len(tokens), "tokens": tokens}
    lock(tx, tasks)
    if strays:
        hub = scoped(network, "TaskHub", strays[0].taskhub)
        cancel_tasks(tx, [scoped(network, "Task", row.task) for row in strays], hub)
    tx.execute(REMOVE_FROM_QUEUE, {"scope_id": scope_id, "tokens": tokens})
    refresh(tx, tasks)
