"""A database of 100,000 tasks, filled by a few statements."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import gufe
from sqlalchemy import Engine, create_engine, text

from alchemistore import Scope, ScopedKey, StateStore
from alchemistore.database.engine import with_terms
from alchemistore.tables import metadata
from tests.support.gufe_classes import Effort, PushProtocol, system

TASKS = 100_000
NETWORKS = 11
ARMS = 10
SCOPE = Scope("org", "campaign", "project")

# The first network has four fifths of the tasks. Tasks 1,000 apart share a transformation.
# Every fifth task of each odd thousand extends the task a thousand before it.
_TASKS = """
    CREATE TEMPORARY TABLE seed AS
    SELECT i, CAST('01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0') AS uuid) AS token,
        e.scope_id, e.transformation, e.network, h.token AS hub, e.protocol,
        CASE WHEN i % 5 = 0 AND i / 1000 % 2 = 1 THEN 'waiting'
            WHEN i % 5 = 0 THEN CASE WHEN i * 7919 % 100 < 60 THEN 'complete' ELSE 'waiting' END
            WHEN i * 7919 % 100 < 5 THEN 'running'
            WHEN i * 7919 % 100 < 25 THEN 'complete'
            WHEN i * 7919 % 100 < 28 THEN 'error'
            WHEN i * 7919 % 100 < 30 THEN 'invalid'
            ELSE 'waiting' END AS status,
        CASE WHEN i % 50 = 1 THEN 1 + i % 7 ELSE 10 END AS priority,
        'service ' || i / 100 % 100 AS service
    FROM generate_series(CAST(:first AS bigint), :last) AS i
    JOIN (
        SELECT n.scope_id, n.transformation, n.network, t.protocol,
            row_number() OVER (ORDER BY w.name, t.name) - 1 AS number
        FROM network_transformations AS n
        JOIN networks AS w ON (w.scope_id, w.token) = (n.scope_id, n.network)
        JOIN transformations AS t ON (t.scope_id, t.token) = (n.scope_id, n.transformation)
    ) AS e ON e.number = CASE WHEN i % 10 < 8 THEN i / 10 % 10 ELSE 10 + i / 10 % 100 END
    JOIN taskhubs AS h ON (h.scope_id, h.network) = (e.scope_id, e.network);
    INSERT INTO tasks
        (scope_id, token, transformation, status, status_changed_at, priority, attempts, created_at)
    SELECT scope_id, token, transformation, status, now(), priority,
        CASE WHEN status IN ('running', 'complete', 'error') THEN 1 ELSE 0 END, now()
    FROM seed ORDER BY i;
    INSERT INTO extends (scope_id, task, parent, transformation)
    SELECT scope_id, token,
        CAST('01900000-0000-7000-8000-' || lpad(to_hex(i - 1000), 12, '0') AS uuid), transformation
    FROM seed WHERE i % 5 = 0 AND i / 1000 % 2 = 1;
    INSERT INTO actions (scope_id, taskhub, task, weight, created_at)
    SELECT scope_id, hub, token, CASE WHEN i % 1000 = 2 THEN 0 ELSE 0.5 END, now()
    FROM seed WHERE status IN ('waiting', 'running', 'error');
    INSERT INTO attempts
        (scope_id, task, attempt, service, claimed_at, ended_at, outcome, taskhub, lane, priority,
        race)
    SELECT scope_id, token, 1, service, now(), CASE WHEN status <> 'running' THEN now() END,
        CASE WHEN status <> 'running' THEN status END, hub, '', priority, random()
    FROM seed WHERE status IN ('running', 'complete', 'error');
    INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
    SELECT scope_id, token, 1, service, now() FROM seed WHERE status = 'running';
    INSERT INTO queue (scope_id, taskhub, task, priority, protocol, weight, race)
    SELECT s.scope_id, s.hub, s.token, s.priority, s.protocol, 0.5, 1 + 1000 * random()
    FROM seed AS s
    LEFT JOIN extends AS e ON (e.scope_id, e.task) = (s.scope_id, s.token)
    LEFT JOIN tasks AS p ON (p.scope_id, p.token) = (e.scope_id, e.parent)
    WHERE s.status = 'waiting' AND i % 1000 <> 2 AND (p.token IS NULL OR p.status = 'complete');
    INSERT INTO lanes (scope_id, taskhub, protocol, priority, visited_at)
    SELECT DISTINCT scope_id, taskhub, unnest(ARRAY['', protocol]), priority, now() FROM queue
    ON CONFLICT DO NOTHING;
    INSERT INTO results (scope_id, token, obj_key, scope, ok, datetime_created, created_at)
    SELECT scope_id, token, 'ProtocolDAGResult-' || i, 'org-campaign-project', status = 'complete',
        now(), now()
    FROM seed WHERE status IN ('complete', 'error');
    INSERT INTO task_results (scope_id, task, result, attempt, created_at)
    SELECT scope_id, token, token, 1, now() FROM seed WHERE status IN ('complete', 'error');
    DROP TABLE seed
