"""`alchemistore task`: look at tasks, and set their status and priority."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import (
    author_options,
    keys_argument,
    open_store,
    read_from_input,
    scope_option,
    url_option,
)
from alchemistore.cli.output import (
    ERRORS_ONLY,
    KEYS_ONLY,
    PAGE,
    Output,
    busy,
    confirm,
    counted,
    output_options,
    portions,
    printable,
    shown,
    yes_option,
)

if TYPE_CHECKING:
    from alchemistore.models import ScopedKey, TaskHistory
    from alchemistore.store import StateStore

STATUSES = ("waiting", "running", "complete", "error", "invalid", "deleted")
# These cannot be undone, and take everything that extends the task with them.
FINAL = ("invalid", "deleted")
REFUSALS = {
    "missing": "there is no such task",
    "status": "its status does not allow it",
    "no_hub": "there is no such hub",
    "not_in_network": "it is not a task of the network of the hub",
    "already_actioned": "it is on the hub already",
    "not_actioned": "it is not on the hub",
    "quota": "a quota does not allow it",
}


@click.group()
def task() -> None:
    """Show tasks, and set their status and priority.

    TASK is the key of a task, Task-<token>-<org>-<campaign>-<project>, or '-' for the keys on
    standard input.
    """


def require(tx: StateStore, key: str) -> None:
    """Raise an error unless an object is stored under a key."""
    from alchemistore.errors import MissingObjectError

    if not tx.check_existence(key):
        raise MissingObjectError(key)


@task.command("list", short_help="List tasks: status, priority, attempts and last service.")
@url_option
@scope_option
@click.option("--status", type=click.Choice(STATUSES), help="Only with this status.")
@click.option("--network", "-n", metavar="KEY", help="Only of this network.")
@click.option("--hub", metavar="KEY", help="Only on this task hub.")
@click.option("--transformation", "-t", metavar="KEY", help="Only of this transformation.")
@click.option("--limit", type=click.IntRange(0), help="The largest number of tasks to list.")
@output_options(KEYS_ONLY)
def list_(
    out: Output,
    url: str,
    scope: str | None,
    status: str | None,
    network: str | None,
    hub: str | None,
    transformation: str | None,
    limit: int | None,
) -> None:
    """List tasks: status, priority, attempts, and the last service.

    \b
    Examples:
      alchemistore task list --scope 'my_org-*-*' --status error
      alchemistore task list --network AlchemicalNetwork-... --json
      alchemistore task list --status error -q | alchemistore task restart -
    """
    store = open_store(url)
    keys = select(store, scope, status, network, hub, transformation)
    out.table(
        _rows(store, islice(keys, limit), out.quiet),
        "task",
        "status",
        "priority",
        "attempts",
        "last_service",
        "status_changed_at",
        "reason",
    )


def select(
    store: StateStore,
    scope: str | None = None,
    status: str | None = None,
    network: str | None = None,
    hub: str | None = None,
    transformation: str | None = None,
) -> Iterator[ScopedKey]:
    """Yield the tasks of a scope, a network, a hub or a transformation.

    Raises
    ------
    click.UsageError
        If several of these are given.
    KeyError
        If there is no such network, hub or transformation.
    """
    given = [one for one in (scope, network, hub, transformation) if one is not None]
    if len(given) > 1:
        raise click.UsageError(
            "only one of --scope, --network, --hub and --transformation can be used"
        )
    if network is not None or hub is not None or transformation is not None:
        with busy("Reading the keys"), store.transaction() as tx:
            require(tx, given[0])
            if network is not None:
                found = tx.get_network_tasks(network, status)
            elif transformation is not None:
                found = tx.get_transformation_tasks(transformation, status=status)
            else:
                found = tx.get_taskhub_tasks(hub)
                if status is not None:
                    known = tx.get_task_status(found)
                    found = [key for key, its in zip(found, known, strict=True) if its == status]
        yield from found
        return
    last = None
    while True:
        with busy("Reading the keys"):
            page = store.query_tasks(scope=scope, status=status, limit=PAGE, after=last)
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1]


def _rows(
    store: StateStore, keys: Iterable[ScopedKey], only_keys: bool
) -> Iterator[dict[str, Any]]:
    if only_keys:
        yield from ({"task": key} for key in keys)
        return
    remaining = iter(keys)
    while page := list(islice(remaining, PAGE)):
        with busy("Reading tasks"), store.transaction() as tx:
            details, priorities = tx.get_task_details(page), tx.get_task_priority(page)
        for one, priority in zip(details, priorities, strict=True):
            # Deleted since its key was read.
            if one is not None:
                yield {
                    "task": one.task,
                    "status": one.status,
                    "priority": priority,
                    "attempts": one.num_attempts,
                    "service": one.service,
                    "last_service": one.last_service,
                    "status_changed_at": one.status_changed_at,
                    "reason": one.reason,
                    "results": one.num_results,
                    "failures": one.num_failures,
                }


@task.command()
@keys_argument("TASK...")
@url_option
@output_options(KEYS_ONLY)
def show(out: Output, url: str, keys: list[str]) -> None:
    """Show everything about tasks but their history.

    \b
    Example:
      alchemistore task show Task-...-my_org-my_campaign-my_project
    """
    store = open_store(url)
    for number, key in enumerate(keys):
        with busy("Reading tasks"), store.transaction() as tx:
            [details] = tx.get_task_details([key])
            if details is None:
                out.complain(f"there is no task {key}")
                continue
            record = tx.get_gufe(key)
            transformation, continued = tx.get_task_transformation(key, return_gufe=False)
            fields = {
                "task": details.task,
                "status": details.status,
                "status_changed_at": details.status_changed_at,
                "reason": details.reason,
                "priority": record.priority,
                "attempts": details.num_attempts,
                "service": details.service,
                "last_service": details.last_service,
                "transformation": transformation,
                "extends": record.extends,
                "continues_from": continued,
                "networks": tx.get_task_networks(key),
                "hub_weights": _weights(tx, key),
                "results": tx.get_task_results(key),
                "failures": tx.get_task_failures(key),
                "restarts": details.restarts,
                "creator": record.creator,
                "created_at": record.datetime_created,
            }
        if number:
            out.say()
        if out.as_json or out.quiet:
            out.record(fields)
        else:
            restarts = [
                f"{one.pattern!r} {one.retries} of {one.max_retries}" for one in details.restarts
            ]
            out.record({**fields, "restarts": restarts})


def _weights(tx: StateStore, key: str) -> dict[str, float | None]:
    """Return the weight of a task on each hub that it is on."""
    networks = list(tx.get_task_actioned_networks(key))
    hubs = [hub for hub in tx.get_taskhubs(networks) if hub is not None]
    return {str(hub): tx.get_task_weights([key], hub)[0] for hub in hubs}


@task.command(short_help="Show all changes of status and all attempts.")
@keys_argument("TASK...")
@url_option
@click.option("--tracebacks", is_flag=True, help="Also print the tracebacks of its failures.")
@output_options(KEYS_ONLY)
def history(out: Output, url: str, keys: list[str], tracebacks: bool) -> None:
    """Show all changes of status and all attempts, in the order of time.

    \b
    Examples:
      alchemistore task history Task-...-my_org-my_campaign-my_project --tracebacks
      alchemistore task list --status error -q | alchemistore task history - --json
    """
    store = open_store(url)
    printed = 0
    for portion in portions(keys, "Reading histories", 100):
        for key, found in zip(portion, store.get_task_history(portion), strict=True):
            if found is None:
                out.complain(f"there is no task {key}")
                continue
            errors = _tracebacks(store, key) if tracebacks else None
            if out.as_json:
                more = {} if errors is None else {"tracebacks": errors}
                out.json({**dict(found), **more})
            elif out.quiet:
                click.echo(key)
            else:
                if printed:
                    out.say()
                _print_history(out, found, errors)
            printed += 1


def _tracebacks(store: StateStore, key: str) -> list[list[str]]:
    """Return the tracebacks of the results of a task, and of its attempts without a result."""
    without = [list(one.tracebacks) for one in store.get_task_logs(key) if one.tracebacks]
    return store.get_task_tracebacks(key) + without


def _print_history(out: Output, found: TaskHistory, errors: list[list[str]] | None) -> None:
    out.say(f"Task {found.task}", bold=True)
    changes = [
        {
            "time": change.changed_at,
            "status": change.status,
            "by": change.actor,
            "reason": change.reason,
        }
        for change in found.changes
    ]
    out.table(changes, "time", "status", "by", "reason")
    if found.attempts:
        out.say()
        out.table(
            [dict(attempt) for attempt in found.attempts],
            *("attempt", "service", "hostname", "claimed_at", "ended_at", "outcome"),
        )
        for attempt in found.attempts:
            if attempt.result is not None:
                out.say(f"Result of attempt {attempt.attempt}: {attempt.result}")
    for one in found.restarts:
        out.say(f"Restarted by {shown(one.pattern)}: {one.retries} of {one.max_retries} times")
    for failure in errors or ():
        for traceback in failure:
            out.say()
            for line in traceback.splitlines():
                out.say(shown(line))


@task.command(short_help="Print what was written while a task ran.")
@click.argument("key", metavar="TASK")
@url_option
@click.option("--attempt", type=click.IntRange(1), help="Only this attempt.")
@output_options("Print the output only.")
def log(out: Output, url: str, key: str, attempt: int | None) -> None:
    """Print what was written while a task ran: the last 64 KiB of each attempt.

    'alchemistore worker' stores it. For an attempt that failed without a result, the tracebacks
    follow; those of results are printed by 'task history --tracebacks'. Exit code 1 if there is no
    output.

    \b
    Examples:
      alchemistore task log Task-...-my_org-my_campaign-my_project
      alchemistore task log Task-... --attempt 2 -q | less
    """
    store = open_store(url)
    require(store, key)
    found = [one for one in store.get_task_logs(key) if attempt in (None, one.attempt)]
    if not found:
        out.complain(f"no output of {key} is stored")
    for one in found:
        out.json({"task": key, **dict(one)})
        left_out = one.size - len(one.log.encode(errors="surrogatepass"))
        more = f" ({counted(left_out, 'byte')} before it left out)" if left_out > 0 else ""
        out.say(f"Attempt {one.attempt}{more}", bold=True)
        if not out.as_json:
            _print_lines(one.log, *one.tracebacks)


def _print_lines(*texts: str) -> None:
    for one in texts:
        for line in one.splitlines():
            click.echo(printable(line.expandtabs()))


@task.command()
@keys_argument("TASK...")
@url_option
@output_options("Print only the keys of tasks that cannot be claimed, one per line.")
def why(out: Output, url: str, keys: list[str]) -> None:
    """Explain why tasks are not being claimed.

    \b
    Examples:
      alchemistore task why Task-...-my_org-my_campaign-my_project
      alchemistore task list --status waiting -q | alchemistore task why -
    """
    store = open_store(url)
    for portion in portions(keys, "Looking for reasons"):
        for key, blockers in zip(portion, store.get_task_blockers(portion), strict=True):
            if blockers is None:
                out.complain(f"there is no task {key}")
            elif out.as_json:
                out.json({"task": key, "claimable": not blockers, "blockers": blockers})
            elif out.quiet:
                if blockers:
                    click.echo(key)
            elif not blockers:
                out.say(f"{key}: the next claim may take it")
            else:
                out.say(f"{key}:")
                for blocker in blockers:
                    out.say(f"  {shown(blocker.text)}")


Change = Callable[["StateStore", list[str], dict[str, Any]], "list[ScopedKey | None]"]


def change_tasks(
    out: Output, store: StateStore, keys: list[str], done: Mapping[str, Any], change: Change
) -> int:
    """Change tasks, in portions of one transaction each, and report what was refused.

    Parameters
    ----------
    out : Output
    store : StateStore
    keys : list of str
        The tasks.
    done : mapping
        What is printed with --json about a task that was changed.
    change : callable
        Changes the tasks in a transaction, and fills a dictionary with refusals.

    Returns
    -------
    int
        Number of tasks that were changed.
    """
    total = 0
    for portion in portions(keys, "Changing tasks"):
        refusals: dict[str, Any] = {}
        with store.transaction() as tx:
            changed = change(tx, list(portion), refusals)
        for key, now in zip(portion, changed, strict=True):
            if now is not None:
                total += 1
                out.json({"task": key, **done, "refused": None})
                continue
            reason = refusals.get(str(key), "missing")
            out.json({"task": key, **dict.fromkeys(done), "refused": str(reason)})
            out.complain(f"{key}: {REFUSALS.get(reason, reason)}")
    return total


@task.command("set-status")
@click.argument("status", type=click.Choice(STATUSES))
@keys_argument("TASK...")
@url_option
@author_options
@yes_option
@output_options(ERRORS_ONLY)
def set_status(
    out: Output,
    url: str,
    status: str,
    keys: list[str],
    reason: str | None,
    actor: str,
    yes: bool,
) -> None:
    """Set the status of tasks.

    invalid and deleted are final: the tasks leave all hubs, and everything that extends them gets
    the status, too. waiting releases a running task. Exit code 1 if a task was refused.

    \b
    Examples:
      alchemistore task set-status waiting Task-... --reason 'node is gone'
      alchemistore task set-status invalid Task-... --yes
    """
    store = open_store(url)
    if status in FINAL and keys:
        tasks = counted(len(keys), "task")
        confirm(f"Set {tasks} and what extends them to {status}, for good?", yes)
    done = change_tasks(
        out,
        store,
        keys,
        {"status": status},
        lambda tx, some, refusals: tx.set_task_status(
            some, status, reason=reason, actor=actor, refusals=refusals
        ),
    )
    out.say(f"Set {counted(done, 'task')} to {status}.")


@task.command("set-priority", short_help="Set the priority of tasks; 1 is the most urgent.")
@click.argument("priority", type=click.IntRange(1))
@keys_argument("TASK...")
@url_option
@output_options(ERRORS_ONLY)
def set_priority(out: Output, url: str, priority: int, keys: list[str]) -> None:
    """Set the priority of tasks: from 1, the most urgent; the default of a task is 10.

    \b
    Example:
      alchemistore task list -n AlchemicalNetwork-... -q | alchemistore task set-priority 1 -
    """
    done = change_tasks(
        out,
        open_store(url),
        keys,
        {"priority": priority},
        lambda tx, some, refusals: tx.set_task_priority(some, priority, refusals=refusals),
    )
    out.say(f"Set the priority of {counted(done, 'task')} to {priority}.")


@task.command()
@keys_argument("[TASK...]", required=False)
@url_option
@scope_option
@click.option("--network", "-n", metavar="KEY", help="All failed tasks of this network.")
@click.option("--hub", metavar="KEY", help="Also action the tasks on this hub, if they left it.")
@click.option("--running", is_flag=True, help="Also restart running tasks; their claims end.")
@author_options
@output_options(ERRORS_ONLY)
def restart(
    out: Output,
    url: str,
    keys: list[str],
    scope: str | None,
    network: str | None,
    hub: str | None,
    running: bool,
    reason: str | None,
    actor: str,
) -> None:
    """Set failed tasks to waiting, so that they are run again.

    Name the tasks, or all failed ones with --scope or --network. Restart patterns take tasks off
    their hub when they give up; --hub puts them back. Tasks with another status are refused. Exit
    code 1 if a task was refused.

    \b
    Examples:
      alchemistore task restart Task-... --reason 'driver was updated'
      alchemistore task restart --network AlchemicalNetwork-... --hub TaskHub-...
    """
    statuses = ("error", "running") if running else ("error",)
    if keys and (scope or network):
        raise click.UsageError("name tasks, or use --scope or --network, not both")
    if not (keys or scope or network or read_from_input()):
        raise click.UsageError("name the tasks to restart, or use --scope or --network")
    store = open_store(url)
    if hub is not None:
        require(store, hub)
    for status in statuses if scope or network else ():
        keys += map(str, select(store, scope, status, network))

    not_on_hub: dict[str, Any] = {}

    def change(tx: StateStore, some: list[str], refusals: dict[str, Any]) -> Any:
        done = tx.set_task_status(
            some, "waiting", reason=reason, actor=actor, refusals=refusals, only_from=statuses
        )
        if hub is not None:
            off: dict[str, Any] = {}
            tx.action_tasks([key for key in done if key is not None], hub, refusals=off)
            not_on_hub.update({key: why for key, why in off.items() if why != "already_actioned"})
        return done

    done = change_tasks(out, store, keys, {"status": "waiting"}, change)
    for key, why in not_on_hub.items():
        out.complain(f"{key} is waiting, but not on the hub: {REFUSALS.get(why, why)}")
    out.say(f"Restarted {counted(done, 'task')}.")
