"""`alchemistore local`: the private PostgreSQL and S3 server of a directory."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import click


def directory_option(function: click.decorators.FC) -> click.decorators.FC:
    """Give a command the option that names the data directory."""
    return click.option(
        "--directory",
        "-d",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="ALCHEMISTORE_DIRECTORY",
        show_envvar=True,
        default=None,
        help="Where the servers keep their data. Default: a directory of yours for application data.",
    )(function)


def chosen(directory: Path | None) -> Path:
    """Give the directory, or the default one."""
    from alchemistore.local import default_directory

    return directory or default_directory()


@click.group()
def local() -> None:
    """A PostgreSQL and an S3 server of your own, under one directory."""


@local.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of text.")
def start(directory: Path | None, as_json: bool) -> None:
    """Start both servers; they go on until stopped."""
    from alchemistore.local import LocalServers

    servers = LocalServers(chosen(directory))
    servers.start()
    _show(servers.directory, as_json)
    if not as_json:
        click.echo(
            f'Use them with: eval "$(alchemistore local env --directory {shlex.quote(str(servers.directory))})"'
        )


@local.command()
@directory_option
def stop(directory: Path | None) -> None:
    """Stop both servers; data stay."""
    from alchemistore.local import LocalServers

    servers = LocalServers(chosen(directory))
    servers.stop()
    click.echo(f"Stopped. The data are in {servers.directory}.")


@local.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of text.")
def status(directory: Path | None, as_json: bool) -> None:
    """Tell what runs. Exit code 1 if something does not."""
    if not _show(chosen(directory), as_json):
        raise SystemExit(1)


@local.command()
@directory_option
def env(directory: Path | None) -> None:
    """Print, as shell commands, the environment by which programs find the servers; keys included."""
    from alchemistore.local import LocalServers

    for name, value in LocalServers(chosen(directory)).environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _show(directory: Path, as_json: bool) -> bool:
    from alchemistore.local import LocalServers

    found = LocalServers(directory).status()
    if as_json:
        click.echo(json.dumps(asdict(found), default=str, indent=2))
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
