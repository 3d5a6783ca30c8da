"""Add restart patterns, their counters, and a table of tracebacks.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-29
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The token is the MD5 of the three lists, as in operations/tracebacks.py.
MOVE_TRACEBACKS = """
    INSERT INTO tracebacks (
        scope_id, result, token, tracebacks, source_keys, failure_keys, size, created_at
    )
    SELECT scope_id, result,
        CAST(md5(
            CAST(ROW(tracebacks, CAST('{}' AS text[]), CAST('{}' AS text[])) AS text)
        ) AS uuid),
        tracebacks, '{}', '{}',
        (SELECT coalesce(sum(octet_length(one)), 0) FROM unnest(tracebacks) AS one), created_at
    FROM task_results WHERE cardinality(tracebacks) > 0
    ON CONFLICT DO NOTHING
"""
MOVE_TRACEBACKS_BACK = """
    UPDATE task_results AS l SET tracebacks = b.tracebacks
    FROM (
        SELECT DISTINCT ON (scope_id, result) scope_id, result, tracebacks FROM tracebacks
        ORDER BY scope_id, result, created_at, token
    ) AS b
    WHERE b.scope_id = l.scope_id AND b.result = l.result
"""


def upgrade() -> None:
    op.create_table(
        "tracebacks",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("tracebacks", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("source_keys", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("failure_keys", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "result"],
            ["results.scope_id", "results.token"],
            name=op.f("tracebacks__results__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "result", "token", name=op.f("tracebacks__pk")),
    )
    # No released version uses this column, so it can go at once.
    op.execute(MOVE_TRACEBACKS)
    op.drop_column("task_results", "tracebacks")
    op.create_table(
        "restart_patterns",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("taskhub", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("max_retries >= 1", name=op.f("restart_patterns__max_retries__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "taskhub"],
            ["taskhubs.scope_id", "taskhubs.token"],
            name=op.f("restart_patterns__taskhubs__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "taskhub", "token", name=op.f("restart_patterns__pk")),
    )
    op.create_table(
        "restart_counters",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("taskhub", sa.Uuid(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("pattern", sa.Uuid(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.CheckConstraint("retries >= 1", name=op.f("restart_counters__retries__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "taskhub", "task"],
            ["actions.scope_id", "actions.taskhub", "actions.task"],
            name=op.f("restart_counters__actions__fk"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "taskhub", "pattern"],
            ["restart_patterns.scope_id", "restart_patterns.taskhub", "restart_patterns.token"],
            name=op.f("restart_counters__restart_patterns__fk"),
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


def downgrade() -> None:
    op.drop_table("restart_counters")
    op.drop_table("restart_patterns")
    op.add_column(
        "task_results", sa.Column("tracebacks", postgresql.ARRAY(sa.Text()), nullable=True)
    )
    op.execute(MOVE_TRACEBACKS_BACK)
    op.drop_table("tracebacks")
