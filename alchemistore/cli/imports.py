"""`alchemistore import`: make this store equal to another one."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alchemistore.cli.exit_codes import EXIT_PROBLEMS_FOUND
from alchemistore.cli.options import object_store, open_store, url_option
from alchemistore.cli.output import Output, output_options
from alchemistore.cli.progress import steps

if TYPE_CHECKING:
    from alchemistore.neo4j.report import PartReport
    from alchemistore.neo4j.verification import Verification
    from alchemistore.store import StateStore

BUCKET = "AWS_S3_BUCKET"
TABLE = "  {:<18} {:>9} {:>9} {:>9} {:>10} {:>9}"
PASSWORD = "NEO4J_PASS"  # noqa: S105  (the name of the variable)


user_option = click.option(
    "--user",
    envvar="NEO4J_USER",
    show_envvar=True,
    default="neo4j",
    show_default=True,
    help="User of the graph.",
)
database_option = click.option(
    "--database",
    envvar="NEO4J_DBNAME",
    show_envvar=True,
    default="neo4j",
    show_default=True,
    help="Name of the database in Neo4j.",
)


def graph_password() -> str:
    """Return the password of the graph, from the environment or a prompt."""
    password = os.environ.get(PASSWORD)
    if password is None:
        password = click.prompt("Password of the graph", hide_input=True, err=True)
    return str(password)


@click.group("import")
def imports() -> None:
    """Import another store into this one."""


@imports.command("neo4j")
@click.argument("graph")
@url_option
@user_option
@database_option
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
@click.option(
    "--no-verify", is_flag=True, help="Do not compare the store with the graph afterwards."
)
@output_options("Print nothing; the exit code tells.")
def neo4j(
    out: Output,
    graph: str,
    url: str,
    user: str,
    database: str,
    scope: str | None,
    dry_run: bool,
    force: bool,
    new_keys: Path | None,
    no_verify: bool,
) -> None:
    """Make this store equal to the graph of an alchemiscale 0.8 server.

    GRAPH is the address of its Neo4j, such as bolt://host:7687. The graph is only read. The
    password is that of the variable NEO4J_PASS; without it, you are asked.

    The first import adds everything. Each later import adds, changes and removes what differs, so
    that the last one, when the old server has stopped, is quick. An import that was interrupted
    goes on where it was when you run it again. What the store cannot hold as the graph has it is
    listed, with what was done about it. Results stay in the object store.

    Afterwards, the store is compared with the graph, and with the object store if its AWS_...
    variables are set. If the old server runs, it may have changed the graph meanwhile.

    Exit codes: 0 the store is equal to the graph, except for what is listed; 1 it is not; 2 failed;
    130 interrupted.

    \b
    Examples:
      alchemistore import neo4j bolt://localhost:7687 --dry-run
      alchemistore import neo4j bolt://localhost:7687 --new-keys new_keys.tsv
      alchemistore import neo4j bolt://localhost:7687 --scope 'my_org-*-*' --json
    """
    from alchemistore.database.keys import parse_scope
    from alchemistore.neo4j.graph import Neo4jGraph, checked_url
    from alchemistore.neo4j.importer import GraphImport
    from alchemistore.neo4j.reader import GraphReader
    from alchemistore.neo4j.verification import Verification

    checked_url(graph)
    within = None if scope is None else parse_scope(scope)
    password = graph_password()
    store = open_store(url)
    with Neo4jGraph(graph, user, password, database) as source, steps(out.quiet) as progress:
        run = GraphImport(store, GraphReader(source), graph, force=force, progress=progress)
        changed: dict[str, str] = {}
        reports = []
        for report in run.run(within, dry_run=dry_run):
            _print(out, report, dry_run)
            reports.append(report)
            changed |= report.new_keys
        equal = True
        if not (dry_run or no_verify):
            verification = Verification(store, GraphReader(source), progress)
            equal = _verify(store, verification, reports, out)
    if new_keys is not None:
        new_keys.write_text("".join(f"{old}\t{new}\n" for old, new in changed.items()))
    if dry_run:
        out.say("This was a dry run: nothing was stored.")
    if not equal:
        sys.exit(EXIT_PROBLEMS_FOUND)


def _verify(
    store: StateStore, verification: Verification, reports: list[PartReport], out: Output
) -> bool:
    """Compare the store with the graph and the object store; return whether they are equal."""
    equal = True
    for report in reports:
        compared = verification.part(report)
        if compared:
            out.say(f"{report.part}: compared with the graph")
            out.say(TABLE.format("", "graph", "store", "listed", "unverified", "different"))
        for one in compared:
            equal = equal and not one.different
            out.json({"comparison": asdict(one)})
            numbers = (one.graph, one.store, one.listed, one.unverified, len(one.different))
            out.say(TABLE.format(one.kind, *numbers))
            for key in one.different:
                out.say(f"  - different: {key}")
    return _verify_objects(store, out) and equal


def _verify_objects(store: StateStore, out: Output) -> bool:
    """Look up the results in the object store, if there are settings for it."""
    if BUCKET not in os.environ:
        out.json({"bucket": None})
        out.say(f"Results were not looked up in the object store: {BUCKET} is not set.")
        return True
    from alchemistore.maintenance import object_audit

    references, missing = 0, []
    for page in object_audit.walk(store.engine, object_store(), datetime.now(UTC)):
        references += page.references
        missing += [str(one.key) for one in page.dangling]
    out.json({"bucket": {"references": references, "missing": missing}})
    out.say(f"{references} results were looked up; {len(missing)} are not in the bucket.")
    for key in missing:
        out.say(f"  - not in the bucket: {key}")
    return not missing


def _print(out: Output, report: PartReport, dry_run: bool) -> None:
    out.json({**report.to_dict(), "dry_run": dry_run})
    for line in report.lines():
        out.say(line)
