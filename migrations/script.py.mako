"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date.date()}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

# Rules for a migration. Delete this comment when the migration follows them.
#
# - Expand, then contract. Workers of the previous release run during the upgrade, so a migration
#   only adds: tables, nullable columns, columns with a constant default, indexes. Drop a column or
#   table in the release after the one that stops using it.
# - No rewrite of a large table (a new column type, a volatile default) and no UPDATE of all rows.
#   Fill new columns in batches from the code, not here.
# - env.py sets lock_timeout to 10 s. Keep it: a migration that waits for a lock blocks all later
#   queries of that table.
# - All pending migrations run in one transaction, so CREATE INDEX CONCURRENTLY cannot run here. For
#   a large table, put the statement into the CHANGELOG for operators to run before the upgrade, and
#   create the index here with if_not_exists=True.
# - Name every constraint and index by the convention of alchemistore/tables/base.py: op.f("...").
#   If users can violate a constraint, add its error to errors.CONSTRAINT_ERRORS.
# - Change alchemistore/tables/ in the same commit. tests/schema/test_migrations.py runs each
#   revision up, down and up again, and compares the result with the tables.


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
