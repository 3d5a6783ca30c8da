"""`alchemistore status`: tasks by status, rates, services, and what has taken longest."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from datetime import timedelta
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import age_option, open_store, scope_option, url_option
from alchemistore.cli.output import (
    PAGE,
    Output,
    busy,
    counted,
    duration,
    output_options,
    printable,
)

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

    from alchemistore.models import NetworkDetails, ScopedKey
    from alchemistore.store import StateStore

# The statuses in the order of the bars, each with a colour and, where there are no colours, a
# character of its own.
STATUSES = {
    "complete": ("green", "█"),
    "running": ("blue", "▓"),
    "waiting": ("yellow", "░"),
    "error": ("red", "!"),
    "invalid": ("magenta", "x"),
    "deleted": ("bright_black", "-"),
}
BAR = 40
# Where the words beside the name of a fact begin.
INDENT = 11
# Columns of a page that is not shown on a terminal.
WIDE = 250
MINUTE = timedelta(minutes=1)


@click.command(short_help="Show tasks by status, rates, services, and what is oldest.")
@url_option
@scope_option
@age_option("--since", "10m", "Time over which claims and results are counted.")
@age_option(
    "--lease",
    "30m",
    "A service without a heartbeat for this long has expired; for a third of it, is silent.",
)
@click.option(
    "--networks",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="The largest number of networks to show; those with the most to do come first.",
)
@click.option("--watch", "-w", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    help="With --watch: seconds in between.",
)
@output_options("Print one line.")
def status(
    out: Output,
    url: str,
    scope: str | None,
    since: timedelta,
    lease: timedelta,
    networks: int,
    watch: bool,
    interval: float,
) -> None:
    """Show tasks by status for each scope and active network, rates, and services.

    The oldest claimable task and the oldest attempt show whether something is stuck. All ages are
    by the clock of the database. Tasks and attempts are counted, which takes longer the more there
    are.

    \b
    Examples:
      alchemistore status
      alchemistore status --scope 'my_org-*-*' --watch
      alchemistore status --json --watch --interval 60 >> status.jsonl
    """
    store = open_store(url)
    if not watch:
        with busy("Counting tasks"):
            found = collect(store, scope, since, lease, networks)
        _print(out, found)
        return
    try:
        _watch(out, interval, lambda: collect(store, scope, since, lease, networks))
    except KeyboardInterrupt:
        # The usual end.
        return


def collect(
    store: StateStore,
    scope: str | None,
    since: timedelta,
    lease: timedelta,
    most_networks: int,
) -> dict[str, Any]:
    """Return everything that is shown, as one object, seen at one moment."""
    with store.transaction() as tx:
        activity = tx.get_activity(scope, since)
        details = _active_networks(tx, scope)
        scopes = sorted({one.network.scope for one in details})
        tasks = tx.get_scope_status(scope or "*-*-*", None)
        by_scope = {str(one): tx.get_scope_status(one, None) for one in scopes}
        services = _services(tx, lease)
    details.sort(key=lambda one: (-_to_do(one.tasks), -sum(one.tasks.values()), one.network))
    minutes = max((activity.time - activity.since) / MINUTE, 1 / 60)
    running = activity.oldest_running
    return {
        "time": activity.time,
        "scope": scope or "*-*-*",
        "tasks": tasks,
        "scopes": by_scope,
        "networks": [
            {"network": one.network, "name": one.name, "tasks": dict(one.tasks)}
            for one in details[:most_networks]
        ],
        "networks_not_shown": max(len(details) - most_networks, 0),
        "services": services,
        "claims_per_minute": round(activity.num_claimed / minutes, 3),
        "results_per_minute": round((activity.num_complete + activity.num_error) / minutes, 3),
        "failures_per_minute": round(activity.num_error / minutes, 3),
        "lost_attempts": activity.num_lost,
        "minutes": round(minutes, 3),
        "claimable": activity.num_claimable,
        "oldest_claimable": activity.oldest_claimable,
        "claimable_for": _age(activity.time, activity.claimable_since),
        "oldest_running": None if running is None else running.task,
        "running_for": None if running is None else _age(activity.time, running.claimed_at),
        "running_on": None if running is None else running.service,
    }


def _age(now: Any, then: Any) -> timedelta | None:
    return None if then is None else max(now - then, timedelta(0))


def _to_do(tasks: Mapping[str, int]) -> int:
    return sum(tasks.get(one, 0) for one in ("waiting", "running", "error"))


def _active_networks(tx: StateStore, scope: str | None) -> list[NetworkDetails]:
    found: list[NetworkDetails] = []
    last: ScopedKey | None = None
    while True:
        page = tx.query_networks(scope=scope, state="active", limit=PAGE, after=last)
        found += [one for one in tx.get_network_details(page) if one is not None]
        if len(page) < PAGE:
            return found
        last = page[-1]


def _services(tx: StateStore, lease: timedelta) -> dict[str, int]:
    counts = {"alive": 0, "silent": 0, "expired": 0}
    last: str | None = None
    while True:
        page = tx.query_computeservices(limit=PAGE, after=last)
        for one in page:
            if one.silence > lease:
                counts["expired"] += 1
            else:
                counts["silent" if one.silence > lease / 3 else "alive"] += 1
        if len(page) < PAGE:
            return counts
        last = page[-1].registration.identifier


def _print(out: Output, found: dict[str, Any]) -> None:
    if out.as_json:
        out.json(found)
    elif out.quiet:
        click.echo(_line(found["tasks"]))
    else:
        console = _console()
        console.print(picture(found, console.width))


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    # A file or a program reads lines of any length.
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def _watch(out: Output, interval: float, look: Any) -> None:
    from rich.live import Live

    console = _console()
    if out.as_json or out.quiet or not console.is_terminal:
        while True:
            _print(out, look())
            time.sleep(interval)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(picture(look(), console.width), refresh=True)
            time.sleep(interval)


def _line(tasks: Mapping[str, int]) -> str:
    return ", ".join(f"{tasks[one]:,} {one}" for one in STATUSES if tasks.get(one)) or "no tasks"


def bar(tasks: Mapping[str, int], width: int) -> Text:
    """Return a bar with a part for each status; one that has any task has at least one character.

    Parameters
    ----------
    tasks : mapping of str to int
        Number of tasks by status.
    width : int
        Characters of the bar.
    """
    from rich.text import Text

    total = sum(tasks.values())
    exact = {one: tasks.get(one, 0) * width / total if total else 0 for one in STATUSES}
    sizes = {one: max(int(size), 1 if size else 0) for one, size in exact.items()}
    while total and sum(sizes.values()) < width:
        sizes[max(sizes, key=lambda one: exact[one] - sizes[one])] += 1
    while sum(sizes.values()) > width:
        sizes[max(sizes, key=lambda one: sizes[one])] -= 1
    text = Text()
    for one, (colour, character) in STATUSES.items():
        text.append(character * sizes[one], style=colour)
    return text if total else Text("·" * width, style="bright_black")


def picture(found: Mapping[str, Any], columns: int) -> Group:
    """Return the page for people, for a terminal with so many columns."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    bars = Table.grid(padding=(0, 2))
    # On a narrow terminal, names are cut and numbers wrapped.
    bars.add_column(no_wrap=True, max_width=max(columns // 3, 12))
    bars.add_column(no_wrap=True)
    bars.add_column()
    width = min(BAR, columns // 4)

    def add(name: str, tasks: Mapping[str, int], style: str = "") -> None:
        bars.add_row(Text(name, style=style), bar(tasks, width), Text(_line(tasks)))

    add(f"All of {found['scope']}", found["tasks"], "bold")
    for scope, tasks in found["scopes"].items():
        add(scope, tasks)
    for one in found["networks"]:
        add(_name(one), one["tasks"])
    key = Text("  ").join(
        Text(character, style=colour).append(f" {one}", style="default")
        for one, (colour, character) in STATUSES.items()
    )
    lines: list[Any] = [bars, key]
    if more := found["networks_not_shown"]:
        lines.append(Text(f"{counted(more, 'more network')}; --networks shows more of them."))
    services = found["services"]
    lines.append(Text())
    for name, words in {
        "Services": f"{services['alive']:,} alive, {services['silent']:,} silent,"
        f" {services['expired']:,} expired",
        "Rates": f"{found['claims_per_minute']:g} claims and"
        f" {found['results_per_minute']:g} results per minute,"
        f" of which {found['failures_per_minute']:g} failed,"
        f" over {duration(found['minutes'] * MINUTE)}",
        "Lost": f"{counted(found['lost_attempts'], 'attempt')} lost with their services",
        "Claimable": _longest(found["claimable"], found, "oldest_claimable", "claimable"),
        "Running": _longest(found["tasks"].get("running", 0), found, "oldest_running"),
        "Time": f"{found['time']:%Y-%m-%d %H:%M:%S} UTC",
    }.items():
        wrapped = textwrap.wrap(words, max(columns - INDENT, 30), break_on_hyphens=False)
        for line, beginning in zip(wrapped, chain([name], repeat("")), strict=False):
            lines.append(Text(f"{beginning:<{INDENT}}{line}"))
    return Group(*lines)


def _longest(number: int, found: Mapping[str, Any], name: str, adjective: str = "running") -> str:
    task, age = found[name], found[f"{adjective}_for"]
    if task is None:
        return f"{counted(number, 'task')}"
    where = f" on {printable(found['running_on'])}" if adjective == "running" else ""
    return f"{counted(number, 'task')}; {task} for {duration(age)}{where}"


def _name(one: Mapping[str, Any]) -> str:
    name = str(one["network"])[:40] if one["name"] is None else printable(one["name"])[:40]
    return f"  {name}"
