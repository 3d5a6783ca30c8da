"""`alchemistore hub`: task hubs, the tasks on them, and their restart patterns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import keys_argument, open_store, scope_option, url_option
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
from alchemistore.cli.task import change_tasks, require

if TYPE_CHECKING:
    from alchemistore.store import StateStore


@click.group(short_help="Show task hubs; action tasks; set weights and patterns.")
def hub() -> None:
    """Show task hubs, action tasks on them, and set weights and restart patterns.

    HUB is the key of a hub, TaskHub-<token>-<org>-<campaign>-<project>.
    """


@hub.command("list")
@url_option
@scope_option
@output_options(KEYS_ONLY)
def list_(out: Output, url: str, scope: str | None) -> None:
    """List task hubs: network, weight, and number of restart patterns.

    \b
    Example:
      alchemistore hub list --scope 'my_org-*-*'
    """
    out.table(_rows(open_store(url), scope), "hub", "weight", "restart_patterns", "network")


def _rows(store: StateStore, scope: str | None) -> Iterator[dict[str, Any]]:
    last = None
    while True:
        with busy("Reading hubs"), store.transaction() as tx:
            page = tx.query_taskhubs(scope, return_gufe=True, limit=PAGE, after=last)
            patterns = tx.get_task_restart_patterns(page)
        for key, found in page.items():
            yield {
                "hub": key,
                "weight": found.weight,
                "restart_patterns": len(patterns[key]),
                "network": found.network,
            }
        if len(page) < PAGE:
            return
        last = next(reversed(page))


@hub.command()
@click.argument("hub")
@click.argument("weight", type=click.FloatRange(0, 1), required=False)
@url_option
@output_options(ERRORS_ONLY)
def weight(out: Output, url: str, hub: str, weight: float | None) -> None:
    """Show the weight of HUB, or set it.

    It is the relative frequency, from 0 to 1, with which the hub is chosen for a claim. 0 stops
    claims from the hub; running tasks go on.

    \b
    Examples:
      alchemistore hub weight TaskHub-...-my_org-my_campaign-my_project
      alchemistore hub weight TaskHub-...-my_org-my_campaign-my_project 0.8
    """
    with open_store(url).transaction() as tx:
        network = hub_network(tx, hub)
        if weight is not None:
            tx.set_taskhub_weight(network, weight)
        now = tx.get_taskhub_weight(network)
    out.json({"hub": hub, "weight": now})
    out.say(f"{now:g}")


def hub_network(tx: StateStore, hub: str) -> str:
    """Return the key of the network of a hub.

    Raises
    ------
    KeyError
        If there is no such hub.
    ValueError
        If it is the key of something else.
    """
    from alchemistore.models import ScopedKey, TaskHub

    if (key := ScopedKey.from_str(hub)).qualname != TaskHub.__name__:
        raise ValueError(f"{key} is not the key of a TaskHub")
    found: TaskHub = tx.get_gufe(key)
    return found.network


@hub.command()
@click.argument("hub")
@keys_argument("TASK...")
@url_option
@click.option(
    "--weight", type=click.FloatRange(0, 1), help="Weight of the tasks; the default is 0.5."
)
@output_options(ERRORS_ONLY)
def action(out: Output, url: str, hub: str, keys: list[str], weight: float | None) -> None:
    """Add tasks to HUB, so that they can be claimed from it.

    '-' reads the keys of the tasks from standard input. Exit code 1 if a task was refused.

    \b
    Examples:
      alchemistore hub action TaskHub-... Task-... Task-... --weight 0.9
      alchemistore task list -n AlchemicalNetwork-... -q | alchemistore hub action TaskHub-... -
    """
    store = open_store(url)
    require(store, hub)

    def change(tx: StateStore, some: list[str], refusals: dict[str, Any]) -> Any:
        done = tx.action_tasks(some, hub, refusals=refusals)
        if weight is not None:
            tx.set_task_weights([key for key in done if key is not None], hub, weight)
        return done

    done = change_tasks(out, store, keys, {"hub": hub}, change)
    out.say(f"Actioned {counted(done, 'task')}.")


@hub.command()
@click.argument("hub")
@keys_argument("TASK...")
@url_option
@output_options(ERRORS_ONLY)
def cancel(out: Output, url: str, hub: str, keys: list[str]) -> None:
    """Remove tasks from HUB, so that they are not claimed from it. Running tasks go on.

    '-' reads the keys of the tasks from standard input. Exit code 1 if a task was refused.

    \b
    Example:
      alchemistore task list --hub TaskHub-... -q | alchemistore hub cancel TaskHub-... -
    """
    store = open_store(url)
    require(store, hub)
    done = change_tasks(
        out,
        store,
        keys,
        {"hub": hub},
        lambda tx, some, refusals: tx.cancel_tasks(some, hub, refusals=refusals),
    )
    out.say(f"Cancelled {counted(done, 'task')}.")


@hub.command()
@click.argument("hub")
@url_option
@click.option("--add", multiple=True, metavar="PATTERN", help="Add a pattern. May be repeated.")
@click.option("--retries", type=click.IntRange(1), help="Retries of the added patterns.")
@click.option(
    "--remove", multiple=True, metavar="PATTERN", help="Remove a pattern. May be repeated."
)
@click.option("--clear", is_flag=True, help="Remove all patterns.")
@yes_option
@output_options(KEYS_ONLY)
def patterns(
    out: Output,
    url: str,
    hub: str,
    add: tuple[str, ...],
    retries: int | None,
    remove: tuple[str, ...],
    clear: bool,
    yes: bool,
) -> None:
    """List the restart patterns of HUB after changing them.

    A task that fails with a traceback in which a pattern is found is run again, as often as the
    pattern allows; other failed tasks leave the hub. Removing patterns also forgets how often they
    have restarted tasks.

    \b
    Examples:
      alchemistore hub patterns TaskHub-... --add 'Particle coordinate is NaN' --retries 3
      alchemistore hub patterns TaskHub-... --remove CUDA_ERROR --yes
    """
    if bool(add) != (retries is not None):
        raise click.UsageError("--add needs --retries, and --retries needs --add")
    store = open_store(url)
    require(store, hub)
    if remove or clear:
        which = "all patterns" if clear else counted(len(remove), "pattern")
        confirm(f"Remove {which}, and forget how often they have restarted tasks?", yes)
    with busy("Changing patterns"), store.transaction() as tx:
        # Raises an error if it is not a hub, also if nothing is to be changed.
        hub_network(tx, hub)
        if clear:
            tx.clear_task_restart_patterns(hub)
        if remove:
            tx.remove_task_restart_patterns(hub, remove)
        if add and retries is not None:
            tx.add_task_restart_patterns(hub, add, retries)
        [found] = tx.get_task_restart_patterns([hub]).values()
    rows = [{"pattern": pattern, "max_retries": most} for pattern, most in sorted(found)]
    out.table(rows, "pattern", "max_retries")
