"""Restart patterns of task hubs. The retries that they have used are in `actions`."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Integer, PrimaryKeyConstraint
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
