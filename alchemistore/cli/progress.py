"""What commands that go through a whole object store have in common: they show where they are, and say how to go on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.live import Live

    from alchemistore.maintenance.object_audit import Page

# An interrupted command cannot tell.
INTERRUPTED = 2


class Walk:
    """Where a command is: shown on standard error while it runs, if that is a terminal, and said when it is broken off.

    Parameters
    ----------
    after : str
        Where the walk begins.
    """

    def __init__(self, after: str) -> None:
        self.last = after
        self.objects = self.references = 0
        self._live: Live | None = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            # What goes to standard output is for others, or at least theirs to wrap.
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
        if kind is None:
            return
        if kind is KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
        if self.last:
            click.echo(
                f"To go on where it was broken off, give --after {shlex.quote(self.last)}", err=True
            )
        if kind is KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def through(self, pages: Iterable[Page]) -> Iterator[Page]:
        """Give the pages; one counts as done when the next is asked for."""
        try:
            self._show()
            for page in pages:
                if page.unreferenced or page.dangling:
                    # Both may go to the same terminal.
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
