"""The worker processes: started, watched, asked to stop; and one of them killed."""

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

from rich.console import Console
from rich.markup import escape

from alchemistore import ScopedKey, StateStore, TaskStatusEnum
from alchemistore.errors import AlchemistoreError
from harmonic.report import tell

# Seconds between two signs of life of a worker.
HEARTBEAT = 0.5
# How long a worker that was asked to end may take.
PATIENCE = 15.0
# How long a commit that is under way may take to arrive.
PAUSE = 0.25


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

    @contextmanager
    def at_work(self, count: int) -> Iterator[None]:
        """Start workers; at the end ask them to stop, and see to it that they do."""
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            for number in range(1, count + 1):
                self._start(f"worker-{number}-{uuid4().hex[:4]}")
            tell(self.console, f"[green]✓[/] Started {count} worker processes; what they do is in {escape(str(self.logs))}")
            yield
        except KeyboardInterrupt:
            tell(self.console, "[yellow]Interrupted. Run it again to go on from here.")
            raise
        finally:
            self._end()

    def _start(self, identifier: str) -> None:
        here = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        # Whatever the user has set for Amazon's servers is not meant for the private one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
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
                env={**inherited, **self.variables, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
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

    def kill_one(self, store: StateStore) -> str | None:
        """Kill a worker that is in the middle of a task.

        Returns
        -------
        str or None
            Its identifier; None if nobody holds a task right now.
        """
        running = store.get_network_tasks(self.network, status=TaskStatusEnum.running)
        for task, holder in zip(running, _holders(store, running), strict=True):
            process = self.processes.get(holder or "")
            if holder is None or process is None or process.poll() is not None:
                continue
            # Stopped first, it cannot finish the task between the look and the blow; the pause lets a commit under way arrive.
            process.send_signal(signal.SIGSTOP)
            time.sleep(PAUSE)
            if _holders(store, [task]) == [holder]:
                process.kill()
                process.wait()
                del self.processes[holder]
                return holder
            process.send_signal(signal.SIGCONT)
        return None


def _holders(store: StateStore, tasks: list[ScopedKey]) -> list[str | None]:
    """Give for each task the worker that holds it."""
    last = [history.attempts[-1] if history and history.attempts else None for history in store.get_task_history(tasks)]
    return [None if attempt is None or attempt.ended_at is not None else str(attempt.service) for attempt in last]
