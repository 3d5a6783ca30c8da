"""`alchemistore database`: the schema's life cycle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from alchemistore.cli.options import object_store, open_store, url_option
from alchemistore.cli.progress import Walk
from alchemistore.cli.report import Report

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from alchemistore.maintenance.object_audit import Page

# A younger object's reference may be on its way.
IN_FLIGHT = timedelta(hours=1)


@click.group()
def database() -> None:
    """Create, upgrade, check or remove the database schema."""


@database.command()
@url_option
def init(url: str) -> None:
    """Create the schema; if it is there, bring it up to date."""
    _upgrade(url)


@database.command()
@url_option
def upgrade(url: str) -> None:
    """Bring the schema up to date with this version of alchemistore."""
    _upgrade(url)


def _upgrade(url: str) -> None:
    from alchemistore.database import migrations

    engine = open_store(url).engine
    before = migrations.current(engine)
    migrations.upgrade(engine)
    after = migrations.current(engine)
    click.echo(
        f"The schema is at revision {after}."
        if before == after
        else f"The schema is now at revision {after}."
    )


@database.command()
@url_option
@click.option(
    "--repair",
    is_flag=True,
    help="Make the queue again from the tasks and actions if it is wrong; nothing else changes.",
)
@click.option(
    "--objects",
    "with_objects",
    is_flag=True,
    help="Hold the object store (named by the AWS_... variables) against the references in the database, too.",
)
@click.option(
    "--after",
    default="",
    help="With --objects: go on after this location, where a check was broken off.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of text.")
def check(url: str, repair: bool, with_objects: bool, after: str, as_json: bool) -> None:
    """Check revision, catalog and data; with --objects also the object store.

    Problems are printed as they are found. The JSON object has the list "problems"; "ok", which is null if the check was broken
    off before it found any; "after", the location for --after if it was broken off, else null; and "repaired".

    Exit codes: 0 nothing found (or nothing left after a repair), 1 problems found and listed, 2 cannot tell (no or another
    version's schema, no connection, broken off).
    """
    if after and not with_objects:
        raise click.UsageError(
            "--after says where in the object store to go on: give --objects, too."
        )
    from alchemistore.maintenance.check import problems

    store = open_store(url)
    engine = store.engine
    with Walk(after) as walk:
        found, repaired = problems(engine), None
        if found and repair:
            repaired = store.repair_queue()
            found = problems(engine)
        with Report(walk, as_json, repaired) as report:
            report.add(found)
            if with_objects:
                for page in walk.through(_orphans(engine, after)):
                    report.add(_sentences(page))
    if report.count:
        sys.exit(1)


def _orphans(engine: Engine, after: str) -> Iterator[Page]:
    from alchemistore.maintenance import object_audit

    return object_audit.walk(engine, object_store(), datetime.now(UTC) - IN_FLIGHT, after)


def _sentences(page: Page) -> Iterator[str]:
    for reference in page.dangling:
        yield f"{reference.key} refers to {reference.location}, and there is no such object"
    for stored in page.unreferenced:
        yield f"nothing refers to the object {stored.location}; see 'alchemistore objects sweep'"


@database.command()
@url_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(url: str, yes: bool) -> None:
    """Remove all data and the schema. There is no way back."""
    from alchemistore.database import migrations

    engine = open_store(url).engine
    name = engine.url.render_as_string(hide_password=True)
    if not yes:
        try:
            click.confirm(f"Remove all data and the schema from {name}?", abort=True)
        except click.Abort:
            click.echo("Nothing was removed. Say --yes to do it without being asked.", err=True)
            sys.exit(2)
    migrations.reset(engine)
    click.echo(f"Removed everything from {name}.")
