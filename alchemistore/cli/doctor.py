"""`alchemistore doctor`: whether a store in operation is healthy, and what to do if it is not."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from alchemistore.cli.options import age_option, object_store, open_store, url_option
from alchemistore.cli.output import Output, busy, output_options, printable

if TYPE_CHECKING:
    from alchemistore.maintenance.doctor import Diagnosis, Limits
    from alchemistore.store import StateStore

# Where the text of a finding begins.
INDENT = 23
COLOURS = {"ok": "green", "note": "blue", "warning": "yellow", "problem": "red"}


@click.command(short_help="Check whether a store is healthy, and what to do if not.")
@url_option
@click.option(
    "--objects/--no-objects",
    default=None,
    help="Write, read and delete two small objects in the object store (AWS_... variables)."
    "  [default: if AWS_S3_BUCKET is set]",
)
@age_option("--transaction", "10m", "Warn about transactions that are older than this.")
@age_option("--silence", "30m", "Warn about registered services without a heartbeat for this long.")
@age_option("--waiting", "6h", "Warn if a task could have been claimed for longer than this.")
@age_option("--running", "2d", "Warn if a task has been running for longer than this.")
@click.option(
    "--attempts",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Warn about tasks that are not complete after so many attempts.",
)
@output_options("Print only what needs attention.")
def doctor(
    out: Output,
    url: str,
    objects: bool | None,
    transaction: timedelta,
    silence: timedelta,
    waiting: timedelta,
    running: timedelta,
    attempts: int,
) -> None:
    """Check a store in operation, and print what to do about each finding.

    It looks at the revision of the schema, settings of the server, connections, old transactions,
    dead rows, indexes, silent services, stuck tasks, clocks, and the object store. It changes
    nothing. 'alchemistore database check' verifies the data themselves.

    Exit codes, for monitoring: 0 healthy, 1 at least one warning or problem, 2 could not examine.

    \b
    Examples:
      alchemistore doctor
      alchemistore doctor --quiet --no-objects     # for monitoring
      alchemistore doctor --json
    """
    from alchemistore.maintenance.doctor import Level, Limits

    limits = Limits(
        transaction=transaction,
        silence=silence,
        waiting=waiting,
        running=running,
        attempts=attempts,
    )
    if objects is None:
        objects = bool(os.environ.get("AWS_S3_BUCKET"))
    # A finding of these levels is complained about, so that the exit code is 1.
    attention = (Level.warning, Level.problem)
    for one in _examine(open_store(url), limits, objects):
        if one.level in attention:
            out.problems += 1
        if out.as_json:
            out.json(asdict(one))
        elif not out.quiet or one.level in attention:
            _print(one)
    if not out.problems:
        out.say("Nothing needs attention.")


def _examine(store: StateStore, limits: Limits, objects: bool) -> Iterator[Diagnosis]:
    from alchemistore.maintenance.doctor import examine

    found = examine(store.engine, limits)
    while True:
        with busy("Examining the database"):
            one = next(found, None)
        if one is None:
            break
        yield one
    if objects:
        with busy("Examining the object store"):
            answer = _object_store()
        yield answer


def _object_store() -> Diagnosis:
    from alchemistore.errors import AlchemistoreError
    from alchemistore.maintenance.doctor import Diagnosis, Level

    try:
        object_store().check()
    except (AlchemistoreError, ValueError) as error:
        advice = "check the AWS_... variables and the rights on the bucket"
        return Diagnosis("object store", Level.problem, str(error), advice)
    return Diagnosis("object store", Level.ok, "objects can be listed, written, read and deleted")


def _print(one: Diagnosis) -> None:
    level = click.style(f"{one.level:<7}", fg=COLOURS[one.level])
    first, *more = _lines(one.text)
    click.echo(f"{level}  {one.subject:<12}  {first}")
    for line in more:
        click.echo(f"{'':<{INDENT}}{line}")
    if one.advice is not None:
        mark = "→"
        for line in _lines(one.advice, 2):
            click.echo(f"{'':<{INDENT}}{mark} {line}")
            mark = " "


def _lines(text: str, more: int = 0) -> list[str]:
    """Return a text in lines that fit beside the subjects, or in one where nobody is watching."""
    if not sys.stdout.isatty():
        return [printable(text)]
    width = max(shutil.get_terminal_size().columns - INDENT - more, 30)
    return textwrap.wrap(printable(text), width, break_on_hyphens=False) or [""]
