"""A small version of the demo: no fault of a worker loses a result."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from alchemistore import StateStore, TaskStatusEnum
from alchemistore.local import LocalServers
from alchemistore.models import Attempt, TaskHistory
from harmonic.campaign import SCOPE, Size, run
from harmonic.protocol import HarmonicSettings
from harmonic.report import Report

SIZE = Size(
    sampling=HarmonicSettings(walkers=32, frames=16, stride=1500, step=0.1),
    repeats=1,
    silence=timedelta(seconds=3),
)


def played(directory: Path) -> tuple[Report, str]:
    """Run the demo. Return its report and its output."""
    console = Console(file=StringIO(), width=160)
    report = run(directory, workers=3, size=SIZE, console=console)
    assert isinstance(console.file, StringIO)
    return report, console.file.getvalue()


def named(text: str, beginning: str) -> str:
    """Return the worker in the line that begins with this text."""
    [line] = [line for line in text.splitlines() if line.startswith(beginning)]
    return line.removeprefix(beginning).split()[0]


def histories(directory: Path) -> list[TaskHistory]:
    servers = LocalServers(directory)
    servers.start(s3=False)
    store = StateStore(servers.environment()["ALCHEMISTORE_DATABASE_URL"])
    try:
        store.check()
        [network] = store.query_networks(scope=SCOPE)
        return [
            history
            for history in store.get_task_history(store.get_network_tasks(network))
            if history is not None
        ]
    finally:
        store.close()
        servers.stop()


def lost(told: list[TaskHistory], service: str, late: bool) -> list[tuple[TaskHistory, Attempt]]:
    """Return the attempts that this worker lost, with the histories of their tasks."""
    return [
        (history, attempt)
        for history in told
        for attempt in history.attempts
        if attempt.service == service
        and attempt.outcome == "expired"
        and (attempt.result is not None) == late
    ]


@pytest.mark.slow
def test_killed_and_a_stopped_worker_cost_no_result(fresh_directory: Path) -> None:
    report, text = played(fresh_directory)
    assert report.ok
    assert not report.found
    assert len(report.answers.legs) == 40
    assert report.plot.read_bytes().startswith(b"\x89PNG")
    stopped, killed = named(text, "‖ Suspended "), named(text, "✗ Killed ")
    assert stopped != killed
    assert named(text, "▸ Resumed ") == stopped

    told = histories(fresh_directory)
    assert len(told) == report.answers.tasks == 55
    assert {history.changes[-1].status for history in told} == {TaskStatusEnum.complete}

    [(history, attempt)] = lost(told, killed, late=False)
    [*_, last] = history.attempts
    assert attempt.attempt == 1
    assert last.service != killed
    assert last.outcome == "complete"
    assert [change.status.value for change in history.changes][:3] == [
        "waiting",
        "running",
        "waiting",
    ]

    # There can be more if the machine is so busy that heartbeats of this worker are late again.
    history, attempt = lost(told, stopped, late=True)[0]
    assert attempt.attempt == 1
    first = [str(one.service) for one in history.attempts if one.outcome == "complete"]
    # Usually the late result comes first, because its attempt started first.
    assert first or history.changes[-1].reason == "attempt 1 delivered its result late"

    services = {service.identifier: service for service in report.answers.services}
    assert [lease.completed_by for lease in services[killed].lost_leases if not lease.late] == [
        last.service
    ]
    assert services[stopped].lost_leases[0].late
    assert services[stopped].lost_leases[0].completed_by == (first or [stopped])[0]

    again, text = played(fresh_directory)
    assert again.found
    assert again.ok
    assert again.answers == report.answers
    assert "is finished" in text
    assert histories(fresh_directory) == told
