"""Compute services, their attempts at tasks, and their claims."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.models import AttemptOutcome, ComputeManagerStatus
from alchemistore.tables.base import Base, CText, one_of

# A heartbeat finds room on its page, so that it updates no index.
_BEATING = {"postgresql_with": {"fillfactor": 50, "autovacuum_vacuum_threshold": 200}}


class ComputeManagerRow(Base):
    """A registered compute manager; one per name.

    It manages the services with its name in `manager_name`, including those that a manager of this
    name has left behind. A service keeps the name when the manager goes, so there is no foreign
    key.
    """

    __tablename__ = "compute_managers"
    __table_args__ = (
        one_of("status", ComputeManagerStatus),
        CheckConstraint("name ~ '^[a-zA-Z][a-zA-Z0-9_.:]*$'", name="name"),
        CheckConstraint(
            "(status = 'OK') = (saturation IS NOT NULL)"
            " AND (status = 'ERROR') = (coalesce(detail, '') <> '')",
            name="detail",
        ),
        CheckConstraint("saturation >= 0 AND saturation <= 1", name="saturation"),
        _BEATING,
    )

    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    uuid: Mapped[UUID]
    registered_at: Mapped[datetime]
    status: Mapped[CText]
    detail: Mapped[str | None]
    saturation: Mapped[float | None]
    status_updated_at: Mapped[datetime]


class ComputeServiceRow(Base):
    """A registered compute service."""

    __tablename__ = "compute_services"
    __table_args__ = (
        CheckConstraint("identifier <> ''", name="identifier"),
        Index(None, "manager_name", postgresql_where=text("manager_name IS NOT NULL")),
        _BEATING,
    )

    identifier: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    hostname: Mapped[str | None]
    registered_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    manager_name: Mapped[CText | None]


class ServiceFailureRow(Base):
    """A failure of a registered compute service, until it is forgiven."""

    __tablename__ = "service_failures"
    __table_args__ = (
        PrimaryKeyConstraint("service", "failed_at", "token"),
        ForeignKeyConstraint(["service"], ["compute_services.identifier"], ondelete="CASCADE"),
    )

    service: Mapped[CText]
    failed_at: Mapped[datetime]
    token: Mapped[UUID]


class EnvironmentRow(Base):
    """The packages of a worker: package name to version as JSON, with its MD5 as token."""

    __tablename__ = "environments"
    __table_args__ = (PrimaryKeyConstraint("scope_id", "token"),)

    scope_id: Mapped[int]
    token: Mapped[UUID]
    packages: Mapped[str]
    created_at: Mapped[datetime]


class AttemptRow(Base):
    """An attempt of a service at a task: service, host, start, end and outcome.

    The queue columns (taskhub, lane, priority, race) keep the sort key of the claimed entry. The
    largest `race` of a lane is the clock of that lane.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task", "attempt"),
        ForeignKeyConstraint(
            ["scope_id", "task"], ["tasks.scope_id", "tasks.token"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["scope_id", "environment"], ["environments.scope_id", "environments.token"]
        ),
        one_of("outcome", AttemptOutcome),
        CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended"),
        CheckConstraint("attempt >= 1", name="attempt"),
        Index("attempts__race__ix", "scope_id", "taskhub", "lane", "priority", "race"),
        {"postgresql_with": {"fillfactor": 80}},
    )

    scope_id: Mapped[int]
    task: Mapped[UUID]
    attempt: Mapped[int] = mapped_column(Integer)
    service: Mapped[str]
    hostname: Mapped[str | None]
    claimed_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[CText | None]
    reason: Mapped[str | None]
    result: Mapped[UUID | None]
    environment: Mapped[UUID | None]
    taskhub: Mapped[UUID]
    lane: Mapped[CText]
    priority: Mapped[int]
    race: Mapped[float]


class AttemptLogRow(Base):
    """The end of the output of an attempt, and the tracebacks of one without a result.

    `size` is the number of bytes of the whole output.
    """

    __tablename__ = "attempt_logs"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task", "attempt"),
        ForeignKeyConstraint(
            ["scope_id", "task", "attempt"],
            ["attempts.scope_id", "attempts.task", "attempts.attempt"],
            ondelete="CASCADE",
        ),
        CheckConstraint("size >= 0", name="size"),
    )

    scope_id: Mapped[int]
    task: Mapped[UUID]
    attempt: Mapped[int] = mapped_column(Integer)
    log: Mapped[str]
    size: Mapped[int]
    tracebacks: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime]


class ClaimRow(Base):
    """A claim: a service is running a task, as attempt n.

    There is no foreign key to the attempt, because its check slows claims down while the attempts
    become many; see docs/query-plans.md.
    """

    __tablename__ = "claims"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task"),
        ForeignKeyConstraint(["service"], ["compute_services.identifier"]),
        Index(None, "service"),
        {
            "postgresql_with": {
                "autovacuum_vacuum_threshold": 1000,
                "autovacuum_vacuum_scale_factor": 0.02,
            }
        },
    )

    scope_id: Mapped[int]
    task: Mapped[UUID]
    attempt: Mapped[int] = mapped_column(Integer)
    service: Mapped[CText]
    claimed_at: Mapped[datetime]
