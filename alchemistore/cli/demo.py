"""`alchemistore demo`: a tiny campaign, from an empty directory to free energies."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click

from alchemistore.settings import bundled_directory

DEFAULT = Path("demo")
# For root in a directory, such as /root, that the user who runs PostgreSQL may not enter.
OPEN_TO_ALL = Path("/var/lib/alchemistore/demo")
# The exit code of a command ended by Ctrl-C, as in a shell.
INTERRUPTED = 130


def default_directory() -> Path:
    """Return the default directory of the demo."""
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
    show_default=f"{DEFAULT}; {OPEN_TO_ALL} for root in a directory closed to others",
    help="Directory of the servers' data, the results and the plot.",
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
    help="Kill one worker and suspend another for a while, to show that no result is lost."
    "  [default: kill]",
)
@click.option("--clean", is_flag=True, help="Stop the servers and remove the directory instead.")
def demo(directory: Path, workers: int, kill: bool, clean: bool) -> None:
    """Run a tiny free energy campaign on private servers and show its results.

    The exit code is 1 if the campaign is not complete or a result is wrong.
    """
    if clean:
        _clean(directory)
        return
    # The documents of the campaign name its classes by this package.
    sys.path.insert(0, str(bundled_directory("examples")))
    try:
        from harmonic.campaign import run
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error}; install the packages of the demo with: pip install 'alchemistore[demo]'"
        ) from error
    from rich.console import Console

    try:
        report = run(directory, workers=workers, kill=kill, console=Console())
    except KeyboardInterrupt:
        # The campaign has printed how to continue.
        sys.exit(INTERRUPTED)
    if not report.ok:
        sys.exit(1)


def _clean(directory: Path) -> None:
    from alchemistore.local import LocalServers

    if not directory.exists():
        click.echo(f"There is nothing to remove: {directory} does not exist.")
        return
    if not (directory / "postgres").is_dir():
        raise click.UsageError(f"{directory} is not the directory of a demo; nothing was removed")
    LocalServers(directory).remove()
    if directory == OPEN_TO_ALL and not any(directory.parent.iterdir()):
        directory.parent.rmdir()
    click.echo(f"Stopped the servers and removed {directory}.")
