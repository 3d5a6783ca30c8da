"""Tasks, their status changes and parents, task hubs, and actions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.models import TaskStatusEnum
from alchemistore.tables.base import Base, CText, one_of, weight

# Free space on each page keeps the new version of a row there, so that no index is updated.
_UPDATED = {"postgresql_with": {"fillfactor": 80}}


class TaskHubRow(Base):
    """The task hub of a network."""

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
    """A task of a transformation."""

    __tablename__ = "tasks"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        ForeignKeyConstraint(
            ["scope_id", "transformation"], ["transformations.scope_id", "transformations.token"]
        ),
        # The foreign keys of `extends` refer to this key: a task extends only tasks of the same
        # transformation.
        UniqueConstraint("scope_id", "transformation", "token"),
        one_of("status", TaskStatusEnum),
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
    """A change of the status of a task.

    The creation and the claims of a task are in `tasks` and `attempts` instead. `change` is a
    UUIDv7; all tasks that are changed by one call have the same.
    """

    __tablename__ = "status_changes"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task", "change"),
        ForeignKeyConstraint(
            ["scope_id", "task"], ["tasks.scope_id", "tasks.token"], ondelete="CASCADE"
        ),
        one_of("status", TaskStatusEnum),
    )

    scope_id: Mapped[int]
    task: Mapped[UUID]
    change: Mapped[UUID]
    status: Mapped[CText]
    changed_at: Mapped[datetime]
    reason: Mapped[str | None]
    actor: Mapped[str | None]


class ExtendsRow(Base):
    """The parent of a task that extends another one."""

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
    """An actioned task: a task on a hub, with its weight.

    `patterns` are the restart patterns of the hub that have restarted the task, and `retries` how
    often each has; both are NULL if none has.
    """

    __tablename__ = "actions"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "taskhub", "task"),
        ForeignKeyConstraint(
            ["scope_id", "taskhub"], ["taskhubs.scope_id", "taskhubs.token"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["scope_id", "task"], ["tasks.scope_id", "tasks.token"]),
        Index(None, "scope_id", "task", "taskhub"),
        weight(),
        CheckConstraint(
            "cardinality(patterns) IS NOT DISTINCT FROM cardinality(retries)"
            " AND cardinality(retries) > 0 AND 1 <= ALL(retries)",
            name="retries",
        ),
        Index(
            "actions__patterns__ix",
            "scope_id",
            "taskhub",
            "task",
            postgresql_where=text("patterns IS NOT NULL"),
        ),
        _UPDATED,
    )

    scope_id: Mapped[int]
    taskhub: Mapped[UUID]
    task: Mapped[UUID]
    weight: Mapped[float]
    created_at: Mapped[datetime]
    patterns: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    retries: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
