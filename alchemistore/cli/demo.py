"""`alchemistore demo`: a tiny campaign, from an empty directory to free energies."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import click

from alchemistore.settings import bundled_directory

DEFAULT = Path("demo")
# For root in a directory that is closed to the user which PostgreSQL then runs under, as /root is.
OPEN_TO_ALL = Path("/var/lib/alchemistore/demo")
# What a shell gives for a command that Ctrl-C has ended.
INTERRUPTED = 130


def default_directory() -> Path:
    """Give the directory for somebody who names none."""
    if os.geteuid() == 0 and not all(
        parent.stat().st_mode & stat.S_IXOTH for parent in DEFAULT.resolve().parents
    ):
        return OPEN_TO_ALL
    return DEFAULT


@click.command()
@click.option(
    "--directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_directory,
    show_default=f"{DEFAULT}; {OPEN_TO_ALL} for root where nobody else may go",
    help="Where servers, results and the plot go.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many worker processes.",
)
@click.option(
    "--kill/--no-kill",
    default=True,
    help="Kill one worker and stop another for a while, to see that nothing is lost.  [default: kill]",
)
@click.option("--clean", is_flag=True, help="Stop the servers and remove the directory instead.")
def demo(directory: Path, workers: int, kill: bool, clean: bool) -> None:
    """Run a tiny free energy campaign on private servers, and show its answers.

    Exit code 1 if it is not complete, or an answer is wrong.
    """
    if clean:
        _clean(directory)
        return
    # The campaign's classes are importable under the name that its documents carry.
    sys.path.insert(0, str(bundled_directory("examples")))
    try:
        from harmonic.campaign import run
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error}; the demo needs more packages: pip install 'alchemistore[demo]'"
        ) from error
    from rich.console import Console

    try:
        report = run(directory, workers=workers, kill=kill, console=Console())
    except KeyboardInterrupt:
        # The campaign has said how to go on.
        sys.exit(INTERRUPTED)
    if not report.ok:
        sys.exit(1)


def _clean(directory: Path) -> None:
    from alchemistore.local import LocalServers

    if not directory.exists():
        click.echo(f"There is no {directory}.")
        return
    if not (directory / "postgres").is_dir():
        raise click.UsageError(f"{directory} is not the directory of a demo: nothing was removed")
    LocalServers(directory).stop()
    shutil.rmtree(directory)
    click.echo(f"Stopped the servers and removed {directory}.")
