"""`alchemistore objects`: remove objects that the database does not refer to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import age_option, object_store, open_store, url_option
from alchemistore.cli.output import ERRORS_ONLY, Output, confirm, output_options, yes_option
from alchemistore.cli.progress import Progress

if TYPE_CHECKING:
    from alchemistore.objectstore import StoredObject


@click.group()
def objects() -> None:
    """Maintain the object store (AWS_... variables)."""


@objects.command(short_help="Remove stored results without a reference.")
@url_option
@age_option(
    "--older-than",
    None,
    "Only remove objects older than this, e.g. 90m, 12h, 7d, 2w.",
    required=True,
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed, but remove nothing.")
@click.option(
    "--after", default="", help="Start after this location, to resume an interrupted sweep."
)
@yes_option
@output_options(ERRORS_ONLY)
def sweep(
    out: Output, url: str, older_than: timedelta, dry_run: bool, after: str, yes: bool
) -> None:
    """Remove stored results that no reference of the database names, and incomplete uploads.

    Only sweep a bucket with the database that it belongs to. A worker stores its result before the
    reference, so leave ample time with --older-than. Uploads whose process was killed leave parts
    that take up space; they are removed at the end. A sweep that fails or is interrupted prints
    the --after value to resume from.

    \b
    Examples:
      alchemistore objects sweep --older-than 7d --dry-run
      alchemistore objects sweep --older-than 7d --yes
    """
    from alchemistore.maintenance import object_audit

    if not dry_run:
        confirm(
            "Remove all objects of the object store that the database does not refer to?",
            yes,
            "nothing was removed",
        )
    count = size = uploads = 0
    before = datetime.now(UTC) - older_than
    with Progress(after) as progress:
        engine, store = open_store(url).engine, object_store()
        for page in progress.track(object_audit.sweep(engine, store, before, after, dry_run)):
            for found in page.unreferenced:
                count, size = count + 1, size + found.size
                out.json(_fields(found, not dry_run))
                out.say(found.location)
        for upload in object_audit.sweep_uploads(store, before, dry_run):
            uploads += 1
            started = upload.started.isoformat()
            out.json({"location": upload.location, "started": started, "removed": not dry_run})
            out.say(f"{upload.location} (incomplete upload)")
    verb = "Would remove" if dry_run else "Removed"
    if not out.quiet:
        total = f"{verb} {_number(count, 'object')}, {size} bytes"
        total += f", and {_number(uploads, 'incomplete upload')}." if uploads else "."
        click.echo(total, err=out.as_json)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _fields(found: StoredObject, removed: bool) -> dict[str, Any]:
    modified = found.modified.isoformat()
    return {
        "location": found.location,
        "size": found.size,
        "modified": modified,
        "removed": removed,
    }
