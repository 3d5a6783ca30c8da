"""Leases: tasks of one process at a time, which it keeps as long as it renews its lease."""

from datetime import datetime

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped

from alchemistore.tables.base import Base, CText


class LeaseRow(Base):
    """A lease, its last holder, and its end by the clock of the database."""

    __tablename__ = "leases"
    __table_args__ = (
        PrimaryKeyConstraint("name"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint("holder <> ''", name="holder"),
        # Renewed all the time; without room on its page, every renewal would update the index.
        {"postgresql_with": {"fillfactor": 50}},
    )

    name: Mapped[CText]
    holder: Mapped[CText]
    ends_at: Mapped[datetime]
