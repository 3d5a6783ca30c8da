"""Claiming: a compute service takes tasks from a hub."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import Connection, TextClause, text

from alchemistore.errors import unknown_service
from alchemistore.models import Scope, ScopedKey
from alchemistore.models.task import now
from alchemistore.operations.queue import seed
from alchemistore.sql import SCOPE_ID, parameters, parse_key, parse_scope, scoped

# Candidates looked at in a lane beyond those asked for, so that stale ones do not make the claim short.
WINDOW = 200

# Hubs looked up at once by `claim_tasks`.
HUBS = 32

# A list of scopes, NULL for what is open.
_SCOPES = "unnest(CAST(:orgs_{0} AS text[]), CAST(:campaigns_{0} AS text[]), CAST(:projects_{0} AS text[])) AS x (org, campaign, project)"
_COVERS = "(x.org IS NULL OR x.org = s.org) AND (x.campaign IS NULL OR x.campaign = s.campaign) AND (x.project IS NULL OR x.project = s.project)"

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
        ORDER BY q.race LIMIT {window}
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
            ORDER BY q.race LIMIT {window}
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


@lru_cache(maxsize=256)
def claim_statement(count: int, filtered: bool) -> TextClause:
    """Give the statement that claims so many tasks at most, of some protocols or of any.

    The limits stand in the text: with limits for parameters PostgreSQL finds the general plan dear, and plans each claim anew.
    """
    heads = (_SOME_PROTOCOLS if filtered else _ANY_PROTOCOL).format(window=WINDOW + count)
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
            LIMIT {count:d}
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


HOLD_SERVICE = text("SELECT identifier FROM compute_services WHERE identifier = :service FOR KEY SHARE")

# Hubs of some scopes with claimable work, in the order of a race by hub weight: the winner is drawn with a probability of its
# weight over the sum of weights.
HUBS_WITH_WORK = text(f"""
    WITH wanted AS MATERIALIZED (
        SELECT s.id, s.org, s.campaign, s.project FROM scopes AS s
        WHERE EXISTS (SELECT FROM {_SCOPES.format("in")} WHERE {_COVERS})
            AND NOT EXISTS (SELECT FROM {_SCOPES.format("out")} WHERE {_COVERS})
    )
    SELECT w.org, w.campaign, w.project, h.token
    FROM wanted AS w JOIN taskhubs AS h ON h.scope_id = w.id
    WHERE CASE WHEN CAST(:taskhubs AS uuid[]) IS NULL THEN h.weight > 0 ELSE h.token = ANY(CAST(:taskhubs AS uuid[])) END
        AND h.token <> ALL(CAST(:tried AS uuid[]))
        AND EXISTS (
            SELECT FROM lanes AS l CROSS JOIN LATERAL (
                SELECT FROM queue AS q
                WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub AND q.priority = l.priority AND q.race >= l.floor
                LIMIT 1
            ) AS q
            WHERE l.scope_id = h.scope_id AND l.taskhub = h.token AND l.protocol = '' AND CAST(:protocols AS text[]) IS NULL
            UNION ALL
            SELECT FROM lanes AS l CROSS JOIN LATERAL (
                SELECT FROM queue AS q
                WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub AND q.protocol = l.protocol
                    AND q.priority = l.priority AND q.race >= l.floor
                LIMIT 1
            ) AS q
            WHERE l.scope_id = h.scope_id AND l.taskhub = h.token AND l.protocol = ANY(CAST(:protocols AS text[]))
        )
    ORDER BY -ln(((uuid_hash_extended(h.token, :seed) >> 11 & 9007199254740991) + 0.5) / 9007199254740992) / greatest(h.weight, 1e-9)
    LIMIT :limit
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
    values = {**parameters(hub), "service": str(compute_service_id), "now": now()}
    if hub.qualname != "TaskHub":
        values["token"] = None
    if protocols is not None:
        values["protocols"] = [str(protocol) for protocol in protocols]
    rows = tx.execute(claim_statement(count, protocols is not None), values).all()
    if rows[0].service is None:
        raise unknown_service(compute_service_id)
    claimed: list[ScopedKey | None] = [scoped(hub, "Task", row.task) for row in rows if row.task is not None]
    return claimed + [None] * (count - len(claimed))


def hubs_with_work(
    tx: Connection,
    scopes: Iterable[Scope | str],
    protocols: Iterable[str] | None = None,
    exclude: Iterable[Scope | str] | None = None,
    taskhubs: Iterable[ScopedKey | str] | None = None,
    limit: int = HUBS,
    tried: Iterable[ScopedKey] = (),
) -> list[ScopedKey]:
    """Give hubs that have claimable tasks, in an order drawn by their weights; those of weight 0 only when they are named."""
    wanted, unwanted = _scope_lists("in", scopes), _scope_lists("out", exclude or ())
    rows = tx.execute(
        HUBS_WITH_WORK,
        {
            **wanted,
            **unwanted,
            "protocols": None if protocols is None else [str(protocol) for protocol in protocols],
            "taskhubs": None if taskhubs is None else [parse_key(hub, "TaskHub").token for hub in taskhubs],
            "tried": [hub.token for hub in tried],
            "seed": seed(tx),
            "limit": limit,
        },
    )
    return [ScopedKey.from_parts("TaskHub", row.token, row.org, row.campaign, row.project) for row in rows]


def _scope_lists(which: str, scopes: Iterable[Scope | str]) -> dict[str, list[str | None]]:
    if isinstance(scopes, Scope | str):
        scopes = [scopes]
    parts = [parse_scope(scope).to_tuple() for scope in scopes]
    return {f"{name}_{which}": [part[i] for part in parts] for i, name in enumerate(("orgs", "campaigns", "projects"))}


def claim_tasks(
    tx: Connection,
    scopes: Iterable[Scope | str],
    compute_service_id: str,
    count: int = 1,
    protocols: Iterable[str] | None = None,
    exclude: Iterable[Scope | str] | None = None,
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
    exclude : iterable of Scope or str, optional
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
    scopes, exclude = list([scopes] if isinstance(scopes, Scope | str) else scopes), list(exclude or ())
    protocols = None if protocols is None else list(protocols)
    require_service(tx, compute_service_id)
    claimed: list[ScopedKey | None] = []
    tried: list[ScopedKey] = []
    while len(claimed) < count and (hubs := hubs_with_work(tx, scopes, protocols, exclude, tried=tried)):
        for hub in hubs:
            claimed += filter(None, claim_taskhub_tasks(tx, hub, compute_service_id, count - len(claimed), protocols))
        tried += hubs
    return claimed + [None] * (count - len(claimed))


def require_service(tx: Connection, compute_service_id: str) -> None:
    """Hold the registration of a service until the end of the transaction.

    Raises
    ------
    KeyError
        If it is not registered.
    """
    if tx.scalar(HOLD_SERVICE, {"service": str(compute_service_id)}) is None:
        raise unknown_service(compute_service_id)
