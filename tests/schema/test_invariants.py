"""Every invariant is broken once; the check names the rule and the object."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, text

from alchemistore import ComputeManagerRegistration, NetworkMark, Scope, ScopedKey, StateStore
from alchemistore.errors import CheckError
from alchemistore.maintenance.findings import Finding, FindingKind
from alchemistore.maintenance.invariants import MAX_EXAMPLES, RULES, violations
from tests.support.campaigns import Campaign, campaign, chain, register, star

MANAGER = f"east-{'1' * 32}"


@dataclass(frozen=True)
class Seeded:
    """A store in which there is something of everything."""

    store: StateStore
    made: Campaign
    waiting: ScopedKey
    held: ScopedKey
    parent: ScopedKey
    child: ScopedKey
    other_network: ScopedKey
    mark: ScopedKey

    @property
    def keys(self) -> dict[str, object]:
        """The tokens, to be bound in statements."""
        tasks = {
            "waiting": self.waiting,
            "held": self.held,
            "parent": self.parent,
            "child": self.child,
        }
        more = {
            "hub": self.made.hub,
            "network": self.made.network,
            "mark": self.mark,
            "transformation": self.made.transformations[0],
        }
        return {
            name: key.token
            for name, key in {**tasks, **more, "other_network": self.other_network}.items()
        }


@pytest.fixture(scope="module")
def seeded(shared_store: StateStore) -> Seeded:
    store, scope = shared_store, Scope("org", "campaign", "project")
    made = campaign(store, scope, tasks=1)
    register(store, "a", "b")
    store.register_computemanager(ComputeManagerRegistration.from_now(MANAGER))
    held = store.claim_taskhub_tasks(made.hub, "a")[0]
    assert held is not None
    waiting = store.create_task(made.transformations[0])
    parent, child = chain(store, made.transformations[0], 2)
    store.action_tasks([waiting, parent, child], made.hub)
    store.add_task_restart_patterns(made.hub, ["ü\0"], 1)
    other = store.create_network(star(1, "other", "fail"), scope)
    mark = ScopedKey.from_str(f"{NetworkMark(target=str(other)).key}-{scope}")
    assert list(store.problems()) == []
    return Seeded(store, made, waiting, held, parent, child, other, mark)


CLAIMED = "a claimed task is running"
CLAIM_GOES_ON = "a claim belongs to an open attempt of the same service"
ATTEMPT_HAS_CLAIM = "an open attempt has a claim"
COUNTS = "the attempt counter of a task is the number of its attempts"
OVER_ON_NO_HUB = "a complete, invalid or deleted task is on no hub"
OF_THE_NETWORK = "an actioned task belongs to a transformation of the network of the hub"
EXTENDS_DEAD = "a task that extends an invalid or deleted task is invalid or deleted"
NO_CIRCLE = "no task extends itself, directly or indirectly"
ALL_PARTS = "all children of a gufe object are stored"
MARK = "the token of a mark is the digest of the key of its network"
TWO_SYSTEMS = "a transformation has the two systems A and B, or the one of a NonTransformation"
OF_ITS_KIND = "the document of a network, transformation or chemical system is of its kind"
EDGES = "the transformations of a network are those of its document"
ENDS = "a network contains the end states of its transformations"
STRATEGY = "a strategy is no network, transformation or chemical system"
TOKEN_OF_PATTERN = "the token of a restart pattern is the MD5 of its text"
COUNTED = "the retries of an action are those of restart patterns of its hub"
DECIDED = "restart patterns have decided about each failed task on their hub"
HEARTBEAT = "the last heartbeat of a compute service is not in the future"
UPDATED = "the last status update of a compute manager is not in the future"
IN_QUEUE = "a claimable task is in the queue"
CLAIMABLE = "a task in the queue is claimable"
IN_LANE = "a task in the queue is in open lanes and not below their floors"

# The statement that breaks, the object concerned, the rule; then what else such a state breaks.
BREACHES = [
    ("UPDATE tasks SET status = 'error' WHERE token = :held", "held", CLAIMED),
    ("UPDATE tasks SET status = 'complete' WHERE token = :held", "held", CLAIMED, OVER_ON_NO_HUB),
    ("UPDATE tasks SET status = 'waiting' WHERE token = :held", "held", CLAIMED, IN_QUEUE),
    ("UPDATE claims SET service = 'b'", "held", CLAIM_GOES_ON),
    ("DELETE FROM attempts", "held", CLAIM_GOES_ON, COUNTS),
    ("UPDATE attempts SET outcome = 'released', ended_at = now()", "held", CLAIM_GOES_ON),
    ("DELETE FROM claims", "held", ATTEMPT_HAS_CLAIM),
    ("UPDATE gufe_objects SET kind = 'Ball' WHERE token = :network", "network", OF_ITS_KIND),
    (
        "UPDATE gufe_objects SET kind = 'Ball' WHERE token = :transformation",
        "transformation",
        OF_ITS_KIND,
    ),
    ("UPDATE tasks SET attempts = 2 WHERE token = :held", "held", COUNTS),
    ("UPDATE tasks SET attempts = 1 WHERE token = :waiting", "waiting", COUNTS),
    ("UPDATE attempts SET attempt = 2; UPDATE claims SET attempt = 2", "held", COUNTS),
    ("UPDATE tasks SET status = 'complete' WHERE token = :child", "child", OVER_ON_NO_HUB),
    (
        "UPDATE tasks SET status = 'invalid' WHERE token = :waiting",
        "waiting",
        OVER_ON_NO_HUB,
        CLAIMABLE,
    ),
    (
        "UPDATE tasks SET status = 'deleted' WHERE token = :waiting",
        "waiting",
        OVER_ON_NO_HUB,
        CLAIMABLE,
    ),
    ("UPDATE taskhubs SET network = :other_network WHERE token = :hub", "waiting", OF_THE_NETWORK),
    (
        "DELETE FROM actions WHERE task = :parent; DELETE FROM queue WHERE task = :parent;"
        " UPDATE tasks SET status = 'deleted' WHERE token = :parent",
        "child",
        EXTENDS_DEAD,
    ),
    (
        "INSERT INTO extends (scope_id, task, parent, transformation)"
        " SELECT scope_id, parent, task, transformation FROM extends",
        "parent",
        NO_CIRCLE,
        CLAIMABLE,
    ),
    ("UPDATE extends SET parent = task", "child", NO_CIRCLE),
    ("UPDATE restart_patterns SET pattern = 'another'", "hub", TOKEN_OF_PATTERN),
    (
        "UPDATE actions SET patterns = ARRAY[gen_random_uuid()], retries = '{1}'"
        " WHERE task = :waiting",
        "waiting",
        COUNTED,
    ),
    (
        "DELETE FROM gufe_objects WHERE token ="
        " (SELECT unnest(children) FROM gufe_objects WHERE token = :transformation LIMIT 1)",
        "transformation",
        ALL_PARTS,
    ),
    (
        "UPDATE gufe_objects SET children = children || gen_random_uuid() WHERE token = :network",
        "network",
        ALL_PARTS,
    ),
    (
        "UPDATE networks SET kind = 'Web' WHERE token = :other_network;"
        " UPDATE gufe_objects SET kind = 'Web' WHERE token = :other_network",
        "mark",
        MARK,
    ),
    (
        "DELETE FROM transformation_chemical_systems"
        " WHERE transformation = :transformation AND role = 'A'",
        "transformation",
        TWO_SYSTEMS,
    ),
    (
        "DELETE FROM transformation_chemical_systems WHERE transformation = :transformation",
        "transformation",
        TWO_SYSTEMS,
    ),
    (
        "UPDATE transformation_chemical_systems SET role = 'system'"
        " WHERE transformation = :transformation AND role = 'B'",
        "transformation",
        TWO_SYSTEMS,
    ),
    ("DELETE FROM network_transformations WHERE network = :other_network", "other_network", EDGES),
    (
        "UPDATE gufe_objects SET children = '{}' WHERE token = :other_network",
        "other_network",
        EDGES,
    ),
    (
        "INSERT INTO network_transformations SELECT scope_id, :other_network, transformation"
        " FROM network_transformations WHERE transformation = :transformation",
        "other_network",
        EDGES,
        ENDS,
    ),
    (
        "DELETE FROM network_chemical_systems WHERE network = :other_network",
        "other_network",
        ENDS,
    ),
    (
        "UPDATE networks SET strategy = :transformation WHERE token = :network",
        "network",
        STRATEGY,
    ),
    ("UPDATE networks SET strategy = token WHERE token = :network", "network", STRATEGY),
    (
        "UPDATE networks SET strategy = (SELECT token FROM chemical_systems LIMIT 1)"
        " WHERE token = :network",
        "network",
        STRATEGY,
    ),
    (
        "UPDATE compute_services SET heartbeat_at = now() + interval '1 day'"
        " WHERE identifier = 'a'",
        "service",
        HEARTBEAT,
    ),
    (
        "UPDATE compute_managers SET status_updated_at = now() + interval '1 day'",
        "manager",
        UPDATED,
    ),
    ("DELETE FROM queue WHERE task = :waiting", "waiting", IN_QUEUE),
    ("UPDATE queue SET priority = 11 WHERE task = :waiting", "waiting", IN_QUEUE, IN_LANE),
    ("UPDATE queue SET weight = 0.25 WHERE task = :waiting", "waiting", IN_QUEUE),
    ("UPDATE queue SET protocol = 'Other' WHERE task = :waiting", "waiting", IN_QUEUE, IN_LANE),
    (
        "UPDATE tasks SET status = 'running' WHERE token = :parent;"
        " DELETE FROM queue WHERE task = :parent",
        None,
        None,
    ),
    ("UPDATE actions SET weight = 0 WHERE task = :waiting", "waiting", CLAIMABLE),
    ("DELETE FROM actions WHERE task = :waiting", "waiting", CLAIMABLE),
    ("UPDATE tasks SET status = 'error' WHERE token = :waiting", "waiting", CLAIMABLE),
    (
        "INSERT INTO queue SELECT scope_id, taskhub, priority, protocol, race, :child, weight"
        " FROM queue WHERE task = :parent",
        "child",
        CLAIMABLE,
    ),
    (
        "UPDATE queue SET task = '00000000-0000-7000-8000-000000000000' WHERE task = :waiting",
        "waiting",
        IN_QUEUE,
        CLAIMABLE,
    ),
    (
        "DELETE FROM claims; UPDATE actions SET created_at = now() - interval '2 hours';"
        " UPDATE attempts SET outcome = 'error', ended_at = now(), result = task;"
        " UPDATE tasks SET status = 'error', status_changed_at = now() - interval '1 hour'"
        " WHERE token = :held",
        "held",
        DECIDED,
    ),
    ("DELETE FROM lanes WHERE protocol = ''", "waiting", IN_LANE),
    ("DELETE FROM lanes WHERE protocol <> ''", "waiting", IN_LANE),
    ("UPDATE lanes SET floor = 1e12 WHERE protocol = ''", "waiting", IN_LANE),
    ("UPDATE lanes SET floor = 1e12 WHERE protocol <> ''", "waiting", IN_LANE),
]


def breach(tx: Connection, statements: str, keys: dict[str, object]) -> None:
    """Run statements as if no constraint were there."""
    tx.execute(text("SET LOCAL session_replication_role = replica"))
    tx.execute(text("ALTER TABLE extends DROP CONSTRAINT extends__parent__ck"))
    for statement in statements.split(";"):
        assert (
            tx.execute(
                text(statement), {name: keys[name] for name in keys if f":{name}" in statement}
            ).rowcount
            > 0
        )


@pytest.mark.parametrize("case", BREACHES, ids=[str(case[0])[:60] for case in BREACHES])
def test_broken_rule_is_reported_with_its_object(
    seeded: Seeded, case: tuple[str, str | None, *tuple[str, ...]]
) -> None:
    statements, concerned, *rules = case
    with seeded.store.engine.connect() as connection:
        assert violations(connection) == []
        breach(connection, statements, seeded.keys)
        found = violations(connection)
        connection.rollback()
    if concerned is None:
        assert found == []
        return
    objects = {
        **vars(seeded),
        "transformation": seeded.made.transformations[0],
        "network": seeded.made.network,
        "hub": seeded.made.hub,
        "service": "a",
        "manager": MANAGER,
    }
    key = str(objects[concerned])
    sentence = f"broken rule: {rules[0]}: {key}"
    assert Finding(FindingKind.invariant, sentence, key=key) in found
    assert {finding.text.split(": ")[1] for finding in found} == set(rules)


def test_every_rule_has_a_case_that_breaks_it() -> None:
    assert set(RULES) == {case[2] for case in BREACHES if case[2] is not None}


def test_check_raises_with_every_broken_rule(database: str, scope: Scope) -> None:
    with closing(StateStore(database)) as store:
        made = campaign(store, scope, tasks=2)
        with store.engine.begin() as connection:
            connection.execute(
                text("DELETE FROM queue WHERE task = :task"), {"task": made.tasks[0].token}
            )
            connection.execute(
                text("UPDATE tasks SET status = 'complete' WHERE token = :task"),
                {"task": made.tasks[1].token},
            )
        with pytest.raises(CheckError) as raised:
            store.check()
    assert raised.value.problems == (
        f"broken rule: {OVER_ON_NO_HUB}: {made.tasks[1]}",
        f"broken rule: {IN_QUEUE}: {made.tasks[0]}",
        f"broken rule: {CLAIMABLE}: {made.tasks[1]}",
    )


def test_many_objects_breaking_a_rule_are_named_up_to_a_limit_and_counted(
    database: str, scope: Scope
) -> None:
    with closing(StateStore(database)) as store:
        campaign(store, scope, tasks=MAX_EXAMPLES + 5)
        with store.engine.begin() as connection:
            connection.execute(text("DELETE FROM queue"))
        problems = list(store.problems())
    assert len(problems) == MAX_EXAMPLES + 1
    assert problems[-1] == f"broken rule: {IN_QUEUE}: 5 more"


def test_object_of_a_removed_scope_is_reported_without_scope(seeded: Seeded) -> None:
    with seeded.store.engine.connect() as connection:
        breach(
            connection, "DELETE FROM scopes; DELETE FROM queue WHERE task = :waiting", seeded.keys
        )
        found = violations(connection)
        connection.rollback()
    assert f"broken rule: {IN_QUEUE}: {seeded.waiting.gufe_key}" in [one.text for one in found]


def test_task_set_running_by_hand_breaks_no_rule(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    store.set_task_running(made.tasks)
    assert list(store.problems()) == []
