"""Log messages: their loggers and levels, and that they contain no secrets."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
from sqlalchemy import text

from alchemistore import (
    ComputeServiceRegistration,
    CredentialedUserIdentity,
    Scope,
    StateStore,
    TaskStatusEnum,
)
from alchemistore.operations.key_hashing import hash_key
from tests.support import settlement as s
from tests.support.claims import campaign_of_one_task

PACKAGE = Path(__file__).parents[2] / "alchemistore"
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The messages of the package, of every level."""
    caplog.set_level(logging.DEBUG, logger="alchemistore")
    return caplog


def messages(logs: pytest.LogCaptureFixture, logger: str) -> list[tuple[int, str]]:
    """The levels and texts of the messages of a logger, which are then forgotten."""
    found = [
        (level, message)
        for name, level, message in logs.record_tuples
        if name == f"alchemistore.{logger}"
    ]
    logs.clear()
    return found


def test_claim_is_logged(store: StateStore, scope: Scope, logs: pytest.LogCaptureFixture) -> None:
    made = s.campaign(store, scope, tasks=1)
    s.register(store, "a")
    logs.clear()
    store.claim_taskhub_tasks(made.hub, "a", count=2)
    [(level, message)] = messages(logs, "operations.claims")
    assert level == logging.DEBUG
    assert message.startswith("a claimed 1 of 2 tasks: ")
    assert str(made.tasks[0]) in message


def test_expiry_is_logged_with_the_number_of_tasks(
    store: StateStore, scope: Scope, logs: pytest.LogCaptureFixture
) -> None:
    made = campaign_of_one_task(store, scope)
    s.claim(store, made, "a")
    logs.clear()
    assert s.expire_silent(store) == ["a"]
    assert messages(logs, "operations.services") == [
        (logging.INFO, "1 compute services expired and held 1 tasks: ['a']")
    ]
    assert s.expire_silent(store) == []
    assert messages(logs, "operations.services") == []


def test_deregistration_is_logged_with_the_number_of_tasks(
    store: StateStore, scope: Scope, logs: pytest.LogCaptureFixture
) -> None:
    made = campaign_of_one_task(store, scope)
    s.claim(store, made, "a")
    store.deregister_computeservice("a")
    assert messages(logs, "operations.services") == [
        (logging.INFO, "compute service a was deregistered; it held 1 tasks")
    ]


@pytest.mark.parametrize(
    ("ok", "before", "level", "message"),
    [
        (True, "waiting", logging.INFO, "late success of attempt 1; waiting became complete"),
        (False, "waiting", logging.INFO, "late failure of attempt 1; still waiting"),
        (True, "complete", logging.INFO, "late success of attempt 1; still complete"),
        (True, "invalid", logging.WARNING, "late success of attempt 1; the task is invalid"),
        (False, "deleted", logging.WARNING, "late failure of attempt 1; the task is deleted"),
    ],
)
def test_late_result_is_logged(
    store: StateStore,
    scope: Scope,
    logs: pytest.LogCaptureFixture,
    ok: bool,
    before: str,
    level: int,
    message: str,
) -> None:
    made = campaign_of_one_task(store, scope)
    task = s.claim(store, made, "a")
    s.expire_silent(store)
    if before == "complete":
        store.settle_task(task, s.ref(scope))
    elif before != "waiting":
        store.set_task_status([task], TaskStatusEnum(before))
    logs.clear()
    store.settle_task(task, s.ref(scope, ok=ok), "a")
    assert messages(logs, "operations.settlement") == [(level, f"{task}: {message}")]


def test_result_of_the_claim_is_not_logged_as_late(
    store: StateStore, scope: Scope, logs: pytest.LogCaptureFixture
) -> None:
    made = campaign_of_one_task(store, scope)
    task = s.claim(store, made, "a")
    store.settle_task(task, s.ref(scope), "a")
    assert messages(logs, "operations.settlement") == []


def test_repair_is_logged_if_something_was_wrong(
    store: StateStore, scope: Scope, logs: pytest.LogCaptureFixture
) -> None:
    s.campaign(store, scope, tasks=2)
    store.repair_queue()
    assert messages(logs, "maintenance.repair") == []
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM queue"))
    store.repair_queue()
    assert messages(logs, "maintenance.repair") == [
        (logging.WARNING, "the queue was wrong: removed 0 entries and added 2")
    ]


def test_migrations_are_logged(empty_database: str, logs: pytest.LogCaptureFixture) -> None:
    store = StateStore(empty_database)
    try:
        store.initialize()
        [(level, message)] = messages(logs, "database.migrations")
        assert level == logging.INFO
        assert message.startswith("schema alchemistore: revision None became ")
        store.initialize()
        assert messages(logs, "database.migrations") == []
        store.reset()
        assert messages(logs, "database.migrations") == [
            (logging.INFO, "schema alchemistore: removing all tables")
        ]
    finally:
        store.close()


def test_pooler_is_logged_once_for_each_connection(
    pooled_database: str, logs: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alchemistore.database.engine.behind_pooler", lambda connection: True)
    store = StateStore(pooled_database)
    try:
        for _ in range(2):
            store.query_networks()
        assert messages(logs, "database.engine") == [
            (logging.INFO, "connected through a pooler; statements are not prepared")
        ]
    finally:
        store.close()


def test_logs_contain_no_secret(
    pooled_database: str, scope: Scope, logs: pytest.LogCaptureFixture
) -> None:
    key, hashed = "the secret key", hash_key("the secret key")
    store = StateStore(pooled_database)
    try:
        store.create_credentialed_entity(
            CredentialedUserIdentity(identifier="user", hashed_key=hashed)
        )
        assert store.authenticate("user", key, CredentialedUserIdentity) is not None
        assert store.authenticate("user", "a wrong key", CredentialedUserIdentity) is None
        made = s.campaign(store, scope, tasks=1)
        store.register_computeservice(ComputeServiceRegistration.from_now("a"))
        s.claim(store, made, "a")
        store.deregister_computeservice("a")
    finally:
        store.close()
    assert logs.records
    for secret in (key, hashed, "a wrong key", store.engine.url.password):
        assert not secret or secret not in logs.text


def test_messages_are_formatted_lazily_by_the_logger_of_the_module() -> None:
    nodes = [
        node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))
    ]
    for node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of = ast.unparse(node.func.value)
        if of == "logging" and node.func.attr == "getLogger":
            assert ast.unparse(node) == "logging.getLogger(__name__)"
        if of == "log" and node.func.attr in LEVELS:
            assert isinstance(node.args[0], ast.Constant)
        assert of != "logging" or node.func.attr not in LEVELS
