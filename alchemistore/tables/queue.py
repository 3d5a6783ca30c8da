"""The queue of claimable tasks, and its lanes."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.tables.base import Base, CText

# Rows are inserted and deleted all the time. With the default threshold, a fifth of the table,
# dead rows would soon outnumber live ones.
_CHURN = {
    "postgresql_with": {
        "autovacuum_vacuum_scale_factor": 0.01,
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_vacuum_insert_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.05,
    }
}


class QueueRow(Base):
    """A claimable task on a hub. Claims take rows in the order of priority and `race`.

    The table is derived from `tasks`, `extends` and `actions`, and only `operations.queue` writes
    to it. Therefore it needs no foreign keys.
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
    """A lane of the queue: one priority of a hub, for one protocol or, if empty, for all.

    No claimable row has a `race` below `floor`. `candidate` is the next floor; it becomes the floor
    when no running transaction can insert a row below it.
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
