"""Create the tables of the first version.

Revision ID: 0001
Revises:
Create Date: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "compute_services",
        sa.Column("identifier", sa.Text(collation="C"), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=True),
        sa.Column("registered_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("heartbeat_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("identifier <> ''", name=op.f("compute_services__identifier__ck")),
        sa.PrimaryKeyConstraint("identifier", name=op.f("compute_services__pk")),
        postgresql_with={"fillfactor": 50, "autovacuum_vacuum_threshold": 200},
    )
    op.create_table(
        "environments",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("packages", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("environments__pk")),
    )
    op.create_table(
        "identities",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("type", sa.Text(collation="C"), nullable=False),
        sa.Column("identifier", sa.Text(collation="C"), nullable=False),
        sa.Column("hashed_key", sa.Text(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("full_name", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("identifier <> ''", name=op.f("identities__identifier__ck")),
        sa.CheckConstraint("type IN ('user', 'compute')", name=op.f("identities__type__ck")),
        sa.PrimaryKeyConstraint("id", name=op.f("identities__pk")),
        sa.UniqueConstraint("type", "identifier", name=op.f("identities__type_identifier__uq")),
    )
    op.create_table(
        "lanes",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("taskhub", sa.Uuid(), nullable=False),
        sa.Column("protocol", sa.Text(collation="C"), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("candidate", sa.Double(), nullable=True),
        sa.Column("candidate_xid", sa.BigInteger(), nullable=True),
        sa.Column("visited_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "scope_id", "taskhub", "protocol", "priority", name=op.f("lanes__pk")
        ),
        postgresql_with={
            "fillfactor": 50,
            "autovacuum_vacuum_threshold": 200,
            "autovacuum_vacuum_scale_factor": 0.1,
        },
    )
    op.create_table(
        "queue",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("taskhub", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("protocol", sa.Text(collation="C"), nullable=False),
        sa.Column("race", sa.Double(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.CheckConstraint("race >= 0 AND race < 'Infinity'", name=op.f("queue__race__ck")),
        sa.CheckConstraint("weight > 0 AND weight <= 1", name=op.f("queue__weight__ck")),
        sa.PrimaryKeyConstraint("scope_id", "task", "taskhub", name=op.f("queue__pk")),
        # Rows are inserted and deleted all the time. With the default threshold, a fifth of the
        # table, dead rows would soon outnumber live ones.
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0.01,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0.05,
            "autovacuum_analyze_scale_factor": 0.05,
        },
    )
    op.create_index(
        "queue__protocol_race__ix", "queue", ["scope_id", "taskhub", "protocol", "priority", "race"]
    )
    op.create_index("queue__race__ix", "queue", ["scope_id", "taskhub", "priority", "race"])
    op.create_table(
        "scopes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("org", sa.Text(collation="C"), nullable=False),
        sa.Column("campaign", sa.Text(collation="C"), nullable=False),
        sa.Column("project", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("scopes__pk")),
        sa.UniqueConstraint(
            "org", "campaign", "project", name=op.f("scopes__org_campaign_project__uq")
        ),
    )
    op.create_table(
        "gufe_objects",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("children", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("gufe_objects__scopes__fk")),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("gufe_objects__pk")),
    )
    # Documents are already compressed, so PostgreSQL should not compress them.
    op.execute("ALTER TABLE gufe_objects ALTER COLUMN document SET STORAGE EXTERNAL")
    op.create_table(
        "document_conflicts",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("other_document", sa.LargeBinary(), nullable=False),
        sa.Column("other_writer", sa.Text(), nullable=False),
        sa.Column("replaced", sa.Boolean(), nullable=False),
        sa.Column("difference", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id"], ["scopes.id"], name=op.f("document_conflicts__scopes__fk")
        ),
        sa.PrimaryKeyConstraint("scope_id", "token", "id", name=op.f("document_conflicts__pk")),
    )
    op.create_table(
        "identity_scopes",
        sa.Column("identity_id", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.Text(collation="C"), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["identity_id"],
            ["identities.id"],
            name=op.f("identity_scopes__identities__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("identity_id", "scope", name=op.f("identity_scopes__pk")),
    )
    op.create_table(
        "results",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("obj_key", sa.Text(collation="C"), nullable=False),
        sa.Column("location", sa.Text(collation="C"), nullable=True),
        sa.Column("scope", sa.Text(collation="C"), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("creator", sa.Text(), nullable=True),
        sa.Column("datetime_created", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("results__scopes__fk")),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("results__pk")),
    )
    op.create_index(op.f("results__location__ix"), "results", ["location"])
    op.create_table(
        "chemical_systems",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=True),
        sa.ForeignKeyConstraint(
            ["scope_id", "token"],
            ["gufe_objects.scope_id", "gufe_objects.token"],
            name=op.f("chemical_systems__gufe_objects__fk"),
        ),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("chemical_systems__pk")),
    )
    op.create_index(
        "chemical_systems__name__ix",
        "chemical_systems",
        ["scope_id", sa.literal_column("hashtextextended(name, 0)")],
    )
    op.create_table(
        "networks",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=True),
        sa.Column("strategy", sa.Uuid(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "strategy"],
            ["gufe_objects.scope_id", "gufe_objects.token"],
            name="networks__gufe_objects__strategy__fk",
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "token"],
            ["gufe_objects.scope_id", "gufe_objects.token"],
            name=op.f("networks__gufe_objects__fk"),
        ),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("networks__pk")),
    )
    op.create_index(
        "networks__name__ix",
        "networks",
        ["scope_id", sa.literal_column("hashtextextended(name, 0)")],
    )
    op.create_table(
        "transformations",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=True),
        sa.Column("protocol", sa.Text(collation="C"), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "token"],
            ["gufe_objects.scope_id", "gufe_objects.token"],
            name=op.f("transformations__gufe_objects__fk"),
        ),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("transformations__pk")),
    )
    op.create_index(
        "transformations__name__ix",
        "transformations",
        ["scope_id", sa.literal_column("hashtextextended(name, 0)")],
    )
    op.create_table(
        "network_chemical_systems",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("network", sa.Uuid(), nullable=False),
        sa.Column("chemical_system", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "chemical_system"],
            ["chemical_systems.scope_id", "chemical_systems.token"],
            name=op.f("network_chemical_systems__chemical_systems__fk"),
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "network"],
            ["networks.scope_id", "networks.token"],
            name=op.f("network_chemical_systems__networks__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "scope_id", "network", "chemical_system", name=op.f("network_chemical_systems__pk")
        ),
    )
    op.create_index(
        op.f("network_chemical_systems__scope_id_chemical_system_network__ix"),
        "network_chemical_systems",
        ["scope_id", "chemical_system", "network"],
    )
    op.create_table(
        "network_transformations",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("network", sa.Uuid(), nullable=False),
        sa.Column("transformation", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "network"],
            ["networks.scope_id", "networks.token"],
            name=op.f("network_transformations__networks__fk"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "transformation"],
            ["transformations.scope_id", "transformations.token"],
            name=op.f("network_transformations__transformations__fk"),
        ),
        sa.PrimaryKeyConstraint(
            "scope_id", "network", "transformation", name=op.f("network_transformations__pk")
        ),
    )
    op.create_index(
        op.f("network_transformations__scope_id_transformation_network__ix"),
        "network_transformations",
        ["scope_id", "transformation", "network"],
    )
    op.create_table(
        "taskhubs",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("network", sa.Uuid(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("weight >= 0 AND weight <= 1", name=op.f("taskhubs__weight__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "network"],
            ["networks.scope_id", "networks.token"],
            name=op.f("taskhubs__networks__fk"),
        ),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("taskhubs__pk")),
        sa.UniqueConstraint("scope_id", "network", name=op.f("taskhubs__scope_id_network__uq")),
    )
    op.create_table(
        "tasks",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("transformation", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=False),
        sa.Column("status_changed_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("creator", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('waiting', 'running', 'complete', 'error', 'invalid', 'deleted')",
            name=op.f("tasks__status__ck"),
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("tasks__attempts__ck")),
        sa.CheckConstraint("priority >= 1", name=op.f("tasks__priority__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "transformation"],
            ["transformations.scope_id", "transformations.token"],
            name=op.f("tasks__transformations__fk"),
        ),
        sa.PrimaryKeyConstraint("scope_id", "token", name=op.f("tasks__pk")),
        sa.UniqueConstraint(
            "scope_id",
            "transformation",
            "token",
            name=op.f("tasks__scope_id_transformation_token__uq"),
        ),
        postgresql_with={"fillfactor": 80},
    )
    op.create_table(
        "transformation_chemical_systems",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("transformation", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(collation="C"), nullable=False),
        sa.Column("chemical_system", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "role IN ('A', 'B', 'system')", name=op.f("transformation_chemical_systems__role__ck")
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "chemical_system"],
            ["chemical_systems.scope_id", "chemical_systems.token"],
            name=op.f("transformation_chemical_systems__chemical_systems__fk"),
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "transformation"],
            ["transformations.scope_id", "transformations.token"],
            name=op.f("transformation_chemical_systems__transformations__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "scope_id", "transformation", "role", name=op.f("transformation_chemical_systems__pk")
        ),
    )
    op.create_index(
        "transformation_chemical_systems__chemical_system__ix",
        "transformation_chemical_systems",
        ["scope_id", "chemical_system", "transformation"],
    )
    op.create_table(
        "actions",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("taskhub", sa.Uuid(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("weight >= 0 AND weight <= 1", name=op.f("actions__weight__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "task"], ["tasks.scope_id", "tasks.token"], name=op.f("actions__tasks__fk")
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "taskhub"],
            ["taskhubs.scope_id", "taskhubs.token"],
            name=op.f("actions__taskhubs__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "taskhub", "task", name=op.f("actions__pk")),
    )
    op.create_index(
        op.f("actions__scope_id_task_taskhub__ix"), "actions", ["scope_id", "task", "taskhub"]
    )
    op.create_table(
        "attempts",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=True),
        sa.Column("claimed_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(collation="C"), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("result", sa.Uuid(), nullable=True),
        sa.Column("environment", sa.Uuid(), nullable=True),
        sa.Column("taskhub", sa.Uuid(), nullable=False),
        sa.Column("lane", sa.Text(collation="C"), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("race", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('complete', 'error', 'released', 'expired', 'deregistered', 'superseded',"
            " 'invalid', 'deleted')",
            name=op.f("attempts__outcome__ck"),
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (outcome IS NULL)", name=op.f("attempts__ended__ck")
        ),
        sa.CheckConstraint("attempt >= 1", name=op.f("attempts__attempt__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "environment"],
            ["environments.scope_id", "environments.token"],
            name=op.f("attempts__environments__fk"),
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "task"],
            ["tasks.scope_id", "tasks.token"],
            name=op.f("attempts__tasks__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "task", "attempt", name=op.f("attempts__pk")),
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(
        "attempts__race__ix", "attempts", ["scope_id", "taskhub", "lane", "priority", "race"]
    )
    op.create_table(
        "extends",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("parent", sa.Uuid(), nullable=False),
        sa.Column("transformation", sa.Uuid(), nullable=False),
        sa.CheckConstraint("task <> parent", name=op.f("extends__parent__ck")),
        sa.ForeignKeyConstraint(
            ["scope_id", "transformation", "parent"],
            ["tasks.scope_id", "tasks.transformation", "tasks.token"],
            name="extends__tasks__parent__fk",
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "transformation", "task"],
            ["tasks.scope_id", "tasks.transformation", "tasks.token"],
            name="extends__tasks__task__fk",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "task", name=op.f("extends__pk")),
    )
    op.create_index(
        op.f("extends__scope_id_parent_task__ix"), "extends", ["scope_id", "parent", "task"]
    )
    op.create_table(
        "status_changes",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("change", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(collation="C"), nullable=False),
        sa.Column("changed_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('waiting', 'running', 'complete', 'error', 'invalid', 'deleted')",
            name=op.f("status_changes__status__ck"),
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "task"],
            ["tasks.scope_id", "tasks.token"],
            name=op.f("status_changes__tasks__fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("scope_id", "task", "change", name=op.f("status_changes__pk")),
    )
    op.create_table(
        "task_results",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("result", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("tracebacks", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "result"],
            ["results.scope_id", "results.token"],
            name=op.f("task_results__results__fk"),
        ),
        sa.ForeignKeyConstraint(
            ["scope_id", "task"],
            ["tasks.scope_id", "tasks.token"],
            name=op.f("task_results__tasks__fk"),
        ),
        sa.PrimaryKeyConstraint("scope_id", "task", "result", name=op.f("task_results__pk")),
    )
    op.create_index(
        op.f("task_results__scope_id_result_task__ix"),
        "task_results",
        ["scope_id", "result", "task"],
    )
    op.create_table(
        "claims",
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("service", sa.Text(collation="C"), nullable=False),
        sa.Column("claimed_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope_id", "task", "attempt"],
            ["attempts.scope_id", "attempts.task", "attempts.attempt"],
            name=op.f("claims__attempts__fk"),
        ),
        sa.ForeignKeyConstraint(
            ["service"], ["compute_services.identifier"], name=op.f("claims__compute_services__fk")
        ),
        sa.PrimaryKeyConstraint("scope_id", "task", name=op.f("claims__pk")),
        postgresql_with={
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_scale_factor": 0.02,
        },
    )
    op.create_index(op.f("claims__service__ix"), "claims", ["service"])
    op.create_table(
        "requests",
        sa.Column("request", sa.Uuid(), nullable=False),
        sa.Column("call", sa.Text(collation="C"), nullable=False),
        sa.Column("arguments", sa.Uuid(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("made_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("request", name=op.f("requests__pk")),
    )
    op.create_index(op.f("requests__made_at__ix"), "requests", ["made_at"], postgresql_using="brin")


def downgrade() -> None:
    op.drop_table("requests")
    op.drop_table("claims")
    op.drop_table("task_results")
    op.drop_table("status_changes")
    op.drop_table("extends")
    op.drop_table("attempts")
    op.drop_table("actions")
    op.drop_table("transformation_chemical_systems")
    op.drop_table("tasks")
    op.drop_table("taskhubs")
    op.drop_table("network_transformations")
    op.drop_table("network_chemical_systems")
    op.drop_table("transformations")
    op.drop_table("networks")
    op.drop_table("chemical_systems")
    op.drop_table("results")
    op.drop_table("identity_scopes")
    op.drop_table("document_conflicts")
    op.drop_table("gufe_objects")
    op.drop_table("scopes")
    op.drop_table("queue")
    op.drop_table("lanes")
    op.drop_table("identities")
    op.drop_table("environments")
    op.drop_table("compute_services")
