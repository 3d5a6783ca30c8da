"""List networks, transformations and chemical systems in the order of their gufe keys.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-29
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("networks", "transformations", "chemical_systems")


def upgrade() -> None:
    for table in TABLES:
        op.create_index(
            op.f(f"{table}__scope_id_kind_token__ix"), table, ["scope_id", "kind", "token"]
        )


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_index(op.f(f"{table}__scope_id_kind_token__ix"), table)
