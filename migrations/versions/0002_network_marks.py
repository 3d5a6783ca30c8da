"""Add the marks of networks, which hold their states.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The token of a mark is the MD5 digest of the scoped key of its network. Workers of the previous
# version create networks without a mark, which are active, too.
MARK_NETWORKS = """
    INSERT INTO network_marks (scope_id, token, network, state, created_at)
    SELECT
        n.scope_id,
        CAST(md5(concat_ws(
            '-', n.kind, replace(CAST(n.token AS text), '-', ''), s.org, s.campaign, s.project
        )) AS uuid),
        n.token, 'active', n.created_at
    FROM networks AS n JOIN scopes AS s ON s.id = n.scope_id
"""


def upgrade() -> None:
    op.create_table(
        "network_marks",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("network", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('active', 'inactive', 'invalid', 'deleted')",
            name=op.f("network_marks__state__ck"),
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "network"],
            ["networks.scope_id", "networks.token"],
            name=op.f("network_marks__networks__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("network_marks__pk")),
        sa.UniqueConstraint(
            "scope_id", "network", name=op.f("network_marks__scope_id_network__uq")
        ),
    )
    op.execute(MARK_NETWORKS)


def downgrade() -> None:
    op.drop_table("network_marks")
