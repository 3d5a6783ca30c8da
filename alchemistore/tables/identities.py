"""Users, compute identities and their scopes."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.tables.base import Base, CText


class IdentityRow(Base):
    """A user or compute identity. Identifiers are unique within a type."""

    __tablename__ = "identities"
    __table_args__ = (
        UniqueConstraint("type", "identifier"),
        CheckConstraint("type IN ('user', 'compute')", name="type"),
        CheckConstraint("identifier <> ''", name="identifier"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    type: Mapped[CText]
    identifier: Mapped[CText]
    hashed_key: Mapped[str]
    expires_at: Mapped[datetime | None]
    disabled: Mapped[bool] = mapped_column(Boolean)
    email: Mapped[str | None]
    full_name: Mapped[str | None]
    created_at: Mapped[datetime]


class IdentityScopeRow(Base):
    """A scope of an identity. `position` is the order in which scopes were granted."""

    __tablename__ = "identity_scopes"
    __table_args__ = (PrimaryKeyConstraint("identity_id", "scope"),)

    identity_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("identities.id", ondelete="CASCADE")
    )
    scope: Mapped[CText]
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
