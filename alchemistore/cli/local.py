"""`alchemistore local`: private PostgreSQL and S3 servers in a directory."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from alchemistore.cli.exit_codes import EXIT_PROBLEMS_FOUND


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
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def start(directory: Path | None, as_json: bool) -> None:
    """Start both servers. They run until they are stopped."""
    from alchemistore.local import LocalServers

    servers = LocalServers(chosen(directory))
    servers.start()
    _show(servers.directory, as_json)
    if not as_json:
        quoted = shlex.quote(str(servers.directory))
        click.echo(f'Use them with: eval "$(alchemistore local env --directory {quoted})"')


@local.command()
@directory_option
def stop(directory: Path | None) -> None:
    """Stop both servers. The data are kept."""
    from alchemistore.local import LocalServers

    servers = LocalServers(chosen(directory))
    servers.stop()
    click.echo(f"Stopped. The data are in {servers.directory}.")


@local.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(directory: Path | None, as_json: bool) -> None:
    """Print which servers are running. Exit code 1 if one is not."""
    if not _show(chosen(directory), as_json):
        sys.exit(EXIT_PROBLEMS_FOUND)


@local.command()
@directory_option
def env(directory: Path | None) -> None:
    """Print shell commands that set the environment for the servers, including keys."""
    from alchemistore.local import LocalServers

    for name, value in LocalServers(chosen(directory)).environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _show(directory: Path, as_json: bool) -> bool:
    from alchemistore.local import LocalServers

    found = LocalServers(directory).status()
    if as_json:
        click.echo(json.dumps(asdict(found), default=str))
    else:
        click.echo(f"Directory   {found.directory}")
        for name, server in (("PostgreSQL", found.database), ("S3", found.s3)):
            click.echo(
                f"{name:<11} "
                + (
                    f"running, process {server.pid}, at {server.address}"
                    if server
                    else "not running"
                )
            )
    return found.database is not None and found.s3 is not None
