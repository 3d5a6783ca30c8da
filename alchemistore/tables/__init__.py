"""The tables: columns, constraints and indexes."""

from alchemistore.tables.base import Base
from alchemistore.tables.compute import (
    AttemptLogRow,
    AttemptRow,
    ClaimRow,
    ComputeManagerRow,
    ComputeServiceRow,
    EnvironmentRow,
    ServiceFailureRow,
)
from alchemistore.tables.identities import IdentityRow, IdentityScopeRow
from alchemistore.tables.imports import GraphImportRow
from alchemistore.tables.leases import LeaseRow
from alchemistore.tables.objects import (
    ChemicalSystemRow,
    GufeObjectRow,
    NetworkChemicalSystemRow,
    NetworkMarkRow,
    NetworkRow,
    NetworkTransformationRow,
    ScopeRow,
    TransformationChemicalSystemRow,
    TransformationRow,
)
from alchemistore.tables.queue import LaneRow, QueueRow
from alchemistore.tables.quotas import QuotaRow
from alchemistore.tables.requests import RequestRow
from alchemistore.tables.restarts import RestartPatternRow
from alchemistore.tables.results import ResultRow, TaskResultRow, TracebacksRow
from alchemistore.tables.strategies import NetworkStrategyRow
from alchemistore.tables.tasks import ActionRow, ExtendsRow, StatusChangeRow, TaskHubRow, TaskRow

metadata = Base.metadata

__all__ = [
    "ActionRow",
    "AttemptLogRow",
    "AttemptRow",
    "Base",
    "ChemicalSystemRow",
    "ClaimRow",
    "ComputeManagerRow",
    "ComputeServiceRow",
    "EnvironmentRow",
    "ExtendsRow",
    "GraphImportRow",
    "GufeObjectRow",
    "IdentityRow",
    "IdentityScopeRow",
    "LaneRow",
    "LeaseRow",
    "NetworkChemicalSystemRow",
    "NetworkMarkRow",
    "NetworkRow",
    "NetworkStrategyRow",
    "NetworkTransformationRow",
    "QueueRow",
    "QuotaRow",
    "RequestRow",
    "RestartPatternRow",
    "ResultRow",
    "ScopeRow",
    "ServiceFailureRow",
    "StatusChangeRow",
    "TaskHubRow",
    "TaskResultRow",
    "TaskRow",
    "TracebacksRow",
    "TransformationChemicalSystemRow",
    "TransformationRow",
    "metadata",
]
