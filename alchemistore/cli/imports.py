"""`alchemistore import`: make this store equal to another one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alchemistore.cli.options import open_store, url_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from alchemistore.neo4j.report import PartReport

PASSWORD = "NEO4J_PASS"  # noqa: S105  (the name of the variable)


@click.group("import")
def imports() -> None:
    """Import another store into this one."""


@imports.command("neo4j")
@click.argument("graph")
@url_option
@click.option(
    "--user", envvar="NEO4J_USER", show_envvar=True, default="neo4j", show_default=True,
    help="User of the graph.",
)  # fmt: skip
@click.option(
    "--database", envvar="NEO4J_DBNAME", show_envvar=True, default="neo4j", show_default=True,
    help="Name of the database in Neo4j.",
)  # fmt: skip
@click.option("--scope", "-s", help="Import only the scopes in this one, and no identities.")
@click.option("--dry-run", is_flag=True, help="Report what would be done, and undo it.")
@click.option(
    "--force",
    is_flag=True,
    help="Import also into scopes that something else than an import has written to. What the graph"
    " does not have is removed from them.",
)
@click.option(
    "--new-keys",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the keys that have changed to this file: old key, tab, new key.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def neo4j(
    graph: str,
    url: str,
    user: str,
    database: str,
    scope: str | None,
    dry_run: bool,
    force: bool,
    new_keys: Path | None,
    as_json: bool,
) -> None:
    """Make this store equal to the graph of an alchemiscale 0.8 server.

    GRAPH is the address of its Neo4j, such as bolt://host:7687. The graph is only read. The
    password is that of the variable NEO4J_PASS; without it, you are asked.

    The first import adds everything. Each later import adds, changes and removes what differs, so
    that the last one, when the old server has stopped, is quick. An import that was interrupted
    goes on where it was when you run it again. What the store cannot hold as the graph has it is
    listed, with what was done about it. Results stay in the object store.
    """
    from alchemistore.database.keys import parse_scope
    from alchemistore.neo4j.graph import Neo4jGraph, checked_url
    from alchemistore.neo4j.importer import GraphImport
    from alchemistore.neo4j.reader import GraphReader

    checked_url(graph)
    within = None if scope is None else parse_scope(scope)
    password = os.environ.get(PASSWORD)
    if password is None:
        password = click.prompt("Password of the graph", hide_input=True, err=True)
    store = open_store(url)
    with Neo4jGraph(graph, user, password, database) as source, _progress() as progress:
        run = GraphImport(store, GraphReader(source), graph, force=force, progress=progress)
        changed: dict[str, str] = {}
        for report in run.run(within, dry_run=dry_run):
            _print(report, dry_run, as_json)
            changed |= report.new_keys
    if new_keys is not None:
        new_keys.write_text("".join(f"{old}\t{new}\n" for old, new in changed.items()))
    if dry_run and not as_json:
        click.echo("This was a dry run: nothing was stored.")


def _print(report: PartReport, dry_run: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**report.to_dict(), "dry_run": dry_run}))
        return
    for line in report.lines():
        click.echo(line)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """Show the progress and the time left on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    bars: dict[str, int] = {}
    with Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as shown:

        def update(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = shown.add_task(what, total=total)
            shown.update(bars[what], completed=done)  # type: ignore[arg-type]  # an int

        yield update
