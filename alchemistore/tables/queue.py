"""The queue: what is claimable now, and its lanes."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.tables.base import Base, CText

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
