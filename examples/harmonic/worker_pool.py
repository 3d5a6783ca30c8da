"""Start, watch, suspend and stop the processes of `alchemistore worker`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
from rich.console import Console
from rich.markup import escape

from alchemistore import ScopedKey, StateStore, TaskStatusEnum
from alchemistore.errors import AlchemistoreError
from alchemistore.models import Attempt
from harmonic.report import tell

# What the console script does.
PROGRAM = "from alchemistore.cli import main; main()"
# Time between two heartbeats of a worker.
HEARTBEAT = "1s"
# Seconds to wait for a worker that was asked to stop.
PATIENCE = 15.0
# Seconds to wait for a commit in progress.
PAUSE = 0.25
BUSY = """
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s AND state <> 'idle'
"""


class CampaignError(AlchemistoreError):
    """The campaign cannot continue."""


@dataclass
class WorkerPool:
    """The worker processes."""

    network: ScopedKey
    logs: Path
    variables: Mapping[str, str]
    console: Console
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _caught: set[str] = field(default_factory=set)

    @contextmanager
    def running(self, count: int) -> Iterator[None]:
        """Start workers, and stop them at the end of the block."""
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            for number in range(1, count + 1):
                self._start(f"worker-{number}-{uuid4().hex[:4]}")
            tell(
                self.console,
                f"[green]✓[/] Started {count} processes of [bold]alchemistore worker[/];"
                f" their logs are in {escape(str(self.logs))}",
            )
            yield
        except KeyboardInterrupt:
            tell(self.console, "[yellow]Interrupted. Run the demo again to continue.")
            raise
        finally:
            self.end()

    def _start(self, identifier: str) -> None:
        here = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        # The user's settings for Amazon S3 must not apply to the private server.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("AWS_")
        }
        own = {
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "ALCHEMISTORE_APPLICATION_NAME": identifier,
            # Documents name its classes.
            "ALCHEMISTORE_MODULES": "harmonic",
        }
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            "worker",
            *("--name", identifier),
            *("--scope", str(self.network.scope)),
            *("--heartbeat", HEARTBEAT),
            *("--directory", str(self.logs / "attempts")),
        ]
        with self._log(identifier).open("wb") as log:
            self.processes[identifier] = subprocess.Popen(
                command,
                env={**inherited, **self.variables, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to this process only, which then stops the workers.
                start_new_session=True,
            )

    def _log(self, identifier: str) -> Path:
        return self.logs / f"{identifier}.log"

    def end(self) -> None:
        """Stop all workers; kill those that do not stop."""
        for process in self.processes.values():
            process.terminate()
            # A suspended worker does not handle SIGTERM.
            process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE
        for process in self.processes.values():
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def poll(self) -> bool:
        """Report workers that failed. Return whether any worker is running."""
        for identifier, process in list(self.processes.items()):
            if process.poll() not in (None, 0):
                del self.processes[identifier]
                tell(
                    self.console,
                    f"[red]![/] {identifier} ended with exit code {process.returncode}:"
                    f" see {escape(str(self._log(identifier)))}",
                )
        return any(process.poll() is None for process in self.processes.values())

    def catch(self, store: StateStore) -> str | None:
        """Suspend a worker that is running a task and was not suspended before.

        Returns
        -------
        str or None
            Its identifier; None if there is no such worker now.
        """
        for attempt in _running(store, self.network):
            process = self.processes.get(attempt.service)
            if process is None or attempt.service in self._caught or process.poll() is not None:
                continue
            # Suspend before checking, so that the worker cannot finish its task in between. The
            # pause lets a commit in progress arrive.
            process.send_signal(signal.SIGSTOP)
            # The process of the task goes on, and may end soon.
            computing = self.is_computing(attempt.service)
            time.sleep(PAUSE)
            if (
                computing
                and attempt in _running(store, self.network)
                and not self._in_transaction(attempt.service)
            ):
                self._caught.add(attempt.service)
                return str(attempt.service)
            process.send_signal(signal.SIGCONT)
        return None

    def _in_transaction(self, identifier: str) -> bool:
        # A worker suspended in a transaction would keep its locks and block others.
        with psycopg.connect(self.variables["ALCHEMISTORE_DATABASE_URL"]) as connection:
            return connection.execute(BUSY, [identifier]).fetchone() is not None

    def kill(self, identifier: str) -> None:
        """Kill a worker, which cannot deregister."""
        process = self.processes.pop(identifier)
        process.kill()
        process.wait()

    def is_computing(self, identifier: str) -> bool:
        """Check whether the process of a task of a suspended worker is still running."""
        try:
            started = psutil.Process(self.processes[identifier].pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return False
        # The first one is that from which the processes of tasks are forked.
        return len(started) > 1

    def resume(self, identifier: str) -> None:
        """Resume a suspended worker."""
        self.processes[identifier].send_signal(signal.SIGCONT)


def _running(store: StateStore, network: ScopedKey) -> list[Attempt]:
    """Return the running first attempts, oldest first."""
    running = store.get_task_history(
        store.get_network_tasks(network, status=TaskStatusEnum.running)
    )
    # Tasks that a worker has lost already are left out, so that each is reported once.
    first = [history.attempts[0] for history in running if history and len(history.attempts) == 1]
    return sorted(
        (attempt for attempt in first if attempt.ended_at is None),
        key=lambda attempt: attempt.claimed_at,
    )
