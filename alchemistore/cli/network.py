"""`alchemistore network`: add networks and results from files."""

from __future__ import annotations

import json
from typing import BinaryIO

import click

from alchemistore.cli.options import open_store, url_option


@click.group()
def network() -> None:
    """Add networks and their results."""


@network.command()
@click.argument("file", type=click.File("rb"))
@url_option
@click.option("--scope", "-s", required=True, help="org-campaign-project to store the content in.")
@click.option(
    "--transformation",
    "-t",
    metavar="KEY",
    help="Scoped key of the transformation of a single result. Required for results of 'openfe"
    " quickrun', which do not name it.",
)
@click.option(
    "--written-by",
    metavar="VERSIONS",
    help="The versions that wrote FILE, such as 'gufe 1.9.0', if they are not the installed ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def add(
    file: BinaryIO,
    url: str,
    scope: str,
    transformation: str | None,
    written_by: str | None,
    as_json: bool,
) -> None:
    """Add the network and the results in FILE ('-' for standard input).

    FILE holds an AlchemicalNetwork, a Transformation, an AlchemicalArchive or a ProtocolDAGResult,
    as a nested dict or a keyed chain, or a result of 'openfe quickrun'. It may be compressed by
    gzip or zstd. Results become complete tasks and are put into the object store (AWS_...
    variables). A file that is added again changes nothing.
    """
    from alchemistore.files import add_file

    added = add_file(
        open_store(url), file, scope, transformation=transformation, written_by=written_by
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "network": None if added.network is None else str(added.network),
                    "tasks": [str(task) for task in added.tasks],
                    "new_tasks": added.num_new_tasks,
                }
            )
        )
        return
    if added.network is not None:
        click.echo(f"Network {added.network}")
    if added.tasks:
        click.echo(f"Results: {len(added.tasks)}, of which {added.num_new_tasks} are new")
    for task in added.tasks:
        click.echo(f"Task {task}")
