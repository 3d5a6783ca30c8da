"""Add states and leases of strategies.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = "network_strategies"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("network", sa.Uuid(), nullable=False),
        sa.Column("set_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=False),
        sa.Column("iterations", sa.BigInteger(), nullable=False),
        sa.Column("sleep_interval", sa.BigInteger(), nullable=False),
        sa.Column("last_iteration_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_iteration_result_count", sa.BigInteger(), nullable=False),
        sa.Column("max_tasks_per_transformation", sa.BigInteger(), nullable=False),
        sa.Column("task_scaling", sa.Text(collation="C"), nullable=False),
        sa.Column("exception", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("lease", sa.Uuid(), nullable=True),
        sa.Column("lease_ends_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("leased_state", sa.Text(), nullable=True),
        sa.Column("set_since_lease", sa.Boolean(), nullable=False),
        sa.CheckConstraint("cardinality(exception) = 2", name=op.f(f"{TABLE}__exception__ck")),
        sa.CheckConstraint(
            "lease_ends_at IS NULL OR lease IS NOT NULL", name=op.f(f"{TABLE}__lease__ck")
        ),
        sa.CheckConstraint(
            "(leased_state IS NULL) = (lease_ends_at IS NULL)",
            name=op.f(f"{TABLE}__leased_state__ck"),
        ),
        sa.CheckConstraint(
            "mode IN ('full', 'partial', 'disabled')", name=op.f(f"{TABLE}__mode__ck")
        ),
        sa.CheckConstraint(
            "status IN ('awake', 'dormant', 'error')", name=op.f(f"{TABLE}__status__ck")
        ),
        sa.CheckConstraint(
            "task_scaling IN ('linear', 'exponential')", name=op.f(f"{TABLE}__task_scaling__ck")
        ),
        sa.CheckConstraint("iterations >= 0", name=op.f(f"{TABLE}__iterations__ck")),
        sa.CheckConstraint("sleep_interval > 0", name=op.f(f"{TABLE}__sleep_interval__ck")),
        sa.CheckConstraint(
            "last_iteration_result_count >= 0",
            name=op.f(f"{TABLE}__last_iteration_result_count__ck"),
        ),
        sa.CheckConstraint(
            "max_tasks_per_transformation > 0",
            name=op.f(f"{TABLE}__max_tasks_per_transformation__ck"),
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "network"],
            ["networks.scope_id", "networks.token"],
            name=op.f(f"{TABLE}__networks__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "network", name=op.f(f"{TABLE}__pk")),
    )


def downgrade() -> None:
    op.drop_table(TABLE)
