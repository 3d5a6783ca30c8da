"""Roles: the owner migrates, services change rows, monitors read; each may do nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import bcrypt
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from alchemistore import (
    ComputeManagerID,
    ComputeManagerRegistration,
    Scope,
    ScopedKey,
    StateStore,
    StrategyState,
)
from alchemistore.errors import SchemaError, StateStoreError
from alchemistore.maintenance import grants
from alchemistore.maintenance.doctor import examine
from alchemistore.maintenance.grants import Purpose
from alchemistore.models import CredentialedUserIdentity
from alchemistore.monitoring.collection import Collection
from alchemistore.monitoring.readings import database_parts
from tests.cli.conftest import Run
from tests.conftest import NewDatabase
from tests.support.campaigns import ZERO, Campaign, campaign, register, star
from tests.support.databases import libpq
from tests.support.gufe_classes import Ball
from tests.support.restarts import Failure
from tests.support.results import ref
from tests.support.roles import as_role, database_name, execute, new_role

SCOPE = Scope("org", "campaign", "project")
USER = CredentialedUserIdentity
KEY = "a key"
HASH = bcrypt.hashpw(KEY.encode(), bcrypt.gensalt(rounds=4)).decode()


@dataclass(frozen=True)
class Roles:
    """The URLs of a database that one role owns and two others use."""

    superuser: str
    owner: str
    service: str
    monitor: str
    service_name: str
    monitor_name: str

    @contextmanager
    def store(self, role: str) -> Iterator[StateStore]:
        with closing(StateStore(getattr(self, role))) as store:
            yield store


@pytest.fixture(scope="module")
def roles(new_database: NewDatabase) -> Iterator[Roles]:
    with ExitStack() as stack:
        url = stack.enter_context(new_database())
        owner, service, monitor = (stack.enter_context(new_role(url)) for _ in range(3))
        # Nobody else may do anything in this database.
        execute(
            url,
            f"REVOKE ALL ON DATABASE {database_name(url)} FROM PUBLIC",
            f"GRANT CONNECT, CREATE ON DATABASE {database_name(url)} TO {owner}",
            f"GRANT CONNECT ON DATABASE {database_name(url)} TO {service}, {monitor}",
        )
        made = Roles(
            superuser=url,
            owner=as_role(url, owner),
            service=as_role(url, service),
            monitor=as_role(url, monitor),
            service_name=service,
            monitor_name=monitor,
        )
        with made.store("owner") as store:
            store.initialize()
            grants.grant(store.engine, service, Purpose.service)
            grants.grant(store.engine, monitor, Purpose.monitor)
        yield made


@pytest.fixture(scope="module")
def made(roles: Roles) -> Campaign:
    """A campaign with something of everything, made by the service."""
    with roles.store("service") as store:
        made = campaign(store, SCOPE, tasks=3)
        store.set_strategy(Ball("strategy"), made.network)
        register(store, "a service")
        store.create_credentialed_entity(
            USER(identifier="user", hashed_key=HASH, scopes=[str(SCOPE)])
        )
        store.set_task_result(made.tasks[0], ref(SCOPE))
    return made


MANAGER = ComputeManagerID(f"manager-{'1' * 32}")
Call = Callable[[StateStore, Campaign], object]


def _system(store: StateStore, made: Campaign) -> ScopedKey:
    return store.get_network_chemicalsystems(made.network)[0]


READS: dict[str, Call] = {
    "get_document": lambda s, m: s.get_document(m.network),
    "get_gufe": lambda s, m: s.get_gufe(m.network),
    "get_keyed_chain": lambda s, m: s.get_keyed_chain(m.network),
    "get_scoped_key": lambda s, m: s.get_scoped_key(s.get_gufe(m.network), SCOPE),
    "check_existence": lambda s, m: s.check_existence(m.network),
    "get_network_state": lambda s, m: s.get_network_state(m.network),
    "query_networks": lambda s, m: s.query_networks(name="star"),
    "query_transformations": lambda s, m: s.query_transformations(scope=SCOPE),
    "query_chemicalsystems": lambda s, m: s.query_chemicalsystems(scope=SCOPE),
    "get_network_strategy": lambda s, m: s.get_network_strategy(m.network),
    "get_network_strategy_state": lambda s, m: s.get_network_strategy_state(m.network),
    "get_strategy": lambda s, m: s.get_strategy(m.network),
    "get_network_transformations": lambda s, m: s.get_network_transformations(m.network),
    "get_transformation_networks": lambda s, m: s.get_transformation_networks(m.transformations[0]),
    "get_network_chemicalsystems": _system,
    "get_chemicalsystem_networks": lambda s, m: s.get_chemicalsystem_networks(_system(s, m)),
    "get_transformation_chemicalsystems": lambda s, m: s.get_transformation_chemicalsystems(
        m.transformations[0]
    ),
    "get_chemicalsystem_transformations": lambda s, m: s.get_chemicalsystem_transformations(
        _system(s, m)
    ),
    "get_taskhub": lambda s, m: s.get_taskhub(m.network),
    "get_taskhubs": lambda s, m: s.get_taskhubs([m.network]),
    "get_transformation_actioned_tasks": lambda s, m: s.get_transformation_actioned_tasks(
        m.transformations[0], m.hub
    ),
    "query_quotas": lambda s, m: s.query_quotas(),
    "get_quota": lambda s, m: s.get_quota(SCOPE),
    "get_compute_manager_id": lambda s, m: s.get_compute_manager_id("manager"),
    "get_compute_manager_status": lambda s, m: s.get_compute_manager_status(MANAGER),
    "query_taskhubs": lambda s, m: s.query_taskhubs(SCOPE),
    "get_taskhub_weight": lambda s, m: s.get_taskhub_weight(m.network),
    "get_taskhub_tasks": lambda s, m: s.get_taskhub_tasks(m.hub),
    "get_taskhub_unclaimed_tasks": lambda s, m: s.get_taskhub_unclaimed_tasks(m.hub),
    "get_task_weights": lambda s, m: s.get_task_weights(m.tasks, m.hub),
    "get_taskhub_actioned_tasks": lambda s, m: s.get_taskhub_actioned_tasks([m.hub]),
    "get_task_actioned_networks": lambda s, m: s.get_task_actioned_networks(m.tasks[0]),
    "query_tasks": lambda s, m: s.query_tasks(scope=SCOPE),
    "get_network_tasks": lambda s, m: s.get_network_tasks(m.network),
    "get_task_networks": lambda s, m: s.get_task_networks(m.tasks[0]),
    "get_transformation_tasks": lambda s, m: s.get_transformation_tasks(m.transformations[0]),
    "get_task_transformation": lambda s, m: s.get_task_transformation(m.tasks[0]),
    "get_task_priority": lambda s, m: s.get_task_priority(m.tasks),
    "get_task_status": lambda s, m: s.get_task_status(m.tasks),
    "get_scope_status": lambda s, m: s.get_scope_status(SCOPE),
    "get_network_status": lambda s, m: s.get_network_status(m.network),
    "get_transformation_status": lambda s, m: s.get_transformation_status(m.transformations[0]),
    "get_task_history": lambda s, m: s.get_task_history(m.tasks),
    "get_task_details": lambda s, m: s.get_task_details(m.tasks),
    "get_service_tasks": lambda s, m: s.get_service_tasks("a service"),
    "get_task_blockers": lambda s, m: s.get_task_blockers(m.tasks),
    "get_task_restart_patterns": lambda s, m: s.get_task_restart_patterns([m.hub]),
    "get_lost_claims": lambda s, m: s.get_lost_claims(),
    "get_activity": lambda s, m: s.get_activity(),
    "get_network_details": lambda s, m: s.get_network_details([m.network]),
    "query_computeservices": lambda s, m: s.query_computeservices(),
    "query_computemanagers": lambda s, m: s.query_computemanagers(),
    "get_task_logs": lambda s, m: s.get_task_logs(m.tasks[0]),
    "get_task_tracebacks": lambda s, m: s.get_task_tracebacks(m.tasks[0]),
    "get_task_results": lambda s, m: s.get_task_results(m.tasks[0]),
    "get_task_failures": lambda s, m: s.get_task_failures(m.tasks[0]),
    "get_transformation_results": lambda s, m: s.get_transformation_results(m.transformations[0]),
    "get_transformation_failures": lambda s, m: s.get_transformation_failures(m.transformations[0]),
    "list_credentialed_entities": lambda s, m: s.list_credentialed_entities(USER),
    "list_scopes": lambda s, m: s.list_scopes("user", USER),
}
# These read the hash of a key.
SECRET_READS: dict[str, Call] = {
    "get_credentialed_entity": lambda s, m: s.get_credentialed_entity("user", USER),
    "authenticate": lambda s, m: s.authenticate("user", KEY, USER),
}
WRITES: dict[str, Call] = {
    "create_network": lambda s, m: s.create_network(star(1, str(m.hub)), SCOPE),
    "assemble_network": lambda s, m: s.assemble_network(star(1, "assembled"), SCOPE),
    "set_network_state": lambda s, m: s.set_network_state([m.network], ["inactive"]),
    "set_network_strategy": lambda s, m: s.set_network_strategy(m.network, Ball("new")),
    "get_strategies_for_execution": lambda s, m: s.get_strategies_for_execution(),
    "update_strategy_state": lambda s, m: s.update_strategy_state(m.network, StrategyState()),
    "set_strategy": lambda s, m: s.set_strategy(Ball("another"), m.network),
    "create_taskhub": lambda s, m: s.create_taskhub(m.network),
    "set_taskhub_weight": lambda s, m: s.set_taskhub_weight(m.network, 0.75),
    "cancel_tasks": lambda s, m: s.cancel_tasks(m.tasks, m.hub),
    "action_tasks": lambda s, m: s.action_tasks(m.tasks, m.hub),
    "set_task_weights": lambda s, m: s.set_task_weights(m.tasks, m.hub, 0.25),
    "create_task": lambda s, m: s.create_task(m.transformations[0], extends=m.tasks[0]),
    "create_tasks": lambda s, m: s.create_tasks(m.transformations),
    "set_tasks": lambda s, m: s.set_tasks(m.transformations[0], count=5),
    "set_task_priority": lambda s, m: s.set_task_priority(m.tasks, 3),
    "register_computeservice": lambda s, m: register(s, "another service"),
    "heartbeat_computeservice": lambda s, m: s.heartbeat_computeservice(
        "another service", datetime.now(UTC)
    ),
    "claim_taskhub_tasks": lambda s, m: s.claim_taskhub_tasks(m.hub, "another service"),
    "claim_tasks": lambda s, m: s.claim_tasks([SCOPE], "another service", count=2),
    "set_attempt_log": lambda s, m: s.set_attempt_log(
        [*s.get_service_tasks("another service"), m.tasks[0]][0], 1, "log"
    ),
    "settle_task": lambda s, m: s.settle_task(
        m.tasks[0], ref(m.tasks[0].scope), environment={"gufe": "1.1"}
    ),
    "deliver_result": lambda s, m: s.deliver_result(
        m.tasks[2], ref(m.tasks[2].scope, ok=False), "another service"
    ),
    "set_task_result": lambda s, m: s.set_task_result(m.tasks[1], ref(m.tasks[1].scope, ok=False)),
    "add_protocol_dag_result_ref_tracebacks": (
        lambda s, m: s.add_protocol_dag_result_ref_tracebacks(
            [Failure("NaN")],
            [*map(str, s.get_task_failures(m.tasks[1])), f"ProtocolDAGResultRef-{ZERO}-{SCOPE}"][0],
        )
    ),
    "add_task_restart_patterns": lambda s, m: s.add_task_restart_patterns(m.hub, ["NaN"], 2),
    "set_task_restart_patterns_max_retries": (
        lambda s, m: s.set_task_restart_patterns_max_retries(m.hub, ["NaN"], 3)
    ),
    "resolve_task_restarts": lambda s, m: s.resolve_task_restarts(m.tasks),
    "remove_task_restart_patterns": lambda s, m: s.remove_task_restart_patterns(m.hub, ["NaN"]),
    "clear_task_restart_patterns": lambda s, m: s.clear_task_restart_patterns(m.hub),
    "set_task_status": lambda s, m: s.set_task_status(m.tasks, "waiting"),
    "set_task_running": lambda s, m: s.set_task_running(m.tasks),
    "set_task_error": lambda s, m: s.set_task_error(m.tasks),
    "set_task_waiting": lambda s, m: s.set_task_waiting(m.tasks),
    "set_task_complete": lambda s, m: s.set_task_complete(m.tasks),
    "set_task_invalid": lambda s, m: s.set_task_invalid(m.tasks),
    "set_task_deleted": lambda s, m: s.set_task_deleted(m.tasks),
    "delete_task": lambda s, m: s.delete_task(s.create_task(m.transformations[0])),
    "register_computemanager": lambda s, m: s.register_computemanager(
        ComputeManagerRegistration.from_now(MANAGER)
    ),
    "set_quota": lambda s, m: s.set_quota("other-*-*", 1, 1),
    "log_failure_compute_service": lambda s, m: s.log_failure_compute_service("another service"),
    "compute_service_can_claim": lambda s, m: s.compute_service_can_claim(
        "another service", timedelta(hours=1), 1
    ),
    "compute_services_can_claim": lambda s, m: s.compute_services_can_claim(
        ["another service"], timedelta(hours=1), 1
    ),
    "get_computemanager_instruction": lambda s, m: s.get_computemanager_instruction(
        MANAGER, timedelta(hours=1), 1, [SCOPE], ["PushProtocol"]
    ),
    "update_compute_manager_status": lambda s, m: s.update_compute_manager_status(
        MANAGER, "ERROR", "it broke"
    ),
    "clear_errored_computemanager": lambda s, m: s.clear_errored_computemanager(MANAGER),
    "expire_computemanager_registrations": lambda s, m: s.expire_computemanager_registrations(
        timedelta(hours=1), timedelta(hours=1)
    ),
    "deregister_computemanager": lambda s, m: s.deregister_computemanager(MANAGER),
    "deregister_computeservice": lambda s, m: s.deregister_computeservice("another service"),
    "expire_registrations": lambda s, m: s.expire_registrations(datetime.now(UTC)),
    "maintain_queue": lambda s, m: s.maintain_queue(),
    "acquire_lease": lambda s, m: s.acquire_lease("chores", "me", timedelta(minutes=1)),
    "release_lease": lambda s, m: s.release_lease("chores", "me"),
    "repair_queue": lambda s, m: s.repair_queue(),
    "repair_restarts": lambda s, m: s.repair_restarts(),
    "create_credentialed_entity": lambda s, m: s.create_credentialed_entity(
        USER(identifier="other", hashed_key=HASH)
    ),
    "set_disabled": lambda s, m: s.set_disabled("other", USER),
    "add_scope": lambda s, m: s.add_scope("other", USER, SCOPE),
    "remove_scope": lambda s, m: s.remove_scope("other", USER, SCOPE),
    "remove_credentialed_identity": lambda s, m: s.remove_credentialed_identity("other", USER),
    "delete_taskhub": lambda s, m: s.delete_taskhub(m.network),
    "delete_network": lambda s, m: s.delete_network(m.network),
}


def test_lists_contain_every_public_call() -> None:
    calls = {name: call for name, call in vars(StateStore).items() if hasattr(call, "operation")}
    reads = {name for name in calls if calls[name].readonly}
    # `authenticate` verifies a key outside the transaction, so it is not an operation.
    assert {*READS, *SECRET_READS} == reads | {"authenticate"}
    assert set(WRITES) == {name for name in calls if not calls[name].readonly}


@pytest.mark.parametrize("name", READS)
def test_monitor_and_service_can_read(roles: Roles, made: Campaign, name: str) -> None:
    for role in ("service", "monitor"):
        with roles.store(role) as store:
            READS[name](store, made)


@pytest.mark.parametrize("role", ["service", "monitor"])
def test_monitor_and_service_can_wait_for_tasks(roles: Roles, made: Campaign, role: str) -> None:
    with roles.store(role) as store:
        assert store.wait_for_tasks([SCOPE], timeout=0)
        assert not store.wait_for_tasks([Scope("nobody")], timeout=0.01)


@pytest.mark.parametrize("name", SECRET_READS)
def test_service_can_read_hashes_of_keys_and_monitor_cannot(
    roles: Roles, made: Campaign, name: str
) -> None:
    with roles.store("service") as store:
        SECRET_READS[name](store, made)
    refused = pytest.raises(StateStoreError, match=r"identities.*database grant ROLE")
    with roles.store("monitor") as store, refused:
        SECRET_READS[name](store, made)


def test_service_can_make_every_change(roles: Roles) -> None:
    with roles.store("service") as store:
        own = campaign(store, Scope("org", "campaign", "changes"), tasks=3)
        for call in WRITES.values():
            call(store, own)


@pytest.mark.parametrize("name", WRITES)
def test_monitor_cannot_make_a_change(roles: Roles, made: Campaign, name: str) -> None:
    with roles.store("service") as store:
        before = store.get_task_status(made.tasks)
    with roles.store("monitor") as store, pytest.raises(StateStoreError, match="lacks a right"):
        WRITES[name](store, made)
    with roles.store("service") as store:
        assert store.get_task_status(made.tasks) == before


@pytest.mark.parametrize("role", ["owner", "service", "monitor"])
def test_check_works_for_every_role_and_creates_nothing(
    roles: Roles, made: Campaign, role: str, run: Run
) -> None:
    objects = "SELECT count(*), max(CAST(CAST(xmin AS text) AS bigint)) FROM pg_class"
    with psycopg.connect(libpq(roles.superuser)) as connection:
        before = connection.execute(objects).fetchone()
    result = run("database", "check", "--url", getattr(roles, role))
    assert (result.exit_code, result.stdout) == (0, "No problems found.\n")
    with psycopg.connect(libpq(roles.superuser)) as connection:
        assert connection.execute(objects).fetchone() == before


OWNERS_ONLY = [
    "DROP TABLE tasks",
    "TRUNCATE queue",
    "ALTER TABLE tasks ADD COLUMN odd text",
    "CREATE TABLE odd (id int)",
    "CREATE TEMPORARY TABLE odd (id int)",
    "CREATE SCHEMA odd",
    "CREATE INDEX ON tasks (status)",
    "UPDATE alembic_version SET version_num = 'odd'",
    "DELETE FROM alembic_version",
    "CREATE TABLE public.odd (id int)",
]


@pytest.mark.parametrize("statement", OWNERS_ONLY)
@pytest.mark.parametrize("role", ["service", "monitor"])
def test_only_the_owner_can_change_the_schema(roles: Roles, role: str, statement: str) -> None:
    refused = pytest.raises(DBAPIError, match=r"permission denied|must be owner")
    with roles.store(role) as store, store.engine.connect() as connection, refused:
        connection.execute(text(statement))


@pytest.mark.parametrize("role", ["service", "monitor"])
def test_reset_and_downgrade_need_the_owner(roles: Roles, made: Campaign, role: str) -> None:
    with roles.store(role) as store:
        with pytest.raises(SchemaError, match=r"belong to the role 'role_.*connect as that role"):
            store.reset()
        # A current schema stays unchanged, so a server may make sure that it is there.
        store.initialize()
    with roles.store("service") as store:
        assert store.query_tasks(scope=SCOPE) == sorted(made.tasks)


def test_table_of_a_later_version_can_be_used(roles: Roles) -> None:
    execute(roles.owner, "CREATE TABLE alchemistore.later (id int)")
    try:
        execute(roles.service, "INSERT INTO alchemistore.later VALUES (1)")
        execute(roles.monitor, "SELECT id FROM alchemistore.later")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(roles.monitor, "DELETE FROM alchemistore.later")
    finally:
        execute(roles.owner, "DROP TABLE alchemistore.later")


def rights(url: str, role: str) -> dict[str, set[str]]:
    """Return the rights of a role on each table, and those it will have on new ones."""
    with psycopg.connect(libpq(url)) as connection:
        rows = connection.execute(
            """
            SELECT relname, privilege_type FROM pg_class, LATERAL aclexplode(relacl) AS a
            WHERE relnamespace = 'alchemistore'::regnamespace AND a.grantee = %(role)s::regrole
            UNION ALL
            SELECT 'a new table', privilege_type FROM pg_default_acl, LATERAL aclexplode(defaclacl)
                AS a WHERE a.grantee = %(role)s::regrole
            UNION ALL
            SELECT attname, privilege_type FROM pg_attribute, LATERAL aclexplode(attacl) AS a
            WHERE a.grantee = %(role)s::regrole
            """,
            {"role": role},
        ).fetchall()
    found: dict[str, set[str]] = {}
    for name, right in rows:
        found.setdefault(name, set()).add(right)
    return found


def test_role_with_a_new_purpose_keeps_no_right_of_the_old_one(roles: Roles) -> None:
    with new_role(roles.superuser) as name, roles.store("owner") as store:
        for purpose, like in [
            (Purpose.service, roles.service_name),
            (Purpose.monitor, roles.monitor_name),
            (Purpose.service, roles.service_name),
        ]:
            grants.grant(store.engine, name, purpose)
            assert rights(roles.superuser, name) == rights(roles.superuser, like) != {}


def test_grant_command_prints_the_statements_that_it_would_run(roles: Roles, run: Run) -> None:
    with new_role(roles.superuser) as name:
        arguments = ("database", "grant", name, "--to", "monitor", "--url")
        printed = run(*arguments, roles.owner, "--print")
        assert printed.exit_code == 0
        assert rights(roles.superuser, name) == {}
        execute(roles.superuser, *printed.stdout.split("\n"))
        by_hand = rights(roles.superuser, name)
        as_json = json.loads(run(*arguments, roles.owner, "--print", "--json").stdout)
        assert as_json["statements"] == printed.stdout.splitlines()
        assert (as_json["role"], as_json["granted"]) == (name, False)
        result = run(*arguments, roles.owner)
        assert (result.exit_code, result.stdout) == (
            0,
            f"The role {name} has the rights of a monitor.\n",
        )
        assert (
            rights(roles.superuser, name) == by_hand == rights(roles.superuser, roles.monitor_name)
        )


@pytest.mark.parametrize(
    ("by", "to", "reason"),
    [
        ("service", "{monitor}", "belong to the role"),
        ("owner", "nobody_at_all", "there is no role 'nobody_at_all': create it first"),
        ("owner", "{owner}", "owns the tables, so it has all rights already"),
        ("owner", 'x"; DROP TABLE tasks', "there is no role"),
    ],
)
def test_grant_command_refuses_with_a_reason(
    roles: Roles, run: Run, by: str, to: str, reason: str
) -> None:
    with roles.store("owner") as store:
        owner = store.engine.url.username
    to = to.format(monitor=roles.monitor_name, owner=owner)
    result = run("database", "grant", to, "--to", "service", "--url", getattr(roles, by))
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


HIDDEN = {
    "schema": ("REVOKE USAGE ON SCHEMA alchemistore FROM {role}", "schema alchemistore"),
    "table": ("REVOKE SELECT ON alchemistore.queue FROM {role}", "table queue"),
    "version": ("REVOKE SELECT ON alchemistore.alembic_version FROM {role}", "alembic_version"),
}


@pytest.mark.parametrize(("statement", "named"), HIDDEN.values(), ids=HIDDEN)
def test_check_without_a_right_says_which_grant_is_missing(
    roles: Roles, run: Run, statement: str, named: str
) -> None:
    with new_role(roles.superuser) as name, roles.store("owner") as store:
        grants.grant(store.engine, name, Purpose.monitor)
        execute(
            roles.superuser,
            statement.format(role=name),
            f"GRANT CONNECT ON DATABASE {database_name(roles.superuser)} TO {name}",
        )
        result = run("database", "check", "--url", as_role(roles.superuser, name))
    assert result.exit_code == 2
    assert named in result.stderr
    assert "GRANT USAGE ON SCHEMA" in result.stderr
    assert result.stderr.count("\n") == 1


def test_monitor_may_examine_the_store(roles: Roles) -> None:
    with roles.store("monitor") as store:
        subjects = {one.subject for one in examine(store.engine)}
    assert {"revision", "transactions", "tasks", "clocks"} <= subjects


def test_monitor_may_read_the_metrics(roles: Roles, made: Campaign) -> None:
    with roles.store("monitor") as store:
        collection = Collection(database_parts(store.engine, timedelta(minutes=30)), 10.0)
        collection.refresh()
    assert collection.errors() == {}
    assert {one.family for one in collection.samples()} >= {"tasks", "table_rows"}
