"""`install` in every kind of process that a server has."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alchemistore import Scope, StateStore
from tests.alchemiscale.conftest import Run
from tests.support.campaigns import campaign


@pytest.mark.parametrize("program", ["install_first.py", "conversion.py"])
def test_without_a_database(run_program: Run, program: str) -> None:
    run_program(program)


def test_names_that_were_imported_before_are_replaced(
    run_program: Run, pooled_database: str
) -> None:
    run_program("install_last.py", URL="postgresql://localhost:1/nothing")


def test_store_works_after_a_fork(
    run_program: Run, store: StateStore, pooled_database: str
) -> None:
    run_program("fork.py", URL=pooled_database)
    services = [str(one) for one in store.expire_registrations(expire_time=_later())]
    assert sorted(name.partition("-")[0] for name in services) == ["child"] * 20 + ["parent"] * 20


def test_forty_threads_share_a_store(
    run_program: Run, store: StateStore, pooled_database: str, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=100)
    run_program("threads.py", URL=pooled_database, HUB=str(made.hub), TASKS="100")
    assert store.get_network_status(made.network) == {"running": 100}
    store.expire_registrations(expire_time=_later())


def test_names_of_networks_are_patterns(
    run_program: Run, store: StateStore, pooled_database: str, scope: Scope
) -> None:
    made = campaign(store, scope)
    run_program("queries.py", URL=pooled_database, NETWORK=str(made.network))


def test_differences_are_as_documented(
    run_program: Run, store: StateStore, pooled_database: str, scope: Scope
) -> None:
    made = campaign(store, scope)
    run_program("differences.py", URL=pooled_database, NETWORK=str(made.network))
    assert store.expire_registrations(expire_time=_later())


def test_errors_are_those_that_a_server_expects(
    run_program: Run, store: StateStore, pooled_database: str, scope: Scope
) -> None:
    made = campaign(store, scope)
    run_program("errors.py", URL=pooled_database, TRANSFORMATION=str(made.transformations[0]))


def test_result_is_settled_by_the_first_call_of_a_request(
    run_program: Run, store: StateStore, pooled_database: str, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=100)
    run_program("results.py", URL=pooled_database, HUB=str(made.hub))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["install first", "install last"])
def test_strategist_starts_processes_that_use_the_store(
    run_program: Run, pooled_database: str, tmp_path: Path, order: str
) -> None:
    run_program(
        "strategist.py",
        os.fspath(tmp_path / "cache"),
        URL=pooled_database,
        ORDER=order,
        ALCHEMISTORE_MODULES="harmonic",
    )


def _later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)
