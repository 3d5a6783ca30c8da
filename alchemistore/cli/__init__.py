"""The command line. Commands import what they need when they run: `alchemistore --help` is immediate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from alchemistore import __version__
from alchemistore.cli.database import database
from alchemistore.cli.demo import demo
from alchemistore.cli.identity import identity
from alchemistore.cli.local import local
from alchemistore.cli.objects import objects
from alchemistore.errors import AlchemistoreError

# What a script can tell from the exit code.
EXIT_OK, EXIT_PROBLEMS_FOUND, EXIT_FAILED = 0, 1, 2


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (AlchemistoreError, ValueError, KeyError) as error:
        # Of a validation error only the sentences: its usual text repeats what was given, which may be a secret.
        details = getattr(error, "errors", None)
        text = (
            "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in details())
            if details
            else str(error)
        )
        click.echo(f"Error: {text}", err=True)
        sys.exit(EXIT_FAILED)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        with _explained():
            return super().invoke(ctx)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="alchemistore")
def main() -> None:
    """State and result storage for alchemical free energy campaigns.

    Exit codes: 0 fine, 1 problems found, 2 could not be done (the reason is on standard error).
    """


main.add_command(database)
main.add_command(demo)
main.add_command(identity)
main.add_command(local)
main.add_command(objects)
