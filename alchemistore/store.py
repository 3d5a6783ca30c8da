"""The state store: one line per public call."""

from __future__ import annotations

import functools
import logging
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import Engine, text

from alchemistore.database import migrations
from alchemistore.database.arguments import misfit
from alchemistore.database.engine import address, make_engine, with_terms
from alchemistore.database.keys import parse_hub
from alchemistore.database.notifications import Listener
from alchemistore.database.throttle import Throttle
from alchemistore.database.transaction import (
    Transactional,
    idempotent_in_autocommit,
    open_transaction,
    reads,
    writes,
    writes_in_autocommit,
    writes_together,
)
from alchemistore.database.translation import translate_errors
from alchemistore.errors import AlchemistoreError, CheckError, StoreUnavailableError
from alchemistore.maintenance import check, repair
from alchemistore.models import CredentialedEntity, Scope, ScopedKey
from alchemistore.operations import (
    actions,
    attempt_logs,
    blockers,
    claims,
    delivery,
    history,
    identities,
    keyed_chains,
    leases,
    managers,
    network_marks,
    network_queries,
    networks,
    objects,
    quotas,
    removal,
    restart_patterns,
    restarts,
    results,
    services,
    settlement,
    status_counts,
    statuses,
    strategies,
    task_queries,
    taskhub_weights,
    taskhubs,
    tasks,
    topology,
    tracebacks,
)
from alchemistore.operations.queue import lanes
from alchemistore.operations.queue.notify import CHANNEL
from alchemistore.settings import Settings

log = logging.getLogger(__name__)

E = TypeVar("E", bound=CredentialedEntity)

# Seconds that no process lives to see; larger numbers are not floats.
FOREVER = 1e12
# Seconds between two looks for work; random, so that waiting services do not look together.
POLL_SECONDS = (2.0, 6.0)


class AlchemiscaleStateStore(ABC):
    """The life cycle of a state store; :class:`StateStore` adds all other calls."""

    @abstractmethod
    def initialize(self) -> None:
        """Create the schema, or upgrade it."""

    @abstractmethod
    def check(self) -> None:
        """Raise an error if the schema or the data are inconsistent."""

    @abstractmethod
    def reset(self) -> None:
        """Remove all data and the schema."""

    @abstractmethod
    def _store_check(self) -> bool:
        """Check whether the store can be reached."""


