"""`alchemistore service`: look at compute services, and remove silent ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import age_option, keys_argument, open_store, url_option
from alchemistore.cli.output import (
    ERRORS_ONLY,
    KEYS_ONLY,
    PAGE,
    Output,
    busy,
    confirm,
    counted,
    output_options,
    yes_option,
)

if TYPE_CHECKING:
    from alchemistore.store import StateStore


@click.group()
def service() -> None:
    """Show compute services, and remove those that are silent."""


def _rows(
    store: StateStore, manager: str | None = None, silent: timedelta | None = None
) -> Iterator[dict[str, Any]]:
    last = None
    while True:
        with busy("Reading services"):
            page = store.query_computeservices(
                manager_name=manager, expire_time=silent, limit=PAGE, after=last
            )
        for one in page:
            registration = one.registration
            yield {
                "service": registration.identifier,
                "hostname": registration.hostname,
                "tasks": one.num_tasks,
                "silent_for": one.silence,
                "failures": len(registration.failure_times),
                "manager": registration.manager_name,
                "registered": registration.registered,
                "heartbeat": registration.heartbeat,
            }
        if len(page) < PAGE:
            return
        last = page[-1].registration.identifier


@service.command("list", short_help="List compute services: host, tasks, silence and failures.")
@url_option
@click.option("--manager", metavar="NAME", help="Only those of this compute manager.")
@age_option("--silent", None, "Only those without a heartbeat for this long, e.g. 30m.")
@output_options(KEYS_ONLY)
def list_(out: Output, url: str, manager: str | None, silent: timedelta | None) -> None:
    """List registered compute services: host, running tasks, silence and failures.

    The silence is the time since the last heartbeat, by the clock of the database.

    \b
    Examples:
      alchemistore service list
      alchemistore service list --silent 30m --json
    """
    out.table(
        _rows(open_store(url), manager, silent),
        *("service", "hostname", "tasks", "silent_for", "failures", "manager", "registered"),
    )


@service.command(short_help="Remove silent compute services, and release their tasks.")
@keys_argument("[SERVICE...]", required=False)
@url_option
@age_option("--lease", "30m", "Remove services without a heartbeat for longer than this.")
@yes_option
@output_options(ERRORS_ONLY)
def expire(out: Output, url: str, keys: list[str], lease: timedelta, yes: bool) -> None:
    """Remove silent compute services; their running tasks are set to waiting.

    With SERVICE, remove these services, silent or not. A result that a removed service delivers
    later is kept. Exit code 1 if a named service is not registered.

    \b
    Examples:
      alchemistore service expire --lease 1h
      alchemistore service expire my-service-0123456789abcdef0123456789abcdef --yes
    """
    store = open_store(url)
    if keys:
        confirm(f"Remove {counted(len(keys), 'compute service')}?", yes)
        removed = [key for key in keys if _deregister(out, store, key)]
    else:
        if not yes:
            silent = list(_rows(store, silent=lease))
            if silent:
                tasks = counted(sum(row["tasks"] for row in silent), "task")
                services = counted(len(silent), "compute service")
                confirm(f"Remove {services} and set {tasks} to waiting?", yes)
        with busy("Removing services"):
            removed = [str(one) for one in store.expire_registrations(lease)]
    for one in removed:
        out.json({"service": one})
        out.say(f"Removed {one}")
    if not removed and not out.problems:
        out.say("No service was removed.")


def _deregister(out: Output, store: StateStore, identifier: str) -> bool:
    try:
        store.deregister_computeservice(identifier)
    except KeyError as error:
        out.complain(str(error))
        return False
    return True
