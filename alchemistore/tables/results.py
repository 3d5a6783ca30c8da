"""References to results in the object store, their tasks and their tracebacks."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, Integer, PrimaryKeyConstraint, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.tables.base import Base, CText


class ResultRow(Base):
    """A ProtocolDAGResultRef.

    `scope_id` is the scope of the task, and `scope` is the field of the reference.
    """

    __tablename__ = "results"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        ForeignKeyConstraint(["scope_id"], ["scopes.id"]),
        Index(None, "location"),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    obj_key: Mapped[CText]
    location: Mapped[CText | None]
    scope: Mapped[CText]
    ok: Mapped[bool]
    creator: Mapped[str | None]
    datetime_created: Mapped[datetime | None]
    created_at: Mapped[datetime]


class TaskResultRow(Base):
    """A result of a task, with the number of the attempt if it is known."""

    __tablename__ = "task_results"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "task", "result"),
        ForeignKeyConstraint(["scope_id", "task"], ["tasks.scope_id", "tasks.token"]),
        ForeignKeyConstraint(["scope_id", "result"], ["results.scope_id", "results.token"]),
        Index(None, "scope_id", "result", "task"),
    )

    scope_id: Mapped[int]
    task: Mapped[UUID]
    result: Mapped[UUID]
    attempt: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime]


class TracebacksRow(Base):
    """The tracebacks of a failure. `token` is the MD5 of the three lists.

    A result may have several such rows, because tracebacks can be added later.
    """

    __tablename__ = "tracebacks"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "result", "token"),
        ForeignKeyConstraint(
            ["scope_id", "result"], ["results.scope_id", "results.token"], ondelete="CASCADE"
        ),
    )

    scope_id: Mapped[int]
    result: Mapped[UUID]
    token: Mapped[UUID]
    tracebacks: Mapped[list[str]] = mapped_column(ARRAY(Text))
    source_keys: Mapped[list[str]] = mapped_column(ARRAY(Text))
    failure_keys: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # Bytes of the tracebacks, so that they can be read in portions.
    size: Mapped[int]
    created_at: Mapped[datetime]
