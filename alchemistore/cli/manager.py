"""`alchemistore manager`: look at compute managers, and clear their errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.exit_codes import CommandError
from alchemistore.cli.options import open_store, url_option
from alchemistore.cli.output import (
    ERRORS_ONLY,
    KEYS_ONLY,
    PAGE,
    Output,
    busy,
    confirm,
    output_options,
    printable,
    yes_option,
)

if TYPE_CHECKING:
    from alchemistore.store import StateStore


@click.group()
def manager() -> None:
    """Show compute managers, and clear their errors."""


def _rows(store: StateStore) -> Iterator[dict[str, Any]]:
    last = None
    while True:
        with busy("Reading managers"):
            page = store.query_computemanagers(limit=PAGE, after=last)
        for one in page:
            registration = one.registration
            yield {
                "manager": registration.name,
                "status": registration.status,
                "saturation": registration.saturation,
                "services": one.num_services,
                "silent_for": one.silence,
                "registered": registration.registered,
                "detail": registration.detail or None,
                "uuid": registration.uuid,
                "last_status_update": registration.last_status_update,
            }
        if len(page) < PAGE:
            return
        last = page[-1].registration.name


@manager.command("list", short_help="List compute managers: status, services and errors.")
@url_option
@output_options(KEYS_ONLY)
def list_(out: Output, url: str) -> None:
    """List registered compute managers: status, services, silence and error.

    \b
    Example:
      alchemistore manager list --json
    """
    out.table(
        _rows(open_store(url)),
        *("manager", "status", "saturation", "services", "silent_for", "registered", "detail"),
    )


@manager.command(short_help="Remove a compute manager whose status is ERROR.")
@click.argument("name")
@url_option
@yes_option
@output_options(ERRORS_ONLY)
def clear(out: Output, url: str, name: str, yes: bool) -> None:
    """Remove the compute manager NAME, whose status is ERROR, so that it can register again.

    \b
    Example:
      alchemistore manager clear my_manager
    """
    store = open_store(url)
    identifier = store.get_compute_manager_id(name)
    if identifier is None:
        raise CommandError(f"there is no compute manager {name!r}")
    confirm(f"Remove the compute manager {printable(identifier)} and the text of its error?", yes)
    store.clear_errored_computemanager(identifier)
    out.json({"manager": name, "uuid": identifier.uuid})
    out.say(f"Removed {identifier}")
