"""Add leases.

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("holder", sa.Text(collation="C"), nullable=False),
        sa.Column("ends_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("leases__name__ck")),
        sa.CheckConstraint("holder <> ''", name=op.f("leases__holder__ck")),
        sa.PrimaryKeyConstraint("name", name=op.f("leases__pk")),
        postgresql_with={"fillfactor": 50},
    )


def downgrade() -> None:
    op.drop_table("leases")
