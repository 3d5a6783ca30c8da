"""What befalls the workers on the way: one is stopped until all the others believe it dead, another is killed."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console

from alchemistore import ScopedKey, StateStore
from harmonic.crew import Crew
from harmonic.report import tell

# The share of tasks done after which a worker is stopped, or killed.
PAUSE_AFTER, KILL_AFTER = 0.15, 0.35


class Mishaps:
    """Each happens once in a campaign, however often that is interrupted. To be made before any worker starts.

    Parameters
    ----------
    store : StateStore
    network : ScopedKey
    crew : Crew
    console : Console
    """

    def __init__(self, store: StateStore, network: ScopedKey, crew: Crew, console: Console) -> None:
        self._store, self._crew, self._console = store, crew, console
        histories = store.get_task_history(store.get_network_tasks(network))
        attempts = [attempt for history in histories if history for attempt in history.attempts]
        # No worker is there yet: whoever holds a task now is one that was killed.
        self._kill = not any(
            attempt.outcome in (None, "expired") and attempt.result is None for attempt in attempts
        )
        self._pause = not any(
            attempt.outcome == "expired" and attempt.result is not None for attempt in attempts
        )
        self._paused: str | None = None

    def befall(self, share: float) -> None:
        """Stop or kill a worker if it is time.

        Parameters
        ----------
        share : float
            How much of the campaign is done, from 0 to 1.
        """
        if self._pause and share >= PAUSE_AFTER and (caught := self._crew.catch(self._store)):
            self._pause, self._paused = False, caught
            tell(self._console, f"[yellow]‖[/] Stopped {caught} (SIGSTOP) in the middle of a task.")
        elif self._kill and share >= KILL_AFTER and (caught := self._crew.catch(self._store)):
            self._kill = False
            self._crew.kill(caught)
            tell(self._console, f"[red]✗[/] Killed {caught} (SIGKILL) in the middle of a task.")

    def lift(self, expired: Collection[str]) -> None:
        """Let the stopped worker go on once it has lost its task.

        Parameters
        ----------
        expired : collection of str
            Who has just lost its registration.
        """
        if self._paused is not None and self._paused in expired:
            self._crew.resume(self._paused)
            tell(
                self._console,
                f"[green]▸[/] Let {self._paused} go on (SIGCONT): its result will be late, and count.",
            )
            self._paused = None
