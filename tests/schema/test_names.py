"""Naming and scoping rules of all tables."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    CheckConstraint,
    Constraint,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from alchemistore.errors import CONSTRAINT_ERRORS
from alchemistore.tables import metadata

TABLES = metadata.sorted_tables
SUFFIXES = {
    PrimaryKeyConstraint: "__pk",
    UniqueConstraint: "__uq",
    ForeignKeyConstraint: "__fk",
    CheckConstraint: "__ck",
}

# Tables without a scope: `scopes` is the list of scopes; managers, services, identities and
# requests span several.
WITHOUT_SCOPE = {
    "compute_managers",
    "compute_services",
    "graph_imports",
    "identities",
    "identity_scopes",
    "leases",
    "quotas",
    "requests",
    "scopes",
    "service_failures",
}
# Indexes that span scopes: claims by service, and objects by path.
ACROSS_SCOPES = {"claims__service__ix", "claims__compute_services__fk", "results__location__ix"}


def _constraints(table: Table) -> list[Constraint]:
    return [one for one in table.constraints if type(one) in SUFFIXES]


def _named(table: Table) -> list[Constraint | Index]:
    return [*_constraints(table), *table.indexes]


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_constraint_name_contains_its_table_and_kind(table: Table) -> None:
    for constraint in _constraints(table):
        name = str(constraint.name)
        assert name.startswith(f"{table.name}__")
        assert name.endswith(SUFFIXES[type(constraint)])
        assert len(name) <= 63


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_index_name_contains_its_table(table: Table) -> None:
    for index in table.indexes:
        name = str(index.name)
        assert name.startswith(f"{table.name}__")
        assert name.endswith("__ix")
        assert len(name) <= 63


def test_names_of_constraints_and_indexes_are_unique() -> None:
    names = [str(one.name) for table in TABLES for one in _named(table)]
    assert len(names) == len(set(names))


def test_schema_has_constraints_indexes_and_times_to_check() -> None:
    assert {type(one) for table in TABLES for one in _named(table)} == {*SUFFIXES, Index}
    assert all(table.primary_key in _constraints(table) for table in TABLES)
    assert any(column.name.endswith("_at") for table in TABLES for column in table.columns)


def test_every_translated_error_names_an_existing_constraint() -> None:
    assert CONSTRAINT_ERRORS
    assert set(CONSTRAINT_ERRORS) <= {
        str(one.name) for table in TABLES for one in _constraints(table)
    }


def test_every_table_has_a_scope_except_the_listed_ones() -> None:
    assert {table.name for table in TABLES if "scope_id" not in table.columns} == WITHOUT_SCOPE


def _first(of: Constraint | Index) -> str:
    if isinstance(of, ForeignKeyConstraint):
        return str(of.column_keys[0])
    assert isinstance(of, Index | PrimaryKeyConstraint | UniqueConstraint)
    return str(next(iter(of.columns)).name)


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table.name not in WITHOUT_SCOPE], ids=str
)
def test_scope_is_the_first_column_of_every_key_and_index(table: Table) -> None:
    keys = [one for one in _named(table) if not isinstance(one, CheckConstraint)]
    assert {str(one.name) for one in keys if _first(one) != "scope_id"} == {
        name for name in ACROSS_SCOPES if name.startswith(f"{table.name}__")
    }


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table.name not in WITHOUT_SCOPE], ids=str
)
def test_foreign_keys_stay_within_one_scope(table: Table) -> None:
    for key in table.foreign_key_constraints:
        if key.name in ACROSS_SCOPES:
            continue
        target = key.elements[0].column
        assert str(target) == "scopes.id" or target.name == "scope_id"


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_time_columns_have_a_zone_and_end_in_at(table: Table) -> None:
    for column in table.columns:
        kind = str(column.type).upper()
        if "TIMESTAMP" in kind or "DATE" in kind:
            assert getattr(column.type, "timezone", False)
            # The field of a reference to a result keeps the name it has there.
            assert column.name.endswith("_at") or (table.name, column.name) == (
                "results",
                "datetime_created",
            )


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_no_column_has_a_json_or_enum_type(table: Table) -> None:
    assert not [
        column.name
        for column in table.columns
        if str(column.type).upper() in ("JSON", "JSONB", "ENUM")
    ]
