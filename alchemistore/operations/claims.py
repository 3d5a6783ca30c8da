"""Claiming: a compute service takes tasks from a hub."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, TextClause, text

from alchemistore.errors import MissingObjectError
from alchemistore.models import ScopedKey
from alchemistore.models.task import now
from alchemistore.sql import SCOPE_ID, parameters, parse_key, scoped

# Candidates looked at in a lane beyond those asked for, so that stale ones do not make the claim short.
WINDOW = 200

# The head of each lane, lane by lane: LATERAL keeps any plan from reading a lane it does not need.
_ANY_PROTOCOL = """
    SELECT q.* FROM hub
    CROSS JOIN LATERAL (
        SELECT l.priority, l.floor FROM lanes AS l
        WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.protocol = ''
        ORDER BY l.priority
    ) AS lane
    CROSS JOIN LATERAL (
        SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race, '' AS lane FROM queue AS q
        WHERE q.scope_id = hub.scope_id AND q.taskhub = hub.token AND q.priority = lane.priority AND q.race >= lane.floor
        ORDER BY q.race LIMIT :window
        FOR UPDATE SKIP LOCKED
    ) AS q
"""
# Several protocols of one priority race against each other; a row is locked when its turn has come.
_SOME_PROTOCOLS = """
    SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race, head.protocol AS lane FROM hub
    CROSS JOIN LATERAL (
        SELECT DISTINCT l.priority FROM lanes AS l
        WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.protocol = ANY(CAST(:protocols AS text[]))
        ORDER BY l.priority
    ) AS level
    CROSS JOIN LATERAL (
        SELECT h.task, h.protocol FROM lanes AS l
        CROSS JOIN LATERAL (
            SELECT q.task, q.race, q.protocol FROM queue AS q
            WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub AND q.protocol = l.protocol
                AND q.priority = l.priority AND q.race >= l.floor
            ORDER BY q.race LIMIT :window
        ) AS h
        WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.priority = level.priority
            AND l.protocol = ANY(CAST(:protocols AS text[]))
        ORDER BY h.race
    ) AS head
    CROSS JOIN LATERAL (
        SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race FROM queue AS q
        WHERE q.scope_id = hub.scope_id AND q.taskhub = hub.token AND q.task = head.task
        FOR UPDATE SKIP LOCKED
    ) AS q
"""


def _claim(heads: str) -> TextClause:
    return text(f"""
        WITH service AS MATERIALIZED (
            SELECT identifier, hostname FROM compute_services WHERE identifier = :service FOR KEY SHARE
        ),
        hub AS MATERIALIZED (
            SELECT h.scope_id, h.token FROM service CROSS JOIN taskhubs AS h
            WHERE h.scope_id = {SCOPE_ID} AND h.token = :token
        ),
        picked AS MATERIALIZED (
            SELECT head.* FROM ({heads}) AS head
            CROSS JOIN LATERAL (
                SELECT t.token FROM tasks AS t
                WHERE t.scope_id = head.scope_id AND t.token = head.task AND t.status = 'waiting'
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS t
            LIMIT :count
        ),
        siblings AS MATERIALIZED (
            SELECT q.scope_id, q.task, q.taskhub FROM queue AS q JOIN picked USING (scope_id, task)
            FOR UPDATE OF q SKIP LOCKED
        ),
        taken AS (
            DELETE FROM queue AS q USING siblings AS s
            WHERE q.scope_id = s.scope_id AND q.task = s.task AND q.taskhub = s.taskhub
        ),
        started AS (
            UPDATE tasks AS t SET status = 'running', status_changed_at = :now, reason = NULL, attempts = t.attempts + 1
            FROM picked WHERE t.scope_id = picked.scope_id AND t.token = picked.task
            RETURNING t.scope_id, t.token, t.attempts
        ),
        opened AS (
            INSERT INTO attempts (scope_id, task, attempt, service, hostname, claimed_at, taskhub, lane, priority, race)
            SELECT p.scope_id, p.task, s.attempts, service.identifier, service.hostname, :now, p.taskhub, p.lane, p.priority, p.race
            FROM picked AS p JOIN started AS s ON s.scope_id = p.scope_id AND s.token = p.task CROSS JOIN service
            RETURNING scope_id, task, attempt, service, claimed_at, priority, race
        ),
        held AS (
            INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
            SELECT scope_id, task, attempt, service, claimed_at FROM opened
        )
        SELECT opened.task, service.identifier AS service
        FROM (SELECT) AS always LEFT JOIN service ON true LEFT JOIN opened ON true
        ORDER BY opened.priority, opened.race
    """)


CLAIM = _claim(_ANY_PROTOCOL)
CLAIM_PROTOCOLS = _claim(_SOME_PROTOCOLS)


def claim_taskhub_tasks(
    tx: Connection,
    taskhub: ScopedKey | str,
    compute_service_id: str,
    count: int = 1,
    protocols: Iterable[str] | None = None,
) -> list[ScopedKey | None]:
    """Claim tasks of a hub for a compute service.

    Claimable is a task that is actioned on the hub with a weight above 0, is waiting, and extends nothing or a complete task.
    Tasks of the smallest priority number come first. Inside one priority they are drawn at random without replacement, each with
    a probability of its weight over the sum of weights: an exponential race, see :mod:`alchemistore.operations.queue`. Claimers
    do not wait for one another; a task that somebody else is just taking is passed over.

    Parameters
    ----------
    taskhub : ScopedKey or str
        The hub.
    compute_service_id : ComputeServiceID or str
        Identifier under which the service is registered.
    count : int, default 1
        How many tasks at most.
    protocols : iterable of str, optional
        Class names of protocols: take only tasks of transformations that use one of them. Default: any. What is claimed with
        such a filter puts these protocols' later tasks behind it, not those of other protocols.

    Returns
    -------
    list of ScopedKey or None
        Of length `count`: the tasks now claimed, by priority and the order drawn, then ``None`` for what was not to be had.

    Raises
    ------
    KeyError
        If the service is not registered, or not any more; nothing has changed then.
    """
    hub = parse_key(taskhub)
    if count <= 0:
        return []
    values = {**parameters(hub), "service": str(compute_service_id), "count": count, "window": WINDOW + count, "now": now()}
    if hub.qualname != "TaskHub":
        values["token"] = None
    if protocols is None:
        rows = tx.execute(CLAIM, values).all()
    else:
        rows = tx.execute(CLAIM_PROTOCOLS, {**values, "protocols": [str(protocol) for protocol in protocols]}).all()
    if rows[0].service is None:
        raise MissingObjectError(f"compute service {str(compute_service_id)!r} is not registered; register it (again) first")
    claimed: list[ScopedKey | None] = [scoped(hub, "Task", row.task) for row in rows if row.task is not None]
    return claimed + [None] * (count - len(claimed))
