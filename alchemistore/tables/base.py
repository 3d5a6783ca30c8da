"""What all tables share: the metadata with its naming convention, and the columns that recur."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, LargeBinary, MetaData, Text, Uuid
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, mapped_column

# The name of a constraint is the key under which `transaction` finds the error it stands for.
NAMING = {
    "pk": "%(table_name)s__pk",
    "uq": "%(table_name)s__%(column_0_N_name)s__uq",
    "fk": "%(table_name)s__%(referred_table_name)s__fk",
    "ck": "%(table_name)s__%(constraint_name)s__ck",
    "ix": "%(table_name)s__%(column_0_N_name)s__ix",
}


class Base(DeclarativeBase):
    """Every table belongs to this metadata."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: Any = {  # noqa: RUF012  (SQLAlchemy reads it from the class)
        bytes: LargeBinary,
        datetime: TIMESTAMP(timezone=True),
        float: Double,
        int: BigInteger,
        str: Text,
        UUID: Uuid,
    }


# Text that is sorted and compared byte by byte, the same on every server.
CText = Annotated[str, mapped_column(Text(collation="C"))]


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """Constrain a column to a set of words."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=column)


def weight() -> CheckConstraint:
    """Constrain `weight` to 0 to 1; NaN, to PostgreSQL the greatest number of all, is out too."""
    return CheckConstraint("weight >= 0 AND weight <= 1", name="weight")
