"""The campaign from submission to answers: submit, let worker processes run it, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gufe
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from alchemistore import S3ObjectStore, Scope, ScopedKey, StateStore, TaskStatusEnum, get_s3os
from alchemistore.local import LocalServers
from alchemistore.settings import S3ObjectStoreSettings
from harmonic.analysis import collect
from harmonic.crew import CampaignError, Crew
from harmonic.mishaps import Mishaps
from harmonic.plot import draw
from harmonic.protocol import HarmonicProtocol, HarmonicSettings
from harmonic.report import Report, tell
from harmonic.system import NETWORK_NAME, analytic, build_network, environment, is_chord

SCOPE = Scope("demo", "harmonic", "wells")
# Transformations with a larger free energy than this (kT) get a task that extends one of the others.
EXTEND_ABOVE = 0.6
# The ring that joins all ligands comes first, then what closes further cycles; extensions last.
PRIORITY_RING, PRIORITY_CHORD, PRIORITY_EXTENSION = 1, 5, 10
WEIGHTS = {"vacuum": 0.3, "solvent": 0.7}

# Between two looks at the database.
TICK = 0.25

STATUS_STYLES = {
    "waiting": "cyan",
    "running": "yellow",
    "complete": "green",
    "error": "red",
    "invalid": "red",
    "deleted": "dim",
}


@dataclass(frozen=True)
class Size:
    """How long the campaign takes.

    Attributes
    ----------
    sampling : HarmonicSettings
        Of each task.
    repeats : int, default 3
        Tasks of each transformation, those that extend others not counted.
    silence : timedelta, default 4 s
        A worker that was not heard of for this long loses its task.
    """

    sampling: HarmonicSettings = field(default_factory=HarmonicSettings)
    repeats: int = 3
    silence: timedelta = timedelta(seconds=4)


def run(
    directory: Path,
    *,
    workers: int = 4,
    kill: bool = True,
    size: Size | None = None,
    console: Console,
) -> Report:
    """Run the campaign, or go on with it, or, when it is finished, just report.

    Parameters
    ----------
    directory : Path
        Where servers keep their data, and where the plot and the workers' logs are put.
    workers : int, default 4
        How many worker processes.
    kill : bool, default True
        On the way kill one of them and stop another for a while, to show that nothing is lost. It takes two workers.
    size : Size, optional
        Of a campaign that is not submitted yet; and its silence.
    console : Console
        Where progress and answers are printed.

    Returns
    -------
    Report
        Printed already.

    Raises
    ------
    CampaignError
        If no worker is left while there is work to do.
    """
    directory = directory.resolve()
    size = size or Size()
    _introduce(console)
    with _servers(directory, console) as (store, objects, variables):
        network = _find(store)
        found = network is not None and _finished(store, network)
        if network is None:
            network = _submit(store, size, console)
        elif found:
            tell(
                console,
                "[green]✓[/] The campaign is finished already: these are its answers. Start anew with [bold]make demo-clean[/].",
            )
        else:
            _resume(store, network, console)
        if not found:
            crew = Crew(network, directory / "logs", variables, console)
            mishaps = Mishaps(store, network, crew, console) if kill and workers > 1 else None
            with crew.at_work(workers):
                _follow(store, network, crew, mishaps, size.silence, console)
        with console.status("Reading the results ..."):
            answers = collect(store, objects, network)
            plot = directory / "free-energies.png"
            if answers.legs:
                draw(answers.legs, plot)
        report = Report(answers, plot, complete=_finished(store, network), found=found)
        report.show(console)
        return report


def _introduce(console: Console) -> None:
    console.print()
    tell(
        console,
        "[bold]A tiny free energy campaign[/]: 12 ligands, each a particle in a harmonic well, in vacuum and in solvent.",
    )
    tell(
        console, "Turning one into another costs 0.5·kT·ln(kB/kA), so every answer can be checked."
    )
    console.print()


@contextmanager
def _servers(
    directory: Path, console: Console
) -> Iterator[tuple[StateStore, S3ObjectStore, Mapping[str, str]]]:
    servers = LocalServers(directory)
    before = servers.status()
    with console.status("Starting PostgreSQL and S3 ..."):
        servers.start()
        variables = servers.environment()
        store = StateStore(variables["ALCHEMISTORE_DATABASE_URL"])
        # The session token is named so that one in the environment, meant for Amazon's servers, is not taken.
        amazon = {name: value for name, value in variables.items() if name.startswith("AWS_")}
        objects = get_s3os(
            S3ObjectStoreSettings.model_validate({"AWS_SESSION_TOKEN": None, **amazon})
        )
        store.initialize()
        objects.initialize()
    tell(
        console,
        f"[green]✓[/] A private PostgreSQL and a private S3 server are up; their data are in {escape(str(directory))}",
    )
    try:
        yield store, objects, variables
    finally:
        store.close()
        if before.database is None and before.s3 is None:
            servers.stop()


def _find(store: StateStore) -> ScopedKey | None:
    return next(iter(store.query_networks(name=NETWORK_NAME, scope=SCOPE)), None)


def _finished(store: StateStore, network: ScopedKey) -> bool:
    return set(store.get_network_status(network)) == {TaskStatusEnum.complete.value}


def _submit(store: StateStore, size: Size, console: Console) -> ScopedKey:
    network = build_network(HarmonicProtocol(size.sampling))
    # All or nothing: an interrupted submission leaves no half of a campaign behind.
    with store.transaction() as tx:
        key = tx.create_network(network, SCOPE)
        hub = tx.create_taskhub(key)
        edges = {
            tx.get_scoped_key(edge, SCOPE): edge
            for edge in sorted(network.edges, key=lambda edge: edge.name)
        }
        tasks = _create_tasks(tx, edges, size.repeats)
        tx.action_tasks(list(tasks), hub)
        tx.set_task_weights({task: plan.weight for task, plan in tasks.items()}, hub)
        for priority in sorted({plan.priority for plan in tasks.values()}):
            tx.set_task_priority(
                [task for task, plan in tasks.items() if plan.priority == priority], priority
            )
    extensions = sum(plan.priority == PRIORITY_EXTENSION for plan in tasks.values())
    tell(
        console,
        f"[green]✓[/] Submitted {len(network.nodes)} chemical systems and {len(network.edges)} transformations,"
        f" with {len(tasks)} tasks: {size.repeats} for each transformation, and {extensions} that extend another.",
    )
    return key


@dataclass(frozen=True)
class Plan:
    """How urgent a task is, and how likely to be drawn among the equally urgent."""

    priority: int
    weight: float


def _create_tasks(
    tx: StateStore, edges: Mapping[ScopedKey, gufe.Transformation], repeats: int
) -> dict[ScopedKey, Plan]:
    repeated = [key for key in edges for _ in range(repeats)]
    tasks = tx.create_tasks(repeated, creator="demo")
    # Of the repeats of a transformation the last stays in the dict; any of them would do.
    parents = {
        key: task
        for key, task in zip(repeated, tasks, strict=True)
        if abs(analytic(edges[key])) > EXTEND_ABOVE
    }
    extensions = tx.create_tasks(list(parents), extends=list(parents.values()), creator="demo")

    def weight(key: ScopedKey) -> float:
        return WEIGHTS[environment(edges[key])]

    plans = {
        task: Plan(PRIORITY_CHORD if is_chord(edges[key]) else PRIORITY_RING, weight(key))
        for key, task in zip(repeated, tasks, strict=True)
    }
    plans |= {
        task: Plan(PRIORITY_EXTENSION, weight(key))
        for key, task in zip(parents, extensions, strict=True)
    }
    return plans


def _resume(store: StateStore, network: ScopedKey, console: Console) -> None:
    failed = store.get_network_tasks(network, status=TaskStatusEnum.error)
    store.set_task_waiting(failed)
    status = store.get_network_status(network)
    again = f" {len(failed)} that failed are tried again." if failed else ""
    done = f"{status.get('complete', 0)} of {sum(status.values())} tasks are complete"
    tell(console, f"[green]✓[/] Found the campaign as it was left: {done}.{again}")


def _follow(
    store: StateStore,
    network: ScopedKey,
    crew: Crew,
    mishaps: Mishaps | None,
    silence: timedelta,
    console: Console,
) -> None:
    total = len(store.get_network_tasks(network))
    progress = Progress(
        TextColumn("tasks"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[statuses]}"),
        console=console,
        expand=True,
    )
    with progress:
        bar = progress.add_task("tasks", total=total, statuses="")
        quarters, moving_until = 0, time.monotonic()
        while True:
            expired = store.expire_registrations(datetime.now(UTC) - silence)
            for identifier in expired:
                tell(
                    console,
                    f"[yellow]↺[/] {identifier} has not been heard of for {silence.total_seconds():g} s: its task goes to the others.",
                )
            if mishaps:
                mishaps.lift(expired)
            # Asked before the status: workers that find nothing left to do go home.
            manned = crew.muster()
            status = store.get_network_status(network)
            complete = status.get("complete", 0)
            progress.update(bar, completed=complete, statuses=_statuses(status))
            if not console.is_terminal and 4 * complete // total > quarters:
                # Nobody sees the bar move.
                quarters = 4 * complete // total
                tell(console, f"  {complete} of {total} tasks are complete")
            if not status.get("waiting") and not status.get("running"):
                return
            # What extends a failed task waits for ever; anything else would have been claimed by now.
            moving_until = (
                time.monotonic()
                if status.get("running") or not status.get("error")
                else moving_until
            )
            if time.monotonic() - moving_until > silence.total_seconds():
                return
            if mishaps:
                mishaps.befall(complete / total)
            if not manned:
                raise CampaignError(
                    f"there are tasks left and no worker to do them: see the logs in {crew.logs}"
                )
            time.sleep(TICK)


def _statuses(status: Mapping[str, int]) -> str:
    return " · ".join(
        f"[{style}]{status[name]} {name}[/]"
        for name, style in STATUS_STYLES.items()
        if status.get(name)
    )
