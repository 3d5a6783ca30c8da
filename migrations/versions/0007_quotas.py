"""Add quotas.

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("org", sa.Text(collation="C"), nullable=False),
        sa.Column("campaign", sa.Text(collation="C"), nullable=False),
        sa.Column("project", sa.Text(collation="C"), nullable=False),
        sa.Column("waiting_per_transformation", sa.BigInteger(), nullable=True),
        sa.Column("actioned_per_hub", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(org <> '*' OR campaign = '*') AND (campaign <> '*' OR project = '*')",
            name=op.f("quotas__scope__ck"),
        ),
        sa.CheckConstraint(
            "waiting_per_transformation IS NOT NULL OR actioned_per_hub IS NOT NULL",
            name=op.f("quotas__limit__ck"),
        ),
        sa.CheckConstraint(
            "waiting_per_transformation >= 0",
            name=op.f("quotas__waiting_per_transformation__ck"),
        ),
        sa.CheckConstraint("actioned_per_hub >= 0", name=op.f("quotas__actioned_per_hub__ck")),
        sa.PrimaryKeyConstraint("org", "campaign", "project", name=op.f("quotas__pk")),
    )


def downgrade() -> None:
    op.drop_table("quotas")
