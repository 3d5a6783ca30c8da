"""Restart patterns of task hubs, and the retries that they have used for each task."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Integer, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.tables.base import Base


class RestartPatternRow(Base):
    """A restart pattern of a hub. `token` is the MD5 of the pattern, which may be long."""

    __tablename__ = "restart_patterns"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "taskhub", "token"),
        ForeignKeyConstraint(
            ["scope_id", "taskhub"], ["taskhubs.scope_id", "taskhubs.token"], ondelete="CASCADE"
        ),
        CheckConstraint("max_retries >= 1", name="max_retries"),
    )

    scope_id: Mapped[int]
    taskhub: Mapped[UUID]
    token: Mapped[UUID]
    pattern: Mapped[str]
    max_retries: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]


class RestartCounterRow(Base):
    """How often a pattern of a hub has restarted an actioned task; without a row, never.

    A counter is deleted with the action, and so with everything that takes the task off the hub.
    """

    __tablename__ = "restart_counters"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "taskhub", "task", "pattern"),
        ForeignKeyConstraint(
            ["scope_id", "taskhub", "task"],
            ["actions.scope_id", "actions.taskhub", "actions.task"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["scope_id", "taskhub", "pattern"],
            ["restart_patterns.scope_id", "restart_patterns.taskhub", "restart_patterns.token"],
            ondelete="CASCADE",
        ),
        Index(None, "scope_id", "taskhub", "pattern", "task"),
        CheckConstraint("retries >= 1", name="retries"),
        {"postgresql_with": {"fillfactor": 80}},
    )

    scope_id: Mapped[int]
    taskhub: Mapped[UUID]
    task: Mapped[UUID]
    pattern: Mapped[UUID]
    retries: Mapped[int] = mapped_column(Integer)
