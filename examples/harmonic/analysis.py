"""Collect the results of the campaign."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from alchemistore import S3ObjectStore, ScopedKey, StateStore, gufe_adapter
from harmonic.cycles import Cycle, Leg, cycles
from harmonic.system import analytic, environment, ligands


@dataclass(frozen=True)
class LostLease:
    """A task that a worker lost, because its registration expired.

    Attributes
    ----------
    late : bool
        Whether the worker delivered a result afterwards.
    completed_by : str or None
        The worker whose result completed the task; None if it is not complete.
    superseded : str or None
        The worker that was running the task again when the late result completed it.
    """

    late: bool
    completed_by: str | None
    superseded: str | None = None


@dataclass(frozen=True)
class Service:
    """The attempts of one worker.

    Attributes
    ----------
    outcomes : Counter of str
        The number of attempts by outcome.
    lost_leases : tuple of LostLease
        The tasks that the worker lost.
    """

    identifier: str
    outcomes: Counter[str]
    lost_leases: tuple[LostLease, ...] = ()

    @property
    def attempts(self) -> int:
        """The number of tasks it claimed."""
        return self.outcomes.total()


@dataclass(frozen=True)
class Answers:
    """All results of a campaign."""

    legs: tuple[Leg, ...]
    cycles: tuple[Cycle, ...]
    services: tuple[Service, ...]
    tasks: int


def collect(store: StateStore, objects: S3ObjectStore, network: ScopedKey) -> Answers:
    """Read and combine the results of a network.

    Parameters
    ----------
    store : StateStore
    objects : S3ObjectStore
    network : ScopedKey

    Returns
    -------
    Answers
        Transformations without a result are left out.
    """
    legs = [
        leg
        for key in store.get_network_transformations(network)
        if (leg := _leg(store, objects, key)) is not None
    ]
    legs.sort(key=lambda leg: (leg.environment, leg.first, leg.second))
    tasks = store.get_network_tasks(network)
    return Answers(tuple(legs), tuple(cycles(legs)), _services(store, tasks), len(tasks))


def _leg(store: StateStore, objects: S3ObjectStore, key: ScopedKey) -> Leg | None:
    refs = [store.get_gufe(ref) for ref in store.get_transformation_results(key)]
    if not refs:
        return None
    transformation = store.get_gufe(key)
    results = [objects.pull_protocoldagresult(location=ref.location) for ref in refs]
    answer = gufe_adapter.gather(transformation.protocol, results)
    first, second = ligands(transformation)
    return Leg(
        first=first,
        second=second,
        environment=environment(transformation),
        estimate=answer.get_estimate(),
        uncertainty=answer.get_uncertainty(),
        exact=analytic(transformation),
        results=len(results),
        samples=answer.data["samples"],
    )


def _services(store: StateStore, tasks: list[ScopedKey]) -> tuple[Service, ...]:
    outcomes: dict[str, Counter[str]] = {}
    lost_leases: dict[str, list[LostLease]] = {}
    for history in store.get_task_history(tasks):
        if history is None:
            continue
        for attempt in history.attempts:
            outcomes.setdefault(attempt.service, Counter())[str(attempt.outcome or "running")] += 1
        by_outcome = {str(attempt.outcome): attempt.service for attempt in history.attempts}
        late = [
            attempt.service
            for attempt in history.attempts
            if attempt.outcome == "expired" and attempt.result is not None
        ]
        completed_by = by_outcome.get("complete") or next(iter(late), None)
        for attempt in history.attempts:
            if attempt.outcome == "expired":
                lease = LostLease(
                    attempt.result is not None, completed_by, by_outcome.get("superseded")
                )
                lost_leases.setdefault(attempt.service, []).append(lease)
    return tuple(
        Service(name, outcomes[name], tuple(lost_leases.get(name, ()))) for name in sorted(outcomes)
    )
