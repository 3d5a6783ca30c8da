"""The types that users see. mypy checks this file; it is never run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type
from uuid import uuid4

from alchemistore import (
    Activity,
    AttemptLog,
    ComputeManagerDetails,
    ComputeManagerID,
    ComputeManagerInstruction,
    ComputeManagerRegistration,
    ComputeManagerStatus,
    ComputeServiceDetails,
    ComputeServiceID,
    CredentialedComputeIdentity,
    CredentialedUserIdentity,
    FileContent,
    NetworkDetails,
    PresignedDownload,
    PresignedUpload,
    ProtocolDAGResultRef,
    Quota,
    Records,
    RefusalReason,
    S3ObjectStore,
    Scope,
    ScopedKey,
    StateStore,
    StatusCounts,
    StrategyState,
    Task,
    TaskDetails,
    TaskHistory,
    TaskHub,
    TaskStatusEnum,
    iterate,
    pack_for_upload,
)


def query_networks(store: StateStore, flag: bool) -> None:
    assert_type(store.query_networks(), list[ScopedKey])
    assert_type(store.query_networks(scope="a-b-c", return_gufe=False), list[ScopedKey])
    assert_type(store.query_networks(return_gufe=True), dict[ScopedKey, Any])
    assert_type(store.query_networks(name=".*", state="active", patterns=True), list[ScopedKey])
    assert_type(store.get_scope_status("a-b-c", network_state=None), StatusCounts)
    assert_type(store.query_networks(return_gufe=flag), list[ScopedKey] | dict[ScopedKey, Any])


def network_states(store: StateStore, network: ScopedKey, networks: Iterable[ScopedKey]) -> None:
    keys = store.assemble_network(object(), Scope("a", "b", "c"), "inactive")
    assert_type(keys, tuple[ScopedKey, ScopedKey, ScopedKey])
    assert_type(store.get_network_state(network), str)
    assert_type(store.get_network_state(str(network)), str)
    assert_type(store.get_network_state(networks), list[str | None])
    assert_type(store.set_network_state(network, "active"), ScopedKey)
    assert_type(store.set_network_state(networks, "active"), list[ScopedKey | None])
    assert_type(store.set_network_state(networks, ["active"]), list[ScopedKey | None])


def strategies(store: StateStore, network: ScopedKey) -> None:
    assert_type(store.set_network_strategy(network, None), ScopedKey | None)
    assert_type(store.get_network_strategy_state(network), StrategyState | None)
    assert_type(
        store.get_strategies_for_execution(["a-b-c"], 60, lease=60),
        list[tuple[ScopedKey, ScopedKey, StrategyState]],
    )
    assert_type(store.update_strategy_state(str(network), StrategyState()), ScopedKey | None)


def get_taskhub(store: StateStore, network: ScopedKey, flag: bool) -> None:
    assert_type(store.get_taskhub(network), ScopedKey | None)
    assert_type(store.get_taskhub(network, True), TaskHub | None)
    assert_type(store.get_taskhub(network, return_gufe=True), TaskHub | None)
    assert_type(store.get_taskhub(network, flag), ScopedKey | TaskHub | None)
    assert_type(store.get_taskhubs([network, None]), list[ScopedKey | None])
    assert_type(store.get_taskhubs([network], True), list[TaskHub | None])
    either = store.get_taskhubs([str(network)], return_gufe=flag)
    assert_type(either, list[ScopedKey | None] | list[TaskHub | None])


def query_taskhubs(store: StateStore, flag: bool) -> None:
    assert_type(store.query_taskhubs(), list[ScopedKey])
    assert_type(store.query_taskhubs(limit=1), list[ScopedKey])
    assert_type(store.query_taskhubs(return_gufe=True), dict[ScopedKey, TaskHub])
    assert_type(store.query_taskhubs(Scope(), True), dict[ScopedKey, TaskHub])
    assert_type(store.query_taskhubs(None, flag), list[ScopedKey] | dict[ScopedKey, TaskHub])


def taskhub_weight(store: StateStore, network: ScopedKey, networks: Iterable[ScopedKey]) -> None:
    assert_type(store.get_taskhub_weight(network), float)
    assert_type(store.get_taskhub_weight(str(network)), float)
    assert_type(store.get_taskhub_weight(networks), list[float | None])
    assert_type(store.get_taskhub_weight([str(network), None]), list[float | None])
    assert_type(store.set_taskhub_weight(networks, 0.5), list[ScopedKey | None])
    assert_type(store.set_taskhub_weight(networks, [0.5]), list[ScopedKey | None])
    assert_type(store.set_taskhub_weight(networks=networks, weights=[1]), list[ScopedKey | None])
    assert_type(store.get_taskhub_weight(networks=networks), list[float | None])
    store.set_taskhub_weight(network, 0.5)


def taskhub_tasks(store: StateStore, taskhub: ScopedKey, flag: bool) -> None:
    either = store.get_taskhub_tasks(taskhub, return_gufe=flag)
    assert_type(either, list[ScopedKey] | dict[ScopedKey, Task])
    assert_type(store.get_taskhub_tasks(taskhub), list[ScopedKey])
    assert_type(store.get_taskhub_tasks(taskhub, True), dict[ScopedKey, Task])
    assert_type(store.get_taskhub_unclaimed_tasks(taskhub), list[ScopedKey])
    unclaimed = store.get_taskhub_unclaimed_tasks(taskhub, return_gufe=True)
    assert_type(unclaimed, dict[ScopedKey, Task])


def one_or_many(store: StateStore, key: ScopedKey, keys: Iterable[ScopedKey | None]) -> None:
    assert_type(store.get_network_status(key), StatusCounts)
    assert_type(store.get_network_status(str(key)), StatusCounts)
    assert_type(store.get_network_status(keys), list[StatusCounts])
    assert_type(store.get_network_status(networks=keys), list[StatusCounts])
    assert_type(store.get_transformation_actioned_tasks(key, None), list[ScopedKey])
    assert_type(store.get_taskhub_actioned_tasks(taskhubs=keys), list[dict[ScopedKey, float]])
    assert_type(store.get_taskhub_actioned_tasks(key), dict[ScopedKey, float])
    assert_type(store.get_taskhub_actioned_tasks(str(key)), dict[ScopedKey, float])
    assert_type(store.get_taskhub_actioned_tasks(keys), list[dict[ScopedKey, float]])


def task_transformation(store: StateStore, task: ScopedKey) -> None:
    assert_type(store.get_task_transformation(task), tuple[Any, ProtocolDAGResultRef | None])
    assert_type(
        store.get_task_transformation(task, return_gufe=False), tuple[ScopedKey, ScopedKey | None]
    )


def transformation_tasks(store: StateStore, transformation: ScopedKey) -> None:
    assert_type(store.get_transformation_tasks(transformation), list[ScopedKey])
    assert_type(store.get_transformation_tasks(transformation, return_as="list"), list[ScopedKey])
    assert_type(
        store.get_transformation_tasks(transformation, return_as="graph"),
        dict[ScopedKey, ScopedKey | None],
    )
    assert_type(
        store.get_transformation_tasks(transformation, None, "graph", "waiting"),
        dict[ScopedKey, ScopedKey | None],
    )


def identities(store: StateStore) -> None:
    user, compute = CredentialedUserIdentity, CredentialedComputeIdentity
    assert_type(store.get_credentialed_entity("a", user), CredentialedUserIdentity)
    assert_type(store.get_credentialed_entity("a", compute), CredentialedComputeIdentity)
    assert_type(store.authenticate("a", "key", user), CredentialedUserIdentity | None)


def managers_and_quotas(store: StateStore, given: ComputeManagerRegistration) -> None:
    identifier = store.register_computemanager(given, steal=True)
    assert_type(identifier, ComputeManagerID)
    assert_type(store.get_compute_manager_id("east"), ComputeManagerID | None)
    assert_type(store.get_compute_manager_status(identifier), ComputeManagerStatus | None)
    assert_type(
        store.get_computemanager_instruction(str(identifier), timedelta(hours=1), 3, ["*-*-*"], []),
        tuple[ComputeManagerInstruction, dict[str, Any]],
    )
    assert_type(store.compute_services_can_claim(["a", None], timedelta(hours=1), 3), list[bool])
    assert_type(store.compute_service_can_claim("a", given.registered, 3), bool)
    assert_type(store.log_failure_compute_service("a"), ComputeServiceID)
    assert_type(store.set_quota("a-*-*", actioned_per_hub=5), Quota)
    assert_type(store.query_computemanagers(limit=1, after="a"), Records[ComputeManagerDetails])
    assert_type(store.query_computeservices(manager_name="a"), Records[ComputeServiceDetails])
    assert_type(store.get_network_details([None]), Records[NetworkDetails | None])
    assert_type(store.query_quotas("a-*-*"), Records[Quota])
    assert_type(store.get_quota(Scope("a")).waiting_per_transformation, int | None)


def plain_calls(store: StateStore, task: ScopedKey, network: object) -> None:
    assert_type(store.create_network(network, Scope("a", "b", "c")), ScopedKey)
    assert_type(store.create_tasks([task]), list[ScopedKey | None])
    assert_type(store.create_task(task, request=uuid4()), ScopedKey)
    assert_type(store.claim_taskhub_tasks(None, "a", protocols=object), list[ScopedKey | None])
    assert_type(store.claim_tasks([Scope()], "a", request=uuid4()), list[ScopedKey | None])
    refusals: dict[str, RefusalReason] = {}
    assert_type(store.action_tasks([task], None, refusals=refusals), list[ScopedKey | None])
    assert_type(store.heartbeat_computeservice("a"), ComputeServiceID)
    assert_type(store.expire_registrations(timedelta(minutes=5)), list[ComputeServiceID])
    assert_type(store.get_task_status([task]), list[TaskStatusEnum | None])
    assert_type(store.get_task_history([task]), Records[TaskHistory | None])
    assert_type(store.get_task_details([task]), Records[TaskDetails | None])
    assert_type(store.acquire_lease("work", "me", timedelta(hours=1)), bool)
    assert_type(store.get_activity("a-*-*", timedelta(hours=1)), Activity)
    assert_type(store.get_task_tracebacks(task), list[list[str]])
    assert_type(store.get_task_logs(task), list[AttemptLog])
    assert_type(store.set_attempt_log(task, 1, "log"), bool)
    assert_type(
        store.get_task_restart_patterns([task]), dict[ScopedKey | None, set[tuple[str, int]]]
    )
    with store.transaction() as tx:
        assert_type(tx, StateStore)
        assert_type(tx.get_taskhub(task, return_gufe=True), TaskHub | None)


def results(objects: S3ObjectStore, location: str) -> None:
    assert_type(objects.pull_protocoldagresult(location=location, return_as="json"), str)
    assert_type(objects.pull_protocoldagresult(location=location, return_as="dict"), dict[str, Any])
    assert_type(objects.download_protocoldagresult("file", location=location), int)
    assert_type(objects.presign_download(location=location), PresignedDownload)


def uploads(objects: S3ObjectStore, key: ScopedKey) -> None:
    content = pack_for_upload("result.json", "result.json.zst")
    assert_type(content, FileContent)
    assert_type(objects.presign_upload(True, key.gufe_key, key, content), PresignedUpload)
    assert_type(objects.confirm_upload(True, key.gufe_key, key, content), ProtocolDAGResultRef)
    with Path("result.json").open("rb") as file:
        assert_type(
            objects.upload_protocoldagresult(file, True, key.gufe_key, key), ProtocolDAGResultRef
        )


def wrong_calls(store: StateStore, task: ScopedKey) -> None:
    """Return nothing: mypy reports an unused ignore where one of these becomes acceptable."""
    store.get_transformation_tasks(task, return_as="dict")  # type: ignore[call-overload]  # unknown
    store.create_task(task, None, None, uuid4())  # type: ignore[call-arg]  # by keyword only
    store.set_task_priority([task], "1")  # type: ignore[arg-type]  # not a number
    store.get_task_status(task)  # type: ignore[arg-type]  # a single key
    store.get_task_status([task], 1)  # type: ignore[call-arg]  # too many arguments
    assert_type(store.get_taskhub(task), TaskHub)  # type: ignore[assert-type]  # it is a key


def iteration(store: StateStore) -> None:
    for task in iterate(store.query_tasks, status="error", limit=10):
        assert_type(task, ScopedKey)
    for network in iterate(store.query_networks, name=".*", patterns=True):
        assert_type(network, ScopedKey)
    for service in iterate(store.query_computeservices):
        assert_type(service, ComputeServiceDetails)
    iterate(store.query_tasks, nonsense=1)  # type: ignore[call-arg]
    with StateStore() as opened:
        assert_type(opened, StateStore)


def records_of_calls(store: StateStore) -> None:
    assert_type(store.query_quotas().records(), list[dict[str, Any]])
    as_list: list[TaskDetails | None] = store.get_task_details([])
    as_dict: dict[str, int] = store.get_scope_status("a-b-c")
    assert_type((as_list, as_dict), tuple[list[TaskDetails | None], dict[str, int]])
