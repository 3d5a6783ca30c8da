"""A worker of the example campaign runs and reports the tasks that it claims."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

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
from harmonic.protocol import EndState, HarmonicProtocol, HarmonicSettings
from harmonic.system import HarmonicWell, Medium
from harmonic.worker import Worker
from tests.support.campaigns import created

NAME = "worker of a test"


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


@pytest.fixture
def worker(store: StateStore, objects: S3ObjectStore, network: ScopedKey) -> Worker:
    return Worker(store, objects, network, NAME, heartbeat=60)


def test_worker_completes_every_task_and_ends(
    store: StateStore,
    objects: S3ObjectStore,
    network: ScopedKey,
    tasks: list[ScopedKey],
    worker: Worker,
) -> None:
    worker.run()
    assert set(store.get_task_status(tasks)) == {TaskStatusEnum.complete}
    with pytest.raises(KeyError):
        store.heartbeat_computeservice(NAME)

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


def test_result_of_a_task_that_fails_is_kept_and_the_task_is_in_error(
    store: StateStore,
    objects: S3ObjectStore,
    network: ScopedKey,
    tasks: list[ScopedKey],
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> dict[str, object]:
        raise ArithmeticError("the well ran dry")

    # The extension, and with it the worker, would wait for the failed task.
    store.set_task_deleted(tasks[3:])
    monkeypatch.setattr(EndState, "_execute", staticmethod(fail))
    worker.run()
    assert store.get_task_status(tasks[:3]) == [TaskStatusEnum.error] * 3
    for task in tasks[:3]:
        assert store.get_task_results(task) == []
        [failure] = store.get_task_failures(task)
        result = objects.pull_protocoldagresult(location=store.get_gufe(failure).location)
        assert "the well ran dry" in result.protocol_unit_failures[0].traceback
    answers = collect(store, objects, network)
    assert answers.legs == ()
    assert dict(answers.services[0].outcomes) == {"error": 3}


def test_worker_asked_to_stop_leaves_the_rest_to_others(
    store: StateStore, tasks: list[ScopedKey], worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = worker.perform

    def perform_and_stop(task: ScopedKey) -> None:
        worker.stop()
        perform(task)

    monkeypatch.setattr(worker, "perform", perform_and_stop)
    worker.run()
    statuses = store.get_task_status(tasks)
    assert statuses.count(TaskStatusEnum.complete) == 1
    assert statuses.count(TaskStatusEnum.waiting) == 3


def test_expired_worker_registers_again_and_its_result_counts(
    store: StateStore,
    objects: S3ObjectStore,
    network: ScopedKey,
    tasks: list[ScopedKey],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(store, objects, network, NAME, heartbeat=0.01)
    register, perform = worker.register, worker.perform
    registered_again, registrations = Event(), []

    def registering() -> None:
        register()
        registrations.append(NAME)
        if len(registrations) > 1:
            registered_again.set()

    def give_up_and_perform(task: ScopedKey) -> None:
        if not registered_again.is_set():
            assert store.expire_registrations(datetime.now(UTC) + timedelta(days=1)) == [NAME]
            assert registered_again.wait(30)
        perform(task)

    monkeypatch.setattr(worker, "register", registering)
    monkeypatch.setattr(worker, "perform", give_up_and_perform)
    worker.run()
    assert set(store.get_task_status(tasks)) == {TaskStatusEnum.complete}
    answers = collect(store, objects, network)
    assert sorted(leg.samples for leg in answers.legs) == [400, 400, 800]
    # The late result counts, so the task is not run again.
    [service] = answers.services
    assert dict(service.outcomes) == {"expired": 1, "complete": 3}
    assert service.lost_leases == (LostLease(late=True, completed_by=NAME),)


def test_lost_task_is_credited_to_the_completing_service(
    store: StateStore,
    objects: S3ObjectStore,
    network: ScopedKey,
    tasks: list[ScopedKey],
    worker: Worker,
) -> None:
    store.register_computeservice(ComputeServiceRegistration.from_now("the lost one"))
    assert None not in store.claim_taskhub_tasks(
        store.get_taskhub(network), "the lost one", count=1
    )
    assert store.expire_registrations(datetime.now(UTC) + timedelta(days=1)) == ["the lost one"]
    worker.run()
    lost, finisher = collect(store, objects, network).services
    assert (lost.identifier, dict(lost.outcomes)) == ("the lost one", {"expired": 1})
    assert lost.lost_leases == (LostLease(late=False, completed_by=NAME),)
    assert (finisher.identifier, dict(finisher.outcomes)) == (NAME, {"complete": 4})
