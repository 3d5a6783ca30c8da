"""The database that alchemiscale's settings name."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from alchemistore.alchemiscale.settings import (
    complete_environment,
    graph_address,
    store_settings,
)
from alchemistore.database.engine import make_engine
from alchemistore.settings import Settings

OURS = "postgresql://ours@ours.example.org/ours"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ALCHEMISTORE_", "NEO4J_")):
            monkeypatch.delenv(name)


def named(url: str, user: str = "neo4j", password: str = "secret", database: str = "neo4j") -> str:
    given = SimpleNamespace(
        NEO4J_URL=url, NEO4J_USER=user, NEO4J_PASS=password, NEO4J_DBNAME=database
    )
    return store_settings(given).database_url.get_secret_value()


def address_of(url: str) -> str:
    return graph_address(make_engine(Settings(database_url=SecretStr(url))).url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:password@host:5433/database?sslmode=require",
        "postgres://host/database",
        "postgresql+psycopg://host/database",
        "embedded:///directory",
    ],
)
def test_url_of_postgresql_is_taken_as_it_is(url: str) -> None:
    assert named(url) == url


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_bolt_url_means_the_postgresql_there(scheme: str) -> None:
    assert named(f"{scheme}://host:5433/mine") == "postgresql://neo4j:secret@host:5433/mine"


def test_special_characters_of_user_and_password_are_escaped() -> None:
    found = named("bolt://host/mine", user="a:b", password="p@s/s?%")
    assert found == "postgresql://a%3Ab:p%40s%2Fs%3F%25@host/mine"


@pytest.mark.parametrize("user", ["", " "])
def test_bolt_url_without_a_user_has_no_login(user: str) -> None:
    assert named("bolt://host/mine", user=user) == "postgresql://host/mine"


def test_parameters_of_a_bolt_url_are_kept() -> None:
    found = named("bolt://host/mine?sslmode=require")
    assert found == "postgresql://neo4j:secret@host/mine?sslmode=require"


@pytest.mark.parametrize("url", ["", "bolt://old.example.org:7687", "bolt://old.example.org:7687/"])
def test_url_without_a_database_means_our_variable(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", OURS)
    assert named(url) == OURS


def test_named_database_wins_over_our_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", OURS)
    assert named("bolt://host/mine") == "postgresql://neo4j:secret@host/mine"


def test_bolt_url_without_a_database_means_the_named_one() -> None:
    assert named("bolt://host:5433") == "postgresql://neo4j:secret@host:5433/neo4j"


def test_no_database_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="set NEO4J_URL, or leave it empty and set ALCHEMISTORE_"):
        named("")


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@host/database", "hunter2", "bolt+s://hunter2"]
)
def test_other_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="NEO4J_URL is not the URL of a database") as raised:
        named(url)
    assert "hunter2" not in str(raised.value)


def test_login_inside_a_bolt_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="set NEO4J_USER and NEO4J_PASS") as raised:
        named("bolt://user:hunter2@host/database")
    assert "hunter2" not in str(raised.value)


def test_other_settings_are_those_of_our_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALCHEMISTORE_POOL_SIZE", "17")
    given = SimpleNamespace(NEO4J_URL=OURS, NEO4J_USER="", NEO4J_PASS="", NEO4J_DBNAME="neo4j")
    assert store_settings(given).pool_size == 17


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://user:password@host:5433/mine", "host:5433/mine"),
        ("postgresql://host/mine", "host/mine"),
        ("postgresql://[::1]:5433/mine", "[::1]:5433/mine"),
        ("postgresql://one:1,two:2/mine", "one:1,two:2/mine"),
        ("postgresql://user@/mine?host=/var/run&port=5433", "%2Fvar%2Frun:5433/mine"),
        ("postgresql://host/m%2Fine", "host/m%2Fine"),
    ],
)
def test_address_leads_to_the_same_database(url: str, address: str) -> None:
    assert address_of(url) == address
    assert address_of(named(f"bolt://{address}")) == address


def test_address_contains_no_password() -> None:
    assert "hunter2" not in address_of("postgresql://user:hunter2@host/mine?sslpassword=hunter2")


def test_our_variable_completes_those_of_alchemiscale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", OURS)
    for name in ("NEO4J_URL", "NEO4J_USER", "NEO4J_PASS"):
        # To be removed again after the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    complete_environment()
    assert os.environ["NEO4J_URL"] == OURS
    assert os.environ["NEO4J_USER"].isspace()
    assert os.environ["NEO4J_PASS"].isspace()


def test_variables_of_alchemiscale_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", OURS)
    given = {"NEO4J_URL": "bolt://host:1/mine", "NEO4J_USER": "user", "NEO4J_PASS": "password"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    complete_environment()
    assert {name: os.environ[name] for name in given} == given
