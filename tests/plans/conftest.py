"""Two seeded databases for all plans: one with fresh statistics, one with stale ones."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import URL

from alchemistore import StateStore
from tests.support.seed import Seeded, seed


@contextmanager
def _seeded(
    server: URL, template: str, run_sql: Callable[[str], None], stale: bool
) -> Iterator[Seeded]:
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
