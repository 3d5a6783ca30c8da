"""`alchemistore export`: write this store into another one."""

from __future__ import annotations

import click

from alchemistore.cli.imports import database_option, graph_password, user_option
from alchemistore.cli.options import open_store, url_option
from alchemistore.cli.output import ERRORS_ONLY, Output, output_options
from alchemistore.cli.progress import steps


@click.group("export")
def exports() -> None:
    """Write this store into another one."""


@exports.command("neo4j", short_help="Write this store into an empty Neo4j of alchemiscale 0.8.")
@click.argument("graph")
@url_option
@user_option
@database_option
@output_options(ERRORS_ONLY)
def neo4j(out: Output, graph: str, url: str, user: str, database: str) -> None:
    """Write this store into an empty Neo4j, for a server of alchemiscale 0.8.

    GRAPH is the address of Neo4j, such as bolt://host:7687. The password is that of the variable
    NEO4J_PASS; without it, you are asked. The store is read as it was when the export began. If
    the export fails, empty the Neo4j before you run it again.

    Attempts that have ended, the history of statuses, quotas and other things have no place in a
    graph; the report counts them. Objects that refer twice to another one are listed.

    \b
    Examples:
      alchemistore export neo4j bolt://localhost:7687
    """
    from alchemistore.neo4j.exporter import GraphExport
    from alchemistore.neo4j.graph import Neo4jGraph, checked_url

    checked_url(graph)
    store = open_store(url)

    with (
        Neo4jGraph(graph, user, graph_password(), database) as target,
        steps(out.quiet) as progress,
    ):
        for report in GraphExport(store, target, progress).run():
            out.json(report.to_dict())
            for line in report.lines():
                out.say(line)
