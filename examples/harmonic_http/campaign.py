"""The campaign: the acts of the operator and the user, one after the other."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alchemiscale import AlchemiscaleClient, Scope, ScopedKey
from rich.console import Console
from rich.markup import escape
from stratocaster.strategies import ConnectivityStrategy
from stratocaster.strategies.connectivity import ConnectivityStrategySettings

from alchemistore import StateStore
from alchemistore.local import LocalServers
from harmonic.cycles import Leg
from harmonic.protocol import HarmonicSettings
from harmonic.report import tell
from harmonic.system import analytic, build_network, environment, ligands
from harmonic_http.deployment import SILENCE, Deployment, DeploymentError
from harmonic_http.protocol import FAULTS, UnreliableProtocol
from harmonic_http.story import DISK, EXTEND_ABOVE, FAULTY, PATTERN, RESTARTS, RESULTS
from harmonic_http.verdict import Outcome, judge

SCOPE = Scope("demo", "harmonic", "http")
SAMPLING = HarmonicSettings(walkers=32, frames=16, stride=300, step=0.1)
USER, CLUSTER = "alice", "cluster"
# Seconds between two looks at the status, and seconds without any progress after which the campaign
# has failed.
TICK, PATIENCE = 0.5, 120.0
# Seconds between two lines with the status.
SHOWN_EVERY = 5.0


def run(directory: Path, *, services: int, console: Console) -> bool:
    """Run the campaign.

    Parameters
    ----------
    directory : Path
        The directory of all data and logs; empty or not created yet.
    services : int
        The number of compute services, at least two.
    console : Console
        The console for the output.

    Returns
    -------
    bool
        Whether everything is as expected.

    Raises
    ------
    DeploymentError
        If a process ends or nothing happens any longer.
    """
    directory = directory.resolve()
    tell(console, "[bold]A campaign over HTTP[/]: alchemiscale's servers, services and client,")
    tell(
        console, "with their state in PostgreSQL. Free energies are known, so results are checked."
    )
    console.print()
    keys = {identity: secrets.token_urlsafe(16) for identity in (USER, CLUSTER)}
    with _servers(directory, console) as variables:
        deployment = Deployment(directory / "deployment", variables)
        with deployment.running():
            api, compute = _deploy(deployment, keys, console)
            client = AlchemiscaleClient(
                api, USER, keys[USER], cache_directory=directory / "client-cache"
            )
            network = _submit(client, console)
            faults = _prepare_faults(directory / "faults")
            for number in range(1, services + 1):
                deployment.start_service(
                    f"service{number}", compute, CLUSTER, keys[CLUSTER], **{FAULTS: str(faults)}
                )
            tell(
                console,
                f"[green]✓[/] {services} compute services: 'alchemiscale compute synchronous'",
            )
            killed = _follow(client, network, deployment, faults, console)
            outcome = Outcome(
                network=str(network),
                killed=killed,
                legs=_results(client, network),
                strategy=client.get_network_strategy_state(network),
            )
        sound = deployment.run("database", "check", "--objects", check=False)
        store = StateStore(variables["ALCHEMISTORE_DATABASE_URL"])
        try:
            return judge(store, outcome, sound, console)
        finally:
            store.close()


@contextmanager
def _servers(directory: Path, console: Console) -> Iterator[Mapping[str, str]]:
    servers = LocalServers(directory)
    servers.start()
    try:
        tell(
            console,
            "[green]✓[/] PostgreSQL and S3 run on this machine;"
            f" all data and logs are in {escape(str(directory))}",
        )
        yield servers.environment()
    finally:
        servers.stop()


def _deploy(deployment: Deployment, keys: Mapping[str, str], console: Console) -> tuple[str, str]:
    """Create the schema and the identities, and start the servers. Return their URLs."""
    deployment.variables = {
        **deployment.variables,
        "JWT_SECRET_KEY": secrets.token_hex(32),
        # Documents may name the classes of these modules.
        "ALCHEMISTORE_MODULES": "harmonic,harmonic_http",
        # One service may suffer all the faults, and would get no tasks for ten minutes.
        "ALCHEMISCALE_COMPUTE_API_MAX_FAILURES": str(len(FAULTY) + 1),
    }
    deployment.run("database", "init")
    for identity, kind in ((USER, "user"), (CLUSTER, "compute")):
        named = ("--identity-type", kind, "--identifier", identity)
        deployment.run("identity", "add", *named, "--key-stdin", stdin=keys[identity])
        deployment.run("identity", "add-scope", *named, "--scope", str(SCOPE))
    tell(
        console,
        f"[green]✓[/] The schema is created; {USER!r} (user) and {CLUSTER!r} (compute) have access"
        f" to {SCOPE}",
    )
    api = deployment.start_api("api")
    tell(console, f"[green]✓[/] The API for users: 'alchemistore serve api', at {api}")
    compute = deployment.start_api(
        "compute", "--workers", "2", "--registration-expire-seconds", str(SILENCE)
    )
    tell(console, f"[green]✓[/] The API for services: 'alchemistore serve compute', at {compute}")
    deployment.start_strategist()
    tell(console, "[green]✓[/] The strategist: 'alchemistore serve strategist'")
    return api, compute


def _submit(client: AlchemiscaleClient, console: Console) -> ScopedKey:
    """Submit the network with its first tasks. Return its key."""
    network = build_network(UnreliableProtocol(SAMPLING))
    key = client.create_network(network, SCOPE, visualize=False)
    edges = {client.get_scoped_key(edge, SCOPE): edge for edge in network.edges}
    first = client.create_transformations_tasks(list(edges))
    parents = {
        transformation: task
        for transformation, task in zip(edges, first, strict=True)
        if abs(analytic(edges[transformation])) > EXTEND_ABOVE
    }
    extensions = client.create_transformations_tasks(list(parents), extends=list(parents.values()))
    client.add_task_restart_patterns(key, [PATTERN], num_allowed_restarts=RESTARTS)
    actioned = client.action_tasks([*first, *extensions], key)
    if None in actioned:
        raise DeploymentError("not all tasks could be actioned")
    strategy = ConnectivityStrategy(ConnectivityStrategySettings(max_runs=RESULTS))
    client.set_network_strategy(key, strategy, sleep_interval=1)
    tell(
        console,
        f"[green]✓[/] {USER} submitted {len(network.nodes)} chemical systems and"
        f" {len(network.edges)} transformations, one task for each, and {len(extensions)} tasks"
        " that extend another.",
    )
    tell(
        console,
        f"  Failures with '{PATTERN}' are tried again. The strategy wants {RESULTS} results for"
        " each transformation.",
    )
    return key


def _prepare_faults(directory: Path) -> Path:
    directory.mkdir()
    for name, content in FAULTY.items():
        (directory / f"{name}.fault").write_text(content)
    return directory


def _follow(
    client: AlchemiscaleClient,
    network: ScopedKey,
    deployment: Deployment,
    faults: Path,
    console: Console,
) -> str:
    """Follow the campaign to its end. Return the service that was killed."""
    killed, repaired = None, False
    seen: dict[str, int] = {}
    moved = time.monotonic()
    line, told = "", moved - SHOWN_EVERY
    while True:
        deployment.require_alive()
        if killed is None and (hung := _process_that_took(faults / "1-hang.fault")):
            killed = deployment.name_of(hung)
            deployment.kill(killed)
            tell(
                console,
                f"[red]✗[/] Killed {killed} (SIGKILL) during a task. Its registration expires in"
                f" {SILENCE} s, then another service gets the task.",
            )
        if not repaired:
            repaired = _repair(client, network, console)
        status = client.get_network_status(network, visualize=False)
        strategy = client.get_network_strategy_status(network)
        if status != seen:
            seen, moved = status, time.monotonic()
        finished = {name for name, count in status.items() if count} == {"complete"}
        counts = ", ".join(f"{count} {name}" for name, count in sorted(status.items()) if count)
        if f"{counts}; strategy: {strategy}" != line and (
            finished or time.monotonic() - told >= SHOWN_EVERY
        ):
            line, told = f"{counts}; strategy: {strategy}", time.monotonic()
            tell(console, f"  tasks: {line}")
        # The strategist may be about to add tasks as long as it is awake.
        if finished and strategy == "dormant" and killed is not None and repaired:
            return killed
        if strategy == "error":
            raise DeploymentError(f"the strategy failed: see {deployment.logs}/strategist.log")
        if time.monotonic() - moved > PATIENCE:
            raise DeploymentError(f"nothing happens any longer: see {deployment.logs}")
        time.sleep(TICK)


def _process_that_took(fault: Path) -> int | None:
    for taken in fault.parent.glob(f"{fault.stem}.taken-by-*"):
        return int(taken.name.rpartition("-")[2])
    return None


def _repair(client: AlchemiscaleClient, network: ScopedKey, console: Console) -> bool:
    """Return whether a task that failed for good was found. The user lets it run again."""
    for task in client.get_network_tasks(network, status="error"):
        failures = client.get_task_failures(task, visualize=False)
        text = "".join(
            unit.traceback for failure in failures for unit in failure.protocol_unit_failures
        )
        # A failure with a pattern is about to be restarted.
        if DISK in text:
            tell(console, f"[yellow]![/] {task} failed, and no pattern matches: '{DISK}'.")
            client.set_tasks_status([task], "waiting")
            client.action_tasks([task], network)
            tell(console, f"[green]✓[/] {USER} read its traceback, and set it to waiting again.")
            return True
    return False


def _results(client: AlchemiscaleClient, network: ScopedKey) -> list[Leg]:
    """Read the results as a user does, and compare them with the exact values."""
    results: dict[ScopedKey, Any] = client.get_network_results(network, visualize=False)
    legs = []
    for key, result in results.items():
        if result is None:
            continue
        transformation = client.get_transformation(key, visualize=False)
        first, second = ligands(transformation)
        leg = Leg(
            first=first,
            second=second,
            environment=environment(transformation),
            estimate=result.get_estimate(),
            uncertainty=result.get_uncertainty(),
            exact=analytic(transformation),
            results=result.n_protocol_dag_results,
            samples=result.data["samples"],
        )
        legs.append(leg)
    return sorted(legs, key=lambda leg: (leg.environment, leg.first, leg.second))
