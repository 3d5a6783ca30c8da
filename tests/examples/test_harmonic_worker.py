"""Workers run the tasks of the example campaign, and the report tells what they did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import gufe
import pytest

from alchemistore import (
    ComputeServiceRegistration,
    S3ObjectStore,
    Scope,
    ScopedKey,
    StateStore,
    TaskStatusEnum,
    gufe_adapter,
)
from harmonic.analysis import LostLease, collect
from harmonic.protocol import HarmonicProtocol, HarmonicSettings
from harmonic.system import HarmonicWell, Medium
from tests.support.campaigns import created
from tests.worker.conftest import NAME, Run, Told, bucket, launcher, objects, run, told, wait_until

__all__ = ["bucket", "launcher", "objects", "run", "told"]


@pytest.fixture
def network(store: StateStore, scope: Scope) -> ScopedKey:
    """Three wells in a triangle, with a hub."""
    protocol = HarmonicProtocol(HarmonicSettings(walkers=20, frames=10, stride=40, step=0.15))
    vacuum = Medium("vacuum", 0.0)
    systems = [
        gufe.ChemicalSystem(
            {"ligand": HarmonicWell(name, constant), "environment": vacuum}, name=name
        )
        for name, constant in (("a", 20), ("b", 40), ("c", 80))
    ]
    edges = [
        gufe.Transformation(
            stateA=systems[i], stateB=systems[j], protocol=protocol, name=f"{i} to {j}"
        )
        for i, j in ((0, 1), (1, 2), (2, 0))
    ]
    key = store.create_network(gufe.AlchemicalNetwork(edges=edges, name="triangle"), scope)
    store.create_taskhub(key)
    return key


@pytest.fixture
def tasks(store: StateStore, network: ScopedKey) -> list[ScopedKey]:
    """A task for each transformation, and one that extends the first of them."""
    transformations = store.get_network_transformations(network)
    tasks = created(store.create_tasks(transformations))
    tasks += created(store.create_tasks(transformations[:1], extends=tasks[:1]))
    assert None not in store.action_tasks(tasks, store.get_taskhub(network))
    return tasks


def test_worker_completes_every_task_and_ends(
    run: Run, store: StateStore, objects: S3ObjectStore, network: ScopedKey, tasks: list[ScopedKey]
) -> None:
    assert run().num_tasks == 4
    assert set(store.get_task_status(tasks)) == {TaskStatusEnum.complete}
    assert store.query_computeservices() == []

    answers = collect(store, objects, network)
    assert answers.tasks == 4
    assert sorted(leg.samples for leg in answers.legs) == [400, 400, 800]
    assert all(abs(leg.deviation) < 5 for leg in answers.legs)
    [extension] = [store.get_gufe(ref) for ref in store.get_task_results(tasks[3])]
    result = objects.pull_protocoldagresult(location=extension.location)
    transformation, _ = store.get_task_transformation(tasks[3])
    assert gufe_adapter.gather(transformation.protocol, [result]).data["samples"] == 800

    [cycle] = answers.cycles
    assert sorted(cycle.ligands) == ["a", "b", "c"]
    [service] = answers.services
    assert (service.identifier, dict(service.outcomes), service.lost_leases) == (
        NAME,
        {"complete": 4},
        (),
    )


def test_late_result_of_a_lost_task_counts(
    run: Run,
    store: StateStore,
    objects: S3ObjectStore,
    network: ScopedKey,
    tasks: list[ScopedKey],
    told: Told,
) -> None:
    def lose() -> None:
        if told.kinds().count("started") == 1:
            # The process of the task goes on while the worker is here.
            files = Path(told.one("started")["log"]).with_suffix("")
            wait_until((files / "result.json").exists)
            store.expire_registrations(datetime.now(UTC) + timedelta(days=1))

    told.at["started"] = lose
    run()
    assert set(store.get_task_status(tasks)) == {TaskStatusEnum.complete}
    answers = collect(store, objects, network)
    assert sorted(leg.samples for leg in answers.legs) == [400, 400, 800]
    # The late result counts, so the task is not run again.
    [service] = answers.services
    assert dict(service.outcomes) == {"expired": 1, "complete": 3}
    assert service.lost_leases == (LostLease(late=True, completed_by=NAME),)


def test_lost_task_is_credited_to_the_completing_service(
    run: Run, store: StateStore, objects: S3ObjectStore, network: ScopedKey, tasks: list[ScopedKey]
) -> None:
    store.register_computeservice(ComputeServiceRegistration.from_now("the lost one"))
    assert None not in store.claim_taskhub_tasks(
        store.get_taskhub(network), "the lost one", count=1
    )
    assert store.expire_registrations(datetime.now(UTC) + timedelta(days=1)) == ["the lost one"]
    run()
    finisher, lost = collect(store, objects, network).services
    assert (lost.identifier, dict(lost.outcomes)) == ("the lost one", {"expired": 1})
    assert lost.lost_leases == (LostLease(late=False, completed_by=NAME),)
    assert (finisher.identifier, dict(finisher.outcomes)) == (NAME, {"complete": 4})
