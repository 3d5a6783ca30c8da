"""`alchemistore database`: create, upgrade, check and remove the schema; grant rights on it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

import click

from alchemistore.cli.exit_codes import EXIT_PROBLEMS_FOUND
from alchemistore.cli.options import object_store, open_store, url_option
from alchemistore.cli.output import (
    ERRORS_ONLY,
    KEYS_ONLY,
    Output,
    busy,
    confirm,
    output_options,
    yes_option,
)
from alchemistore.cli.progress import Progress

if TYPE_CHECKING:
    from alchemistore.maintenance.findings import Finding
    from alchemistore.store import StateStore

# The reference to a younger object may not be stored yet.
IN_FLIGHT = timedelta(hours=1)


@click.group(short_help="Create, upgrade, check or remove the schema; grant rights.")
def database() -> None:
    """Create, upgrade, check or remove the database schema, or grant rights on it."""


@database.command()
@url_option
@output_options(ERRORS_ONLY)
def init(out: Output, url: str) -> None:
    """Create the schema, or upgrade it if it exists.

    \b
    Example:
      alchemistore database init --url postgresql://me@host/database
    """
    _upgrade(out, url)


@database.command()
@url_option
@output_options(ERRORS_ONLY)
def upgrade(out: Output, url: str) -> None:
    """Upgrade the schema to this version of alchemistore.

    \b
    Example:
      alchemistore database upgrade --json
    """
    _upgrade(out, url)


def _upgrade(out: Output, url: str) -> None:
    from alchemistore.database import migrations

    with busy("Migrating the schema"):
        engine = open_store(url).engine
        before = migrations.current(engine)
        migrations.upgrade(engine)
        after = migrations.current(engine)
    out.json({"revision": after, "before": before})
    out.say(
        f"The schema is at revision {after}."
        if before == after
        else f"The schema is now at revision {after}."
    )


@database.command(short_help="Verify the schema, the data and, on request, the objects.")
@url_option
@click.option(
    "--repair",
    is_flag=True,
    help="Rebuild the queue if it is inconsistent, and apply restart patterns to failed tasks that"
    " a server has left without a decision. Other tasks and actions are not modified.",
)
@click.option(
    "--objects",
    "with_objects",
    is_flag=True,
    help="Also cross-check the object store (AWS_... variables) against the references.",
)
@click.option(
    "--after",
    default="",
    help="With --objects: start after this location, to resume an interrupted check.",
)
@output_options("Print nothing but errors; the exit code tells whether there are problems.")
def check(out: Output, url: str, repair: bool, with_objects: bool, after: str) -> None:
    """Verify the schema and the data; with --objects also the object store.

    Findings are printed as they are found. With --json there is one object per finding, with kind,
    key, location and text, and then a summary: "ok" (null if the check ended early without
    findings), "repaired" (the changes to the queue, or null), and "after" (the --after value to
    resume from, or null if the check is complete).

    Exit codes: 0 nothing found, or nothing left after a repair; 1 problems found; 2 failed;
    130 interrupted.

    \b
    Examples:
      alchemistore database check
      alchemistore database check --objects --json > findings.jsonl
    """
    if after and not with_objects:
        raise click.UsageError("--after is a location in the object store: add --objects")
    from alchemistore.maintenance.check import findings

    store = open_store(url)
    with Progress(after) as progress:
        with busy("Checking the database"):
            found, repaired = findings(store.engine), None
        if found and repair:
            repaired = _repair(store)
            found = findings(store.engine)
        audited = _audit(store, progress) if with_objects else ()
        count = _print(chain(found, audited), repaired, progress, out)
    if count:
        sys.exit(EXIT_PROBLEMS_FOUND)


def _repair(store: StateStore) -> dict[str, int]:
    queue, restarts = store.repair_queue(), 0
    while batch := store.repair_restarts():
        restarts += batch
    return {**dict(queue), "restarts": restarts}


def _audit(store: StateStore, progress: Progress) -> Iterator[Finding]:
    from alchemistore.maintenance import object_audit

    older_than = datetime.now(UTC) - IN_FLIGHT
    pages = object_audit.walk(store.engine, object_store(), older_than, progress.last)
    for page in progress.track(pages):
        yield from page.findings()


def _print(
    findings: Iterable[Finding],
    repaired: dict[str, int] | None,
    progress: Progress,
    out: Output,
) -> int:
    """Print findings as they come, then the summary, and return the number of findings."""
    if repaired is not None:
        out.say(
            f"Repaired the queue: removed {repaired['removed']} entries, added {repaired['added']}."
        )
        if repaired["restarts"]:
            out.say(f"Applied restart patterns to {repaired['restarts']} failed tasks.")
    count, complete = 0, False
    try:
        for finding in findings:
            count += 1
            out.json(asdict(finding))
            out.say(f"- {finding.text}")
        complete = True
    finally:
        out.json(
            {
                "ok": False if count else (True if complete else None),
                "repaired": repaired,
                "after": None if complete else progress.last,
            }
        )
        if count:
            state = "so far" if not complete else "found" if repaired is None else "left"
            out.say(f"{count} problem{'' if count == 1 else 's'} {state}.")
        elif complete:
            out.say("No problems found.")
    return count


@database.command(
    "lost-claims", short_help="List attempts whose service has not learned of its claim."
)
@url_option
@output_options(KEYS_ONLY)
def lost_claims(out: Output, url: str) -> None:
    """List attempts whose service has probably never learned of its claim.

    These are open attempts of services that have claimed other tasks at least a minute later. A
    service of alchemiscale claims only when it has finished its tasks, so the answer to the earlier
    claim was lost. Set such a task to waiting, and it can be claimed again.

    \b
    Example:
      alchemistore database lost-claims -q | alchemistore task set-status waiting -
    """
    with busy("Reading attempts"):
        found = open_store(url).get_lost_claims()
    for attempt in found:
        since = attempt.claimed_at.isoformat(timespec="seconds")
        out.json(
            {
                "task": attempt.task,
                "attempt": attempt.attempt,
                "service": attempt.service,
                "claimed_at": since,
            }
        )
        out.say(f"{attempt.task}  attempt {attempt.attempt} of {attempt.service}, since {since}")
        if out.quiet:
            click.echo(str(attempt.task))


@database.command(short_help="Grant a role the rights that it needs, and no others.")
@click.argument("role")
@url_option
@click.option(
    "--to",
    "purpose",
    type=click.Choice(["service", "monitor"]),
    required=True,
    help="service: read and write rows. monitor: read rows, except hashes of keys.",
)
@click.option("--print", "only_print", is_flag=True, help="Print the statements; run nothing.")
@output_options(ERRORS_ONLY)
def grant(out: Output, role: str, url: str, purpose: str, only_print: bool) -> None:
    """Grant ROLE the rights that it needs, and revoke its other rights on the tables.

    The role must exist. Run this as the owner of the tables, after 'init', and again to change the
    purpose of a role. Tables of later versions are included.

    \b
    Examples:
      alchemistore database grant services --to service
      alchemistore database grant grafana --to monitor --print
    """
    from alchemistore.maintenance import grants

    engine, to = open_store(url).engine, grants.Purpose(purpose)
    statements = [f"{one};" for one in grants.statements(engine, role, to)]
    if only_print and not out.as_json:
        for statement in statements:
            click.echo(statement)
    if not only_print:
        grants.grant(engine, role, to)
        out.say(f"The role {role} has the rights of a {purpose}.")
    out.json(
        {"role": role, "purpose": purpose, "granted": not only_print, "statements": statements}
    )


@database.command()
@url_option
@yes_option
@output_options(ERRORS_ONLY)
def reset(out: Output, url: str, yes: bool) -> None:
    """Remove all data and the schema. This cannot be undone.

    \b
    Example:
      alchemistore database reset --yes
    """
    from alchemistore.database import migrations
    from alchemistore.database.engine import address

    engine = open_store(url).engine
    name = address(engine)
    confirm(f"Remove all data and the schema from {name}?", yes, "nothing was removed")
    with busy("Removing the data"):
        migrations.reset(engine)
    out.json({"removed": name})
    out.say(f"Removed all data and the schema from {name}.")
