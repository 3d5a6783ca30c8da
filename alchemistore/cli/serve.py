"""`alchemistore serve` and `alchemistore alchemiscale`: alchemiscale's programs on this store.

Options are passed on to alchemiscale, so that everything of its documentation applies.
"""

from __future__ import annotations

import click

PASSED_ON = {
    "ignore_unknown_options": True,
    # Everything after the first argument is passed on, `--help` included.
    "allow_interspersed_args": False,
}


def _arguments(function: click.decorators.FC) -> click.decorators.FC:
    return click.argument("options", nargs=-1, type=click.UNPROCESSED)(function)


def _run(*arguments: str) -> None:
    from alchemistore.alchemiscale.program import run

    run(arguments)


@click.group()
def serve() -> None:
    """Run the services of alchemiscale 0.8 on this store.

    They are alchemiscale's own, with its own options and variables. The database is that of
    NEO4J_URL, as postgresql://user:password@host:port/database or as bolt://host:port/database with
    NEO4J_USER and NEO4J_PASS, or else that of ALCHEMISTORE_DATABASE_URL. Create the schema with
    'alchemistore database init'.
    """


@serve.command(context_settings=PASSED_ON)
@_arguments
def api(options: tuple[str, ...]) -> None:
    """Start the API for users.

    OPTIONS are those of alchemiscale; 'alchemistore alchemiscale api --help' lists them.
    """
    _run("api", *options)


@serve.command(context_settings=PASSED_ON)
@_arguments
def compute(options: tuple[str, ...]) -> None:
    """Start the API for compute services.

    OPTIONS are those of alchemiscale; 'alchemistore alchemiscale compute api --help' lists them.
    """
    _run("compute", "api", *options)


@serve.command(context_settings=PASSED_ON)
@_arguments
def strategist(options: tuple[str, ...]) -> None:
    """Start the strategist.

    OPTIONS are those of alchemiscale; 'alchemistore alchemiscale strategist --help' lists them.
    """
    _run("strategist", *options)


@click.command(context_settings=PASSED_ON)
@_arguments
def alchemiscale(options: tuple[str, ...]) -> None:
    """Run the command line of alchemiscale on this store.

    OPTIONS are a command of alchemiscale with its options: 'alchemistore alchemiscale identity add
    ...' does what 'alchemiscale identity add ...' does. Write 'alchemistore alchemiscale -- --help'
    to list the commands.
    """
    _run(*options)
