"""The records of the public API: immutable, and validated when they are created."""

from alchemistore.models.addresses import FileContent, PresignedDownload, PresignedUpload
from alchemistore.models.compute import (
    ComputeManagerDetails,
    ComputeManagerID,
    ComputeManagerInstruction,
    ComputeManagerRegistration,
    ComputeManagerStatus,
    ComputeServiceDetails,
    ComputeServiceID,
    ComputeServiceRegistration,
    TaskArchive,
    TaskProvenance,
)
from alchemistore.models.display import Records, StatusCounts, records, to_pandas
from alchemistore.models.history import (
    Activity,
    Attempt,
    AttemptLog,
    AttemptOutcome,
    Blocker,
    BlockerKind,
    Delivery,
    QueueRepair,
    Settlement,
    StatusChange,
    TaskDetails,
    TaskHistory,
)
from alchemistore.models.identity import (
    CredentialedComputeIdentity,
    CredentialedEntity,
    CredentialedUserIdentity,
)
from alchemistore.models.keys import GufeKey, Scope, ScopedKey
from alchemistore.models.network import NetworkDetails, NetworkMark, NetworkStateEnum
from alchemistore.models.quota import Quota
from alchemistore.models.restarts import RestartCount, TaskRestartPattern
from alchemistore.models.result import ObjectStoreRef, ProtocolDAGResultRef, Tracebacks
from alchemistore.models.strategy import (
    StrategyModeEnum,
    StrategyState,
    StrategyStatusEnum,
    StrategyTaskScalingEnum,
)
from alchemistore.models.task import RefusalReason, Task, TaskHub, TaskStatusEnum

__all__ = [
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
]
