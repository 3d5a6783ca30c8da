"""Add attempt_logs, for the output of attempts.

Revision ID: 0011
Revises: 0010
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempt_logs",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("tracebacks", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("size >= 0", name=op.f("attempt_logs__size__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "task", "attempt"],
            ["attempts.scope_id", "attempts.task", "attempts.attempt"],
            name=op.f("attempt_logs__attempts__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "task", "attempt", name=op.f("attempt_logs__pk")),
    )


def downgrade() -> None:
    op.drop_table("attempt_logs")