class StateStore(Transactional, AlchemiscaleStateStore):
    """A store of networks, tasks, hubs, claims and references to results, in PostgreSQL.

    Parameters
    ----------
    url : str, Settings or Engine, optional
        A URL (``postgresql://...`` or ``embedded:///directory``), settings, or an engine that uses
        psycopg. Default: the settings of the environment.
    rng : random.Random, optional
        Source of random numbers; a seeded one makes draws repeatable. Default: the operating
        system.

    Raises
    ------
    ValueError
        If `url` is not the URL of a PostgreSQL database.

    Examples
    --------
    >>> store = StateStore("postgresql://localhost/alchemistore")  # doctest: +SKIP
    >>> with store.transaction() as tx:  # doctest: +SKIP
    ...     network, hub, mark = tx.assemble_network(alchemical_network, scope)

    A store closes its connections at the end of a ``with`` block:

    >>> with StateStore() as store:  # doctest: +SKIP
    ...     print(store.get_scope_status("my_org-*-*"))
    """

    def __init__(
        self, url: str | Settings | Engine | None = None, *, rng: random.Random | None = None
    ) -> None:
        engine = with_terms(url) if isinstance(url, Engine) else make_engine(Settings.from_url(url))
        super().__init__(
            engine.execution_options(
                rng=rng or random.SystemRandom(), throttle=Throttle(seconds=1.0)
            )
        )

    def __repr__(self) -> str:
        return f"<StateStore({address(self.engine)!r})>"

    # life cycle

    def initialize(self) -> None:
        """Create the schema, or upgrade it; a current schema stays unchanged."""
        migrations.upgrade(self.engine)

    def check(self) -> None:
        """Raise an error if the schema or the data are inconsistent.

        Raises
        ------
        SchemaError
            If the schema is missing, too old or too new.
        CheckError
            If something else is inconsistent; it lists every problem.
        """
        problems = self.problems()
        if problems:
            raise CheckError(tuple(problems))

    def problems(self) -> Sequence[str]:
        """Return the problems that `check` finds.

        Returns
        -------
        sequence of str
            One sentence per problem.

        Raises
        ------
        SchemaError
            If the schema is missing, too old or too new.
        """
        return [finding.text for finding in check.findings(self.engine)]

    def reset(self) -> None:
        """Remove all data and the schema. This cannot be undone."""
        migrations.reset(self.engine)

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _store_check(self) -> bool:
        try:
            with (
                translate_errors(self.engine),
                open_transaction(self.engine, readonly=True) as connection,
            ):
                connection.execute(text("SELECT 1"))
        except AlchemistoreError:
            return False
        return True

    def wait_for_tasks(
        self,
        scopes: Iterable[Scope | str] | None = None,
        taskhubs: Iterable[ScopedKey | str | None] | None = None,
        timeout: float = 60.0,
        protocols: claims.Protocols | None = None,
        exclude_scopes: Iterable[Scope | str] | None = None,
    ) -> bool:
        """Wait until there are tasks to claim.

        Parameters
        ----------
        scopes : iterable of Scope or str, optional
            Scopes to wait for. Default: all.
        taskhubs : iterable of ScopedKey or str or None, optional
            Wait for tasks on these hubs only. A missing hub or ``None`` has no tasks.
        timeout : float, default 60
            Seconds after which to stop waiting.
        protocols : str, type, or iterable of them, optional
            Class name of a protocol, or the class, or several; wait for tasks of transformations
            that use one of them. Default: any.
        exclude_scopes : iterable of Scope or str, optional
            Scopes to ignore.

        Returns
        -------
        bool
            Whether there were tasks to claim. Another service may claim them first.

        Raises
        ------
        ValueError
            If a scope is malformed, a hub is the key of something else, `protocols` is empty or
            contains something else, or `timeout` is not a number.

        Notes
        -----
        New tasks are usually noticed at once, by a notification. A process sends at most one
        notification per second, and PgBouncer in transaction mode does not pass them on. New tasks
        are then noticed within a few seconds, by polling.
        """
        names = claims.parse_protocols(protocols)
        given = (scopes, taskhubs, timeout, protocols, exclude_scopes)
        if (reason := misfit(StateStore.wait_for_tasks, given, {})) is not None:
            raise TypeError(reason)
        # Iterators can be read only once.
        where = [Scope()] if scopes is None else claims.parse_scopes(scopes)
        without = claims.parse_scopes(exclude_scopes or ())
        hubs = None if taskhubs is None else [parse_hub(hub) for hub in taskhubs]
        if isinstance(timeout, float) and math.isnan(timeout):
            raise ValueError("timeout must be a number of seconds, not NaN")
        end = time.monotonic() + min(timeout, FOREVER)

        def look() -> bool:
            return self.run(
                lambda tx, again: claims.has_work(tx, where, names, without, hubs),
                readonly=True,
            )

        if look():
            return True
        # Listening starts before the second look, so that no notification is missed.
        with Listener(self.engine, CHANNEL) as listener:
            while (left := end - time.monotonic()) > 0:
                try:
                    if look():
                        return True
                except StoreUnavailableError as error:
                    log.warning("cannot look for work, will look again: %s", error)
                listener.wait(min(left, random.uniform(*POLL_SECONDS)))  # noqa: S311  (jitter)
            return timeout > 0 and look()

    def authenticate(self, identifier: str, key: str, cls: type[E]) -> E | None:
        """Return the identity with this identifier and key, if it may log in now.

        Verifying a key takes long on purpose. Outside a transaction, no connection is held
        meanwhile.

        Parameters
        ----------
        identifier : str
            Identifier of the identity.
        key : str
            The key, not its hash.
        cls : type
            CredentialedUserIdentity or CredentialedComputeIdentity.

        Returns
        -------
        CredentialedUserIdentity or CredentialedComputeIdentity or None
            ``None`` if the identity is unknown, disabled or expired, or the key is wrong. All of
            these take the same time, so that the caller cannot tell them apart.
        """
        row, rounds = self.run(
            lambda tx, again: identities.read_for_login(tx, identifier, cls),
            readonly=True,
        )
        return identities.verify_login(row, rounds, key, cls)

    # gufe objects
    get_gufe = reads(objects.get_gufe)
    get_keyed_chain = reads(keyed_chains.get_keyed_chain)
    get_document = reads(keyed_chains.get_document)
    get_scoped_key = reads(objects.get_scoped_key)
    check_existence = reads(objects.check_existence)

    # networks
    assemble_network = writes(networks.assemble_network)
    create_network = writes_together(networks.create_network)
    delete_network = writes(networks.delete_network)
    set_network_state = writes(network_marks.set_network_state)
    get_network_state = reads(network_marks.get_network_state)
    get_network_details = reads(network_queries.get_network_details)
    query_networks = reads(network_queries.query_networks)
    query_transformations = reads(network_queries.query_transformations)
    query_chemicalsystems = reads(network_queries.query_chemicalsystems)

    # strategies
    set_network_strategy = writes(strategies.set_network_strategy)
    get_network_strategy = reads(strategies.get_network_strategy)
    get_network_strategy_state = reads(strategies.get_network_strategy_state)
    get_strategies_for_execution = writes(strategies.get_strategies_for_execution)
    update_strategy_state = writes(strategies.update_strategy_state)
    set_strategy = writes(strategies.set_strategy)
    get_strategy = reads(strategies.get_strategy)

    # topology
    get_network_transformations = reads(topology.get_network_transformations)
    get_transformation_networks = reads(topology.get_transformation_networks)
    get_network_chemicalsystems = reads(topology.get_network_chemicalsystems)
    get_chemicalsystem_networks = reads(topology.get_chemicalsystem_networks)
    get_transformation_chemicalsystems = reads(topology.get_transformation_chemicalsystems)
    get_chemicalsystem_transformations = reads(topology.get_chemicalsystem_transformations)

    # task hubs
    create_taskhub = writes(taskhubs.create_taskhub)
    get_taskhub = reads(taskhubs.get_taskhub)
    get_taskhubs = reads(taskhubs.get_taskhubs)
    query_taskhubs = reads(taskhubs.query_taskhubs)
    delete_taskhub = writes(taskhubs.delete_taskhub)
    set_taskhub_weight = writes(taskhub_weights.set_taskhub_weight)
    get_taskhub_weight = reads(taskhub_weights.get_taskhub_weight)
    get_taskhub_tasks = reads(taskhubs.get_taskhub_tasks)
    get_taskhub_unclaimed_tasks = reads(taskhubs.get_taskhub_unclaimed_tasks)

    # actions
    action_tasks = writes_together(actions.action_tasks, known=True)
    cancel_tasks = writes_together(actions.cancel_tasks)
    set_task_weights = writes_together(actions.set_task_weights, idempotent=True)
    get_task_weights = reads(actions.get_task_weights)
    get_taskhub_actioned_tasks = reads(actions.get_taskhub_actioned_tasks)
    get_transformation_actioned_tasks = reads(actions.get_transformation_actioned_tasks)
    get_task_actioned_networks = reads(actions.get_task_actioned_networks)

    # tasks
    create_task = writes(tasks.create_task)
    create_tasks = writes(tasks.create_tasks)
    set_tasks = writes(tasks.set_tasks)
    delete_task = writes(removal.delete_task)
    query_tasks = reads(task_queries.query_tasks)
    get_network_tasks = reads(task_queries.get_network_tasks)
    get_task_networks = reads(task_queries.get_task_networks)
    get_transformation_tasks = reads(task_queries.get_transformation_tasks)
    get_task_transformation = reads(task_queries.get_task_transformation)
    set_task_priority = writes_together(tasks.set_task_priority, idempotent=True)
    get_task_priority = reads(tasks.get_task_priority)

    # quotas
    set_quota = writes(quotas.set_quota)
    get_quota = reads(quotas.get_quota)
    query_quotas = reads(quotas.query_quotas)

    # compute services
    register_computeservice = writes(services.register_computeservice)
    heartbeat_computeservice = idempotent_in_autocommit(services.heartbeat_computeservice)
    query_computeservices = reads(services.query_computeservices)
    deregister_computeservice = writes(services.deregister_computeservice)
    expire_registrations = writes(services.expire_registrations)
    log_failure_compute_service = writes(services.log_failure_compute_service)
    compute_service_can_claim = idempotent_in_autocommit(services.compute_service_can_claim)
    compute_services_can_claim = idempotent_in_autocommit(services.compute_services_can_claim)

    # compute managers
    register_computemanager = writes(managers.register_computemanager)
    deregister_computemanager = writes(managers.deregister_computemanager)
    expire_computemanager_registrations = writes(managers.expire_computemanager_registrations)
    query_computemanagers = reads(managers.query_computemanagers)
    get_compute_manager_id = reads(managers.get_compute_manager_id)
    get_compute_manager_status = reads(managers.get_compute_manager_status)
    update_compute_manager_status = writes(managers.update_compute_manager_status)
    clear_errored_computemanager = writes(managers.clear_errored_computemanager)
    get_computemanager_instruction = writes(managers.get_computemanager_instruction)

    # claims
    claim_taskhub_tasks = writes_in_autocommit(claims.claim_taskhub_tasks)
    claim_tasks = writes_in_autocommit(claims.claim_tasks)
    acquire_lease = writes(leases.acquire_lease)
    release_lease = writes(leases.release_lease)
    maintain_queue = writes(lanes.maintain_queue)
    repair_queue = writes(repair.repair_queue)
    repair_restarts = writes(repair.repair_restarts)

    # settlement
    settle_task = writes_together(settlement.settle_task, known=True)
    deliver_result = writes_together(delivery.deliver_result, known=True)

    # restart patterns
    add_task_restart_patterns = writes(restart_patterns.add_task_restart_patterns)
    remove_task_restart_patterns = writes(restart_patterns.remove_task_restart_patterns)
    clear_task_restart_patterns = writes(restart_patterns.clear_task_restart_patterns)
    set_task_restart_patterns_max_retries = writes(
        restart_patterns.set_task_restart_patterns_max_retries
    )
    get_task_restart_patterns = reads(restart_patterns.get_task_restart_patterns)
    resolve_task_restarts = writes(restarts.resolve_task_restarts)

    # statuses
    set_task_status = writes_together(statuses.set_task_status, known=True)
    set_task_waiting = writes_together(statuses.set_task_waiting, known=True)
    set_task_running = writes_together(statuses.set_task_running, known=True)
    set_task_complete = writes_together(statuses.set_task_complete, known=True)
    set_task_error = writes_together(statuses.set_task_error, known=True)
    set_task_invalid = writes_together(statuses.set_task_invalid, known=True)
    set_task_deleted = writes_together(statuses.set_task_deleted, known=True)
    get_task_status = reads(statuses.get_task_status)
    get_scope_status = reads(status_counts.get_scope_status)
    get_network_status = reads(status_counts.get_network_status)
    get_transformation_status = reads(status_counts.get_transformation_status)

    # history
    get_task_history = reads(history.get_task_history)
    get_task_details = reads(history.get_task_details)
    get_service_tasks = reads(history.get_service_tasks)
    get_activity = reads(history.get_activity)
    set_attempt_log = writes(attempt_logs.set_attempt_log)
    get_task_logs = reads(attempt_logs.get_task_logs)
    get_lost_claims = reads(history.get_lost_claims)
    get_task_blockers = reads(blockers.get_task_blockers)

    # results
    set_task_result = writes(results.set_task_result)
    add_protocol_dag_result_ref_tracebacks = writes(
        tracebacks.add_protocol_dag_result_ref_tracebacks
    )
    get_task_tracebacks = reads(tracebacks.get_task_tracebacks)
    get_task_results = reads(results.get_task_results)
    get_task_failures = reads(results.get_task_failures)
    get_transformation_results = reads(results.get_transformation_results)
    get_transformation_failures = reads(results.get_transformation_failures)

    # identities
    create_credentialed_entity = writes(identities.create_credentialed_entity)
    get_credentialed_entity = reads(identities.get_credentialed_entity)
    list_credentialed_entities = reads(identities.list_credentialed_entities)
    remove_credentialed_identity = writes(identities.remove_credentialed_identity)
    set_disabled = writes(identities.set_disabled)
    add_scope = writes(identities.add_scope)
    list_scopes = reads(identities.list_scopes)
    remove_scope = writes(identities.remove_scope)


@functools.cache
def get_statestore(settings: Settings | None = None) -> StateStore:
    """Return the state store with these settings; equal settings share one store.

    Parameters
    ----------
    settings : Settings, optional
        URL and options of the database. Default: the settings of the environment.
    """
    return StateStore(settings)
