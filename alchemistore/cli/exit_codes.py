"""The exit codes of all commands."""

from __future__ import annotations

import click

EXIT_OK = 0
EXIT_PROBLEMS_FOUND = 1
EXIT_FAILED = 2
# Shells report a command that Ctrl-C has ended as 128 + SIGINT.
EXIT_INTERRUPTED = 130


class CommandError(click.ClickException):
    """The command failed. Its message is printed to standard error."""

    exit_code = EXIT_FAILED
