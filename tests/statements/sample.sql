-- A hub with three tasks: one that can be claimed, one that extends it, and a claimed one.
INSERT INTO scopes (id, org, campaign, project, created_at)
OVERRIDING SYSTEM VALUE VALUES (1000, 'org', 'campaign', 'project', now());
INSERT INTO gufe_objects (scope_id, token, kind, document, children, writer, created_at) VALUES
    (1000, '20000000-0000-0000-0000-000000000001', 'Transformation', '', '{}', '', now()),
    (1000, '30000000-0000-0000-0000-000000000001', 'AlchemicalNetwork', '', '{}', '', now());
INSERT INTO transformations (scope_id, token, kind, protocol) VALUES
    (1000, '20000000-0000-0000-0000-000000000001', 'Transformation', 'ToyProtocol');
INSERT INTO networks (scope_id, token, kind, created_at) VALUES
    (1000, '30000000-0000-0000-0000-000000000001', 'AlchemicalNetwork', now());
INSERT INTO network_transformations (scope_id, network, transformation)
SELECT n.scope_id, n.token, t.token FROM networks AS n JOIN transformations AS t USING (scope_id)
WHERE scope_id = 1000;
INSERT INTO taskhubs (scope_id, token, network, weight, created_at)
SELECT scope_id, '40000000-0000-0000-0000-000000000001', token, 0.5, now() FROM networks
WHERE scope_id = 1000;
INSERT INTO tasks (
    scope_id, token, transformation, status, status_changed_at, priority, attempts, created_at
)
SELECT t.scope_id, x.token, t.token, x.status, now(), 10, x.attempts, now()
FROM transformations AS t CROSS JOIN (VALUES
    (uuid '50000000-0000-7000-8000-000000000001', 'waiting', 0),
    ('50000000-0000-7000-8000-000000000002', 'waiting', 0),
    ('50000000-0000-7000-8000-000000000003', 'running', 1)
) AS x (token, status, attempts) WHERE t.scope_id = 1000;
INSERT INTO extends (scope_id, task, parent, transformation) VALUES (
    1000, '50000000-0000-7000-8000-000000000002', '50000000-0000-7000-8000-000000000001',
    '20000000-0000-0000-0000-000000000001'
);
INSERT INTO actions (scope_id, taskhub, task, weight, created_at)
SELECT h.scope_id, h.token, t.token, 0.5, now()
FROM taskhubs AS h JOIN tasks AS t USING (scope_id) WHERE scope_id = 1000;
INSERT INTO queue (scope_id, taskhub, task, priority, protocol, weight, race) VALUES (
    1000, '40000000-0000-0000-0000-000000000001', '50000000-0000-7000-8000-000000000001',
    10, 'ToyProtocol', 0.5, 1
);
INSERT INTO lanes (scope_id, taskhub, protocol, priority, visited_at) VALUES
    (1000, '40000000-0000-0000-0000-000000000001', '', 10, '2026-01-01'),
    (1000, '40000000-0000-0000-0000-000000000001', 'ToyProtocol', 10, '2026-01-01');
INSERT INTO compute_services (identifier, registered_at, heartbeat_at)
VALUES ('service', now(), now());
INSERT INTO attempts (scope_id, task, attempt, service, claimed_at, taskhub, lane, priority, race)
VALUES (
    1000, '50000000-0000-7000-8000-000000000003', 1, 'service', now(),
    '40000000-0000-0000-0000-000000000001', '', 10, 0.5
);
INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
VALUES (1000, '50000000-0000-7000-8000-000000000003', 1, 'service', now());
