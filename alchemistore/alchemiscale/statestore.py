"""The module that takes the place of ``alchemiscale.storage.statestore``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from alchemistore.alchemiscale.conversion import to_ours, to_theirs
from alchemistore.alchemiscale.settings import Neo4jSettings, graph_address, store_settings
from alchemistore.errors import (
    MissingObjectError,
    OutcomeUnknownError,
    QuotaError,
    StateStoreError as Neo4JStoreError,
    StoreUnavailableError,
)
from alchemistore.models import Delivery, TaskStatusEnum
from alchemistore.store import AlchemiscaleStateStore, StateStore

__all__ = ["AlchemiscaleStateStore", "Neo4JStoreError", "Neo4jStore", "get_n4js"]

# The text that users of alchemiscale see.
MISSING = "No such object in database"
SERVICE_UNAVAILABLE = 503
# The calls with which alchemiscale's server continues after it has stored a result.
CONTINUE = frozenset({"add_protocol_dag_result_ref_tracebacks"})


@functools.cache
def unavailable_error() -> type[Exception]:
    """Return the class of errors that a server answers with "service unavailable".

    The clients of alchemiscale repeat a request that gets this answer. Nothing has been changed.
    """
    http = import_module("starlette.exceptions").HTTPException

    def create(self: Any, text: str) -> None:
        http.__init__(self, SERVICE_UNAVAILABLE, text)

    return type("UnavailableError", (http, StoreUnavailableError), {"__init__": create})


@contextmanager
def _their_errors() -> Iterator[None]:
    try:
        yield
    except MissingObjectError as error:
        raise KeyError(MISSING) from error
    except QuotaError as error:
        # The server sends the text to the user.
        raise ValueError(str(error)) from error
    except OutcomeUnknownError:
        raise
    except StoreUnavailableError as error:
        raise unavailable_error()(str(error)) from error


@dataclass
class _Delivered:
    """The result that this request or program has delivered last.

    Attributes
    ----------
    store : Neo4jStore
    task, service : str
    delivery : Delivery
        What it changed. It has an attempt, so that the delivery has settled everything.
    """

    store: Neo4jStore
    task: str
    service: str
    delivery: Delivery


# A server copies the context for each request.
_DELIVERED: ContextVar[_Delivered | None] = ContextVar("delivered", default=None)


def _method(name: str) -> Callable[..., Any]:
    call = getattr(StateStore, name)

    @functools.wraps(call)
    def method(store: Neo4jStore, *args: Any, **kwargs: Any) -> Any:
        if name not in CONTINUE:
            _DELIVERED.set(None)
        named = {parameter: to_ours(value) for parameter, value in kwargs.items()}
        with _their_errors():
            return to_theirs(call(store.store, *map(to_ours, args), **named))

    return method


class Neo4jStore:
    """A state store with the calls and models of alchemiscale, on PostgreSQL.

    It has all calls of :class:`alchemistore.StateStore`.

    Parameters
    ----------
    settings : Neo4jStoreSettings
        The settings of alchemiscale; see :func:`alchemistore.alchemiscale.settings.store_settings`.

    Attributes
    ----------
    settings : Neo4jStoreSettings
        The settings.
    db_name : str
        ``NEO4J_DBNAME``.
    store : StateStore
        The store that answers the calls.
    graph : SimpleNamespace
        ``graph.address`` is ``host:port/database``.

    Notes
    -----
    alchemiscale's server stores a result with up to six calls. Here, the first of them,
    `set_task_result`, settles the task if its service has claimed it, as `deliver_result` does. The
    calls that follow in the same request find the status set and the failure recorded.
    """

    def __init__(self, settings: Neo4jSettings) -> None:
        self.settings = settings
        self.db_name = settings.NEO4J_DBNAME
        self.store = StateStore(store_settings(settings))
        self.graph = SimpleNamespace(address=graph_address(self.store.engine.url))

    @contextmanager
    def transaction(self, ignore_exceptions: bool = False) -> Iterator[StateStore]:
        """Open a transaction; calls take what it yields as ``tx``."""
        with (
            _their_errors(),
            self.store.transaction(ignore_exceptions=ignore_exceptions) as tx,
        ):
            yield tx

    def set_task_result(self, task: Any, protocoldagresultref: Any) -> Any:
        """Store a reference to a result, and settle the task if its creator has claimed it."""
        ref = to_ours(protocoldagresultref)
        with _their_errors():
            delivery = self.store.deliver_result(str(task), ref, ref.creator)
        settled = delivery.attempt is not None and ref.creator is not None
        _DELIVERED.set(_Delivered(self, str(task), ref.creator, delivery) if settled else None)
        return to_theirs(delivery.result)

    def set_task_complete(self, tasks: Any, raise_error: bool = False) -> Any:
        """Set tasks to complete, except a task whose result has been delivered just now."""
        return self._set(TaskStatusEnum.complete, tasks, raise_error)

    def set_task_error(self, tasks: Any, raise_error: bool = False) -> Any:
        """Set tasks to error, except a task whose result has been delivered just now."""
        return self._set(TaskStatusEnum.error, tasks, raise_error)

    def _set(self, status: TaskStatusEnum, tasks: Any, raise_error: bool) -> Any:
        given = list(tasks) if not isinstance(tasks, str) else tasks
        if (delivered := self._delivered(given)) is not None:
            return [given[0] if delivered.delivery.status is status else None]
        _DELIVERED.set(None)
        with _their_errors():
            return to_theirs(self.store.set_task_status(to_ours(given), status, raise_error))

    def log_failure_compute_service(self, compute_service_id: Any, failure_time: Any) -> Any:
        """Record that a service failed at a task, unless the delivery has recorded it."""
        delivered = _DELIVERED.get()
        if (
            delivered is None
            or delivered.store is not self
            or delivered.service != str(compute_service_id)
        ):
            with _their_errors():
                self.store.log_failure_compute_service(str(compute_service_id), failure_time)
        return compute_service_id

    def resolve_task_restarts(self, task_scoped_keys: Any, *, tx: StateStore | None = None) -> None:
        """Restart failed tasks, except one whose late failure has changed nothing."""
        given = list(task_scoped_keys)
        delivered = self._delivered(given)
        _DELIVERED.set(None)
        if delivered is not None:
            delivery = delivered.delivery
            if not (delivery.settled or delivery.repeated):
                return
        with _their_errors():
            (tx or self.store).resolve_task_restarts(to_ours(given))

    def _delivered(self, tasks: Any) -> _Delivered | None:
        """Return the delivery that has settled exactly these tasks just now."""
        delivered = _DELIVERED.get()
        if delivered is None or delivered.store is not self:
            return None
        return delivered if [str(one) for one in tasks] == [delivered.task] else None

    def create_tasks(self, transformations: Any, extends: Any = None, creator: Any = None) -> Any:
        """Create a task for each transformation; for a user, none if a quota does not allow all."""
        _DELIVERED.set(None)
        given = to_ours((transformations, extends, creator))
        with _their_errors():
            # The strategist names no creator, and goes on with the tasks that it gets.
            return to_theirs(self.store.create_tasks(*given, partly=creator is None))

    def query_networks(self, **filters: Any) -> Any:
        """Find networks; `name`, `key` and `state` are patterns, as in alchemiscale."""
        _DELIVERED.set(None)
        with _their_errors():
            return to_theirs(self.store.query_networks(**to_ours(filters), patterns=True))

    def claim_taskhub_tasks(
        self, taskhub: Any, compute_service_id: Any, count: int = 1, protocols: Any = None
    ) -> Any:
        """Claim tasks; a service that is not registered gets none."""
        given = to_ours((taskhub, compute_service_id, count, protocols))
        with _their_errors(), suppress(MissingObjectError):
            return to_theirs(self.store.claim_taskhub_tasks(*given))
        return [None] * count

    def heartbeat_computeservice(self, compute_service_id: Any, heartbeat: Any) -> Any:
        """Record that a compute service is alive; one that is not registered is ignored."""
        with _their_errors(), suppress(MissingObjectError):
            self.store.heartbeat_computeservice(str(compute_service_id), heartbeat)
        return compute_service_id

    def deregister_computeservice(self, compute_service_id: Any) -> Any:
        """Remove the registration of a compute service, if there is one."""
        with _their_errors(), suppress(MissingObjectError):
            self.store.deregister_computeservice(str(compute_service_id))
        return compute_service_id

    def _store_check(self) -> bool:
        return self.store._store_check()


for _name in dir(StateStore):
    if callable(getattr(StateStore, _name)) and _name[0] != "_" and _name not in vars(Neo4jStore):
        setattr(Neo4jStore, _name, _method(_name))


def get_n4js(settings: Neo4jSettings) -> Neo4jStore:
    """Return a store for the settings of alchemiscale."""
    return Neo4jStore(settings)
