"""The state store as a type: what code may rely on that is to work with any store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol, Self

from alchemistore.models import (
    Blocker,
    ComputeServiceID,
    ComputeServiceRegistration,
    CredentialedEntity,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    Settlement,
    TaskDetails,
    TaskHistory,
    TaskStatusEnum,
)


class AlchemiscaleStateStore(Protocol):
    """The public calls of a state store; :class:`alchemistore.store.StateStore` has them, and says more about each."""

    # life cycle

    def transaction(self, readonly: bool = False, ignore_exceptions: bool = False) -> AbstractContextManager[Self]:
        """Run several calls in one transaction, which is committed at the end and rolled back on any exception."""

    def initialize(self) -> None:
        """Create the schema, or bring it up to date; nothing happens if it is."""

    def check(self) -> None:
        """Compare revision, catalog and data with what they must be."""

    def problems(self) -> Sequence[str]:
        """List what `check` finds wrong, one sentence each."""

    def reset(self) -> None:
        """Remove all data and the schema. There is no way back."""

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""

    # gufe objects

    def get_gufe(self, scoped_key: ScopedKey | str) -> Any:
        """Give the object stored under a key."""

    def get_scoped_key(self, obj: Any, scope: Scope | str) -> ScopedKey:
        """Give the key under which an object is stored."""

    def check_existence(self, scoped_key: ScopedKey | str) -> bool:
        """Tell whether an object is stored under a key."""

    # networks

    def create_network(self, network: Any, scope: Scope | str) -> ScopedKey:
        """Store a network with everything in it; a network that is there already stays as it is."""

    def delete_network(self, network: ScopedKey | str) -> ScopedKey:
        """Delete a network with its hub; its transformations, chemical systems, tasks and results stay."""

    def query_networks(
        self,
        *,
        name: str | None = None,
        key: str | None = None,
        scope: Scope | str | None = None,
        return_gufe: bool = False,
        limit: int | None = None,
        after: ScopedKey | str | None = None,
    ) -> Any:
        """Find networks."""

    def query_transformations(
        self,
        *,
        name: str | None = None,
        key: str | None = None,
        scope: Scope | str | None = None,
        limit: int | None = None,
        after: ScopedKey | str | None = None,
    ) -> list[ScopedKey]:
        """Find transformations, NonTransformations among them; parameters and order as of `query_networks`."""

    def query_chemicalsystems(
        self,
        *,
        name: str | None = None,
        key: str | None = None,
        scope: Scope | str | None = None,
        limit: int | None = None,
        after: ScopedKey | str | None = None,
    ) -> list[ScopedKey]:
        """Find chemical systems; parameters and order as of `query_networks`."""

    def set_strategy(self, strategy: Any, network: ScopedKey | str) -> ScopedKey | None:
        """Store a strategy and link it to a network, in place of the one it has."""

    def get_strategy(self, network: ScopedKey | str) -> Any:
        """Give the strategy of a network."""

    # what is in what

    def get_network_transformations(self, network: ScopedKey | str) -> list[ScopedKey]:
        """Give the transformations of a network, in the order of their keys; empty if there is no such network."""

    def get_transformation_networks(self, transformation: ScopedKey | str) -> list[ScopedKey]:
        """Give the networks that contain a transformation, in the order of their keys; empty if there is none such."""

    def get_network_chemicalsystems(self, network: ScopedKey | str) -> list[ScopedKey]:
        """Give the chemical systems of a network, in the order of their keys; empty if there is no such network."""

    def get_chemicalsystem_networks(self, chemicalsystem: ScopedKey | str) -> list[ScopedKey]:
        """Give the networks that contain a chemical system, in the order of their keys; empty if there is none such."""

    def get_transformation_chemicalsystems(self, transformation: ScopedKey | str) -> list[ScopedKey]:
        """Give the end states of a transformation, in the order of their keys: two, or the one of a NonTransformation."""

    def get_chemicalsystem_transformations(self, chemicalsystem: ScopedKey | str) -> list[ScopedKey]:
        """Give the transformations that have a chemical system as an end state, in the order of their keys."""

    # task hubs

    def create_taskhub(self, network: ScopedKey | str) -> ScopedKey:
        """Create the hub of a network, with weight 0.5; a hub that is there already stays as it is."""

    def get_taskhub(self, network: ScopedKey | str, return_gufe: bool = False) -> Any:
        """Give the hub of a network."""

    def query_taskhubs(
        self,
        scope: Scope | str | None = None,
        return_gufe: bool = False,
        limit: int | None = None,
        after: ScopedKey | str | None = None,
    ) -> Any:
        """Find hubs."""

    def delete_taskhub(self, network: ScopedKey | str) -> ScopedKey:
        """Delete the hub of a network; the tasks actioned on it stay, and so do claims on them."""

    def set_taskhub_weight(self, network: ScopedKey | str | Iterable[ScopedKey | str | None], weight: float) -> Any:
        """Set how often a hub is chosen over others."""

    def get_taskhub_weight(self, network: ScopedKey | str | Iterable[ScopedKey | str | None]) -> Any:
        """Give the weight of a hub."""

    def get_taskhub_tasks(self, taskhub: ScopedKey | str, return_gufe: bool = False) -> Any:
        """Give the tasks that are actioned on a hub, whatever their status, in the order of their keys."""

    def get_taskhub_unclaimed_tasks(self, taskhub: ScopedKey | str, return_gufe: bool = False) -> Any:
        """Give the tasks that are actioned on a hub and that no compute service holds; as `get_taskhub_tasks` otherwise."""

    # actions

    def action_tasks(self, tasks: Iterable[ScopedKey | str | None], taskhub: ScopedKey | str) -> list[ScopedKey | None]:
        """Put tasks on a hub, with weight 0.5, so that they can be claimed from there."""

    def cancel_tasks(self, tasks: Iterable[ScopedKey | str | None], taskhub: ScopedKey | str) -> list[ScopedKey | None]:
        """Take tasks off a hub; what is running goes on, and other hubs keep them."""

    def set_task_weights(
        self,
        tasks: Mapping[ScopedKey | str, float] | Iterable[ScopedKey | str | None],
        taskhub: ScopedKey | str,
        weight: float | None = None,
    ) -> list[ScopedKey | None]:
        """Set with which weight tasks are drawn from a hub."""

    def get_task_weights(self, tasks: Iterable[ScopedKey | str | None], taskhub: ScopedKey | str) -> list[float | None]:
        """Give with which weight tasks are drawn from a hub."""

    def get_taskhub_actioned_tasks(self, taskhub: ScopedKey | str | Iterable[ScopedKey | str | None]) -> Any:
        """Give the tasks on a hub, whatever their status, with their weights."""

    def get_task_actioned_networks(self, task: ScopedKey | str) -> dict[ScopedKey, float]:
        """Give the networks on whose hubs a task is, with its weights there, in the order of their keys; empty if on none."""

    # tasks

    def create_task(
        self, transformation: ScopedKey | str, extends: ScopedKey | str | None = None, creator: str | None = None
    ) -> ScopedKey:
        """Create a task: waiting, with priority 10, on no hub."""

    def create_tasks(
        self,
        transformations: Iterable[ScopedKey | str],
        extends: Iterable[ScopedKey | str | None] | None = None,
        creator: str | None = None,
    ) -> list[ScopedKey]:
        """Create a task for each transformation listed, all or none; a transformation may be listed many times."""

    def set_tasks(
        self, transformation: ScopedKey | str, extends: ScopedKey | str | None = None, count: int = 1
    ) -> list[ScopedKey]:
        """Make sure that there are so many tasks of a transformation that extend a given task, or nothing."""

    def delete_task(self, task: ScopedKey | str, force: bool = False) -> ScopedKey:
        """Remove a task for good, with its history; for administrators. To give up a task, set its status to deleted instead."""

    def query_tasks(
        self,
        *,
        status: TaskStatusEnum | str | None = None,
        key: str | None = None,
        scope: Scope | str | None = None,
        limit: int | None = None,
        after: ScopedKey | str | None = None,
    ) -> list[ScopedKey]:
        """Find tasks."""

    def get_network_tasks(self, network: ScopedKey | str, status: TaskStatusEnum | str | None = None) -> list[ScopedKey]:
        """Give the tasks of a network's transformations, actioned or not, in the order of their keys."""

    def get_task_networks(self, task: ScopedKey | str) -> list[ScopedKey]:
        """Give the networks that contain the transformation of a task, in the order of their keys; empty if there are none."""

    def get_transformation_tasks(
        self,
        transformation: ScopedKey | str,
        extends: ScopedKey | str | None = None,
        return_as: str = "list",
        status: TaskStatusEnum | str | None = None,
    ) -> Any:
        """Give the tasks of a transformation, in the order of their keys."""

    def get_task_transformation(self, task: ScopedKey | str, return_gufe: bool = True) -> tuple[Any, Any]:
        """Give the transformation of a task, and the result it is to continue from."""

    def set_task_priority(self, tasks: Iterable[ScopedKey | str | None], priority: int) -> list[ScopedKey | None]:
        """Set how urgent tasks are."""

    def get_task_priority(self, tasks: Iterable[ScopedKey | str | None]) -> list[int | None]:
        """Give how urgent each task is, in the order given; ``None`` for what is missing."""

    # compute services

    def register_computeservice(self, compute_service_registration: ComputeServiceRegistration) -> ComputeServiceID:
        """Register a compute service, so that it can claim tasks."""

    def heartbeat_computeservice(self, compute_service_id: str, heartbeat: datetime) -> ComputeServiceID:
        """Note that a compute service is alive."""

    def deregister_computeservice(self, compute_service_id: str) -> ComputeServiceID:
        """Remove the registration of a compute service; what it was running is waiting again."""

    def expire_registrations(self, expire_time: datetime) -> list[ComputeServiceID]:
        """Remove the registrations of all compute services not heard of since a moment; what they were running is waiting again."""

    # claims

    def claim_taskhub_tasks(
        self, taskhub: ScopedKey | str, compute_service_id: str, count: int = 1, protocols: Iterable[str] | None = None
    ) -> list[ScopedKey | None]:
        """Claim tasks of a hub for a compute service."""

    def claim_tasks(
        self,
        scopes: Iterable[Scope | str],
        compute_service_id: str,
        count: int = 1,
        protocols: Iterable[str] | None = None,
        exclude: Iterable[Scope | str] | None = None,
    ) -> list[ScopedKey | None]:
        """Claim tasks from whichever hubs of some scopes have work."""

    def wait_for_tasks(
        self,
        scopes: Iterable[Scope | str] | None = None,
        taskhubs: Iterable[ScopedKey | str] | None = None,
        timeout: float = 60.0,
        protocols: Iterable[str] | None = None,
        exclude: Iterable[Scope | str] | None = None,
    ) -> bool:
        """Wait until there may be something to claim."""

    def tend_queue(self) -> None:
        """Keep the queue quick: raise the floors of lanes and close lanes that are empty."""

    def repair_queue(self) -> dict[str, int]:
        """Make the queue again what it must be, from tasks and actions, which stay as they are. Claims wait meanwhile."""

    # settlement

    def settle_task(
        self,
        task: ScopedKey | str,
        protocoldagresultref: ProtocolDAGResultRef,
        compute_service_id: str | None = None,
        attempt: int | None = None,
        tracebacks: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Settlement:
        """Store a reference to a result and draw every consequence, in one transaction. A finished result is never lost."""

    # statuses

    def set_task_status(
        self,
        tasks: Iterable[ScopedKey | str | None],
        status: TaskStatusEnum | str,
        raise_error: bool = False,
        *,
        reason: str | None = None,
        actor: str | None = None,
    ) -> list[ScopedKey | None]:
        """Set the status of tasks."""

    def set_task_waiting(self, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False) -> list[ScopedKey | None]:
        """Set tasks waiting, from running or error; see `set_task_status`."""

    def set_task_running(self, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False) -> list[ScopedKey | None]:
        """Set tasks running, from waiting, without a claim; see `set_task_status`."""

    def set_task_complete(self, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False) -> list[ScopedKey | None]:
        """Set tasks complete, from running; what extends them becomes claimable; see `set_task_status`."""

    def set_task_error(self, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False) -> list[ScopedKey | None]:
        """Set tasks to error, from running; they stay on their hubs; see `set_task_status`."""

    def set_task_invalid(self, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False) -> list[ScopedKey | None]:
        """Set tasks and everything that extends them invalid, for good; see `set_task_status`."""

    def set_task_deleted(self, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False) -> list[ScopedKey | None]:
        """Set tasks and everything that extends them deleted, for good; see `set_task_status`."""

    def get_task_status(self, tasks: Iterable[ScopedKey | str | None]) -> list[TaskStatusEnum | None]:
        """Give the status of each task, in the order given; ``None`` for what is missing."""

    def get_scope_status(self, scope: Scope | str) -> dict[str, int]:
        """Count the tasks in a scope, actioned or not, by status; open components match anything, zero counts are left out."""

    def get_network_status(self, network: ScopedKey | str | Iterable[ScopedKey | str | None]) -> Any:
        """Count the tasks of a network's transformations, by status."""

    def get_transformation_status(self, transformation: ScopedKey | str) -> dict[str, int]:
        """Count the tasks of a transformation by status; zero counts are left out, empty if there is no such transformation."""

    # history

    def get_task_history(self, tasks: Iterable[ScopedKey | str | None]) -> list[TaskHistory | None]:
        """Give what happened to each task: its changes of status and its attempts."""

    def get_tasks_details(self, tasks: Iterable[ScopedKey | str | None]) -> list[TaskDetails | None]:
        """Give where each task stands: its status, since when and why, how often it was claimed, by whom, with what results."""

    def get_service_tasks(self, compute_service_id: str) -> list[ScopedKey]:
        """Give the tasks that a compute service holds, in the order of scope and key; empty if it is not registered."""

    def get_task_blockers(self, tasks: Iterable[ScopedKey | str | None]) -> list[tuple[Blocker, ...] | None]:
        """Give what keeps each task from being run."""

    # results

    def set_task_result(self, task: ScopedKey | str, protocoldagresultref: ProtocolDAGResultRef) -> ScopedKey:
        """Store a reference to a result of a task. The status of the task stays as it is."""

    def get_task_tracebacks(self, task: ScopedKey | str) -> list[list[str]]:
        """Give the tracebacks kept with a task's results, those of one result together, in the order they came in."""

    def get_task_results(self, task: ScopedKey | str) -> list[ScopedKey]:
        """Give the references to a task's successful results, in the order of their keys."""

    def get_task_failures(self, task: ScopedKey | str) -> list[ScopedKey]:
        """Give the references to a task's failed results, in the order of their keys."""

    def get_transformation_results(self, transformation: ScopedKey | str) -> list[ScopedKey]:
        """Give the references to the successful results of a transformation's tasks, in the order of their keys."""

    def get_transformation_failures(self, transformation: ScopedKey | str) -> list[ScopedKey]:
        """Give the references to the failed results of a transformation's tasks, in the order of their keys."""

    # identities

    def create_credentialed_entity(self, entity: CredentialedEntity) -> None:
        """Store an identity, or change the one of this class and identifier."""

    def get_credentialed_entity(self, identifier: str, cls: type[CredentialedEntity]) -> Any:
        """Give an identity."""

    def list_credentialed_entities(self, cls: type[CredentialedEntity]) -> list[str]:
        """Give the identifiers of all identities of a class, in order."""

    def remove_credentialed_identity(self, identifier: str, cls: type[CredentialedEntity]) -> None:
        """Remove an identity, with its scopes."""

    def set_disabled(self, identifier: str, cls: type[CredentialedEntity], disabled: bool = True) -> None:
        """Refuse the key of an identity, or accept it again."""

    def add_scope(self, identifier: str, cls: type[CredentialedEntity], scope: Scope | str) -> None:
        """Let an identity use a scope; one that it may use already stays in its place."""

    def list_scopes(self, identifier: str, cls: type[CredentialedEntity]) -> list[Scope]:
        """Give the scopes that an identity may use, in the order in which they were granted."""

    def remove_scope(self, identifier: str, cls: type[CredentialedEntity], scope: Scope | str) -> None:
        """Take a scope from an identity: this one exactly, not those within it; nothing happens if it was not granted."""

    def authenticate(self, identifier: str, key: str, cls: type[CredentialedEntity]) -> Any:
        """Give the identity whose identifier and key these are, if it may log in now."""
