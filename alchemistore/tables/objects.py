"""Scopes, gufe objects, and the contents of networks."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.models import NetworkStateEnum
from alchemistore.tables.base import Base, CText, one_of


class ScopeRow(Base):
    """An organisation, campaign and project. The table is small and rarely written."""

    __tablename__ = "scopes"
    __table_args__ = (UniqueConstraint("org", "campaign", "project"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    org: Mapped[CText]
    campaign: Mapped[CText]
    project: Mapped[CText]
    created_at: Mapped[datetime]


class GufeObjectRow(Base):
    """The document of a gufe object in a scope.

    A row changes only if its document turns out to be wrong for its key; see
    :class:`DocumentConflictRow`.
    """

    __tablename__ = "gufe_objects"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        ForeignKeyConstraint(["scope_id"], ["scopes.id"]),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    kind: Mapped[CText]
    document: Mapped[bytes]
    children: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    writer: Mapped[str]
    created_at: Mapped[datetime]


# Documents are already compressed, so PostgreSQL should not compress them.
_UNCOMPRESSED = "ALTER TABLE gufe_objects ALTER COLUMN document SET STORAGE EXTERNAL"
event.listen(
    GufeObjectRow.__table__,
    "after_create",
    DDL(_UNCOMPRESSED),  # type: ignore[no-untyped-call]  # SQLAlchemy has no types for DDL
)


class DocumentConflictRow(Base):
    """Two different documents for one key, kept for the operator."""

    __tablename__ = "document_conflicts"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token", "id"),
        ForeignKeyConstraint(["scope_id"], ["scopes.id"]),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    kind: Mapped[CText]
    # The document that was stored first; whether the other one has taken its place.
    document: Mapped[bytes]
    writer: Mapped[str]
    other_document: Mapped[bytes]
    other_writer: Mapped[str]
    replaced: Mapped[bool]
    difference: Mapped[str]
    created_at: Mapped[datetime]


def _is_object(*names: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["scope_id", *names], ["gufe_objects.scope_id", "gufe_objects.token"]
    )


class NetworkRow(Base):
    """An AlchemicalNetwork."""

    __tablename__ = "networks"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        _is_object("token"),
        ForeignKeyConstraint(
            ["scope_id", "strategy"],
            ["gufe_objects.scope_id", "gufe_objects.token"],
            name="networks__gufe_objects__strategy__fk",
        ),
        # The index holds a hash, because a name may be longer than an index entry.
        Index("networks__name__ix", "scope_id", text("hashtextextended(name, 0)")),
        Index(None, "scope_id", "kind", "token"),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    kind: Mapped[CText]
    name: Mapped[CText | None]
    strategy: Mapped[UUID | None]
    created_at: Mapped[datetime]


class NetworkMarkRow(Base):
    """The state of a network. A network without a mark is active."""

    __tablename__ = "network_marks"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        ForeignKeyConstraint(
            ["scope_id", "network"], ["networks.scope_id", "networks.token"], ondelete="CASCADE"
        ),
        UniqueConstraint("scope_id", "network"),
        one_of("state", NetworkStateEnum),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    network: Mapped[UUID]
    state: Mapped[CText]
    created_at: Mapped[datetime]


class TransformationRow(Base):
    """A Transformation or NonTransformation, with the class name of its protocol."""

    __tablename__ = "transformations"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        _is_object("token"),
        Index("transformations__name__ix", "scope_id", text("hashtextextended(name, 0)")),
        Index(None, "scope_id", "kind", "token"),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    kind: Mapped[CText]
    name: Mapped[CText | None]
    protocol: Mapped[CText]


class ChemicalSystemRow(Base):
    """A ChemicalSystem."""

    __tablename__ = "chemical_systems"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "token"),
        _is_object("token"),
        Index("chemical_systems__name__ix", "scope_id", text("hashtextextended(name, 0)")),
        Index(None, "scope_id", "kind", "token"),
    )

    scope_id: Mapped[int]
    token: Mapped[UUID]
    kind: Mapped[CText]
    name: Mapped[CText | None]


def _member(column: str, table: str, ondelete: str | None = None) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["scope_id", column], [f"{table}.scope_id", f"{table}.token"], ondelete=ondelete
    )


class NetworkTransformationRow(Base):
    """A transformation of a network."""

    __tablename__ = "network_transformations"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "network", "transformation"),
        _member("network", "networks", ondelete="CASCADE"),
        _member("transformation", "transformations"),
        Index(None, "scope_id", "transformation", "network"),
    )

    scope_id: Mapped[int]
    network: Mapped[UUID]
    transformation: Mapped[UUID]


class NetworkChemicalSystemRow(Base):
    """A chemical system of a network."""

    __tablename__ = "network_chemical_systems"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "network", "chemical_system"),
        _member("network", "networks", ondelete="CASCADE"),
        _member("chemical_system", "chemical_systems"),
        Index(None, "scope_id", "chemical_system", "network"),
    )

    scope_id: Mapped[int]
    network: Mapped[UUID]
    chemical_system: Mapped[UUID]


class TransformationChemicalSystemRow(Base):
    """An end state of a transformation."""

    __tablename__ = "transformation_chemical_systems"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "transformation", "role"),
        _member("transformation", "transformations", ondelete="CASCADE"),
        _member("chemical_system", "chemical_systems"),
        Index(
            "transformation_chemical_systems__chemical_system__ix",
            "scope_id",
            "chemical_system",
            "transformation",
        ),
        CheckConstraint("role IN ('A', 'B', 'system')", name="role"),
    )

    scope_id: Mapped[int]
    transformation: Mapped[UUID]
    role: Mapped[CText]
    chemical_system: Mapped[UUID]
