"""Imports of graphs: what an import has written, to notice other changes."""

from datetime import datetime

from sqlalchemy import PrimaryKeyConstraint
from sqlalchemy.orm import Mapped

from alchemistore.tables.base import Base, CText


class GraphImportRow(Base):
    """A part of the store that an import of a graph has written.

    `part` is a scope, ``services`` or ``identities``. `digest` is that of the rows at the end of
    the last transaction of an import, so that anything else that has written is noticed.
    """

    __tablename__ = "graph_imports"
    __table_args__ = (PrimaryKeyConstraint("part"),)

    part: Mapped[CText]
    source: Mapped[str]
    digest: Mapped[CText]
    imported_at: Mapped[datetime]
