"""Move restart counters into actions.

An action is locked and deleted with its counters, so that they need no table and no foreign keys of
their own. Free space on the pages of actions keeps the new version of a row there, so that no index
is updated.

Revision ID: 0012
Revises: 0011
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("actions", sa.Column("patterns", postgresql.ARRAY(sa.Uuid()), nullable=True))
    op.add_column("actions", sa.Column("retries", postgresql.ARRAY(sa.Integer()), nullable=True))
    op.create_check_constraint(
        op.f("actions__retries__ck"),
        "actions",
        "cardinality(patterns) IS NOT DISTINCT FROM cardinality(retries)"
        " AND cardinality(retries) > 0 AND 1 <= ALL(retries)",
    )
    op.execute("ALTER TABLE actions SET (fillfactor = 80)")
    op.execute("""
        UPDATE actions AS a SET patterns = c.patterns, retries = c.retries
        FROM (
            SELECT scope_id, taskhub, task, array_agg(pattern) AS patterns,
                array_agg(retries) AS retries
            FROM restart_counters GROUP BY scope_id, taskhub, task
        ) AS c
        WHERE (a.scope_id, a.taskhub, a.task) = (c.scope_id, c.taskhub, c.task)
    """)
    op.drop_table("restart_counters")
    op.create_index(
        "actions__patterns__ix",
        "actions",
        ["scope_id", "taskhub", "task"],
        postgresql_where=sa.text("patterns IS NOT NULL"),
    )


def downgrade() -> None:
    op.create_table(
        "restart_counters",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("taskhub", sa.Uuid(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("pattern", sa.Uuid(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.CheckConstraint("retries >= 1", name=op.f("restart_counters__retries__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "taskhub", "pattern"],
            ["restart_patterns.scope_id", "restart_patterns.taskhub", "restart_patterns.token"],
            name=op.f("restart_counters__restart_patterns__fk"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "taskhub", "task"],
            ["actions.scope_id", "actions.taskhub", "actions.task"],
            name=op.f("restart_counters__actions__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "scope_id", "taskhub", "task", "pattern", name=op.f("restart_counters__pk")
        ),
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(
        op.f("restart_counters__scope_id_taskhub_pattern_task__ix"),
        "restart_counters",
        ["scope_id", "taskhub", "pattern", "task"],
    )
    op.execute("""
        INSERT INTO restart_counters (scope_id, taskhub, task, pattern, retries)
        SELECT a.scope_id, a.taskhub, a.task, c.pattern, c.retries
        FROM actions AS a
        CROSS JOIN LATERAL unnest(a.patterns, a.retries) AS c (pattern, retries)
    """)
    op.drop_constraint(op.f("actions__retries__ck"), "actions", type_="check")
    op.drop_index("actions__patterns__ix", table_name="actions")
    op.drop_column("actions", "retries")
    op.drop_column("actions", "patterns")
    op.execute("ALTER TABLE actions RESET (fillfactor)")
