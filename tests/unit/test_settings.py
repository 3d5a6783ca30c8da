"""Settings: environment, arguments and secrets."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alchemistore import Settings
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings, get_settings

PASSWORD = "hunter2-sesame"
URL = f"postgresql://user:{PASSWORD}@host:5433/name"
S3 = {"AWS_S3_BUCKET": "bucket", "AWS_S3_PREFIX": "prefix", "AWS_DEFAULT_REGION": "region"}
S3_SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA-sesame",
    "AWS_SECRET_ACCESS_KEY": PASSWORD,
    "AWS_SESSION_TOKEN": "token-sesame",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings in the environment but those a test puts there."""
    for name in (
        "URL",
        "POOL_SIZE",
        "POOL_TIMEOUT",
        "CONNECT_TIMEOUT",
        "STATEMENT_TIMEOUT",
        "APPLICATION_NAME",
    ):
        monkeypatch.delenv(f"ALCHEMISTORE_{name}", raising=False)
    monkeypatch.delenv("ALCHEMISTORE_DATABASE_URL", raising=False)
    monkeypatch.delenv("ALCHEMISTORE_PREPARE_STATEMENTS", raising=False)
    for name in (*S3, *S3_SECRETS, "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()
    get_s3_settings.cache_clear()
    yield
    get_settings.cache_clear()
    get_s3_settings.cache_clear()


def make(**fields: Any) -> Settings:
    return Settings(**fields)


def test_settings_have_default_values() -> None:
    settings = make(database_url=URL)
    assert settings.database_url.get_secret_value() == URL
    assert (settings.pool_size, settings.pool_timeout, settings.connect_timeout) == (5, 30, 10)
    assert (settings.statement_timeout, settings.application_name, settings.prepare_statements) == (
        0,
        "alchemistore",
        True,
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("pool_size", "7", 7),
        ("pool_timeout", "1.5", 1.5),
        ("connect_timeout", "3", 3),
        ("statement_timeout", "60", 60),
        ("application_name", "campaign", "campaign"),
        ("prepare_statements", "false", False),
    ],
)
def test_every_field_is_read_from_the_environment(
    name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", URL)
    monkeypatch.setenv(f"ALCHEMISTORE_{name.upper()}", text)
    assert getattr(make(), name) == value
    assert make().database_url.get_secret_value() == URL


def test_names_in_the_environment_may_be_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("alchemistore_Database_URL", URL)
    assert make().database_url.get_secret_value() == URL


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", URL)
    monkeypatch.setenv("ALCHEMISTORE_POOL_SIZE", "7")
    settings = make(database_url="postgresql://other/name")
    assert settings.database_url.get_secret_value() == "postgresql://other/name"
    assert settings.pool_size == 7


def test_missing_url_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(ValueError, match="set the environment variable ALCHEMISTORE_DATABASE_URL"):
        make()


def test_missing_object_store_fields_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_BUCKET", "bucket")
    with pytest.raises(ValueError, match=r"AWS_S3_PREFIX[\s\S]*AWS_DEFAULT_REGION"):
        get_s3_settings()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_schemes_are_accepted(scheme: str) -> None:
    url = f"{scheme}://host/name"
    assert make(database_url=url).database_url.get_secret_value() == url
    assert make(database_url=url).embedded_directory is None


@pytest.mark.parametrize(
    "url",
    ["", "host/name", "mysql://h/n", "sqlite:///x", "bolt://h", "postgresql:/h", "embedded:/x"],
)
def test_other_scheme_is_refused_with_the_accepted_ones_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql://.*embedded://"):
        make(database_url=url)


def test_directory_of_an_embedded_server_is_accepted() -> None:
    assert make(database_url="embedded:///var/data").embedded_directory == Path("/var/data")
    assert make(database_url="embedded://data").embedded_directory == Path("data")
    assert make(database_url="embedded://~/data").embedded_directory == Path.home() / "data"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool_size", 0),
        ("pool_timeout", 0),
        ("connect_timeout", 0),
        ("statement_timeout", -1),
        ("pool_size", "many"),
        ("prepare_statements", "perhaps"),
    ],
)
def test_value_out_of_bounds_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^ALCHEMISTORE_{name.upper()}: "):
        make(database_url=URL, **{name: value})


def test_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="pol_size"):
        make(database_url=URL, pol_size=1)


def test_settings_cannot_be_changed_and_equal_ones_are_one_key() -> None:
    one, other = make(database_url=URL), make(database_url=URL)
    with pytest.raises(ValidationError):
        one.pool_size = 1
    assert {one: "x"}[other] == "x"
    assert one != make(database_url=URL, pool_size=1)


def s3(**fields: Any) -> S3ObjectStoreSettings:
    return S3ObjectStoreSettings(**fields)


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        lambda settings: str(settings.model_dump()),
        lambda settings: settings.model_dump_json(),
    ],
)
def test_no_secret_is_shown(show: Any) -> None:
    shown = show(make(database_url=URL)) + show(s3(**S3, **S3_SECRETS))
    assert PASSWORD not in shown
    assert "sesame" not in shown


@pytest.mark.parametrize(
    "fields",
    [
        {"database_url": f"mysql://user:{PASSWORD}@host/name"},
        {"database_url": URL, "pool_size": 0},
        {"database_url": {"password": PASSWORD}},
        {"database_url": URL, "password": PASSWORD},
    ],
)
def test_no_secret_is_in_an_error(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as raised:
        make(**fields)
    told = "".join(traceback.format_exception_only(raised.value)) + repr(raised.value)
    assert PASSWORD not in told


def test_object_store_is_read_from_the_names_of_the_aws_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**S3, **S3_SECRETS, "AWS_ENDPOINT_URL": "http://localhost:1"}.items():
        monkeypatch.setenv(name, value)
    settings = get_s3_settings()
    assert settings.AWS_S3_BUCKET == "bucket"
    assert settings.AWS_S3_PREFIX == "prefix"
    assert settings.AWS_DEFAULT_REGION == "region"
    assert settings.AWS_ENDPOINT_URL == "http://localhost:1"
    assert settings.AWS_SECRET_ACCESS_KEY is not None
    assert settings.AWS_SECRET_ACCESS_KEY.get_secret_value() == PASSWORD


def test_credentials_of_the_object_store_may_be_left_to_the_host() -> None:
    settings = s3(**S3)
    assert (
        settings.AWS_ACCESS_KEY_ID,
        settings.AWS_SECRET_ACCESS_KEY,
        settings.AWS_SESSION_TOKEN,
    ) == (None, None, None)


def test_empty_bucket_name_is_refused() -> None:
    with pytest.raises(ValueError, match="AWS_S3_BUCKET"):
        s3(**{**S3, "AWS_S3_BUCKET": ""})


def test_settings_of_the_environment_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", URL)
    first = get_settings()
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", "postgresql://other/name")
    assert get_settings() is first
