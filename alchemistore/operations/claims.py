"""Claims: a compute service takes tasks from hubs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, TextualSelect, column, text

from alchemistore.database.arguments import integer
from alchemistore.database.keys import (
    NO_OBJECT,
    parameters,
    parse_hub,
    parse_keys,
    parse_scope,
)
from alchemistore.database.planner import FENCE, equal_unindexed, literal_limit
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import unknown_service
from alchemistore.models import Scope, ScopedKey
from alchemistore.models.clock import now
from alchemistore.operations.queue.race import exponential, seed
from alchemistore.operations.requests import NO_REQUEST, REPLACE_RESERVED, Request, carry_out

# Protocols as arguments: a class name, a class, or several.
Protocols: TypeAlias = str | type | Iterable[str | type]
_CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

log = logging.getLogger(__name__)

# Queue rows read in a lane in addition to the number of tasks asked for, because some of them may
# belong to tasks that another claim has just taken.
WINDOW = 200


def _covering(scopes: str) -> str:
    """Return a query for the rows of a list of scopes that cover the scope ``s``.

    The list is in the parameters ``orgs_``, ``campaigns_`` and ``projects_``, which end in
    `scopes`; NULL covers everything.
    """
    return f"""
        SELECT FROM unnest(
            CAST(:orgs_{scopes} AS text[]),
            CAST(:campaigns_{scopes} AS text[]),
            CAST(:projects_{scopes} AS text[])
        ) AS x (org, campaign, project)
        WHERE (x.org IS NULL OR x.org = s.org)
            AND (x.campaign IS NULL OR x.campaign = s.campaign)
            AND (x.project IS NULL OR x.project = s.project)
    """


# The scopes that are in the list ``in`` and not in the list ``out``; see :func:`scope_lists`.
SCOPES_WANTED = f"""
    SELECT s.id FROM scopes AS s
    WHERE EXISTS ({_covering("in")}) AND NOT EXISTS ({_covering("out")})
"""

ONE_HUB = f"""
    SELECT 1 AS draw, h.scope_id, h.token FROM taskhubs AS h
    WHERE h.scope_id = {SCOPE_ID}
        AND h.token = :token
"""
# The hubs of some scopes in random order. As with tasks, this is a race by weight: among the hubs
# with work, each comes first with a probability of its weight over the sum of their weights.
HUBS_OF_SCOPES = f"""
    SELECT row_number() OVER (
        ORDER BY
            {exponential("uuid_hash_extended(h.token, :seed)")}
            / greatest(h.weight, 1e-9)
    ) AS draw, h.scope_id, h.token
    FROM ({SCOPES_WANTED}) AS s JOIN taskhubs AS h ON h.scope_id = s.id
    WHERE h.weight > 0
"""

# Selects the queue rows q of a protocol's lane l. Compared as rows, the columns fit only the index
# that begins with the protocol. Compared one by one, they also fit the index without the protocol,
# and a scan of that one reads every entry of the hub at this priority.
_ROWS_OF_LANE = """
    q.scope_id = l.scope_id AND q.taskhub = l.taskhub
    AND (q.protocol, q.priority, q.race) >= (l.protocol, l.priority, l.floor)
    AND (q.protocol, q.priority) <= (l.protocol, l.priority)
