"""Run the campaign: submit it, execute it with worker processes, and report the results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import gufe
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from alchemistore import S3ObjectStore, Scope, ScopedKey, StateStore, TaskStatusEnum, get_s3os
from alchemistore.local import LocalServers
from alchemistore.settings import S3ObjectStoreSettings
from harmonic.analysis import collect
from harmonic.fault_injection import FaultInjection
from harmonic.plot import draw
from harmonic.protocol import HarmonicProtocol, HarmonicSettings
from harmonic.report import Report, tell
from harmonic.system import NETWORK_NAME, analytic, build_network, environment, is_chord
from harmonic.worker_pool import CampaignError, WorkerPool

SCOPE = Scope("demo", "harmonic", "wells")
# A transformation with a larger free energy than this (kT) gets a task that extends another.
EXTEND_ABOVE = 0.6
# The ring that connects all ligands comes first, then the chords, then the extensions.
PRIORITY_RING, PRIORITY_CHORD, PRIORITY_EXTENSION = 1, 5, 10
WEIGHTS = {"vacuum": 0.3, "solvent": 0.7}

# Seconds between two queries of the status.
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
    """The size of the campaign.

    Attributes
    ----------
    sampling : HarmonicSettings
        The settings of each task.
    repeats : int, default 3
        The number of tasks of each transformation, not counting extensions.
    silence : timedelta, default 4 s
        The registration of a worker expires after this time without a heartbeat.
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
    tables: bool = False,
    console: Console,
) -> Report:
    """Run or continue the campaign. If it is finished, report the results only.

    Parameters
    ----------
    directory : Path
        The directory for the data of the servers, the plot and the logs of the workers.
    workers : int, default 4
        The number of worker processes.
    kill : bool, default True
        Kill one worker and suspend another for a while, to show that no result is lost. This
        requires two workers.
    size : Size, optional
        The size of a new campaign. Only `silence` applies to an existing campaign.
    tables : bool, default False
        Print the tables of all transformations, cycles and workers, too.
    console : Console
        The console for progress and results.

    Returns
    -------
    Report
        The report, which has been printed.

    Raises
    ------
    CampaignError
        If no worker is left and there are tasks to do.
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
                "[green]✓[/] The campaign is finished; its results follow."
                " To start again, remove it with [bold]make demo-clean[/].",
            )
        else:
            _resume(store, network, console)
        if not found:
            pool = WorkerPool(network, directory / "logs", variables, console)
            faults = FaultInjection(store, network, pool, console) if kill and workers > 1 else None
            with pool.running(workers):
                _follow(store, network, pool, faults, size.silence, console)
        with console.status("Reading the results ..."):
            answers = collect(store, objects, network)
            plot = directory / "free-energies.png"
            report = Report(
                answers,
                plot,
                directory / "tables.txt",
                complete=_finished(store, network),
                found=found,
            )
            report.write_tables()
            if answers.legs:
                draw(answers.legs, report.ranking, plot)
        report.show(console, tables)
        return report


def _introduce(console: Console) -> None:
    console.print()
    tell(
        console,
        "[bold]A tiny free energy campaign[/]:"
        " 12 ligands, each a particle in a harmonic well, in vacuum and in solvent.",
    )
    tell(
        console,
        "The exact free energy of each transformation is 0.5·kT·ln(kB/kA),"
        " so every result can be checked.",
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
        # The session token is set explicitly, so that one in the environment is not used.
        amazon = {name: value for name, value in variables.items() if name.startswith("AWS_")}
        objects = get_s3os(
            S3ObjectStoreSettings.model_validate({"AWS_SESSION_TOKEN": None, **amazon})
        )
        store.initialize()
        objects.initialize()
    tell(
        console,
        "[green]✓[/] A private PostgreSQL server and a private S3 server are running;"
        f" their data are in {escape(str(directory))}",
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
    # In one transaction, so that an interrupted submission leaves nothing behind.
    with store.transaction() as tx:
        key, hub, _ = tx.assemble_network(network, SCOPE)
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
        f"[green]✓[/] Submitted {len(network.nodes)} chemical systems and {len(network.edges)}"
        f" transformations with {len(tasks)} tasks: {size.repeats} for each transformation,"
        f" and {extensions} that extend another task.",
    )
    return key


@dataclass(frozen=True)
class Plan:
    """The priority and the weight of a task."""

    priority: int
    weight: float


def _create_tasks(
    tx: StateStore, edges: Mapping[ScopedKey, gufe.Transformation], repeats: int
) -> dict[ScopedKey, Plan]:
    repeated = [key for key in edges for _ in range(repeats)]
    # No quota limits the scope of the demo.
    tasks = [task for task in tx.create_tasks(repeated, creator="demo") if task is not None]
    # Any repeat of a transformation can be extended; the dict keeps the last.
    parents = {
        key: task
        for key, task in zip(repeated, tasks, strict=True)
        if abs(analytic(edges[key])) > EXTEND_ABOVE
    }
    extending = tx.create_tasks(list(parents), extends=list(parents.values()), creator="demo")
    extensions = [task for task in extending if task is not None]

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
    again = f" {len(failed)} failed tasks are retried." if failed else ""
    done = f"{status.get('complete', 0)} of {sum(status.values())} tasks are complete"
    tell(console, f"[green]✓[/] Continuing the campaign: {done}.{again}")


def _follow(
    store: StateStore,
    network: ScopedKey,
    pool: WorkerPool,
    faults: FaultInjection | None,
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
            expired = store.expire_registrations(silence)
            for identifier in expired:
                tell(
                    console,
                    f"[yellow]↺[/] {identifier} has sent no heartbeat for"
                    f" {silence.total_seconds():g} s: its task is open to other workers.",
                )
            if faults:
                faults.release(expired)
            has_workers = pool.poll()
            status = store.get_network_status(network)
            complete = status.get("complete", 0)
            progress.update(bar, completed=complete, statuses=_statuses(status))
            if not console.is_terminal and 4 * complete // total > quarters:
                # A progress bar is not visible.
                quarters = 4 * complete // total
                tell(console, f"  {complete} of {total} tasks are complete")
            if not status.get("waiting") and not status.get("running"):
                return
            # Tasks that extend a failed task keep waiting. Others would have been claimed by now.
            moving_until = (
                time.monotonic()
                if status.get("running") or not status.get("error")
                else moving_until
            )
            if time.monotonic() - moving_until > silence.total_seconds():
                return
            if faults:
                faults.inject(complete / total)
            if not has_workers:
                raise CampaignError(
                    f"there are tasks to do but no workers left; see the logs in {pool.logs}"
                )
            time.sleep(TICK)


def _statuses(status: Mapping[str, int]) -> str:
    return " · ".join(
        f"[{style}]{status[name]} {name}[/]"
        for name, style in STATUS_STYLES.items()
        if status.get(name)
    )
