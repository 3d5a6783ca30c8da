"""Suspend one worker until its registration has expired, and kill another."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console

from alchemistore import ScopedKey, StateStore
from harmonic.report import tell
from harmonic.worker_pool import WorkerPool

# The share of complete tasks at which a worker is suspended or killed.
PAUSE_AFTER, KILL_AFTER = 0.15, 0.35


class FaultInjection:
    """Suspends and kills one worker each, once in a campaign, even if the campaign is interrupted.

    Create it before any worker starts.

    Parameters
    ----------
    store : StateStore
    network : ScopedKey
    pool : WorkerPool
    console : Console
    """

    def __init__(
        self, store: StateStore, network: ScopedKey, pool: WorkerPool, console: Console
    ) -> None:
        self._store, self._pool, self._console = store, pool, console
        histories = store.get_task_history(store.get_network_tasks(network))
        attempts = [attempt for history in histories if history for attempt in history.attempts]
        # No worker has started yet, so a task that is still claimed belongs to a killed worker.
        self._kill = not any(
            attempt.outcome in (None, "expired") and attempt.result is None for attempt in attempts
        )
        self._pause = not any(
            attempt.outcome == "expired" and attempt.result is not None for attempt in attempts
        )
        self._paused: str | None = None
        self._lost = False

    def inject(self, share: float) -> None:
        """Suspend or kill a worker if the campaign has come far enough.

        Parameters
        ----------
        share : float
            The share of complete tasks, from 0 to 1.
        """
        if self._pause and share >= PAUSE_AFTER and (caught := self._pool.catch(self._store)):
            self._pause, self._paused = False, caught
            tell(self._console, f"[yellow]‖[/] Suspended {caught} (SIGSTOP) during a task.")
        elif self._kill and share >= KILL_AFTER and (caught := self._pool.catch(self._store)):
            self._kill = False
            self._pool.kill(caught)
            tell(self._console, f"[red]✗[/] Killed {caught} (SIGKILL) during a task.")

    def release(self, expired: Collection[str]) -> None:
        """Resume the suspended worker when its registration has expired and its task has ended.

        The process of the task is not suspended. If it still ran, the worker would stop it.

        Parameters
        ----------
        expired : collection of str
            The workers whose registrations have just expired.
        """
        if self._paused is None:
            return
        self._lost = self._lost or self._paused in expired
        if self._lost and not self._pool.is_computing(self._paused):
            self._pool.resume(self._paused)
            tell(
                self._console,
                f"[green]▸[/] Resumed {self._paused} (SIGCONT): its late result will count.",
            )
            self._paused = None
