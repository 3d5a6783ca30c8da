"""The public calls, each with arguments and the state that it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gufe.tokenization import TOKENIZABLE_REGISTRY
from sqlalchemy import text

from alchemistore import (
    ComputeManagerID,
    ComputeManagerRegistration,
    ComputeManagerStatus,
    ComputeServiceID,
    ComputeServiceRegistration,
    Scope,
    ScopedKey,
    StateStore,
    StrategyState,
    TaskStatusEnum,
)
from alchemistore.models import CredentialedUserIdentity
from alchemistore.operations.key_hashing import hash_key
from tests.support.campaigns import Campaign, campaign, register, star
from tests.support.gufe_classes import Ball, system
from tests.support.restarts import Failure
from tests.support.results import ref

MANY = 1000
SOON = datetime.now(UTC) + timedelta(hours=1)
MANAGER = ComputeManagerID(f"manager-{'1' * 32}")
NEW_MANAGER = ComputeManagerID(f"new_manager-{'2' * 32}")


@dataclass(frozen=True)
class World:
    """A campaign of one task, and one of a thousand transformations and tasks with results.

    In the extended ones, all tasks are of one transformation, and each is extended by another.
    """

    store: StateStore
    scope: Scope
    plain: dict[bool, Campaign]
    extended: dict[bool, Campaign]

    def __getitem__(self, many: bool) -> Campaign:
        return self.plain[many]


def make_world(store: StateStore, size: int = MANY) -> World:
    """Store a campaign of one task, and one of many."""
    one, many, one_extended, many_extended = (
        Scope("org", "campaign", name) for name in ("one", "many", "one_extended", "many_extended")
    )
    plain = {
        False: campaign(store, one, tasks=1, arms=1),
        True: campaign(store, many, tasks=size, arms=size),
    }
    extended = {
        False: campaign(store, one_extended, tasks=1, arms=1),
        True: campaign(store, many_extended, tasks=size, arms=1),
    }
    register(store, "small", "large")
    for made in extended.values():
        store.action_tasks(
            store.create_tasks(made.transformations * len(made.tasks), extends=made.tasks), made.hub
        )
    for made in (*plain.values(), *extended.values()):
        for ok in (True, False):
            store.set_task_result(made.tasks[0], ref(made.tasks[0].scope, ok=ok))
    with store.engine.begin() as connection:
        # What the first task has come to, all others come to.
        connection.execute(
            text("""
                INSERT INTO task_results (scope_id, task, result, created_at)
                SELECT scope_id, t.token, r.result, r.created_at
                FROM task_results AS r JOIN tasks AS t USING (scope_id)
                ON CONFLICT DO NOTHING
            """)
        )
    with store.engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    return World(store, one, plain, extended)


def _claim_all(tx: StateStore, world: World, many: bool) -> Campaign:
    made = world[many]
    tx.claim_taskhub_tasks(made.hub, "large" if many else "small", count=len(made.tasks))
    return made


def _extended(tx: StateStore, world: World, many: bool) -> Campaign:
    return world.extended[many]


def _no_more(tx: StateStore, world: World, many: bool) -> Campaign:
    return world[many]


def _services(tx: StateStore, world: World, many: bool) -> Campaign:
    for number in range(100 if many else 1):
        identifier = ComputeServiceID(f"old {number}")
        long_ago = SOON - timedelta(days=1)
        tx.register_computeservice(
            ComputeServiceRegistration(
                identifier=identifier, registered=long_ago, heartbeat=long_ago
            )
        )
        assert tx.claim_taskhub_tasks(world[many].hub, identifier) != [None]
    return world[many]


def _failed_services(tx: StateStore, world: World, many: bool) -> Campaign:
    tx.register_computemanager(ComputeManagerRegistration.from_now(NEW_MANAGER))
    for name in _failed(many):
        tx.register_computeservice(
            ComputeServiceRegistration.from_now(name, manager_name=NEW_MANAGER.name)
        )
        tx.log_failure_compute_service(name)
    return world[many]


def _failed(many: bool) -> list[str]:
    return [f"failed {number}" for number in range(50 if many else 1)]


def _silent_managers(tx: StateStore, world: World, many: bool) -> Campaign:
    for number in range(50 if many else 1):
        tx.register_computemanager(
            ComputeManagerRegistration.from_now(ComputeManagerID.new_from_name(f"silent{number}"))
        )
    return world[many]


def _quota(tx: StateStore, world: World, many: bool) -> Campaign:
    tx.set_quota("*-*-*", waiting_per_transformation=1, actioned_per_hub=1)
    return world[many]


def _quotas(tx: StateStore, world: World, many: bool) -> Campaign:
    for number in range(50 if many else 1):
        tx.set_quota(f"org{number}-*-*", actioned_per_hub=5)
    return world[many]


def _networks(tx: StateStore, world: World, many: bool) -> Campaign:
    for number in range(50 if many else 0):
        tx.create_taskhub(tx.create_network(star(1, f"net {number}"), world.scope))
    TOKENIZABLE_REGISTRY.clear()
    return world[many]


def _strategies(tx: StateStore, world: World, many: bool) -> Campaign:
    for number in range(50 if many else 1):
        network = tx.create_network(star(1, f"net {number}"), world.scope)
        tx.set_network_strategy(network, Ball(f"strategy {number}"))
    return world[many]


def _hubs_with_a_task_each(tx: StateStore, world: World, many: bool) -> Campaign:
    for number in range(50 if many else 0):
        network = tx.create_network(star(1, f"net {number}"), world.scope)
        tx.action_tasks(
            tx.create_tasks(tx.get_network_transformations(network)), tx.create_taskhub(network)
        )
    return world[many]


def _claim_from_all_hubs(tx: StateStore, count: int) -> None:
    assert None not in tx.claim_tasks([Scope("org", "campaign", "one")], "small", count=count)


def _children(tx: StateStore, world: World, many: bool) -> Campaign:
    made = world[many]
    edge = tx.get_task_transformation(made.tasks[0], return_gufe=False)[0]
    tx.create_tasks([edge] * len(made.tasks), extends=[made.tasks[0]] * len(made.tasks))
    return made


def _identities(tx: StateStore, world: World, many: bool) -> Campaign:
    for number in range(50 if many else 1):
        tx.create_credentialed_entity(
            CredentialedUserIdentity(identifier=f"user {number}", hashed_key="x")
        )
    return world[many]


def _empty_queue(tx: StateStore, world: World, many: bool) -> Campaign:
    assert tx.connection is not None
    tx.connection.execute(
        text("DELETE FROM queue WHERE :many OR task = :task"),
        {"many": many, "task": world[False].tasks[0].token},
    )
    return world[many]


def _new_network(many: bool) -> Any:
    return star(MANY if many else 1, "new", "fail")


def _all(tx: StateStore) -> list[ScopedKey]:
    return list(tx.query_networks(scope=Scope("org", "campaign", "one")))


def _in_error(tx: StateStore, world: World, many: bool) -> Campaign:
    made = world[many]
    tx.set_task_running(made.tasks)
    tx.set_task_error(made.tasks)
    for failure in tx.get_task_failures(made.tasks[0]):
        tx.add_protocol_dag_result_ref_tracebacks([Failure("NaN")], failure)
    return made


def _failed_of_patterns(tx: StateStore, world: World, many: bool) -> Campaign:
    made = world[many]
    names = [f"pattern {number}" for number in range(100 if many else 1)]
    tx.add_task_restart_patterns(made.hub, ["NaN", *names], 2)
    return _in_error(tx, world, many)


def _failed_once(tx: StateStore, world: World, many: bool) -> Campaign:
    made = _failed_of_patterns(tx, world, many)
    tx.resolve_task_restarts(made.tasks)
    return made


def _hubs(tx: StateStore) -> list[ScopedKey]:
    return list(tx.query_taskhubs("org-campaign-one"))


Act = Callable[[StateStore, Campaign, bool], object]
# Gives the campaign that the call is about.
Prepare = Callable[[StateStore, World, bool], Campaign]
# What is called, on what state.
CASES: list[tuple[str, Act, Prepare]] = [
    (
        "create_network",
        lambda tx, c, many: tx.create_network(_new_network(many), Scope("org", "c", "new")),
        _no_more,
    ),
    (
        "create_network",
        lambda tx, c, many: tx.create_network(star(len(c.transformations)), c.network.scope),
        _no_more,
    ),
    (
        "assemble_network",
        lambda tx, c, many: tx.assemble_network(_new_network(many), Scope("org", "c", "new")),
        _no_more,
    ),
    ("get_network_state", lambda tx, c, many: tx.get_network_state(_all(tx)), _networks),
    (
        "set_network_state",
        lambda tx, c, many: tx.set_network_state(_all(tx), "inactive"),
        _networks,
    ),
    ("delete_network", lambda tx, c, many: tx.delete_network(c.network), _no_more),
    ("delete_taskhub", lambda tx, c, many: tx.delete_taskhub(c.network), _extended),
    (
        "get_keyed_chain",
        lambda tx, c, many: tx.get_keyed_chain(c.network),
        _no_more,
    ),
    (
        "get_gufe",
        lambda tx, c, many: (TOKENIZABLE_REGISTRY.clear(), tx.get_gufe(c.network)),
        _no_more,
    ),
    ("query_networks", lambda tx, c, many: tx.query_networks(scope=c.network.scope), _networks),
    ("get_network_details", lambda tx, c, many: tx.get_network_details(_all(tx)), _networks),
    (
        "query_networks",
        lambda tx, c, many: tx.query_networks(name=".*", state="active", patterns=True),
        _networks,
    ),
    (
        "query_networks",
        lambda tx, c, many: tx.query_networks(scope="org-campaign-one", return_gufe=True),
        _networks,
    ),
    (
        "query_taskhubs",
        lambda tx, c, many: tx.query_taskhubs("org-campaign-one", return_gufe=True),
        _networks,
    ),
    (
        "query_transformations",
        lambda tx, c, many: tx.query_transformations(scope=c.network.scope),
        _no_more,
    ),
    (
        "query_chemicalsystems",
        lambda tx, c, many: tx.query_chemicalsystems(scope=c.network.scope),
        _no_more,
    ),
    (
        "get_network_transformations",
        lambda tx, c, many: tx.get_network_transformations(c.network),
        _no_more,
    ),
    (
        "get_network_chemicalsystems",
        lambda tx, c, many: tx.get_network_chemicalsystems(c.network),
        _no_more,
    ),
    (
        "get_strategies_for_execution",
        lambda tx, c, many: tx.get_strategies_for_execution(["org-*-*", "other-*-*"]),
        _strategies,
    ),
    ("set_taskhub_weight", lambda tx, c, many: tx.set_taskhub_weight(_all(tx), 0.25), _networks),
    (
        "set_taskhub_weight",
        lambda tx, c, many: tx.set_taskhub_weight(_all(tx), [0.25] * len(_all(tx))),
        _networks,
    ),
    ("get_taskhubs", lambda tx, c, many: tx.get_taskhubs(_all(tx), return_gufe=True), _networks),
    (
        "get_transformation_actioned_tasks",
        lambda tx, c, many: tx.get_transformation_actioned_tasks(c.transformations[0], c.hub),
        _extended,
    ),
    ("get_taskhub_weight", lambda tx, c, many: tx.get_taskhub_weight(_all(tx)), _networks),
    ("get_network_status", lambda tx, c, many: tx.get_network_status(_all(tx)), _networks),
    (
        "get_taskhub_actioned_tasks",
        lambda tx, c, many: tx.get_taskhub_actioned_tasks(c.hub),
        _no_more,
    ),
    (
        "get_taskhub_actioned_tasks",
        lambda tx, c, many: tx.get_taskhub_actioned_tasks([c.hub] * len(c.tasks)),
        _no_more,
    ),
    (
        "get_taskhub_tasks",
        lambda tx, c, many: tx.get_taskhub_tasks(c.hub, return_gufe=True),
        _claim_all,
    ),
    (
        "get_taskhub_unclaimed_tasks",
        lambda tx, c, many: tx.get_taskhub_unclaimed_tasks(c.hub, return_gufe=True),
        _no_more,
    ),
    ("action_tasks", lambda tx, c, many: tx.action_tasks(c.tasks, c.hub), _no_more),
    ("action_tasks", lambda tx, c, many: tx.action_tasks(c.tasks, c.hub), _quota),
    ("cancel_tasks", lambda tx, c, many: tx.cancel_tasks(c.tasks, c.hub), _no_more),
    (
        "set_task_weights",
        lambda tx, c, many: tx.set_task_weights(dict.fromkeys(c.tasks, 0.25), c.hub),
        _no_more,
    ),
    ("set_task_weights", lambda tx, c, many: tx.set_task_weights(c.tasks, c.hub, 0.0), _no_more),
    ("get_task_weights", lambda tx, c, many: tx.get_task_weights(c.tasks, c.hub), _no_more),
    (
        "create_tasks",
        lambda tx, c, many: tx.create_tasks(c.transformations, creator="me"),
        _no_more,
    ),
    (
        "create_tasks",
        lambda tx, c, many: tx.create_tasks(
            [c.transformations[0]] * len(c.tasks), extends=[c.tasks[0]] * len(c.tasks)
        ),
        _no_more,
    ),
    (
        "create_tasks",
        lambda tx, c, many: tx.create_tasks(c.transformations, refusals={}),
        _quota,
    ),
    ("query_quotas", lambda tx, c, many: tx.query_quotas("*-*-*"), _quotas),
    (
        "set_tasks",
        lambda tx, c, many: tx.set_tasks(c.transformations[0], count=len(c.tasks) + 1),
        _no_more,
    ),
    ("delete_task", lambda tx, c, many: tx.delete_task(c.tasks[0], force=True), _children),
    ("repair_queue", lambda tx, c, many: tx.repair_queue(), _empty_queue),
    (
        "list_credentialed_entities",
        lambda tx, c, many: tx.list_credentialed_entities(CredentialedUserIdentity),
        _identities,
    ),
    ("query_tasks", lambda tx, c, many: tx.query_tasks(scope=c.network.scope), _no_more),
    ("get_network_tasks", lambda tx, c, many: tx.get_network_tasks(c.network), _extended),
    (
        "get_transformation_tasks",
        lambda tx, c, many: tx.get_transformation_tasks(c.transformations[0], return_as="graph"),
        _extended,
    ),
    ("set_task_priority", lambda tx, c, many: tx.set_task_priority(c.tasks, 3), _extended),
    ("get_task_priority", lambda tx, c, many: tx.get_task_priority(c.tasks), _no_more),
    (
        "claim_taskhub_tasks",
        lambda tx, c, many: tx.claim_taskhub_tasks(c.hub, "small", count=len(c.tasks)),
        _no_more,
    ),
    (
        "claim_tasks",
        lambda tx, c, many: tx.claim_tasks([c.network.scope], "small", count=len(c.tasks)),
        _no_more,
    ),
    (
        "claim_tasks",
        lambda tx, c, many: _claim_from_all_hubs(tx, 51 if many else 1),
        _hubs_with_a_task_each,
    ),
    ("get_task_blockers", lambda tx, c, many: tx.get_task_blockers(c.tasks), _extended),
    (
        "deregister_computeservice",
        lambda tx, c, many: tx.deregister_computeservice("large" if many else "small"),
        _claim_all,
    ),
    (
        "expire_registrations",
        lambda tx, c, many: tx.expire_registrations(SOON - timedelta(hours=2)),
        _services,
    ),
    ("query_computeservices", lambda tx, c, many: tx.query_computeservices(), _services),
    ("query_computemanagers", lambda tx, c, many: tx.query_computemanagers(), _silent_managers),
    (
        "compute_services_can_claim",
        lambda tx, c, many: tx.compute_services_can_claim(_failed(many), SOON, 0),
        _failed_services,
    ),
    (
        "get_computemanager_instruction",
        lambda tx, c, many: tx.get_computemanager_instruction(
            NEW_MANAGER, SOON, 0, [c.network.scope], ["PushProtocol"]
        ),
        _failed_services,
    ),
    (
        "expire_computemanager_registrations",
        lambda tx, c, many: tx.expire_computemanager_registrations(SOON, SOON),
        _silent_managers,
    ),
    (
        "get_service_tasks",
        lambda tx, c, many: tx.get_service_tasks("large" if many else "small"),
        _claim_all,
    ),
    ("get_activity", lambda tx, c, many: tx.get_activity(c.network.scope), _claim_all),
    ("get_task_history", lambda tx, c, many: tx.get_task_history(c.tasks), _claim_all),
    ("get_task_details", lambda tx, c, many: tx.get_task_details(c.tasks), _claim_all),
    ("get_task_status", lambda tx, c, many: tx.get_task_status(c.tasks), _no_more),
    ("get_scope_status", lambda tx, c, many: tx.get_scope_status(c.network.scope), _no_more),
    ("get_scope_status", lambda tx, c, many: tx.get_scope_status(c.network.scope, None), _no_more),
    (
        "get_transformation_status",
        lambda tx, c, many: tx.get_transformation_status(c.transformations[0]),
        _no_more,
    ),
    (
        "get_transformation_results",
        lambda tx, c, many: tx.get_transformation_results(c.transformations[0]),
        _no_more,
    ),
    (
        "get_transformation_failures",
        lambda tx, c, many: tx.get_transformation_failures(c.transformations[0]),
        _no_more,
    ),
    (
        "add_task_restart_patterns",
        lambda tx, c, many: tx.add_task_restart_patterns(
            c.hub, ["NaN", *(f"another {number}" for number in range(len(c.tasks)))], 3
        ),
        _in_error,
    ),
    (
        "remove_task_restart_patterns",
        lambda tx, c, many: tx.remove_task_restart_patterns(c.hub, ["NaN", "pattern 0"]),
        _failed_once,
    ),
    (
        "clear_task_restart_patterns",
        lambda tx, c, many: tx.clear_task_restart_patterns(c.hub),
        _failed_once,
    ),
    (
        "set_task_restart_patterns_max_retries",
        lambda tx, c, many: tx.set_task_restart_patterns_max_retries(
            c.hub, ["NaN", *(f"pattern {number}" for number in range(len(c.tasks)))], 3
        ),
        _failed_once,
    ),
    (
        "get_task_restart_patterns",
        lambda tx, c, many: tx.get_task_restart_patterns(_hubs(tx)),
        _networks,
    ),
    (
        "resolve_task_restarts",
        lambda tx, c, many: tx.resolve_task_restarts(c.tasks),
        _failed_of_patterns,
    ),
    ("set_task_waiting", lambda tx, c, many: tx.set_task_waiting(c.tasks), _claim_all),
    ("set_task_running", lambda tx, c, many: tx.set_task_running(c.tasks), _no_more),
    (
        "set_task_complete",
        lambda tx, c, many: tx.set_task_complete(c.tasks, raise_error=True),
        _claim_all,
    ),
    ("set_task_error", lambda tx, c, many: tx.set_task_error(c.tasks), _claim_all),
    ("set_task_invalid", lambda tx, c, many: tx.set_task_invalid(c.tasks), _extended),
    ("set_task_deleted", lambda tx, c, many: tx.set_task_deleted(c.tasks), _extended),
    (
        "set_task_status",
        lambda tx, c, many: tx.set_task_status(c.tasks, TaskStatusEnum.invalid, True),
        _extended,
    ),
]
# Calls about one object, whose answer is one object or a few.
ABOUT_ONE = {
    "get_quota",
    "set_quota",
    "clear_errored_computemanager",
    "compute_service_can_claim",
    "deregister_computemanager",
    "get_compute_manager_id",
    "get_compute_manager_status",
    "log_failure_compute_service",
    "register_computemanager",
    "update_compute_manager_status",
    "add_protocol_dag_result_ref_tracebacks",
    "add_scope",
    "create_credentialed_entity",
    "get_credentialed_entity",
    "get_document",
    "get_network_strategy",
    "get_network_strategy_state",
    "get_strategy",
    "set_network_strategy",
    "update_strategy_state",
    "list_scopes",
    "remove_credentialed_identity",
    "remove_scope",
    "set_disabled",
    "set_strategy",
    "check_existence",
    "create_task",
    "create_taskhub",
    "get_chemicalsystem_networks",
    "get_chemicalsystem_transformations",
    "get_scoped_key",
    "get_task_actioned_networks",
    "get_task_failures",
    "get_task_networks",
    "get_task_results",
    "get_task_logs",
    "get_task_tracebacks",
    "set_attempt_log",
    "get_task_transformation",
    "get_taskhub",
    "get_transformation_chemicalsystems",
    "get_transformation_networks",
    "heartbeat_computeservice",
    "register_computeservice",
    "set_task_result",
    "settle_task",
    "deliver_result",
    "get_lost_claims",
    "acquire_lease",
    "release_lease",
    "maintain_queue",
    "repair_restarts",
}
CALLS = sorted(name for name in dir(StateStore) if hasattr(getattr(StateStore, name), "operation"))
USER, KEY = "somebody", "a key"


def make_user(store: StateStore) -> None:
    """Store an identity with a scope, and a manager whose status is ERROR."""
    store.create_credentialed_entity(
        CredentialedUserIdentity(identifier=USER, hashed_key=hash_key(KEY))
    )
    store.add_scope(USER, CredentialedUserIdentity, "org-*-*")
    store.register_computemanager(ComputeManagerRegistration.from_now(MANAGER))
    store.update_compute_manager_status(MANAGER, ComputeManagerStatus.ERROR, "it broke")


def try_tasks(store: StateStore, world: World) -> None:
    """Claim the tasks that calls about one object are about, so that they have an attempt."""
    made = world[False]
    store.set_task_waiting(made.tasks)
    store.action_tasks(made.tasks, made.hub)
    store.claim_taskhub_tasks(made.hub, "small", count=len(made.tasks))


def arguments(world: World, name: str) -> dict[str, Any]:
    """Return valid arguments of a call, in a world with a user."""
    made = world[False]
    edge = made.transformations[0]
    middle = system("middle")
    by_name: dict[str, Any] = {
        "after": made.tasks[0],
        "attempt": 1,
        "before": timedelta(minutes=1),
        "chemicalsystem": ScopedKey.from_str(f"{middle.key}-{world.scope}"),
        "cls": CredentialedUserIdentity,
        "compute_manager_id": MANAGER,
        "compute_manager_registration": ComputeManagerRegistration.from_now(NEW_MANAGER),
        "compute_service_id": "small",
        "compute_service_ids": ["small", "large"],
        "compute_service_registration": ComputeServiceRegistration.from_now("new", hostname="h"),
        "count": 1,
        "creator": "me",
        "detail": None,
        "disabled": True,
        "entity": CredentialedUserIdentity(identifier="another", hashed_key="x"),
        "environment": {"gufe": "1.1"},
        "exclude_scopes": ["other-*-*"],
        "expire_time": SOON - timedelta(days=1),
        "expire_time_error": SOON - timedelta(days=1),
        "expire_time_ok": SOON - timedelta(days=1),
        "extends": None,
        "failure_time": SOON,
        "force": False,
        "forgive_time": SOON - timedelta(days=1),
        "duration": timedelta(hours=1),
        "heartbeat": SOON,
        "holder": "a process",
        "identifier": USER,
        "key": KEY if name == "authenticate" else None,
        "limit": 5,
        "log": "output",
        "max_failures": 3,
        "name": None,
        "network": made.network,
        "only_from": ["waiting", "running"],
        "network_state": "active",
        # Second names of parameters.
        "networks": None,
        "taskhubs": None,
        "weights": None,
        "network_scoped_keys": [made.network],
        "max_retries": 2,
        "number_of_retries": 2,
        "obj": middle,
        # Those of a hub; query_networks takes a flag of this name.
        "patterns": False if name == "query_networks" else ["NaN"],
        "partly": True,
        "priority": 2,
        "protocol_dag_result_ref_scoped_key": world.store.get_task_failures(made.tasks[0])[0],
        "protocol_unit_failures": [Failure("NaN")],
        "protocoldagresultref": ref(world.scope),
        "protocols": ["PushProtocol"],
        "raise_error": False,
        "refusals": {},
        "rekey": False,
        "verify": False,
        "written_by": None,
        "return_as": "list",
        "saturation": 0.5,
        "size": 5,
        "since": timedelta(minutes=1),
        "return_gufe": False,
        "scope": world.scope,
        "scoped_key": made.network,
        "scopes": [world.scope],
        "state": "active",
        "states": ["active"],
        "status": TaskStatusEnum.waiting,
        "steal": False,
        "strategy": None,
        "strategy_state": StrategyState(),
        "min_sleep_interval": 0,
        "lease": 60.0,
        "task": made.tasks[0],
        "task_scoped_keys": made.tasks,
        "taskhub": made.hub,
        "taskhub_scoped_key": made.hub,
        "tasks": made.tasks,
        "tracebacks": ["Traceback"],
        "transformation": edge,
        "transformations": [edge],
        "update_time": SOON,
        "weight": 0.5,
        "reason": "a reason",
        "actor": "me",
        "actioned_per_hub": 1000,
        "waiting_per_transformation": 1000,
    }
    if name in ("query_computeservices", "query_computemanagers"):
        by_name |= {"after": "a name", "manager_name": "manager"}
    if name in ("create_network", "assemble_network"):
        by_name["network"] = star(1, "another")
    if name == "create_tasks":
        by_name["extends"] = [None]
    if name in ("acquire_lease", "release_lease"):
        by_name["name"] = "a task"
    if name == "get_compute_manager_id":
        by_name["name"] = MANAGER.name
    if name == "update_compute_manager_status":
        by_name["status"] = ComputeManagerStatus.OK
    if name == "get_task_restart_patterns":
        by_name["taskhubs"] = [made.hub]
    taken = inspect.signature(getattr(StateStore, name)).parameters
    if name in ("set_network_state", "get_network_state", "get_network_details"):
        by_name["networks"] = [made.network]
    return {one: by_name[one] for one in taken if one not in ("self", "request")}
