"""Claiming: a compute service takes tasks from a hub."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.keys import parameters, parse_key, parse_scope
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import unknown_service
from alchemistore.models import Scope, ScopedKey
from alchemistore.models.clock import now
from alchemistore.operations.queue.refresh import SAME_HUB, seed

# Candidates looked at in a lane beyond those asked for, so that stale ones do not make the claim short.
WINDOW = 200

# A list of scopes, NULL for what is open.
_SCOPES = "unnest(CAST(:orgs_{0} AS text[]), CAST(:campaigns_{0} AS text[]), CAST(:projects_{0} AS text[])) AS x (org, campaign, project)"
_COVERS = "(x.org IS NULL OR x.org = s.org) AND (x.campaign IS NULL OR x.campaign = s.campaign) AND (x.project IS NULL OR x.project = s.project)"
_SCOPES_WANTED = f"""
    SELECT s.id FROM scopes AS s
    WHERE EXISTS (SELECT FROM {_SCOPES.format("in")} WHERE {_COVERS})
        AND NOT EXISTS (SELECT FROM {_SCOPES.format("out")} WHERE {_COVERS})
"""

_HUB = f"SELECT 1 AS draw, h.scope_id, h.token FROM taskhubs AS h WHERE h.scope_id = {SCOPE_ID} AND h.token = :token"
# A race by hub weight: as with tasks, the first of those that have work is drawn with a probability of its weight over their sum.
_DRAWN_HUBS = f"""
    SELECT row_number() OVER (ORDER BY
        -ln(((uuid_hash_extended(h.token, :seed) >> 11 & 9007199254740991) + 0.5) / 9007199254740992) / greatest(h.weight, 1e-9)
    ) AS draw, h.scope_id, h.token
    FROM ({_SCOPES_WANTED}) AS s JOIN taskhubs AS h ON h.scope_id = s.id
    WHERE h.weight > 0
"""

# The head of each lane, hub by hub and lane by lane: LATERAL keeps any plan from reading a lane it does not need.
_ANY_PROTOCOL = """
    SELECT hub.draw, q.* FROM hub
    CROSS JOIN LATERAL (
        SELECT l.priority, l.floor FROM lanes AS l
        WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.protocol = ''
        ORDER BY l.priority
    ) AS lane
    CROSS JOIN LATERAL (
        SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race, '' AS lane FROM queue AS q
        WHERE q.scope_id = hub.scope_id AND q.taskhub = hub.token AND q.priority = lane.priority AND q.race >= lane.floor
        ORDER BY q.race LIMIT {window}
        FOR UPDATE SKIP LOCKED
    ) AS q
"""
# The rows of a protocol's lane. Compared like this, they are found by the index that has the protocol, whatever is known of the others:
# the other one has every entry of the hub at that priority.
_OF_LANE = """
    q.scope_id = l.scope_id AND q.taskhub = l.taskhub
    AND (q.protocol, q.priority, q.race) >= (l.protocol, l.priority, l.floor)
    AND (q.protocol, q.priority) <= (l.protocol, l.priority)
"""
# Several protocols of one priority race against each other; a row is locked when its turn has come.
_SOME_PROTOCOLS = """
    SELECT hub.draw, q.scope_id, q.taskhub, q.task, q.priority, q.race, head.protocol AS lane FROM hub
    CROSS JOIN LATERAL (
        SELECT DISTINCT l.priority FROM lanes AS l
        WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.protocol = ANY(CAST(:protocols AS text[]))
        ORDER BY l.priority
    ) AS level
    CROSS JOIN LATERAL (
        SELECT h.task, h.protocol FROM lanes AS l
        CROSS JOIN LATERAL (
            SELECT q.task, q.race, q.protocol FROM queue AS q
            WHERE {of_lane}
            ORDER BY q.protocol, q.priority, q.race LIMIT {window}
        ) AS h
        WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.priority = level.priority
            AND l.protocol = ANY(CAST(:protocols AS text[]))
        ORDER BY h.race
    ) AS head
    CROSS JOIN LATERAL (
        SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race FROM queue AS q
        WHERE q.scope_id = hub.scope_id AND q.task = head.task AND q.taskhub IS NOT DISTINCT FROM hub.token
        FOR UPDATE SKIP LOCKED
    ) AS q
