"""Quotas: limits on the tasks of scopes."""

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped

from alchemistore.tables.base import Base, CText


class QuotaRow(Base):
    """The limits that were set for a scope. An open component of the scope is ``*``.

    A limit that is NULL is not set for this scope, so that of the next broader scope applies.
    """

    __tablename__ = "quotas"
    __table_args__ = (
        PrimaryKeyConstraint("org", "campaign", "project"),
        CheckConstraint(
            "(org <> '*' OR campaign = '*') AND (campaign <> '*' OR project = '*')", name="scope"
        ),
        CheckConstraint(
            "waiting_per_transformation IS NOT NULL OR actioned_per_hub IS NOT NULL", name="limit"
        ),
        CheckConstraint("waiting_per_transformation >= 0", name="waiting_per_transformation"),
        CheckConstraint("actioned_per_hub >= 0", name="actioned_per_hub"),
    )

    org: Mapped[CText]
    campaign: Mapped[CText]
    project: Mapped[CText]
    waiting_per_transformation: Mapped[int | None]
    actioned_per_hub: Mapped[int | None]
