"""Add compute managers and the failures of compute services.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "compute_managers",
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("uuid", sa.Uuid(), nullable=False),
        sa.Column("registered_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("saturation", sa.Double(), nullable=True),
        sa.Column("status_updated_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('OK', 'ERROR')", name=op.f("compute_managers__status__ck")),
        sa.CheckConstraint(
            "name ~ '^[a-zA-Z][a-zA-Z0-9_.:]*$'", name=op.f("compute_managers__name__ck")
        ),
        sa.CheckConstraint(
            "(status = 'OK') = (saturation IS NOT NULL)"
            " AND (status = 'ERROR') = (coalesce(detail, '') <> '')",
            name=op.f("compute_managers__detail__ck"),
        ),
        sa.CheckConstraint(
            "saturation >= 0 AND saturation <= 1", name=op.f("compute_managers__saturation__ck")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("compute_managers__pk")),
        postgresql_with={"fillfactor": 50, "autovacuum_vacuum_threshold": 200},
    )
    op.add_column(
        "compute_services", sa.Column("manager_name", sa.Text(collation="C"), nullable=True)
    )
    op.create_index(
        op.f("compute_services__manager_name__ix"),
        "compute_services",
        ["manager_name"],
        postgresql_where=sa.text("manager_name IS NOT NULL"),
    )
    op.create_table(
        "service_failures",
        sa.Column("service", sa.Text(collation="C"), nullable=False),
        sa.Column("failed_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["service"],
            ["compute_services.identifier"],
            name=op.f("service_failures__compute_services__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("service", "failed_at", "token", name=op.f("service_failures__pk")),
    )


def downgrade() -> None:
    op.drop_table("service_failures")
    op.drop_index(op.f("compute_services__manager_name__ix"), "compute_services")
    op.drop_column("compute_services", "manager_name")
    op.drop_table("compute_managers")
