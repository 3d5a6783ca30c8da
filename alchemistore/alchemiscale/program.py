"""Run the command line of alchemiscale on this store."""

from __future__ import annotations

from collections.abc import Sequence

from alchemistore.alchemiscale.substitution import install
from alchemistore.errors import AlchemiscaleNotInstalledError


def run(arguments: Sequence[str]) -> None:
    """Run a command of alchemiscale, and exit with its code.

    Parameters
    ----------
    arguments : sequence of str
        The command with its options.

    Raises
    ------
    AlchemiscaleNotInstalledError
        If a package that the command needs is not installed.
    """
    install()
    try:
        from alchemiscale.cli import cli

        cli(args=list(arguments), prog_name="alchemiscale")
    except ModuleNotFoundError as error:
        raise AlchemiscaleNotInstalledError([error.name or str(error)]) from error
