"""Two seeded databases for all plans: one with fresh statistics, one with stale ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import URL

from alchemistore import StateStore
from tests.conftest import RunSql
from tests.support.seed import Seeded, open_seeded, seed
from tests.support.sharing import shared_by_workers


def _seed(server: URL, template: str, run_sql: RunSql, stale: bool) -> str:
    name = f"seed_{uuid.uuid4().hex}"
    run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    store = StateStore(server.set(database=name).render_as_string(hide_password=False))
    seed(store, stale)
    store.close()
    return name


@contextmanager
def _seeded(
    server: URL, template: str, run_sql: RunSql, run_directory: Path, stale: bool
) -> Iterator[Seeded]:
    """Yield a copy for this worker, because two transactions would wait for each other."""
    name = f"plans_{uuid.uuid4().hex}"
    with shared_by_workers(
        run_directory / f"seed-{'stale' if stale else 'fresh'}",
        partial(_seed, server, template, run_sql, stale),
        lambda seeded: run_sql(f"DROP DATABASE {seeded}"),
    ) as source:
        run_sql(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY FILE_COPY")
        store = StateStore(server.set(database=name).render_as_string(hide_password=False))
        seeded = open_seeded(store)
        yield seeded
        seeded.engine.dispose()
        store.close()
        run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def fresh(server: URL, template: str, run_sql: RunSql, run_directory: Path) -> Iterator[Seeded]:
    """Analyzed when it was full."""
    with _seeded(server, template, run_sql, run_directory, stale=False) as seeded:
        yield seeded


@pytest.fixture(scope="session")
def stale(server: URL, template: str, run_sql: RunSql, run_directory: Path) -> Iterator[Seeded]:
    """Analyzed when it was nearly empty."""
    with _seeded(server, template, run_sql, run_directory, stale=True) as seeded:
        yield seeded
