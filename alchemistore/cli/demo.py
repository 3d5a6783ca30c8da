"""`alchemistore demo`: run a small campaign and print its free energies."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click

from alchemistore.cli.exit_codes import EXIT_PROBLEMS_FOUND, CommandError
from alchemistore.settings import bundled_directory

DEFAULT = Path("demo")
# PostgreSQL does not run as root. If root works in a directory such as /root, which is closed to
# other users, the servers need another directory.
OPEN_TO_ALL = Path("/var/lib/alchemistore/demo")


def default_directory() -> Path:
    """Return the default directory."""
    if os.geteuid() == 0 and not all(
        parent.stat().st_mode & stat.S_IXOTH for parent in DEFAULT.resolve().parents
    ):
        return OPEN_TO_ALL
    return DEFAULT


@click.command(short_help="Run a small free energy campaign on private servers.")
@click.option(
    "--directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_directory,
    show_default=f"{DEFAULT}; {OPEN_TO_ALL} for root in a directory closed to other users",
    help="Directory for the servers, the results and the plot.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Number of worker processes.",
)
@click.option(
    "--kill/--no-kill",
    default=True,
    help="Kill one worker and pause another, to show that no result is lost.  [default: kill]",
)
@click.option(
    "--tables",
    is_flag=True,
    help="Print the tables of all transformations, cycles and workers, too.",
)
@click.option(
    "--clean",
    is_flag=True,
    help="Stop the servers and remove the directory, instead of running a campaign.",
)
def demo(directory: Path, workers: int, kill: bool, tables: bool, clean: bool) -> None:
    """Run a small free energy campaign on private servers and print its results.

    The verdict comes first, then the ranking of the ligands. The plot and the tables of all
    transformations, cycles and workers are in the directory.

    Exit code 1 if the campaign is incomplete or a free energy is wrong.

    \b
    Examples:
      alchemistore demo
      alchemistore demo --clean
    """
    if clean:
        _clean(directory)
        return
    # Stored documents name the classes of the campaign as `harmonic...`.
    sys.path.insert(0, str(bundled_directory("examples")))
    try:
        from harmonic.campaign import run
    except ModuleNotFoundError as error:
        raise CommandError(
            f"{error}; install the packages of the demo: pip install 'alchemistore[demo]'"
        ) from error
    from rich.console import Console

    report = run(directory, workers=workers, kill=kill, tables=tables, console=Console())
    if not report.ok:
        sys.exit(EXIT_PROBLEMS_FOUND)


def _clean(directory: Path) -> None:
    from alchemistore.local import LocalServers

    if not directory.exists():
        click.echo(f"Nothing to remove: there is no directory {directory}.")
        return
    if not (directory / "postgres").is_dir():
        raise click.UsageError(f"{directory} is not the directory of a demo; nothing was removed")
    LocalServers(directory).remove()
    if directory == OPEN_TO_ALL and not any(directory.parent.iterdir()):
        directory.parent.rmdir()
    click.echo(f"Stopped the servers and removed {directory}.")
