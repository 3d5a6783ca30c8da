"""`alchemistore network`: networks, their states and strategies, and files with networks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import click

from alchemistore.cli.exit_codes import CommandError
from alchemistore.cli.options import object_store, open_store, scope_option, url_option
from alchemistore.cli.output import (
    ERRORS_ONLY,
    KEYS_ONLY,
    Output,
    busy,
    confirm,
    counted,
    output_options,
    shown,
    yes_option,
)

if TYPE_CHECKING:
    from alchemistore.models import NetworkDetails, ScopedKey
    from alchemistore.plotting import Estimate
    from alchemistore.store import StateStore

STATES = ("active", "inactive", "invalid", "deleted")
MODES = ("full", "partial", "disabled")
# The networks whose tasks are counted at once.
PORTION = 100


@click.group(short_help="Show, add, plot, export and delete networks; set states.")
def network() -> None:
    """Show, add, export and delete networks, and set their states and strategies.

    NETWORK is the key of a network, AlchemicalNetwork-<token>-<org>-<campaign>-<project>.
    """


@network.command(short_help="Add the network and the results in a file.")
@click.argument("file", type=click.File("rb"))
@url_option
@click.option("--scope", "-s", required=True, help="org-campaign-project to store the content in.")
@click.option(
    "--transformation",
    "-t",
    metavar="KEY",
    help="Scoped key of the transformation of a single result. Required for results of 'openfe"
    " quickrun', which do not name it.",
)
@click.option(
    "--written-by",
    metavar="VERSIONS",
    help="The versions that wrote FILE, such as 'gufe 1.9.0', if they are not the installed ones.",
)
@output_options(KEYS_ONLY)
def add(
    out: Output,
    file: BinaryIO,
    url: str,
    scope: str,
    transformation: str | None,
    written_by: str | None,
) -> None:
    """Add the network and the results in FILE ('-' for standard input).

    FILE holds an AlchemicalNetwork, a Transformation, an AlchemicalArchive or a ProtocolDAGResult,
    as a nested dict or a keyed chain, or a result of 'openfe quickrun'. It may be compressed by
    gzip or zstd. Results become complete tasks and are put into the object store (AWS_...
    variables). A file that is added again changes nothing.

    \b
    Examples:
      alchemistore network add network.json.zst --scope my_org-my_campaign-my_project
      alchemistore network add result.json -s my_org-my_campaign-my_project -t Transformation-...
    """
    from alchemistore.files import add_file

    with busy("Adding the file"):
        added = add_file(
            open_store(url), file, scope, transformation=transformation, written_by=written_by
        )
    out.json(
        {
            "network": added.network,
            "tasks": [str(task) for task in added.tasks],
            "new_tasks": added.num_new_tasks,
        }
    )
    if out.quiet:
        for key in added.tasks if added.network is None else (added.network, *added.tasks):
            click.echo(str(key))
    if added.network is not None:
        out.say(f"Network {added.network}")
    if added.tasks:
        out.say(f"Results: {len(added.tasks)}, of which {added.num_new_tasks} are new")
    for task in added.tasks:
        out.say(f"Task {task}")


def _rows(
    store: StateStore, name: str | None, state: str | None, scope: str | None, only_keys: bool
) -> Iterator[dict[str, Any]]:
    last = None
    while True:
        with busy("Reading networks"), store.transaction() as tx:
            page = tx.query_networks(
                name=name, state=state, scope=scope, patterns=True, limit=PORTION, after=last
            )
            details = [] if only_keys else tx.get_network_details(page)
        if only_keys:
            yield from ({"network": key} for key in page)
        yield from (_fields(one) for one in details if one is not None)
        if len(page) < PORTION:
            return
        last = page[-1]


def _fields(details: NetworkDetails) -> dict[str, Any]:
    return {
        "network": details.network,
        "name": details.name,
        "state": details.state,
        "created_at": details.created_at,
        "hub": details.taskhub,
        "weight": details.weight,
        "strategy": details.strategy,
        "transformations": details.num_transformations,
        "tasks": dict(details.tasks),
    }


@network.command("list")
@url_option
@scope_option
@click.option("--name", metavar="PATTERN", help="Only with a name that matches this.")
@click.option("--state", metavar="PATTERN", help="Only in states that match this.")
@output_options(KEYS_ONLY)
def list_(out: Output, url: str, scope: str | None, name: str | None, state: str | None) -> None:
    """List networks: name, state, and numbers of tasks by status.

    A PATTERN is a regular expression that the whole text must match.

    \b
    Examples:
      alchemistore network list --scope 'my_org-*-*' --state active
      alchemistore network list --name 'tyk2.*' --json
    """
    rows = _rows(open_store(url), name, state, scope, out.quiet)
    out.table(rows, "network", "name", "state", "weight", "transformations", "tasks")


@network.command(short_help="Show a network: state, hub, strategy and tasks.")
@click.argument("network")
@url_option
@output_options(KEYS_ONLY)
def show(out: Output, url: str, network: str) -> None:
    """Show a network: its state, hub, strategy, and numbers of tasks by status.

    \b
    Example:
      alchemistore network show AlchemicalNetwork-...-my_org-my_campaign-my_project
    """
    with busy("Reading the network"), open_store(url).transaction() as tx:
        _require_network(tx, network)
        [details] = tx.get_network_details([network])
        assert details is not None
        state = tx.get_network_strategy_state(network)
    strategy = None if state is None else f"{state.mode}, {state.status}"
    fields = {**_fields(details), "strategy_state": state if out.as_json else strategy}
    out.record(fields)


def _require_network(tx: StateStore, network: str) -> None:
    """Raise an error unless it is the key of a network that exists."""
    tx.get_network_state(network)


@network.command()
@click.argument("network")
@click.argument("state", type=click.Choice(STATES), required=False)
@url_option
@output_options(ERRORS_ONLY)
def state(out: Output, url: str, network: str, state: str | None) -> None:
    """Show the state of a network, or set it.

    The state affects what queries and counts include, not what is claimed.

    \b
    Examples:
      alchemistore network state AlchemicalNetwork-...
      alchemistore network state AlchemicalNetwork-... inactive
    """
    with open_store(url).transaction() as tx:
        if state is not None:
            tx.set_network_state(network, state)
        found = tx.get_network_state(network)
    out.json({"network": network, "state": found})
    out.say(found)


@network.command(short_help="Show or set the strategy of a network and its state.")
@click.argument("network")
@url_option
@click.option(
    "--set",
    "new",
    type=click.File("rb"),
    metavar="FILE",
    help="Set the strategy in FILE ('-' for standard input), as gufe's JSON, with a new state.",
)
@click.option("--mode", type=click.Choice(MODES), help="What the strategist may do.")
@click.option("--wake", is_flag=True, help="Wake a dormant strategy, or one that has failed.")
@click.option("--sleep-interval", type=click.IntRange(1), help="Seconds between two executions.")
@click.option(
    "--max-tasks-per-transformation",
    type=click.IntRange(1),
    help="The largest number of tasks to action per transformation.",
)
@click.option("--remove", is_flag=True, help="Remove the strategy of the network.")
@yes_option
@output_options(ERRORS_ONLY)
def strategy(
    out: Output,
    url: str,
    network: str,
    new: BinaryIO | None,
    mode: str | None,
    wake: bool,
    sleep_interval: int | None,
    max_tasks_per_transformation: int | None,
    remove: bool,
    yes: bool,
) -> None:
    """Show the strategy of a network and its state, after changing them.

    FILE is what the method to_json of a strategy writes, such as one of stratocaster.

    \b
    Examples:
      alchemistore network strategy AlchemicalNetwork-...
      alchemistore network strategy AlchemicalNetwork-... --set strategy.json --mode full
      alchemistore network strategy AlchemicalNetwork-... --mode disabled
      alchemistore network strategy AlchemicalNetwork-... --wake
    """
    changes = {
        "mode": mode,
        "sleep_interval": sleep_interval,
        "max_tasks_per_transformation": max_tasks_per_transformation,
        **({"status": "awake", "exception": None, "traceback": None} if wake else {}),
    }
    kept = ("exception", "traceback")
    changes = {name: one for name, one in changes.items() if one is not None or name in kept}
    if remove and (changes or new is not None):
        raise click.UsageError("--remove cannot be used with options that change the state")
    store = open_store(url)
    if remove:
        confirm(f"Remove the strategy of {network} and its state?", yes)
        store.set_strategy(None, network)
        out.json({"network": network, "strategy": None})
        out.say("Removed the strategy.")
        return
    obj = None if new is None else _strategy(new)
    with store.transaction() as tx:
        _require_network(tx, network)
        if obj is not None:
            tx.set_strategy(obj, network)
        [details] = tx.get_network_details([network])
        before = tx.get_network_strategy_state(network)
        if details is None or details.strategy is None or before is None:
            raise CommandError(f"{network} has no strategy")
        if changes:
            tx.update_strategy_state(network, before.model_copy(update=changes))
        now = tx.get_network_strategy_state(network)
    assert now is not None
    fields = {"network": network, "strategy": details.strategy, **now.to_dict()}
    if not out.quiet:
        traceback = fields.pop("traceback")
        out.record({**fields, "traceback": traceback} if out.as_json else fields)
        for line in (traceback or "").splitlines():
            out.say(shown(line))


def _strategy(file: BinaryIO) -> Any:
    from alchemistore import gufe_adapter

    with busy("Reading the strategy"):
        return gufe_adapter.read_object(file)


@network.command(short_help="Write a network to a file, as a keyed chain in JSON.")
@click.argument("network")
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True), default="-")
@url_option
@output_options(ERRORS_ONLY)
def export(out: Output, url: str, network: str, file: TextIO) -> None:
    """Write a network to FILE, or to standard output, as a keyed chain in JSON.

    'network add' and gufe read it. Tasks and results are not included; see 'result export'. --json
    needs a FILE: the network itself is JSON, in one line.

    \b
    Examples:
      alchemistore network export AlchemicalNetwork-... network.json
      alchemistore network export AlchemicalNetwork-... | zstd > network.json.zst
    """
    if out.as_json and file.name == "-":
        raise click.UsageError("--json needs a FILE: standard output gets the network, as JSON")
    with busy("Reading the network"), open_store(url).transaction() as tx:
        _require_network(tx, network)
        chain = tx.get_keyed_chain(network)
    json.dump(chain, file)
    file.write("\n")
    out.json({"network": network, "file": file.name, "objects": len(chain)})
    if not out.as_json and not out.quiet:
        click.echo(f"Wrote {counted(len(chain), 'object')}.", err=True)


@network.command()
@click.argument("network")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@url_option
@click.option(
    "--results",
    is_flag=True,
    help="Colour transformations by ΔG, from the results in the object store (AWS_... variables).",
)
@output_options(ERRORS_ONLY)
def plot(out: Output, url: str, network: str, file: Path, results: bool) -> None:
    """Draw a network into FILE, whose name ends with .svg or .png.

    Transformations are coloured by the status of their tasks that needs most attention: error,
    running, waiting, complete. With --results, gufe gathers the results of each transformation, and
    the colour is the estimate. Needs the extra 'plot'.

    \b
    Examples:
      alchemistore network plot AlchemicalNetwork-... network.svg
      alchemistore network plot AlchemicalNetwork-... network.png --results
    """
    form = file.suffix.removeprefix(".").lower()
    if form not in ("svg", "png"):
        raise click.UsageError("the name of FILE must end with .svg or .png")
    from alchemistore.plotting import draw, read_network

    store = open_store(url)
    if results:
        found = read_network(store, network, _estimates(store))
    else:
        with busy("Reading the network"):
            found = read_network(store, network)
    if not found.systems:
        raise CommandError(f"{network} is empty, so there is nothing to draw")
    with busy("Drawing the network"):
        draw(found, file, form, by_estimate=results)
    statuses = Counter(edge.status for edge in found.edges)
    estimated = sum(edge.estimate is not None for edge in found.edges)
    fields = {"systems": len(found.systems), "transformations": len(found.edges)}
    out.json(
        {
            "network": network,
            "file": str(file),
            **fields,
            "statuses": statuses,
            "estimates": [
                {"transformation": edge.transformation, **asdict(edge.estimate)}
                for edge in found.edges
                if edge.estimate is not None
            ]
            if results
            else None,
        }
    )
    of = f", {estimated:,} of them with a result" if results else ""
    out.say(
        f"Drew {counted(len(found.systems), 'system')} and"
        f" {counted(len(found.edges), 'transformation')}{of}: {file}"
    )


def _estimates(store: StateStore) -> Callable[[ScopedKey], Estimate | None]:
    from alchemistore.plotting import estimator

    number, gather = count(1), estimator(store, object_store())

    def estimate(transformation: ScopedKey) -> Estimate | None:
        with busy(f"Gathering the results of transformation {next(number):,}"):
            return gather(transformation)

    return estimate


@network.command()
@click.argument("network")
@url_option
@yes_option
@output_options(ERRORS_ONLY)
def delete(out: Output, url: str, network: str, yes: bool) -> None:
    """Delete a network with its task hub and strategy.

    Its transformations, their tasks and results stay. Running tasks go on; waiting tasks cannot be
    claimed from its hub any longer.

    \b
    Example:
      alchemistore network delete AlchemicalNetwork-...-my_org-my_campaign-my_project
    """
    store = open_store(url)
    [details] = store.get_network_details([network])
    if details is None:
        # Raises the error that says what is wrong with the key.
        store.get_network_state(network)
    else:
        name = "" if details.name is None else f" ({shown(details.name)})"
        tasks = counted(sum(details.tasks.values()), "task")
        confirm(f"Delete {network}{name}, with its hub and strategy? Its {tasks} stay.", yes)
    with busy("Deleting the network"):
        store.delete_network(network)
    out.json({"network": network})
    out.say(f"Deleted {network}")
