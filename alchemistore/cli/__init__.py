"""The command line. Commands import other packages when they run, so that help is immediate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from alchemistore import __version__
from alchemistore.cli.database import database
from alchemistore.cli.demo import demo
from alchemistore.cli.doctor import doctor
from alchemistore.cli.exit_codes import EXIT_INTERRUPTED, CommandError
from alchemistore.cli.exports import exports
from alchemistore.cli.hub import hub
from alchemistore.cli.identity import identity
from alchemistore.cli.imports import imports
from alchemistore.cli.local import local
from alchemistore.cli.maintain import maintain
from alchemistore.cli.manager import manager
from alchemistore.cli.metrics import metrics
from alchemistore.cli.network import network
from alchemistore.cli.objects import objects
from alchemistore.cli.quota import quota
from alchemistore.cli.result import result
from alchemistore.cli.serve import alchemiscale, serve
from alchemistore.cli.service import service
from alchemistore.cli.status import status
from alchemistore.cli.task import task
from alchemistore.cli.worker import worker
from alchemistore.errors import AlchemistoreError


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except (AlchemistoreError, ValueError, KeyError) as error:
        # The full text of a validation error repeats the input, which may be a secret.
        details = getattr(error, "errors", None)
        text = (
            "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in details())
            if details
            else str(error)
        )
        raise CommandError(text) from error


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        with _translate_errors():
            return super().invoke(ctx)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="alchemistore")
def main() -> None:
    """Manage the state and results of alchemical free energy campaigns.

    Exit codes: 0 success, 1 problems found, 2 failed (the reason is on standard error),
    130 interrupted. With --json, commands print one JSON object per line.
    """


main.add_command(alchemiscale)
main.add_command(database)
main.add_command(demo)
main.add_command(doctor)
main.add_command(hub)
main.add_command(exports)
main.add_command(identity)
main.add_command(imports)
main.add_command(local)
main.add_command(maintain)
main.add_command(manager)
main.add_command(metrics)
main.add_command(network)
main.add_command(objects)
main.add_command(quota)
main.add_command(result)
main.add_command(serve)
main.add_command(service)
main.add_command(status)
main.add_command(task)
main.add_command(worker)
