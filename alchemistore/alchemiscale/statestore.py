"""The module that takes the place of ``alchemiscale.storage.statestore``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from alchemistore.alchemiscale.conversion import to_ours, to_theirs
from alchemistore.alchemiscale.settings import Neo4jSettings, graph_address, store_settings
from alchemistore.errors import MissingObjectError, StateStoreError as Neo4JStoreError
from alchemistore.store import AlchemiscaleStateStore, StateStore

__all__ = ["AlchemiscaleStateStore", "Neo4JStoreError", "Neo4jStore", "get_n4js"]

# The text that users of alchemiscale see.
MISSING = "No such object in database"


@contextmanager
def _their_errors() -> Iterator[None]:
    try:
        yield
    except MissingObjectError as error:
        raise KeyError(MISSING) from error


def _method(name: str) -> Callable[..., Any]:
    call = getattr(StateStore, name)

    @functools.wraps(call)
    def method(store: Neo4jStore, *args: Any, **kwargs: Any) -> Any:
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
    """

    def __init__(self, settings: Neo4jSettings) -> None:
        self.settings = settings
        self.db_name = settings.NEO4J_DBNAME
        self.store = StateStore(store_settings(settings))
        self.graph = SimpleNamespace(address=graph_address(self.store.engine.url))

    def transaction(self, ignore_exceptions: bool = False) -> AbstractContextManager[StateStore]:
        """Open a transaction; calls take what it yields as ``tx``."""
        return self.store.transaction(ignore_exceptions=ignore_exceptions)

    def heartbeat_computeservice(self, compute_service_id: Any, heartbeat: Any) -> Any:
        """Record that a compute service is alive; one that is not registered is ignored."""
        with suppress(MissingObjectError):
            self.store.heartbeat_computeservice(str(compute_service_id), heartbeat)
        return compute_service_id

    def deregister_computeservice(self, compute_service_id: Any) -> Any:
        """Remove the registration of a compute service, if there is one."""
        with suppress(MissingObjectError):
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
