"""`alchemistore local`: private PostgreSQL and S3 servers in a directory."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from alchemistore.cli.exit_codes import EXIT_PROBLEMS_FOUND
from alchemistore.cli.output import ERRORS_ONLY, Output, busy, output_options


def directory_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add the option for the data directory."""
    return click.option(
        "--directory",
        "-d",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="ALCHEMISTORE_DIRECTORY",
        show_envvar=True,
        default=None,
        help="Data directory of the servers. Default: your directory for application data.",
    )(function)


def chosen(directory: Path | None) -> Path:
    """Return the directory, or the default directory."""
    from alchemistore.local import default_directory

    return directory or default_directory()


@click.group()
def local() -> None:
    """Run private PostgreSQL and S3 servers in a directory."""


@local.command()
@directory_option
@output_options(ERRORS_ONLY)
def start(out: Output, directory: Path | None) -> None:
    """Start both servers. They run until they are stopped.

    \b
    Example:
      alchemistore local start && eval "$(alchemistore local env)"
    """
    from alchemistore.local import LocalServers

    servers = LocalServers(chosen(directory))
    with busy("Starting the servers"):
        servers.start()
    _show(out, servers.directory)
    quoted = shlex.quote(str(servers.directory))
    out.say(f'Use them with: eval "$(alchemistore local env --directory {quoted})"')


@local.command()
@directory_option
@output_options(ERRORS_ONLY)
def stop(out: Output, directory: Path | None) -> None:
    """Stop both servers. The data are kept.

    \b
    Example:
      alchemistore local stop
    """
    from alchemistore.local import LocalServers

    servers = LocalServers(chosen(directory))
    with busy("Stopping the servers"):
        servers.stop()
    out.json({"directory": str(servers.directory)})
    out.say(f"Stopped. The data are in {servers.directory}.")


@local.command()
@directory_option
@output_options("Print nothing; the exit code tells.")
def status(out: Output, directory: Path | None) -> None:
    """Print which servers are running. Exit code 1 if one is not.

    \b
    Example:
      alchemistore local status --quiet || alchemistore local start
    """
    if not _show(out, chosen(directory)):
        sys.exit(EXIT_PROBLEMS_FOUND)


@local.command(short_help="Print shell commands that name the servers, with keys.")
@directory_option
@output_options("Print the names of the variables only.")
def env(out: Output, directory: Path | None) -> None:
    """Print shell commands that set the environment for the servers, including keys.

    With --json, print one object with the variables.

    \b
    Examples:
      eval "$(alchemistore local env)"
      alchemistore local env --json
    """
    from alchemistore.local import LocalServers

    variables = LocalServers(chosen(directory)).environment()
    out.json(variables)
    for name, value in variables.items():
        if out.quiet:
            click.echo(name)
        out.say(f"export {name}={shlex.quote(value)}")


def _show(out: Output, directory: Path) -> bool:
    from alchemistore.local import LocalServers

    found = LocalServers(directory).status()
    out.json(asdict(found))
    out.say(f"Directory   {found.directory}")
    for name, server in (("PostgreSQL", found.database), ("S3", found.s3)):
        out.say(
            f"{name:<11} "
            + (f"running, process {server.pid}, at {server.address}" if server else "not running")
        )
    return found.database is not None and found.s3 is not None
