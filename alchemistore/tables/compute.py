"""Compute services, the leases they hold, and what became of each lease."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.models.history import AttemptOutcome
from alchemistore.tables.base import Base, CText, one_of


class ComputeServiceRow(Base):
    """A registration with its heartbeat; a heartbeat touches this row only, and no index."""

    __tablename__ = "compute_services"
    __table_args__ = (
        CheckConstraint("identifier <> ''", name="identifier"),
        {"postgresql_with": {"fillfactor": 50, "autovacuum_vacuum_threshold": 200}},
    )

    identifier: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    hostname: Mapped[str | None]
    registered_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]


class EnvironmentRow(Base):
    """What was installed where tasks ran: package name to version, as JSON; stored once, its token is its MD5."""

    __tablename__ = "environments"
    __table_args__ = (PrimaryKeyConstraint("scope_id", "token"),)

    scope_id: Mapped[int]
    token: Mapped[UUID]
    packages: Mapped[str]
    created_at: Mapped[datetime]


class AttemptRow(Base):
    """What became of a lease: who ran a task, where, from when to when, and how it ended.

    Its queue columns are the log of the races handed out: the largest one in a lane is that lane's clock.
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
        one_of("outcome", tuple(AttemptOutcome)),
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


class ClaimRow(Base):
    """A live lease: the task is being run by a service, as attempt n."""

    __tablename__ = "claims"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task"),
        ForeignKeyConstraint(["service"], ["compute_services.identifier"]),
        ForeignKeyConstraint(
            ["scope_id", "task", "attempt"],
            ["attempts.scope_id", "attempts.task", "attempts.attempt"],
        ),
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
