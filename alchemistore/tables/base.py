"""Metadata, naming convention, column types and constraints that all tables share."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, LargeBinary, MetaData, Text, Uuid
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, mapped_column

# `errors.CONSTRAINT_ERRORS` maps names of constraints to errors.
NAMING = {
    "pk": "%(table_name)s__pk",
    "uq": "%(table_name)s__%(column_0_N_name)s__uq",
    "fk": "%(table_name)s__%(referred_table_name)s__fk",
    "ck": "%(table_name)s__%(constraint_name)s__ck",
    "ix": "%(table_name)s__%(column_0_N_name)s__ix",
}


class Base(DeclarativeBase):
    """Base class of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: Any = {  # noqa: RUF012  (SQLAlchemy reads it from the class)
        bytes: LargeBinary,
        datetime: TIMESTAMP(timezone=True),
        float: Double,
        int: BigInteger,
        str: Text,
        UUID: Uuid,
    }


# Text that is compared and sorted by bytes, which is the same on every server.
CText = Annotated[str, mapped_column(Text(collation="C"))]


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """Return a constraint that limits a column to some values."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=column)


def weight() -> CheckConstraint:
    """Return a constraint that limits `weight` to 0 to 1. PostgreSQL sorts NaN above 1."""
    return CheckConstraint("weight >= 0 AND weight <= 1", name="weight")
