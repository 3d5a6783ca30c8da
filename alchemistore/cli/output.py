"""Output of commands: tables for people, JSON Lines for programs, and keys alone."""

from __future__ import annotations

import functools
import json
import math
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

import click

from alchemistore.cli.exit_codes import EXIT_PROBLEMS_FOUND, CommandError

T = TypeVar("T")
Command = Callable[..., None]

# The rows whose widths are measured together, and the objects that one call is about.
PAGE = 1000
KEYS_ONLY = "Print keys only, one per line."
ERRORS_ONLY = "Print errors only."
_SHOWN = "alchemistore.progress_is_shown"


def output_options(quiet: str) -> Callable[[Command], Command]:
    """Return a decorator that adds --json and --quiet, and passes an `Output` as `out`.

    Parameters
    ----------
    quiet : str
        The help text of --quiet.
    """

    def decorate(function: Command) -> Command:
        @click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
        @click.option("--quiet", "-q", is_flag=True, help=quiet)
        @functools.wraps(function)
        def run(*arguments: Any, as_json: bool, quiet: bool, **options: Any) -> None:
            if as_json and quiet:
                raise click.UsageError("--json and --quiet cannot be used together")
            out = Output(as_json, quiet)
            function(*arguments, out=out, **options)
            if out.problems:
                sys.exit(EXIT_PROBLEMS_FOUND)

        return run

    return decorate


def confirm(question: str, yes: bool, outcome: str = "nothing was changed") -> None:
    """Raise an error unless a question, on standard error, is answered with yes.

    Parameters
    ----------
    question : str
        The question.
    yes : bool
        Whether not to ask.
    outcome : str
        What is said if the answer is no.

    Raises
    ------
    CommandError
        If the answer is no, or there is nobody to answer.
    """
    if yes:
        return
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        click.echo(err=True)
        raise CommandError(f"not confirmed, so {outcome}; --yes does not ask") from None


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


def printable(text: str) -> str:
    """Return a text in one line, with control characters escaped: a terminal would obey them."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def shown(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{shown(name)}: {shown(one)}" for name, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "-"
    return printable(str(value))


def duration(time: timedelta) -> str:
    """Return a duration in its largest unit."""
    seconds = time.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def plain(value: Any) -> Any:
    """Return a value as one that JSON has; for `json.dumps`."""
    from pydantic import BaseModel

    from alchemistore.models import Scope, ScopedKey

    if isinstance(value, BaseModel) and not isinstance(value, Scope | ScopedKey):
        return dict(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def _terminal_width() -> float:
    """Return the columns of the terminal, or infinity where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf


class Output:
    """The output of a command.

    Parameters
    ----------
    as_json : bool
        Print one JSON object per line.
    quiet : bool
        Print keys only, or nothing.

    Attributes
    ----------
    problems : int
        Number of complaints. The command ends with exit code 1 if there are any.
    """

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.problems = 0

    def table(self, rows: Iterable[Mapping[str, Any]], *columns: str) -> None:
        """Print rows as they come.

        Parameters
        ----------
        rows : iterable of mapping
            The rows. With --json, all fields are printed.
        *columns : str
            The fields that people see. The first of them is the key. On a terminal that is too
            narrow for a row, the others are below it.
        """
        if self.as_json or self.quiet:
            for row in rows:
                if self.as_json:
                    self.json(row)
                else:
                    click.echo(shown(row[columns[0]]))
            return
        from rich.cells import cell_len

        widths, titles = [0] * len(columns), [name.replace("_", " ").upper() for name in columns]
        remaining = iter(rows)
        while page := list(islice(remaining, PAGE)):
            cells = [[shown(row[name]) for name in columns] for row in page]
            if titles:
                cells.insert(0, titles)
            # Some characters take two columns of a terminal.
            sizes = [[cell_len(cell) for cell in line] for line in cells]
            widths = [max(column) for column in zip(widths, *sizes, strict=True)]
            # Keys alone may be longer than a terminal is wide.
            split = "\n    " if sum(widths) + 2 * (len(widths) - 1) > _terminal_width() else "  "
            for line, taken in zip(cells, sizes, strict=True):
                gaps = [" " * (width - size) for width, size in zip(widths, taken, strict=True)]
                first, *others = [cell + gap for cell, gap in zip(line, gaps, strict=True)]
                if split != "  ":
                    first = first.rstrip()
                text = split.join([first, "  ".join(others)]) if others else first
                click.secho(text.rstrip(), bold=line is titles)
            titles = []
        if titles and sys.stdout.isatty():
            click.secho("Nothing to show.", dim=True)

    def record(self, fields: Mapping[str, Any]) -> None:
        """Print one object, the first field of which is its key."""
        if self.as_json:
            self.json(fields)
        elif self.quiet:
            click.echo(shown(next(iter(fields.values()))))
        else:
            width = max(map(len, fields))
            for name, value in fields.items():
                click.echo(f"{name.replace('_', ' '):<{width}}  {shown(value)}")

    def json(self, fields: Mapping[str, Any]) -> None:
        """Print a JSON object, with --json."""
        if self.as_json:
            click.echo(json.dumps(dict(fields), default=plain))

    def say(self, text: str = "", bold: bool = False) -> None:
        """Print a line for people."""
        if not self.as_json and not self.quiet:
            click.secho(text, bold=bold)

    def complain(self, text: str) -> None:
        """Print a problem on standard error; the command goes on and ends with exit code 1."""
        self.problems += 1
        click.echo(f"Error: {printable(text)}", err=True)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show what is being done, if it takes longer than a second and a person is watching."""
    if not sys.stderr.isatty() or _SHOWN in click.get_current_context().meta:
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status(what)
    timer = threading.Timer(1.0, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def tracked(items: Iterator[T], what: str, count: Callable[[], int]) -> Iterator[T]:
    """Yield items; count them and show the progress if a person is watching.

    Parameters
    ----------
    items : iterator
    what : str
        What is being done.
    count : callable
        Returns the number of items.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    total = count()
    # `busy` is quiet meanwhile: there is room for one of them.
    click.get_current_context().meta[_SHOWN] = True
    yield from track(items, what, total=total, console=Console(stderr=True), transient=True)


def portions(items: Sequence[T], what: str, size: int = PAGE) -> Iterator[Sequence[T]]:
    """Yield the items in portions, and show how many of them are done."""
    for start in range(0, len(items), size):
        with busy(f"{what}: {start:,} of {len(items):,}"):
            yield items[start : start + size]


def counted(number: int, noun: str) -> str:
    """Return a number with a noun, in the plural unless it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
