"""Tasks, hubs, actions, and the queue of what is claimable now."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.tables.base import Base, CText, one_of, weight

STATUSES = ("waiting", "running", "complete", "error", "invalid", "deleted")

# Room on the page for the next version of a row: a status change then touches no index.
_UPDATED = {"postgresql_with": {"fillfactor": 80}}


class TaskHubRow(Base):
    """The hub of a network."""

    __tablename__ = "taskhubs"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        ForeignKeyConstraint(["scope_id", "network"], ["networks.scope_id", "networks.token"]),
        UniqueConstraint("scope_id", "network"),
        weight(),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    network: Mapped[UUID]
    weight: Mapped[float]
    created_at: Mapped[datetime]


class TaskRow(Base):
    """A piece of work on a transformation."""

    __tablename__ = "tasks"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        ForeignKeyConstraint(["scope_id", "transformation"], ["transformations.scope_id", "transformations.token"]),
        # The target of `extends`: a task can only extend a task of its own transformation.
        UniqueConstraint("scope_id", "transformation", "token"),
        one_of("status", STATUSES),
        CheckConstraint("priority >= 1", name="priority"),
        CheckConstraint("attempts >= 0", name="attempts"),
        _UPDATED,
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    transformation: Mapped[UUID]
    status: Mapped[CText]
    status_changed_at: Mapped[datetime]
    reason: Mapped[str | None]
    priority: Mapped[int]
    attempts: Mapped[int] = mapped_column(Integer)
    creator: Mapped[str | None]
    created_at: Mapped[datetime]


class StatusChangeRow(Base):
    """A task got another status, otherwise than by being created or claimed: these two stand in `tasks` and `attempts`.

    `change` is a UUIDv7, the same for all tasks changed by one call.
    """

    __tablename__ = "status_changes"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task", "change"),
        ForeignKeyConstraint(["scope_id", "task"], ["tasks.scope_id", "tasks.token"], ondelete="CASCADE"),
        one_of("status", STATUSES),
    )

    scope_id: Mapped[int]
    task: Mapped[UUID]
    change: Mapped[UUID]
    status: Mapped[CText]
    changed_at: Mapped[datetime]
    reason: Mapped[str | None]
    actor: Mapped[str | None]


class ExtendsRow(Base):
    """A task extends a task."""

    __tablename__ = "extends"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task"),
        ForeignKeyConstraint(
            ["scope_id", "transformation", "task"],
            ["tasks.scope_id", "tasks.transformation", "tasks.token"],
            name="extends__tasks__task__fk",
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["scope_id", "transformation", "parent"],
            ["tasks.scope_id", "tasks.transformation", "tasks.token"],
            name="extends__tasks__parent__fk",
        ),
        Index(None, "scope_id", "parent", "task"),
        CheckConstraint("task <> parent", name="parent"),
    )

    scope_id: Mapped[int]
    task: Mapped[UUID]
    parent: Mapped[UUID]
    transformation: Mapped[UUID]


class ActionRow(Base):
    """A task is on a hub."""

    __tablename__ = "actions"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "taskhub", "task"),
        ForeignKeyConstraint(["scope_id", "taskhub"], ["taskhubs.scope_id", "taskhubs.token"], ondelete="CASCADE"),
        ForeignKeyConstraint(["scope_id", "task"], ["tasks.scope_id", "tasks.token"]),
        Index(None, "scope_id", "task", "taskhub"),
        weight(),
    )

    scope_id: Mapped[int]
    taskhub: Mapped[UUID]
    task: Mapped[UUID]
    weight: Mapped[float]
    created_at: Mapped[datetime]


# Rows come and go all the time: with the usual fifth of the table as threshold the dead ones would outnumber the living.
_CHURN = {
    "postgresql_with": {
        "autovacuum_vacuum_scale_factor": 0.01,
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_vacuum_insert_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.05,
    }
}


class QueueRow(Base):
    """A claimable task on a hub, in the order of the race.

    A cache of the truth in `tasks`, `extends` and `actions`, kept by `operations.queue` alone; therefore without foreign keys.
    """

    __tablename__ = "queue"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task", "taskhub"),
        Index("queue__race__ix", "scope_id", "taskhub", "priority", "race"),
        Index("queue__protocol_race__ix", "scope_id", "taskhub", "protocol", "priority", "race"),
        CheckConstraint("weight > 0 AND weight <= 1", name="weight"),
        CheckConstraint("race >= 0 AND race < 'Infinity'", name="race"),
        _CHURN,
    )

    scope_id: Mapped[int]
    taskhub: Mapped[UUID]
    priority: Mapped[int]
    protocol: Mapped[CText]
    race: Mapped[float]
    task: Mapped[UUID]
    weight: Mapped[float]


class LaneRow(Base):
    """A priority of a hub that is in use, for one protocol or (with an empty protocol) for all.

    No claimable row lies below `floor`; `candidate` is the floor to be, once no transaction is left that could go below it.
    """

    __tablename__ = "lanes"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "taskhub", "protocol", "priority"),
        {
            "postgresql_with": {
                "fillfactor": 50,
                "autovacuum_vacuum_threshold": 200,
                "autovacuum_vacuum_scale_factor": 0.1,
            }
        },
    )

    scope_id: Mapped[int]
    taskhub: Mapped[UUID]
    protocol: Mapped[CText]
    priority: Mapped[int]
    floor: Mapped[float] = mapped_column(server_default=text("0"))
    candidate: Mapped[float | None]
    candidate_xid: Mapped[int | None]
    visited_at: Mapped[datetime]
