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
)
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.models.task import TaskStatusEnum
from alchemistore.tables.base import Base, CText, one_of, weight

STATUSES = tuple(status.value for status in TaskStatusEnum)

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
        ForeignKeyConstraint(
            ["scope_id", "transformation"], ["transformations.scope_id", "transformations.token"]
        ),
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
        ForeignKeyConstraint(
            ["scope_id", "task"], ["tasks.scope_id", "tasks.token"], ondelete="CASCADE"
        ),
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
        ForeignKeyConstraint(
            ["scope_id", "taskhub"], ["taskhubs.scope_id", "taskhubs.token"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["scope_id", "task"], ["tasks.scope_id", "tasks.token"]),
        Index(None, "scope_id", "task", "taskhub"),
        weight(),
    )

    scope_id: Mapped[int]
    taskhub: Mapped[UUID]
    task: Mapped[UUID]
    weight: Mapped[float]
    created_at: Mapped[datetime]
