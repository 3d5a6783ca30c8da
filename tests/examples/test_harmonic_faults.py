"""Workers of the example campaign are suspended during tasks only; each fault occurs once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import psutil
import psycopg
import pytest
from gufe.tokenization import GufeKey
from rich.console import Console

from alchemistore import (
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
)
from harmonic.fault_injection import FaultInjection
from harmonic.worker_pool import WorkerPool
from tests.support.campaigns import star
from tests.support.databases import libpq

NAME = "worker-1"
# The process groups that a test has started.
groups: list[int] = []


@pytest.fixture
def network(store: StateStore, scope: Scope) -> ScopedKey:
    key = store.create_network(star(3), scope)
    hub = store.create_taskhub(key)
    store.action_tasks(store.create_tasks(store.get_network_transformations(key)), hub)
    return key


@pytest.fixture
def pool(network: ScopedKey, pooled_database: str, tmp_path: Path) -> Iterator[WorkerPool]:
    """A pool of processes that do nothing."""
    pool = WorkerPool(
        network,
        tmp_path,
        {"ALCHEMISTORE_DATABASE_URL": libpq(pooled_database)},
        Console(file=StringIO()),
    )
    yield pool
    # Also those of workers that were killed.
    while groups:
        with suppress(ProcessLookupError):
            os.killpg(groups.pop(), signal.SIGKILL)
    for process in pool.processes.values():
        process.kill()
        process.wait()


@pytest.fixture
def process(pool: WorkerPool) -> psutil.Process:
    return start_process(pool, NAME)


def start_process(pool: WorkerPool, name: str) -> psutil.Process:
    """Start a process with the children of a worker that runs a task."""
    pool.processes[name] = subprocess.Popen(
        ["sh", "-c", "sh -c 'sleep 600 & wait; kill -STOP $$' & wait"], start_new_session=True
    )
    groups.append(pool.processes[name].pid)
    process = psutil.Process(groups[-1])
    while not pool.is_computing(name):
        time.sleep(0.01)
    return process


def finish_task(process: psutil.Process) -> None:
    """End the process of the task."""
    [template] = process.children()
    [task] = template.children()
    task.kill()
    psutil.wait_procs([task])


def claim(store: StateStore, network: ScopedKey, name: str) -> ScopedKey:
    store.register_computeservice(ComputeServiceRegistration.from_now(name))
    [task] = store.claim_taskhub_tasks(store.get_taskhub(network), name)
    assert task is not None
    return task


def result(task: ScopedKey) -> ProtocolDAGResultRef:
    return ProtocolDAGResultRef(
        obj_key=GufeKey("ProtocolDAGResult-" + "0" * 32),
        scope=task.scope,
        ok=True,
        location="nowhere",
    )


def expire(store: StateStore) -> None:
    assert store.expire_registrations(datetime.now(UTC) + timedelta(days=1))


def stopped(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_STOPPED)


def test_worker_in_the_middle_of_a_task_is_stopped_once(
    store: StateStore, network: ScopedKey, pool: WorkerPool, process: psutil.Process
) -> None:
    claim(store, network, NAME)
    assert pool.catch(store) == NAME
    assert stopped(process)
    pool.resume(NAME)
    assert pool.catch(store) is None
    assert not stopped(process)


def test_worker_without_a_task_is_left_alone(
    store: StateStore, network: ScopedKey, pool: WorkerPool, process: psutil.Process
) -> None:
    task = claim(store, network, NAME)
    store.settle_task(task, result(task), NAME)
    assert pool.catch(store) is None
    assert not stopped(process)


def test_worker_in_a_transaction_is_resumed_to_release_its_locks(
    store: StateStore,
    network: ScopedKey,
    pool: WorkerPool,
    process: psutil.Process,
    pooled_database: str,
) -> None:
    claim(store, network, NAME)
    with psycopg.connect(libpq(pooled_database), application_name=NAME) as connection:
        connection.execute("SELECT")
        assert pool.catch(store) is None
        assert not stopped(process)
    assert pool.catch(store) == NAME


def test_stopped_worker_ends_on_request(pool: WorkerPool) -> None:
    # Like a worker, it handles SIGTERM. Without a handler, it would end while suspended.
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
        " print(flush=True); signal.pause()"
    )
    pool.processes[NAME] = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with pool.processes[NAME] as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        pool.end()
        assert process.returncode == 7


def test_worker_is_stopped_until_it_has_lost_its_task(
    store: StateStore, network: ScopedKey, pool: WorkerPool, process: psutil.Process
) -> None:
    faults = FaultInjection(store, network, pool, pool.console)
    claim(store, network, NAME)
    faults.inject(0.1)
    assert not stopped(process)
    faults.inject(0.2)
    assert stopped(process)
    faults.release(["worker-2"])
    assert stopped(process)
    faults.release(["worker-2", NAME])
    # The worker would stop its task if it was resumed now.
    assert stopped(process)
    finish_task(process)
    faults.release([])
    assert not stopped(process)
    faults.inject(0.3)
    assert not stopped(process)


def test_another_worker_is_killed(
    store: StateStore, network: ScopedKey, pool: WorkerPool, process: psutil.Process
) -> None:
    faults = FaultInjection(store, network, pool, pool.console)
    other = start_process(pool, "worker-2")
    for name in (NAME, "worker-2"):
        claim(store, network, name)
    faults.inject(1)
    faults.inject(1)
    assert stopped(process)
    assert not other.is_running()


@pytest.mark.parametrize("expired", [True, False])
def test_campaign_that_lost_a_worker_before_kills_none(
    store: StateStore, network: ScopedKey, pool: WorkerPool, process: psutil.Process, expired: bool
) -> None:
    claim(store, network, "worker-0")
    if expired:
        expire(store)
    faults = FaultInjection(store, network, pool, pool.console)
    start_process(pool, "worker-2")
    for name in (NAME, "worker-2"):
        claim(store, network, name)
    faults.inject(1)
    faults.inject(1)
    assert set(pool.processes) == {NAME, "worker-2"}


def test_campaign_that_had_a_late_result_before_stops_none(
    store: StateStore, network: ScopedKey, pool: WorkerPool, process: psutil.Process
) -> None:
    task = claim(store, network, "worker-0")
    expire(store)
    store.settle_task(task, result(task), "worker-0")
    faults = FaultInjection(store, network, pool, pool.console)
    claim(store, network, NAME)
    faults.inject(0.2)
    assert not stopped(process)
    faults.inject(0.4)
    assert not process.is_running()
