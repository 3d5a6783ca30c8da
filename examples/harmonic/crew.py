"""The worker processes: started, watched, asked to end; caught in the middle of a task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.markup import escape

from alchemistore import ScopedKey, StateStore, TaskStatusEnum
from alchemistore.errors import AlchemistoreError
from alchemistore.models import Attempt
from harmonic.report import tell

# Seconds between two signs of life of a worker.
HEARTBEAT = 0.5
# How long a worker that was asked to end may take.
PATIENCE = 15.0
# How long a commit that is under way may take to arrive.
PAUSE = 0.25
BUSY = "SELECT FROM pg_stat_activity WHERE application_name = %s AND state <> 'idle'"


class CampaignError(AlchemistoreError):
    """The campaign cannot go on; the text says where to look."""


@dataclass
class Crew:
    """The worker processes."""

    network: ScopedKey
    logs: Path
    variables: Mapping[str, str]
    console: Console
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _caught: set[str] = field(default_factory=set)

    @contextmanager
    def at_work(self, count: int) -> Iterator[None]:
        """Start workers; at the end ask them to stop, and see to it that they do."""
        self.logs.mkdir(parents=True, exist_ok=True)
        # Of theirs together, so that a killed one leaves nothing behind.
        with tempfile.TemporaryDirectory(prefix="harmonic-") as scratch:
            try:
                for number in range(1, count + 1):
                    self._start(f"worker-{number}-{uuid4().hex[:4]}", scratch)
                tell(
                    self.console,
                    f"[green]✓[/] Started {count} worker processes; what they do is in {escape(str(self.logs))}",
                )
                yield
            except KeyboardInterrupt:
                tell(self.console, "[yellow]Interrupted. Run it again to go on from here.")
                raise
            finally:
                self._end()

    def _start(self, identifier: str, scratch: str) -> None:
        here = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        # Whatever the user has set for Amazon's servers is not meant for the private one.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("AWS_")
        }
        own = {
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "ALCHEMISTORE_APPLICATION_NAME": identifier,
            "TMPDIR": scratch,
        }
        command = [
            sys.executable,
            "-m",
            "harmonic.worker",
            str(self.network),
            "--identifier",
            identifier,
            "--heartbeat",
            str(HEARTBEAT),
        ]
        with self._log(identifier).open("wb") as log:
            self.processes[identifier] = subprocess.Popen(
                command,
                env={**inherited, **self.variables, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the driver, which asks them to stop.
                start_new_session=True,
            )

    def _log(self, identifier: str) -> Path:
        return self.logs / f"{identifier}.log"

    def _end(self) -> None:
        for process in self.processes.values():
            process.terminate()
            # One that is stopped would not hear of it.
            process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE
        for process in self.processes.values():
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def muster(self) -> bool:
        """Tell of workers that ended in error, and whether any is still there."""
        for identifier, process in list(self.processes.items()):
            if process.poll() not in (None, 0):
                del self.processes[identifier]
                tell(
                    self.console,
                    f"[red]![/] {identifier} ended with code {process.returncode}: see {escape(str(self._log(identifier)))}",
                )
        return any(process.poll() is None for process in self.processes.values())

    def catch(self, store: StateStore) -> str | None:
        """Stop a worker that is in the middle of a task, and was not caught before.

        Returns
        -------
        str or None
            Its identifier; None if nobody could be caught right now.
        """
        for attempt in _running(store, self.network):
            process = self.processes.get(attempt.service)
            if process is None or attempt.service in self._caught or process.poll() is not None:
                continue
            # Only what is stopped cannot finish the task between the look and the blow; the pause lets a commit under way arrive.
            process.send_signal(signal.SIGSTOP)
            time.sleep(PAUSE)
            if attempt in _running(store, self.network) and not self._in_transaction(
                attempt.service
            ):
                self._caught.add(attempt.service)
                return str(attempt.service)
            process.send_signal(signal.SIGCONT)
        return None

    def _in_transaction(self, identifier: str) -> bool:
        # Stopped in a transaction, it would keep its locks, and whoever needs them would wait for it.
        with psycopg.connect(self.variables["ALCHEMISTORE_DATABASE_URL"]) as connection:
            return connection.execute(BUSY, [identifier]).fetchone() is not None

    def kill(self, identifier: str) -> None:
        """Kill a worker; it has no time to tell anybody."""
        process = self.processes.pop(identifier)
        process.kill()
        process.wait()

    def resume(self, identifier: str) -> None:
        """Let a stopped worker go on."""
        self.processes[identifier].send_signal(signal.SIGCONT)


def _running(store: StateStore, network: ScopedKey) -> list[Attempt]:
    """Give the first attempts that go on; those begun first, and so furthest on the way, come first."""
    running = store.get_task_history(
        store.get_network_tasks(network, status=TaskStatusEnum.running)
    )
    # A task that somebody has lost already is spared: its story is told by the one who lost it.
    first = [history.attempts[0] for history in running if history and len(history.attempts) == 1]
    return sorted(
        (attempt for attempt in first if attempt.ended_at is None),
        key=lambda attempt: attempt.claimed_at,
    )
