"""Drop the foreign key of claims to attempts.

PostgreSQL plans its check once for each session. A session that begins while there are few attempts
reads all of them in every claim, more and more, until the table is analyzed. Claims are inserted
and deleted together with attempts, and `check` compares them.

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-29
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("claims__attempts__fk"), "claims", type_="foreignkey")


def downgrade() -> None:
    op.create_foreign_key(
        op.f("claims__attempts__fk"),
        "claims",
        "attempts",
        ["scope_id", "task", "attempt"],
        ["scope_id", "task", "attempt"],
    )
