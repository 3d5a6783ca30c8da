"""What a check prints: problems as text or JSON, while they are found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import click

from alchemistore.cli.progress import Walk
from alchemistore.models import QueueRepair


class Report:
    """Problems, printed one by one; what is begun as JSON is ended as JSON, whatever happens.

    Parameters
    ----------
    walk : Walk
        Knows where a check that is broken off has got to.
    as_json : bool
        JSON instead of text.
    repaired : dict of str to int, optional
        What a repair has changed in the queue.
    """

    def __init__(self, walk: Walk, as_json: bool, repaired: QueueRepair | None) -> None:
        self.count = 0
        self._walk = walk
        self._as_json = as_json
        self._repaired = repaired

    def __enter__(self) -> Self:
        if self._as_json:
            click.echo(
                f'{{\n  "repaired": {json.dumps(self._repaired and dict(self._repaired))},\n  "problems": [',
                nl=False,
            )
        elif self._repaired is not None:
            removed, added = self._repaired.removed, self._repaired.added
            click.echo(f"Repaired the queue: {removed} entries were wrong, {added} were added.")
        return self

    def add(self, problems: Iterable[str]) -> None:
        """Print problems."""
        for problem in problems:
            if self._as_json:
                click.echo(f"{',' if self.count else ''}\n    {json.dumps(problem)}", nl=False)
            else:
                click.echo(f"- {problem}")
            self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._as_json:
            ok = False if self.count else None if kind else True
            after = self._walk.last if kind else None
            end = "\n  " if self.count else ""
            click.echo(f'{end}],\n  "ok": {json.dumps(ok)},\n  "after": {json.dumps(after)}\n}}')
        elif self.count:
            state = "so far" if kind else "found" if self._repaired is None else "left"
            click.echo(f"{self.count} problem{'' if self.count == 1 else 's'} {state}.")
        elif not kind:
            click.echo("No inconsistencies found.")