"""


@lru_cache(maxsize=256)
def claim_statement(count: int, filtered: bool, hubs: str = _HUB) -> TextClause:
    """Give the statement that claims so many tasks at most, of some protocols or of any.

    The limits stand in the text: with limits for parameters PostgreSQL finds the general plan dear, and plans each claim anew.
    """
    heads = (_SOME_PROTOCOLS if filtered else _ANY_PROTOCOL).format(
        window=WINDOW + count, of_lane=_OF_LANE
    )
    return text(f"""
        WITH service AS MATERIALIZED (
            SELECT identifier, hostname FROM compute_services WHERE identifier = :service FOR KEY SHARE
        ),
        hub AS MATERIALIZED (SELECT hub.* FROM service CROSS JOIN ({hubs}) AS hub ORDER BY draw),
        picked AS MATERIALIZED (
            SELECT head.* FROM ({heads}) AS head
            CROSS JOIN LATERAL (
                SELECT t.token FROM tasks AS t
                WHERE t.scope_id = head.scope_id AND t.token = head.task AND t.status = 'waiting'
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS t
            -- What is on a hub drawn before is taken from there, and to this statement still looks as it did.
            WHERE head.draw = 1 OR NOT EXISTS (
                SELECT FROM (
                    SELECT q.taskhub FROM queue AS q WHERE q.scope_id = head.scope_id AND q.task = head.task OFFSET 0
                ) AS q
                JOIN hub AS earlier ON earlier.scope_id = head.scope_id AND earlier.token = q.taskhub
                WHERE earlier.draw < head.draw
            )
            LIMIT {count:d}
        ),
        siblings AS MATERIALIZED (
            SELECT q.* FROM picked CROSS JOIN LATERAL (
                SELECT q.scope_id, q.task, q.taskhub FROM queue AS q
                WHERE q.scope_id = picked.scope_id AND q.task = picked.task
                FOR UPDATE SKIP LOCKED
            ) AS q
        ),
        taken AS (
            DELETE FROM queue AS q USING siblings AS s
            WHERE q.scope_id = s.scope_id AND q.task = s.task AND {SAME_HUB.format("s")}
        ),
        started AS (
            UPDATE tasks AS t SET status = 'running', status_changed_at = :now, reason = NULL, attempts = t.attempts + 1
            FROM picked AS p WHERE t.scope_id = p.scope_id AND t.token = p.task
            RETURNING p.draw, p.scope_id, p.taskhub, p.task, p.lane, p.priority, p.race, t.attempts
        ),
        opened AS (
            INSERT INTO attempts (scope_id, task, attempt, service, hostname, claimed_at, taskhub, lane, priority, race)
            SELECT scope_id, task, attempts, identifier, hostname, :now, taskhub, lane, priority, race
            FROM started CROSS JOIN service
        ),
        held AS (
            INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
            SELECT scope_id, task, attempts, identifier, :now FROM started CROSS JOIN service
        )
        SELECT service.identifier AS service, s.org, s.campaign, s.project, started.task
        FROM (SELECT) AS always
        LEFT JOIN service ON true
        LEFT JOIN started ON true
        LEFT JOIN scopes AS s ON s.id = started.scope_id
        ORDER BY started.draw, started.priority, started.race
    """)


HAS_WORK = text(f"""
    SELECT EXISTS (
        SELECT FROM ({_SCOPES_WANTED}) AS s JOIN taskhubs AS h ON h.scope_id = s.id
        CROSS JOIN LATERAL (
            SELECT FROM lanes AS l CROSS JOIN LATERAL (
                SELECT FROM queue AS q
                WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub AND q.priority = l.priority AND q.race >= l.floor
                LIMIT 1
            ) AS q
            WHERE l.scope_id = h.scope_id AND l.taskhub = h.token AND l.protocol = '' AND CAST(:protocols AS text[]) IS NULL
            UNION ALL
            SELECT FROM lanes AS l CROSS JOIN LATERAL (
                SELECT FROM queue AS q WHERE {_OF_LANE} LIMIT 1
            ) AS q
            WHERE l.scope_id = h.scope_id AND l.taskhub = h.token AND l.protocol = ANY(CAST(:protocols AS text[]))
        ) AS work
        WHERE CASE WHEN CAST(:taskhubs AS uuid[]) IS NULL THEN h.weight > 0 ELSE h.token = ANY(CAST(:taskhubs AS uuid[])) END
    )
""")


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
    count = int(count)
    if count <= 0:
        return []
    values = {**parameters(hub), "service": str(compute_service_id)}
    if hub.qualname != "TaskHub":
        values["token"] = None
    return _claim(tx, _HUB, values, count, protocols)


def _claim(
    tx: Connection, hubs: str, values: dict[str, Any], count: int, protocols: Iterable[str] | None
) -> list[ScopedKey | None]:
    if protocols is not None:
        values["protocols"] = [str(protocol) for protocol in protocols]
    rows = tx.execute(
        claim_statement(count, protocols is not None, hubs), {**values, "now": now()}
    ).all()
    if rows[0].service is None:
        raise unknown_service(values["service"])
    claimed: list[ScopedKey | None] = [
        ScopedKey.from_parts("Task", row.task, row.org, row.campaign, row.project)
        for row in rows
        if row.task is not None
    ]
    return claimed + [None] * (count - len(claimed))


def has_work(
    tx: Connection,
    scopes: Iterable[Scope | str],
    protocols: Iterable[str] | None = None,
    exclude_scopes: Iterable[Scope | str] | None = None,
    taskhubs: Iterable[ScopedKey | str] | None = None,
) -> bool:
    """Tell whether hubs in some scopes have claimable tasks; those of weight 0 count only when they are named."""
    values = {
        **_scope_lists("in", scopes),
        **_scope_lists("out", exclude_scopes or ()),
        "protocols": None if protocols is None else [str(protocol) for protocol in protocols],
        "taskhubs": None
        if taskhubs is None
        else [parse_key(hub, "TaskHub").token for hub in taskhubs],
    }
    return bool(tx.scalar(HAS_WORK, values))


def _scope_lists(which: str, scopes: Iterable[Scope | str]) -> dict[str, list[str | None]]:
    if isinstance(scopes, Scope | str):
        scopes = [scopes]
    parts = [parse_scope(scope).to_tuple() for scope in scopes]
    return {
        f"{name}_{which}": [part[i] for part in parts]
        for i, name in enumerate(("orgs", "campaigns", "projects"))
    }


def claim_tasks(
    tx: Connection,
    scopes: Iterable[Scope | str],
    compute_service_id: str,
    count: int = 1,
    protocols: Iterable[str] | None = None,
    exclude_scopes: Iterable[Scope | str] | None = None,
) -> list[ScopedKey | None]:
    """Claim tasks from whichever hubs of some scopes have work.

    A hub is drawn with a probability of its weight over the sum of weights of the hubs that have claimable tasks; hubs of weight
    0 never. Tasks are claimed there as by `claim_taskhub_tasks`, then from the hub drawn next, until there are enough.

    Parameters
    ----------
    scopes : iterable of Scope or str
        Where to look; open components match anything.
    compute_service_id : ComputeServiceID or str
        Identifier under which the service is registered.
    count : int, default 1
        How many tasks at most.
    protocols : iterable of str, optional
        Class names of protocols: take only tasks of transformations that use one of them. Default: any.
    exclude_scopes : iterable of Scope or str, optional
        Scopes to leave out.

    Returns
    -------
    list of ScopedKey or None
        Of length `count`: the tasks now claimed, hub by hub, then ``None`` for what was not to be had.

    Raises
    ------
    KeyError
        If the service is not registered, or not any more; nothing has changed then.
    ValueError
        If a scope is not well formed.
    """
    values = {
        **_scope_lists("in", scopes),
        **_scope_lists("out", exclude_scopes or ()),
        "service": str(compute_service_id),
    }
    count = int(count)
    if count <= 0:
        return []
    return _claim(tx, _DRAWN_HUBS, {**values, "seed": seed(tx)}, count, protocols)
