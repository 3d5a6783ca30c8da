"""`alchemistore database`: the schema's life cycle."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from alchemistore.objectstore import S3ObjectStore


def url_option(function: click.decorators.FC) -> click.decorators.FC:
    """Give a command the option that names the database."""
    return click.option(
        "--url",
        envvar="ALCHEMISTORE_DATABASE_URL",
        show_envvar=True,
        required=True,
        help="postgresql://user:password@host:port/database, or embedded:///directory. Better in the environment, where"
        " other users of the machine cannot read the password.",
    )(function)


def make_engine(url: str) -> Engine:
    """Make an engine for the URL given, for the length of the command."""
    from pydantic import SecretStr

    from alchemistore import engine
    from alchemistore.settings import Settings

    made = engine.make_engine(Settings(database_url=SecretStr(url)))
    click.get_current_context().call_on_close(made.dispose)
    return made


def object_store() -> S3ObjectStore:
    """Give the object store that the environment names."""
    from alchemistore.objectstore import get_s3os
    from alchemistore.settings import get_s3_settings

    return get_s3os(get_s3_settings())


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
    from alchemistore import schema

    engine = make_engine(url)
    before = schema.current(engine)
    schema.upgrade(engine)
    after = schema.current(engine)
    click.echo(f"The schema is at revision {after}." if before == after else f"The schema is now at revision {after}.")


@database.command()
@url_option
@click.option(
    "--repair", is_flag=True, help="Make the queue again from the tasks and actions if it is wrong; nothing else changes."
)
@click.option(
    "--objects",
    "with_objects",
    is_flag=True,
    help="Hold the object store (named by the AWS_... variables) against the references in the database, too.",
)
@click.option("--after", default="", help="With --objects: go on after this location, where a check was broken off.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of text.")
def check(url: str, repair: bool, with_objects: bool, after: str, as_json: bool) -> None:
    """Check revision, catalog and data; with --objects also the object store.

    Exit codes: 0 nothing found (or nothing left after a repair), 1 problems found and listed, 2 cannot tell (no or another
    version's schema, no connection).
    """
    from alchemistore.soundness import problems

    engine = make_engine(url)
    found, repaired = list(problems(engine)), None
    if found and repair:
        from alchemistore.cli.calls import Calls

        repaired = Calls(engine).repair_queue()
        found = list(problems(engine))
    if with_objects:
        found += _orphans(engine, after)
    if as_json:
        click.echo(json.dumps({"ok": not found, "problems": found, "repaired": repaired}, indent=2))
    else:
        _tell(found, repaired)
    if found:
        sys.exit(1)


def _orphans(engine: Engine, after: str) -> list[str]:
    from alchemistore.orphans import dangling, unreferenced

    store = object_store()
    store.check()
    # A younger object's reference may be on its way.
    before = datetime.now(UTC) - timedelta(hours=1)
    found, lost = unreferenced(engine, store, before, after), dangling(engine, store, after)
    return [
        *(f"{reference.key} refers to {reference.location}, and there is no such object" for reference in lost),
        *(f"nothing refers to the object {stored.location}; see 'alchemistore objects sweep'" for stored in found),
    ]


def _tell(found: list[str], repaired: dict[str, int] | None) -> None:
    if repaired is not None:
        click.echo(f"Repaired the queue: {repaired['removed']} entries were wrong, {repaired['added']} were added.")
    if not found:
        click.echo("No inconsistencies found.")
        return
    click.echo(f"{len(found)} problem{'s' if len(found) > 1 else ''} {'found' if repaired is None else 'left'}:")
    for problem in found:
        click.echo(f"- {problem}")


@database.command()
@url_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(url: str, yes: bool) -> None:
    """Remove all data and the schema. There is no way back."""
    from alchemistore import schema

    engine = make_engine(url)
    name = engine.url.render_as_string(hide_password=True)
    if not yes:
        try:
            click.confirm(f"Remove all data and the schema from {name}?", abort=True)
        except click.Abort:
            click.echo("Nothing was removed. Say --yes to do it without being asked.", err=True)
            sys.exit(2)
    schema.reset(engine)
    click.echo(f"Removed everything from {name}.")
