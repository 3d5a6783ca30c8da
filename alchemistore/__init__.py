"""State and result storage for alchemical free energy campaigns, on PostgreSQL and S3."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from alchemistore.models import (
        ComputeServiceID,
        ComputeServiceRegistration,
        CredentialedComputeIdentity,
        CredentialedEntity,
        CredentialedUserIdentity,
        ObjectStoreRef,
        ProtocolDAGResultRef,
        Scope,
        ScopedKey,
        Task,
        TaskArchive,
        TaskHub,
        TaskProvenance,
        TaskStatusEnum,
    )
    from alchemistore.objectstore import S3ObjectStore, get_s3os
    from alchemistore.protocol import AlchemiscaleStateStore
    from alchemistore.settings import Settings
    from alchemistore.store import StateStore, get_statestore

# Where each public name lives; nothing of it is imported before somebody asks.
_HOME = {
    "AlchemiscaleStateStore": "alchemistore.protocol",
    "ComputeServiceID": "alchemistore.models",
    "ComputeServiceRegistration": "alchemistore.models",
    "CredentialedComputeIdentity": "alchemistore.models",
    "CredentialedEntity": "alchemistore.models",
    "CredentialedUserIdentity": "alchemistore.models",
    "ObjectStoreRef": "alchemistore.models",
    "ProtocolDAGResultRef": "alchemistore.models",
    "S3ObjectStore": "alchemistore.objectstore",
    "Scope": "alchemistore.models",
    "ScopedKey": "alchemistore.models",
    "Settings": "alchemistore.settings",
    "StateStore": "alchemistore.store",
    "Task": "alchemistore.models",
    "TaskArchive": "alchemistore.models",
    "TaskHub": "alchemistore.models",
    "TaskProvenance": "alchemistore.models",
    "TaskStatusEnum": "alchemistore.models",
    "get_s3os": "alchemistore.objectstore",
    "get_statestore": "alchemistore.store",
}

__all__ = [
    "AlchemiscaleStateStore",
    "ComputeServiceID",
    "ComputeServiceRegistration",
    "CredentialedComputeIdentity",
    "CredentialedEntity",
    "CredentialedUserIdentity",
    "ObjectStoreRef",
    "ProtocolDAGResultRef",
    "S3ObjectStore",
    "Scope",
    "ScopedKey",
    "Settings",
    "StateStore",
    "Task",
    "TaskArchive",
    "TaskHub",
    "TaskProvenance",
    "TaskStatusEnum",
    "get_s3os",
    "get_statestore",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