"""
_SERVICES = """
    INSERT INTO compute_services (identifier, registered_at, heartbeat_at)
    SELECT 'service ' || i, now(), now() FROM generate_series(0, 99) AS i
"""


@dataclass(frozen=True)
class Seeded:
    """The store, and the keys of its hubs, from the largest to the small ones."""

    store: StateStore
    # Separate from the store's, so that the statements of this class are not among those examined.
    engine: Engine
    networks: list[ScopedKey]
    hubs: list[ScopedKey]
    transformations: list[list[ScopedKey]]

    def task(self, number: int) -> ScopedKey:
        """The task with a number."""
        return ScopedKey.from_parts(
            "Task",
            UUID(int=0x01900000_0000_7000_8000_000000000000 + number),
            *map(str, SCOPE.to_tuple()),
        )

    def tasks(self, count: int, fitting: str, first: int = 0) -> list[ScopedKey]:
        """So many tasks of the largest network, from one on, that fit a condition on `status`."""
        statement = f"""
            SELECT t.token FROM tasks AS t
            JOIN network_transformations AS n
                ON (n.scope_id, n.transformation) = (t.scope_id, t.transformation)
            WHERE n.network = :network AND t.token >= :first AND {fitting}
            ORDER BY t.token LIMIT :count
        """
        with self.engine.connect() as connection:
            values = {
                "network": self.networks[0].token,
                "first": self.task(first).token,
                "count": count,
            }
            tokens = connection.scalars(text(statement), values).all()
        assert len(tokens) == count
        return [
            ScopedKey.from_parts("Task", token, *map(str, SCOPE.to_tuple())) for token in tokens
        ]


def _network(number: int) -> gufe.AlchemicalNetwork:
    protocol, middle = PushProtocol(Effort()), system(f"middle {number}")
    edges = [
        gufe.Transformation(middle, system(f"arm {number} {arm}"), protocol, name=f"arm {arm:02}")
        for arm in range(ARMS)
    ]
    return gufe.AlchemicalNetwork(edges, name=f"network {number:02}")


def _run(engine: Engine, statements: str, **values: object) -> None:
    with engine.begin() as connection:
        # Constraints are what the rest of the tests are about; here they would only take time.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements.split(";"):
            connection.execute(
                text(statement),
                {name: value for name, value in values.items() if f":{name}" in statement},
            )


def seed(store: StateStore, stale: bool) -> None:
    """Fill an empty store; with `stale`, the statistics are those of a nearly empty one."""
    for table in metadata.sorted_tables:
        _run(store.engine, f"ALTER TABLE {table.name} SET (autovacuum_enabled = false)")
    for number in range(NETWORKS):
        store.create_taskhub(store.create_network(_network(number), SCOPE))
    # Every second arm has another protocol, as far as the database knows.
    _run(store.engine, "UPDATE transformations SET protocol = 'RareProtocol' WHERE name = 'arm 01'")
    _run(store.engine, _SERVICES)
    _run(store.engine, _TASKS, first=0, last=9)
    if stale:
        _run(store.engine, "ANALYZE")
    _run(store.engine, _TASKS, first=10, last=TASKS - 1)
    if not stale:
        _run(store.engine, "ANALYZE")


def open_seeded(store: StateStore) -> Seeded:
    """Return a store that was filled by :func:`seed`, with its keys."""
    networks = [store.query_networks(name=f"network {number:02}")[0] for number in range(NETWORKS)]
    hubs = [store.get_taskhub(network) for network in networks]
    assert None not in hubs
    transformations = [store.get_network_transformations(network) for network in networks]
    # Statements of the tests themselves are not collected, so they use another engine.
    reader = with_terms(create_engine(store.engine.url))
    return Seeded(store, reader, networks, [hub for hub in hubs if hub], transformations)
