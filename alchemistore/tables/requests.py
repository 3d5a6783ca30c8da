"""Requests: calls that were carried out under an identifier, with their answers."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped

from alchemistore.tables.base import Base, CText


class RequestRow(Base):
    """A request that was carried out; kept for some days.

    The index on the time is a BRIN index, because it costs claims almost nothing.
    """

    __tablename__ = "requests"
    __table_args__ = (
        PrimaryKeyConstraint("request"),
        Index("requests__made_at__ix", "made_at", postgresql_using="brin"),
    )

    request: Mapped[UUID]
    call: Mapped[CText]
    arguments: Mapped[UUID]
    answer: Mapped[str]
    made_at: Mapped[datetime]