"""


def _heads_any_protocol(window: str) -> str:
    """Return the query for the heads of the lanes of all hubs, regardless of protocol."""
    return f"""
        SELECT hub.draw, q.* FROM hub
        -- The lanes of each hub in order of priority, read one after the other and only until the
        -- claim has enough tasks.
        CROSS JOIN LATERAL (
            SELECT l.priority, l.floor FROM lanes AS l
            WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.protocol = ''
            ORDER BY l.priority
        ) AS lane
        -- The first rows of each lane in order of race, read from the index and locked one by one.
        CROSS JOIN LATERAL (
            SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race, '' AS lane FROM queue AS q
            WHERE q.scope_id = hub.scope_id AND q.taskhub = hub.token
                AND q.priority = lane.priority AND q.race >= lane.floor
            ORDER BY q.race {window}
            FOR UPDATE SKIP LOCKED
        ) AS q
    """


def _heads_some_protocols(window: str) -> str:
    """Return the query for the heads of the lanes of some protocols, of all hubs."""
    return f"""
        SELECT hub.draw, q.scope_id, q.taskhub, q.task, q.priority, q.race, head.protocol AS lane
        FROM hub
        -- The priorities of each hub in order, read one after the other and only until the claim
        -- has enough tasks.
        CROSS JOIN LATERAL (
            SELECT DISTINCT l.priority FROM lanes AS l
            WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token
                AND l.protocol = ANY(CAST(:protocols AS text[]))
            ORDER BY l.priority
        ) AS level
        -- The first rows of each protocol's lane at this priority, merged in order of race. They
        -- are not locked, because most of them are not needed.
        CROSS JOIN LATERAL (
            SELECT h.task, h.protocol FROM lanes AS l
            CROSS JOIN LATERAL (
                SELECT q.task, q.race, q.protocol FROM queue AS q
                WHERE {_ROWS_OF_LANE}
                ORDER BY q.protocol, q.priority, q.race {window}
            ) AS h
            WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token
                AND l.priority = level.priority AND l.protocol = ANY(CAST(:protocols AS text[]))
            ORDER BY h.race
        ) AS head
        -- Looks up each of these rows by key and locks it, one by one and in order.
        CROSS JOIN LATERAL (
            SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race FROM queue AS q
            WHERE q.scope_id = hub.scope_id AND q.task = head.task
                AND {equal_unindexed("q.taskhub", "hub.token")}
            FOR UPDATE SKIP LOCKED
        ) AS q
    """


def _pick(hubs: str, heads: str, limit: str) -> str:
    """Return the first part of a claim: the CTEs ``service``, ``hub`` and ``picked``."""
    return f"""
        -- The registration of the service, locked so that it cannot be removed during the claim. If
        -- it does not exist, all following steps are empty.
        service AS MATERIALIZED (
            SELECT identifier, hostname FROM compute_services
            WHERE identifier = :service FOR KEY SHARE
        ),
        -- The hubs to claim from, in the order drawn.
        hub AS MATERIALIZED (
            SELECT hub.* FROM service CROSS JOIN ({hubs}) AS hub ORDER BY draw
        ),
        -- The tasks to claim, locked, with the queue row through which each is claimed. The LIMIT
        -- stops the index scans as soon as there are enough.
        picked AS MATERIALIZED (
            SELECT head.* FROM ({heads}) AS head
            -- Looks up and locks each task by key. Skips tasks that are locked or not waiting.
            CROSS JOIN LATERAL (
                SELECT t.token FROM tasks AS t
                WHERE t.scope_id = head.scope_id AND t.token = head.task AND t.status = 'waiting'
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS t
            -- A task on several hubs is claimed through the first of them. That claim is not yet
            -- visible to this statement, so the task must be skipped on the other hubs.
            WHERE head.draw = 1 OR NOT EXISTS (
                SELECT FROM (
                    SELECT q.taskhub FROM queue AS q
                    WHERE q.scope_id = head.scope_id AND q.task = head.task {FENCE}
                ) AS q
                JOIN hub AS earlier
                    ON earlier.scope_id = head.scope_id AND earlier.token = q.taskhub
                WHERE earlier.draw < head.draw
            )
            {limit}
        )"""


# The second part of every claim: moves the picked tasks from the queue to the service.
_TAKE = f"""
    -- The queue rows of the picked tasks on all hubs, locked. A row that another transaction has
    -- locked is left behind; claims skip it, because its task is not waiting.
    siblings AS MATERIALIZED (
        SELECT q.* FROM picked
        -- Looks up the rows of each task by scope and task.
        CROSS JOIN LATERAL (
            SELECT q.scope_id, q.task, q.taskhub FROM queue AS q
            WHERE q.scope_id = picked.scope_id AND q.task = picked.task
            FOR UPDATE SKIP LOCKED
        ) AS q
    ),
    -- Removes these rows from the queue.
    taken AS (
        DELETE FROM queue AS q USING siblings AS s
        WHERE q.scope_id = s.scope_id AND q.task = s.task
            AND {equal_unindexed("q.taskhub", "s.taskhub")}
    ),
    -- Sets the picked tasks running and numbers the attempt.
    started AS (
        UPDATE tasks AS t
        SET status = 'running', status_changed_at = :now, reason = NULL, attempts = t.attempts + 1
        FROM picked AS p WHERE t.scope_id = p.scope_id AND t.token = p.task
        RETURNING p.draw, p.scope_id, p.taskhub, p.task, p.lane, p.priority, p.race, t.attempts
    ),
    -- Records the attempts, with lane and race, because clocks are read from them.
    opened AS (
        INSERT INTO attempts (
            scope_id, task, attempt, service, hostname, claimed_at, taskhub, lane, priority, race
        )
        SELECT
            scope_id, task, attempts, identifier, hostname, :now, taskhub, lane, priority, race
        FROM started CROSS JOIN service
    ),
    -- Records who holds the tasks.
    held AS (
        INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
        SELECT scope_id, task, attempts, identifier, :now FROM started CROSS JOIN service
    ),
    -- The started tasks with the parts of their keys. Read once, because two steps use them.
    claimed AS MATERIALIZED (
        SELECT started.draw, started.priority, started.race, started.task,
            s.org, s.campaign, s.project
        FROM started JOIN scopes AS s ON s.id = started.scope_id
    ),
    -- Remembers the answer under the identifier of the request, if there are both. In the format
    -- of `requests`.
    remembered AS (
        INSERT INTO requests (request, call, arguments, answer, made_at)
        SELECT CAST(:request AS uuid), :call, CAST(:arguments AS uuid), CAST(json_agg(
            'kTask-' || replace(CAST(task AS text), '-', '')
            || '-' || org || '-' || campaign || '-' || project
            ORDER BY draw, priority, race
        ) AS text), :now
        FROM claimed WHERE CAST(:request AS uuid) IS NOT NULL
        HAVING count(*) > 0
        {REPLACE_RESERVED}
    )
    -- Returns at least one row: without a task if there was none, and without a service if it is
    -- not registered.
    SELECT service.identifier AS service, c.org, c.campaign, c.project, c.task
    FROM (SELECT) AS always
    LEFT JOIN service ON true
    LEFT JOIN claimed AS c ON true
    ORDER BY c.draw, c.priority, c.race
"""


@lru_cache(maxsize=256)
def claim_statement(count: int, filtered: bool, hubs: str = ONE_HUB) -> TextualSelect:
    """Return the statement that claims up to `count` tasks.

    Parameters
    ----------
    count : int
        The largest number of tasks.
    filtered : bool
        Whether to claim only tasks of some protocols.
    hubs : str, default ONE_HUB
        The query for the hubs: ``ONE_HUB`` or ``HUBS_OF_SCOPES``.
    """
    window = literal_limit(WINDOW + count)
    heads = _heads_some_protocols(window) if filtered else _heads_any_protocol(window)
    statement = text(f"WITH {_pick(hubs, heads, literal_limit(count))},\n{_TAKE}")
    # With its columns named, SQLAlchemy describes the answer once instead of in every claim.
    return statement.columns(*map(column, ("service", "org", "campaign", "project", "task")))


HAS_WORK = text(f"""
    SELECT EXISTS (
        SELECT FROM ({SCOPES_WANTED}) AS s JOIN taskhubs AS h ON h.scope_id = s.id
        -- Looks for a queue row in the lanes of each hub, either for any protocol or for the given
        -- ones; the first row found ends the search.
        CROSS JOIN LATERAL (
            SELECT FROM lanes AS l CROSS JOIN LATERAL (
                SELECT FROM queue AS q
                WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub
                    AND q.priority = l.priority AND q.race >= l.floor
                LIMIT 1
            ) AS q
            WHERE l.scope_id = h.scope_id AND l.taskhub = h.token AND l.protocol = ''
                AND CAST(:protocols AS text[]) IS NULL
            UNION ALL
            SELECT FROM lanes AS l CROSS JOIN LATERAL (
                SELECT FROM queue AS q WHERE {_ROWS_OF_LANE} LIMIT 1
            ) AS q
            WHERE l.scope_id = h.scope_id AND l.taskhub = h.token
                AND l.protocol = ANY(CAST(:protocols AS text[]))
        ) AS work
        WHERE CASE WHEN CAST(:taskhubs AS uuid[]) IS NULL
            THEN h.weight > 0 ELSE EXISTS (
                SELECT FROM unnest(
                    CAST(:hub_scope_ids AS bigint[]), CAST(:taskhubs AS uuid[])
                ) AS x (scope_id, taskhub)
                WHERE x.scope_id = h.scope_id AND x.taskhub = h.token
            ) END
    )
""")


def claim_taskhub_tasks(
    tx: Connection,
    taskhub: ScopedKey | str | None,
    compute_service_id: str,
    count: int = 1,
    protocols: Protocols | None = None,
    *,
    request: UUID | None = None,
) -> list[ScopedKey | None]:
    """Claim tasks of a hub for a compute service.

    A task can be claimed if it is actioned on the hub with a weight above 0, is waiting, and does
    not extend an incomplete task. Tasks with the smallest priority number come first. Within a
    priority, tasks are drawn at random without replacement, each with a probability of its weight
    over the sum of weights; see :mod:`alchemistore.operations.queue`. Claims never wait for each
    other: a task that another service is just claiming is skipped.

    Parameters
    ----------
    taskhub : ScopedKey or str or None
        The hub. Nothing is claimed from a missing hub or ``None``.
    compute_service_id : ComputeServiceID or str
        Identifier of the service.
    count : int, default 1
        The largest number of tasks to claim.
    protocols : str, type, or iterable of them, optional
        Class name of a protocol, or the class, or several; claim only tasks of transformations that
        use one of them. Default: any. A claim with this filter affects fairness only within these
        protocols.
    request : UUID, optional
        Identifier of this claim. A repeated call with the same identifier returns the tasks that
        the first one claimed, whatever has become of them since. An answer without tasks is not
        remembered.

    Returns
    -------
    list of ScopedKey or None
        The claimed tasks by priority and in the order drawn, padded with ``None`` up to `count`.

    Raises
    ------
    KeyError
        If the service is not registered. No task is claimed.
    ValueError
        If `taskhub` is the key of something else, `protocols` is empty or contains something else,
        or the identifier was used for another request.
    """
    hub, names = parse_hub(taskhub), parse_protocols(protocols)
    if (count := integer(count, "count")) <= 0:
        return []
    arguments = [str(hub), str(compute_service_id), count, names]
    asked = Request.of(request, "claim_taskhub_tasks", {"arguments": arguments})
    values = NO_OBJECT if hub is None else parameters(hub)
    return _claim(tx, ONE_HUB, {**values, "service": str(compute_service_id)}, count, names, asked)


def _claim(
    tx: Connection,
    hubs: str,
    values: Mapping[str, Any],
    count: int,
    protocols: Sequence[str] | None,
    request: Request | None,
) -> list[ScopedKey | None]:
    parts = {**values, **(NO_REQUEST if request is None else request.parameters)}
    if protocols is not None:
        parts["protocols"] = protocols
    statement = claim_statement(count, protocols is not None, hubs)

    def take() -> list[ScopedKey]:
        rows = tx.execute(statement, {**parts, "now": now()}).all()
        if rows[0].service is None:
            raise unknown_service(values["service"])
        return [
            ScopedKey.from_parts("Task", row.task, row.org, row.campaign, row.project)
            for row in rows
            if row.task is not None
        ]

    claimed = take() if request is None else carry_out(tx, request, take, keeps=bool)
    log.debug("%s claimed %d of %d tasks: %s", values["service"], len(claimed), count, claimed)
    return [*claimed, *[None] * (count - len(claimed))]


def parse_protocols(protocols: Protocols | None) -> list[str] | None:
    """Return the class names of protocols, sorted; ``None`` for any protocol.

    Parameters
    ----------
    protocols : str, type, or iterable of them, optional
        A name or a class, or several.

    Raises
    ------
    ValueError
        If there is none, or one is not a class or the name of a class.
    """
    if protocols is None:
        return None
    several = [protocols] if isinstance(protocols, str | type) else _elements(protocols)
    if not several:
        raise ValueError("protocols is empty; name at least one, or pass None for any")
    names = [one.__qualname__ if isinstance(one, type) else one for one in several]
    for name in names:
        if not isinstance(name, str) or not _CLASS_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a protocol: expected a class or the name of one")
    return sorted(set(names))


def _elements(protocols: Iterable[str | type]) -> list[str | type]:
    if not isinstance(protocols, Iterable):
        raise ValueError(f"{protocols!r} is not a protocol: expected a class or the name of one")
    return list(protocols)


def has_work(
    tx: Connection,
    scopes: Iterable[Scope | str],
    protocols: Protocols | None = None,
    exclude_scopes: Iterable[Scope | str] | None = None,
    taskhubs: Iterable[ScopedKey | str | None] | None = None,
) -> bool:
    """Check whether hubs in some scopes have claimable tasks.

    Hubs of weight 0 are considered only if they are named in `taskhubs`.
    """
    hubs = None
    if taskhubs is not None:
        hubs = parse_keys(tx, [parse_hub(hub) for hub in taskhubs], "TaskHub")
    values = {
        **scope_lists("in", scopes),
        **scope_lists("out", exclude_scopes or ()),
        "protocols": parse_protocols(protocols),
        "hub_scope_ids": None if hubs is None else hubs.parameters["scope_ids"],
        "taskhubs": None if hubs is None else hubs.parameters["tokens"],
    }
    return bool(tx.scalar(HAS_WORK, values))


def parse_scopes(scopes: Scope | str | Iterable[Scope | str]) -> list[Scope]:
    """Return a list of scopes; a single scope is a list of one.

    Raises
    ------
    ValueError
        If one is not a scope.
    """
    return [
        parse_scope(scope) for scope in ([scopes] if isinstance(scopes, Scope | str) else scopes)
    ]


def scope_lists(which: str, scopes: Iterable[Scope | str]) -> dict[str, list[str | None]]:
    """Return the parameters of a list of scopes, which is called ``in`` or ``out``."""
    parts = [scope.to_tuple() for scope in parse_scopes(scopes)]
    return {
        f"{name}_{which}": [part[i] for part in parts]
        for i, name in enumerate(("orgs", "campaigns", "projects"))
    }


def claim_tasks(
    tx: Connection,
    scopes: Iterable[Scope | str],
    compute_service_id: str,
    count: int = 1,
    protocols: Protocols | None = None,
    exclude_scopes: Iterable[Scope | str] | None = None,
    *,
    request: UUID | None = None,
) -> list[ScopedKey | None]:
    """Claim tasks from the hubs of some scopes for a compute service.

    A hub is drawn with a probability of its weight over the sum of weights of the hubs that have
    claimable tasks; hubs of weight 0 are never drawn. Tasks are claimed from it as by
    `claim_taskhub_tasks`, then from the hub drawn next, until there are enough.

    Parameters
    ----------
    scopes : iterable of Scope or str
        The scopes to claim from; open components match anything.
    compute_service_id : ComputeServiceID or str
        Identifier of the service.
    count : int, default 1
        The largest number of tasks to claim.
    protocols : str, type, or iterable of them, optional
        Class name of a protocol, or the class, or several; claim only tasks of transformations that
        use one of them. Default: any.
    exclude_scopes : iterable of Scope or str, optional
        Scopes to leave out.
    request : UUID, optional
        Identifier of this claim. A repeated call with the same identifier returns the tasks that
        the first one claimed, whatever has become of them since. An answer without tasks is not
        remembered.

    Returns
    -------
    list of ScopedKey or None
        The claimed tasks, hub by hub, padded with ``None`` up to `count`.

    Raises
    ------
    KeyError
        If the service is not registered. No task is claimed.
    ValueError
        If a scope is malformed, `protocols` is empty or contains something else, or the identifier
        was used for another request.
    """
    wanted, without = scope_lists("in", scopes), scope_lists("out", exclude_scopes or ())
    names = parse_protocols(protocols)
    if (count := integer(count, "count")) <= 0:
        return []
    values = {**wanted, **without, "service": str(compute_service_id)}
    arguments = [wanted, without, str(compute_service_id), count, names]
    asked = Request.of(request, "claim_tasks", {"arguments": arguments})
    return _claim(tx, HUBS_OF_SCOPES, {**values, "seed": seed(tx)}, count, names, asked)
