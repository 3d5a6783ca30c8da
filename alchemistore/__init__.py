"""State and result storage for alchemical free energy campaigns, on PostgreSQL and S3."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Log messages appear only if the program configures logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from alchemistore.errors import (
        AlchemiscaleNotInstalledError as AlchemiscaleNotInstalledError,
        AlchemistoreError as AlchemistoreError,
        CheckError as CheckError,
        DamagedDocumentError as DamagedDocumentError,
        DocumentConflictError as DocumentConflictError,
        DocumentConflictWarning as DocumentConflictWarning,
        DocumentNotBuildableError as DocumentNotBuildableError,
        GraphError as GraphError,
        GufeNotInstalledError as GufeNotInstalledError,
        InvalidScopeError as InvalidScopeError,
        KeyDriftWarning as KeyDriftWarning,
        MissingObjectError as MissingObjectError,
        MissingStoredObjectError as MissingStoredObjectError,
        Neo4jNotInstalledError as Neo4jNotInstalledError,
        OutcomeUnknownError as OutcomeUnknownError,
        PackageNotInstalledError as PackageNotInstalledError,
        QuotaError as QuotaError,
        S3ObjectStoreError as S3ObjectStoreError,
        S3UnavailableError as S3UnavailableError,
        SchemaError as SchemaError,
        StateStoreError as StateStoreError,
        StoreUnavailableError as StoreUnavailableError,
    )
    from alchemistore.files import (
        AddedFile as AddedFile,
        add_file as add_file,
    )
    from alchemistore.iteration import iterate as iterate
    from alchemistore.models import (
        Activity as Activity,
        Attempt as Attempt,
        AttemptLog as AttemptLog,
        AttemptOutcome as AttemptOutcome,
        Blocker as Blocker,
        BlockerKind as BlockerKind,
        ComputeManagerDetails as ComputeManagerDetails,
        ComputeManagerID as ComputeManagerID,
        ComputeManagerInstruction as ComputeManagerInstruction,
        ComputeManagerRegistration as ComputeManagerRegistration,
        ComputeManagerStatus as ComputeManagerStatus,
        ComputeServiceDetails as ComputeServiceDetails,
        ComputeServiceID as ComputeServiceID,
        ComputeServiceRegistration as ComputeServiceRegistration,
        CredentialedComputeIdentity as CredentialedComputeIdentity,
        CredentialedEntity as CredentialedEntity,
        CredentialedUserIdentity as CredentialedUserIdentity,
        Delivery as Delivery,
        FileContent as FileContent,
        GufeKey as GufeKey,
        NetworkDetails as NetworkDetails,
        NetworkMark as NetworkMark,
        NetworkStateEnum as NetworkStateEnum,
        ObjectStoreRef as ObjectStoreRef,
        PresignedDownload as PresignedDownload,
        PresignedUpload as PresignedUpload,
        ProtocolDAGResultRef as ProtocolDAGResultRef,
        QueueRepair as QueueRepair,
        Quota as Quota,
        Records as Records,
        RefusalReason as RefusalReason,
        RestartCount as RestartCount,
        Scope as Scope,
        ScopedKey as ScopedKey,
        Settlement as Settlement,
        StatusChange as StatusChange,
        StatusCounts as StatusCounts,
        StrategyModeEnum as StrategyModeEnum,
        StrategyState as StrategyState,
        StrategyStatusEnum as StrategyStatusEnum,
        StrategyTaskScalingEnum as StrategyTaskScalingEnum,
        Task as Task,
        TaskArchive as TaskArchive,
        TaskDetails as TaskDetails,
        TaskHistory as TaskHistory,
        TaskHub as TaskHub,
        TaskProvenance as TaskProvenance,
        TaskRestartPattern as TaskRestartPattern,
        TaskStatusEnum as TaskStatusEnum,
        Tracebacks as Tracebacks,
        records as records,
        to_pandas as to_pandas,
    )
    from alchemistore.objectstore import (
        S3BytesStore as S3BytesStore,
        S3ObjectStore as S3ObjectStore,
        get_s3os as get_s3os,
        pack_for_upload as pack_for_upload,
    )
    from alchemistore.settings import (
        S3ObjectStoreSettings as S3ObjectStoreSettings,
        Settings as Settings,
    )
    from alchemistore.store import (
        AlchemiscaleStateStore as AlchemiscaleStateStore,
        StateStore as StateStore,
        get_statestore as get_statestore,
    )

# The public names by module; a module is imported at the first use of one of its names.
_PUBLIC = {
    "alchemistore.errors": (
        "AlchemiscaleNotInstalledError",
        "AlchemistoreError",
        "CheckError",
        "DamagedDocumentError",
        "DocumentConflictError",
        "DocumentConflictWarning",
        "DocumentNotBuildableError",
        "GraphError",
        "GufeNotInstalledError",
        "InvalidScopeError",
        "KeyDriftWarning",
        "MissingObjectError",
        "MissingStoredObjectError",
        "Neo4jNotInstalledError",
        "OutcomeUnknownError",
        "PackageNotInstalledError",
        "QuotaError",
        "S3ObjectStoreError",
        "S3UnavailableError",
        "SchemaError",
        "StateStoreError",
        "StoreUnavailableError",
    ),
    "alchemistore.files": (
        "AddedFile",
        "add_file",
    ),
    "alchemistore.iteration": ("iterate",),
    "alchemistore.models": (
        "Activity",
        "Attempt",
        "AttemptLog",
        "AttemptOutcome",
        "Blocker",
        "BlockerKind",
        "ComputeManagerDetails",
        "ComputeManagerID",
        "ComputeManagerInstruction",
        "ComputeManagerRegistration",
        "ComputeManagerStatus",
        "ComputeServiceDetails",
        "ComputeServiceID",
        "ComputeServiceRegistration",
        "CredentialedComputeIdentity",
        "CredentialedEntity",
        "CredentialedUserIdentity",
        "Delivery",
        "FileContent",
        "GufeKey",
        "NetworkDetails",
        "NetworkMark",
        "NetworkStateEnum",
        "ObjectStoreRef",
        "PresignedDownload",
        "PresignedUpload",
        "ProtocolDAGResultRef",
        "QueueRepair",
        "Quota",
        "Records",
        "RefusalReason",
        "RestartCount",
        "Scope",
        "ScopedKey",
        "Settlement",
        "StatusChange",
        "StatusCounts",
        "StrategyModeEnum",
        "StrategyState",
        "StrategyStatusEnum",
        "StrategyTaskScalingEnum",
        "Task",
        "TaskArchive",
        "TaskDetails",
        "TaskHistory",
        "TaskHub",
        "TaskProvenance",
        "TaskRestartPattern",
        "TaskStatusEnum",
        "Tracebacks",
        "records",
        "to_pandas",
    ),
    "alchemistore.objectstore": (
        "S3BytesStore",
        "S3ObjectStore",
        "get_s3os",
        "pack_for_upload",
    ),
    "alchemistore.settings": (
        "S3ObjectStoreSettings",
        "Settings",
    ),
    "alchemistore.store": (
        "AlchemiscaleStateStore",
        "StateStore",
        "get_statestore",
    ),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
