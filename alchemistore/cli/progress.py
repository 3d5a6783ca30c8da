"""Progress of commands that take long, and where to resume those that read an object store."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.live import Live

    from alchemistore.maintenance.object_audit import Page


Steps = Callable[[str, int, int], None]


@contextmanager
def steps(quiet: bool = False) -> Iterator[Steps]:
    """Show how much of each step is done, and the time left, if standard error is a terminal.

    Parameters
    ----------
    quiet : bool, default False
        Show nothing.

    Yields
    ------
    callable
        Takes what is being done, how much of it is done, and how much there is. What is done
        disappears.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    bars: dict[str, TaskID] = {}
    # Standard output is not redirected: it may be read by a program.
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as display:

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = display.add_task(escape(what), total=total)
            display.update(bars[what], completed=done, total=total)
            if done >= total:
                display.remove_task(bars.pop(what))

        yield show


class Progress:
    """The progress of a command, shown on standard error if that is a terminal.

    If the command fails or is interrupted, the ``--after`` value to resume from is printed.

    Parameters
    ----------
    after : str
        The location after which the command starts.

    Attributes
    ----------
    last : str
        The last location that is done.
    """

    def __init__(self, after: str) -> None:
        self.last = after
        self.objects = self.references = 0
        self._live: Live | None = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            # Standard output is not redirected: it may be read by a program.
            self._live = Live(
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hide()
        if kind is not None and self.last:
            click.echo(f"To resume, run again with --after {shlex.quote(self.last)}", err=True)

    def track(self, pages: Iterable[Page]) -> Iterator[Page]:
        """Yield pages. A page counts as done when the next one is requested."""
        try:
            self._show()
            for page in pages:
                if page.unreferenced or page.dangling:
                    # The caller prints findings, perhaps to the same terminal.
                    self._hide()
                yield page
                self.last = page.last
                self.objects += page.objects
                self.references += page.references
                self._show()
        finally:
            self._hide()

    def _show(self) -> None:
        if self._live is not None:
            from rich.text import Text

            counts = f"{self.objects:,} objects, {self.references:,} references, at {self.last}"
            self._live.update(Text(counts, no_wrap=True, overflow="ellipsis"))
            self._live.start()

    def _hide(self) -> None:
        if self._live is not None:
            self._live.stop()
