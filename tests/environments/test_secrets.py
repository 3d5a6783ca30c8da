"""Passwords never appear in representations, errors, prompts and logs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine

from alchemistore import AlchemistoreError, Settings, StateStore
from alchemistore.cli import main
from alchemistore.database.engine import address, database_url
from alchemistore.objectstore import S3UnavailableError, client, get_s3os
from alchemistore.settings import S3ObjectStoreSettings

SECRET = "hunter2sesame"
DEAD = "127.0.0.1:1"
URLS = [
    f"postgresql://user:{SECRET}@{DEAD}/name",
    f"postgresql://user@{DEAD}/name?password={SECRET}",
    f"postgresql://user@{DEAD}/name?sslpassword={SECRET}&sslmode=disable",
    f"postgresql://user:{SECRET}@127.0.0.1:1,127.0.0.1:2/name",
]
MALFORMED = [
    f"postgresql://user:{SECRET}%@host/name",
    f"postgresql://user:x%{SECRET}@host/name",
    f"postgresql://user:?{SECRET}@host/name",
    f"postgresql://user:a?{SECRET}=b@host/name",
    f"postgresql://user:{SECRET}@host:port/name",
    f"postgresql://user:{SECRET}@host:99999/name",
    f"postgresql://user:{SECRET}/x@host/name",
    f"postgresql://user:{SECRET}@host/name?unknown={SECRET}",
    f"postgresql://user:{SECRET}\0@host/name",
    f"mysql://user:{SECRET}@host/name",
    f"user:{SECRET}@host",
]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error and all errors behind it, suppressed ones included."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]


def told(error: BaseException) -> str:
    texts = [f"{one} {one!r} {one.args}" for one in chain(error)]
    return "\n".join([*texts, *traceback.format_exception(error)])


def require_own(error: Exception) -> None:
    own = isinstance(error, AlchemistoreError)
    assert own or type(error) in (ValueError, KeyError), repr(error)


def require_silence(shown: str, logs: pytest.LogCaptureFixture) -> None:
    assert SECRET not in shown
    assert SECRET not in logs.text


@pytest.fixture(autouse=True)
def all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy", "psycopg", "botocore", "boto3", "urllib3", "alchemistore"):
        caplog.set_level(logging.DEBUG, logger=name)


@pytest.mark.parametrize("url", URLS)
def test_password_in_any_part_of_the_url_is_not_shown(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.from_url(url)
    with closing(StateStore(settings)) as store:
        shown = repr(store) + str(store) + repr(settings) + address(store.engine)
        calls: list[Callable[[], Any]] = [
            store.query_tasks,
            store.initialize,
            store.check,
            store.reset,
            store.maintain_queue,
            lambda: store.wait_for_tasks(timeout=0.1),
        ]
        for call in calls:
            with pytest.raises(Exception, match="cannot use the database") as raised:
                call()
            shown += told(raised.value)
    require_silence(shown, caplog)
    assert "127.0.0.1" in shown


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize("parse", [database_url, StateStore, Settings.from_url])
def test_malformed_url_is_refused_without_its_password_even_in_suppressed_errors(
    url: str, parse: Callable[[str], object], caplog: pytest.LogCaptureFixture
) -> None:
    try:
        parse(url)
    except ValueError as error:
        require_silence(told(error), caplog)
    else:
        # The settings check the beginning only; the rest is checked when it is used.
        assert parse == Settings.from_url


@pytest.mark.parametrize("url", [*URLS, *MALFORMED])
def test_command_shows_no_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    for arguments in (["reset"], ["init"], ["check"], ["reset", "--yes"]):
        result = CliRunner().invoke(main, ["database", *arguments, "--url", url], input="y\n")
        assert result.exit_code == 2
        assert result.output.strip()
        assert "Traceback" not in result.output
        require_silence(result.output, caplog)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://host/name?unknown=1", "unknown parameter: 'unknown'"),
        ("embedded://", "embedded:///"),
        ("postgresql://host:1:2/name", "not a database URL"),
        ("", "ALCHEMISTORE_DATABASE_URL"),
    ],
)
def test_command_says_what_is_wrong_with_a_url(url: str, expected: str) -> None:
    result = CliRunner().invoke(main, ["database", "check", "--url", url])
    assert result.exit_code == 2
    assert expected in result.output


def test_logs_of_a_working_store_contain_no_password(
    pooled_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = database_url(pooled_database).set(password=SECRET)
    for where in (url.render_as_string(hide_password=False), create_engine(url)):
        with closing(StateStore(where)) as store:
            assert store.query_tasks() == []
            assert not store.wait_for_tasks(timeout=0.2)
            shown = repr(store)
            driver = psycopg.Connection
            with store.transaction() as tx:
                assert tx.connection is not None
                held = tx.connection.connection.driver_connection
                assert isinstance(held, driver)
                shown += repr(held) + repr(tx.connection) + repr(store.engine)
    require_silence(shown, caplog)
    # The logs were captured.
    assert "SELECT" in caplog.text


def test_password_in_the_query_of_an_engine_is_not_shown() -> None:
    engine = create_engine(f"postgresql+psycopg://user@{DEAD}/name?password={SECRET}")
    with closing(StateStore(engine)) as store:
        assert SECRET not in repr(store)


# the object store


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 1)


S3 = {"AWS_S3_BUCKET": "bucket", "AWS_S3_PREFIX": "prefix", "AWS_DEFAULT_REGION": "us-east-1"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAxxxxxxxx", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.mark.parametrize(
    "endpoint",
    [f"http://user:{SECRET}@{DEAD}", f"http://{DEAD}/?token={SECRET}", f"http://:{SECRET}@[bad"],
)
def test_password_in_the_address_of_the_object_store_is_not_shown(
    endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="AWS_ENDPOINT_URL") as refused:
        S3ObjectStoreSettings(**S3, **KEYS, AWS_ENDPOINT_URL=endpoint)  # type: ignore[arg-type]  # pydantic makes a secret of it
    shown = told(refused.value)
    settings = S3ObjectStoreSettings.model_validate({**S3, **KEYS})
    store = get_s3os(settings, endpoint)
    shown += repr(settings) + str(settings) + repr(store) + settings.model_dump_json()
    calls: list[Callable[[], Any]] = [
        store.initialize,
        store.check,
        store.reset,
        lambda: list(store.iter_contents()),
        lambda: store.pull_protocoldagresult(location="x"),
        lambda: store.delete("x"),
    ]
    for call in calls:
        with pytest.raises(S3UnavailableError, match="AWS_ENDPOINT_URL") as raised:
            call()
        shown += told(raised.value)
    require_silence(shown, caplog)


def test_secret_key_is_not_shown_when_the_object_store_cannot_be_reached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = S3ObjectStoreSettings.model_validate(
        {**S3, **KEYS, "AWS_ENDPOINT_URL": f"http://{DEAD}"}
    )
    store = get_s3os(settings)
    with pytest.raises(S3UnavailableError, match="AWS_ENDPOINT_URL") as raised:
        store.check()
    require_silence(told(raised.value) + repr(store), caplog)
    # The logs were captured.
    assert "botocore" in caplog.text


@pytest.mark.parametrize("location", ["", "a\0b", "\ud800", "x" * 5000, "../x", "/x"])
def test_odd_location_is_refused_with_own_errors(location: str) -> None:
    settings = S3ObjectStoreSettings.model_validate(
        {**S3, **KEYS, "AWS_ENDPOINT_URL": f"http://{DEAD}"}
    )
    store = get_s3os(settings)
    calls: list[Callable[[], Any]] = [
        lambda: store.pull_protocoldagresult(location=location),
        lambda: store.delete(location),
        lambda: store.remove([location]),
        lambda: store.absent([location]),
        lambda: list(store.iter_contents(location)),
    ]
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001  (any error is examined)
            require_own(error)
