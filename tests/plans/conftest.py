"""Two seeded databases for all plans: one with fresh statistics, one with stale ones."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import URL

from alchemistore import StateStore
from tests.plans.known import KNOWN
from tests.plans.seed import Seeded, seed


@contextmanager
def _seeded(server: URL, template: str, run_sql: Callable[[str], None], stale: bool) -> Iterator[Seeded]:
    name = f"plans_{uuid.uuid4().hex}"
    run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    store = StateStore(server.set(database=name).render_as_string(hide_password=False))
    seeded = seed(store, stale)
    yield seeded
    seeded.engine.dispose()
    store.close()
    run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def fresh(server: URL, template: str, run_sql: Callable[[str], None]) -> Iterator[Seeded]:
    """Analyzed when it was full."""
    with _seeded(server, template, run_sql, stale=False) as seeded:
        yield seeded


@pytest.fixture(scope="session")
def stale(server: URL, template: str, run_sql: Callable[[str], None]) -> Iterator[Seeded]:
    """Analyzed when it was nearly empty."""
    with _seeded(server, template, run_sql, stale=True) as seeded:
        yield seeded


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect nothing of the guards that are known not to hold."""
    for item in items:
        call = getattr(item, "callspec", None)
        if call is None or "tests/plans" not in item.nodeid:
            continue
        name, _, statistics = call.id.rpartition("-")
        test = item.nodeid.rpartition("::")[2].partition("[")[0]
        # Which of the poor statistics lead a plan astray is chance; bulk plans are only promised for tables that were analyzed.
        if (test, name) in KNOWN or ("bulk" in test and statistics != "fresh"):
            item.add_marker(pytest.mark.xfail(reason="a plan that is known not to be the best", strict=False))
