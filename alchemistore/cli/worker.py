"""`alchemistore worker`: a compute service for one machine or a batch queue."""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
import uuid
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from alchemistore.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PROBLEMS_FOUND
from alchemistore.cli.options import age_option, object_store, open_store, url_option
from alchemistore.cli.output import Output, output_options, printable, shown

if TYPE_CHECKING:
    from alchemistore.worker import Event, Worker

_BYTES = {"M": 2**20, "G": 2**30, "T": 2**40}


def _parse_bytes(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([MGT])", value)
    if not found or not int(found[1]):
        raise click.BadParameter(
            f"{value!r} is not a size: expected a number and a unit, e.g. 800M or 16G"
        )
    return int(found[1]) * _BYTES[found[2]]


def _default_name() -> str:
    return f"{socket.gethostname()}-{uuid.uuid4().hex}"


@click.command(short_help="Run tasks in processes of their own; store their results.")
@url_option
@click.option(
    "--directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("alchemistore-worker"),
    show_default=True,
    help="Directory for the files and the output of attempts. Workers may share it.",
)
@click.option(
    "--name",
    default=_default_name,
    show_default="host name and a random number",
    help="Identifier to register under. No other registered service may have it.",
)
@click.option(
    "--scope",
    "-s",
    "scopes",
    multiple=True,
    help="Claim tasks in this scope: org-campaign-project, with '*' for any. May be repeated.",
)
@click.option(
    "--exclude-scope", "exclude_scopes", multiple=True, help="But not in this one. May be repeated."
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    help="Claim only tasks of this protocol, by the name of its class. May be repeated.",
)
@click.option(
    "--claim-limit",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Tasks to claim at once. They run one after the other.",
)
@age_option("--heartbeat", "30s", "Time between two heartbeats, and between two looks at a claim.")
@age_option("--wall-time", None, "A task that runs for longer is stopped, and has failed.")
@click.option(
    "--memory",
    metavar="SIZE",
    callback=_parse_bytes,
    help="Memory that each process of a task may allocate, e.g. 800M or 16G.",
)
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How often gufe runs a failed unit again.",
)
@click.option("--max-tasks", type=click.IntRange(1), help="End after this number of tasks.")
@age_option("--max-time", None, "Claim nothing after this time, and end after the running task.")
@age_option("--max-idle", None, "End when there has been nothing to claim for this time.")
@click.option(
    "--max-failures", type=click.IntRange(1), help="End after this number of failures in a row."
)
@click.option("--keep-files", is_flag=True, help="Keep the files of finished attempts.")
@output_options("Print warnings only.")
def worker(
    out: Output,
    url: str,
    directory: Path,
    name: str,
    scopes: tuple[str, ...],
    exclude_scopes: tuple[str, ...],
    protocols: tuple[str, ...],
    claim_limit: int,
    heartbeat: timedelta,
    wall_time: timedelta | None,
    memory: int | None,
    retries: int,
    max_tasks: int | None,
    max_time: timedelta | None,
    max_idle: timedelta | None,
    max_failures: int | None,
    keep_files: bool,
) -> None:
    """Run tasks, one at a time, each in a process of its own, and store their results.

    The worker registers as a compute service, claims tasks, runs their protocols with the installed
    gufe, writes the results to the object store (AWS_... variables), and settles the tasks. It
    waits for work until a limit ends it, or a signal. Everything that a task prints is written to
    a file below --directory; the end of it is stored, see 'alchemistore task log'.

    SIGTERM or Ctrl-C lets the running task finish and gives other claims back. A second one stops
    the task and gives its claim back, too. A task is also stopped if its claim is gone, or if it
    was set to invalid or deleted.

    Exit code 0 if it ended as asked, whatever became of the tasks; 1 after --max-failures; 2 if it
    cannot work or the object store refuses a result; 130 if it was told to stop at once.

    \b
    Examples:
      alchemistore worker --scope 'my_org-*-*'
      alchemistore worker --wall-time 12h --memory 16G --max-time 1d --max-idle 10m
      alchemistore worker --max-tasks 1 --json >> worker.jsonl
    """
    from alchemistore.worker import Options, Worker

    options = Options(
        name=name,
        directory=directory,
        scopes=scopes or ("*-*-*",),
        exclude_scopes=exclude_scopes,
        protocols=protocols or None,
        claim_limit=claim_limit,
        heartbeat=heartbeat.total_seconds(),
        wall_time=_seconds(wall_time),
        memory=memory,
        retries=retries,
        max_tasks=max_tasks,
        max_time=_seconds(max_time),
        max_idle=_seconds(max_idle),
        max_failures=max_failures,
        keep_files=keep_files,
    )
    service = Worker(
        open_store(url), object_store(), options, lambda event: print_event(out, event)
    )
    _handle_signals(service)
    summary = service.run()
    if summary.aborted:
        sys.exit(EXIT_INTERRUPTED)
    if max_failures is not None and summary.num_failures_in_a_row >= max_failures:
        sys.exit(EXIT_PROBLEMS_FOUND)


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else age.total_seconds()


def _handle_signals(service: Worker) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        service.interrupt()

    # Tests run commands in threads, where signals cannot be handled.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)
        # `nohup` ignores it.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, handle)


def print_event(out: Output, event: Event) -> None:
    """Print an event of a worker: warnings on standard error, unless as JSON."""
    if out.as_json:
        out.json({"time": event.time, "event": event.kind, "text": event.text, **event.fields})
    elif event.warning or not out.quiet:
        text = f"{shown(event.time)}  {printable(event.text)}"
        click.echo(text, err=event.warning)
