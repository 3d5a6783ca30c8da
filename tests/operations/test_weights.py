"""Draws follow the weights exactly, independent of the history of the queue.

Each priority of a hub is a race of its own, so one hub holds many independent trials, one in each
priority, and many rounds of them. Every test compares the draws by chi-square with the exact
probabilities, and with those of a queue that ignores the weights or the time of arrival. The first
must fit and the others must be ruled out, so that the number of trials is known to be large enough.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from uuid import UUID

import pytest
from scipy.stats import chisquare, nchypergeom_wallenius

from alchemistore import Scope, ScopedKey, StateStore
from alchemistore.operations import tasks
from tests.support.campaigns import campaign, created, register

Law = Mapping[str, float]
FITS = 1e-4
RULED_OUT = 1e-5
PRIORITIES = 20
# `make soak` has more rounds.
ROUNDS = int(os.environ.get("ALCHEMISTORE_TEST_ROUNDS", 3))
WEIGHTS = {"w": 1.0, "x": 0.5, "y": 0.25, "z": 0.125}


def in_turn(
    weights: Mapping[str, float], counts: Mapping[str, int], drawn: str = ""
) -> dict[str, float]:
    """Return the probability of each order of labels, drawn by weight without replacement."""
    total = sum(weights[label] * count for label, count in counts.items())
    if not total:
        return {drawn: 1.0}
    law: dict[str, float] = {}
    for label, count in counts.items():
        if count:
            below = in_turn(weights, {**counts, label: count - 1}, drawn + label)
            law |= {
                order: weights[label] * count / total * chance for order, chance in below.items()
            }
    return law


def p_value(orders: Sequence[str], law: Law) -> float:
    """Return the p-value of the drawn orders under the law."""
    found, largest = Counter(orders), max(law, key=lambda order: law[order])
    if not set(found) <= set(law):
        return 0.0
    observed, expected = [0.0], [0.0]
    for order in sorted(law, key=lambda order: law[order]):
        # Cells that are expected less than five times are taken together.
        if expected[-1] >= 5 or (expected[-1] and order == largest):
            observed.append(0.0)
            expected.append(0.0)
        observed[-1] += found[order]
        expected[-1] += law[order] * len(orders)
    return float(chisquare(observed, expected).pvalue)


def holds(orders: Sequence[str], law: Law, *wrong: Law) -> None:
    """The law fits the orders drawn, and the wrong laws are ruled out."""
    fit, *others = (p_value(orders, one) for one in (law, *wrong))
    assert fit > FITS
    assert all(p < RULED_OUT for p in others)


def uniform(law: Law) -> Law:
    return dict.fromkeys(law, 1 / len(law))


ONE_EACH = dict.fromkeys(WEIGHTS, 1)
STATIC = in_turn(WEIGHTS, ONE_EACH)


class Trials:
    """A hub with the same number of tasks of each label in each priority: a trial per priority.

    Tasks labelled `child` extend one parent for each trial.
    """

    def __init__(
        self, store: StateStore, scope: Scope, trials: int = PRIORITIES, **labels: int
    ) -> None:
        self.store = store
        made = campaign(store, scope)
        self.hub, transformation = made.hub, made.transformations[0]
        self.parents = (
            created(store.create_tasks([transformation] * trials)) if "child" in labels else []
        )
        self.label: dict[ScopedKey, str] = {}
        self.trials: list[list[ScopedKey]] = [[] for _ in range(trials)]
        for label, count in labels.items():
            parents = (
                [parent for parent in self.parents for _ in range(count)]
                if label == "child"
                else None
            )
            made_now = created(store.create_tasks([transformation] * (count * trials), parents))
            for i, trial in enumerate(self.trials):
                trial += made_now[count * i : count * (i + 1)]
            self.label |= dict.fromkeys(made_now, label[0])
        self.start("".join(label[0] for label in labels))

    def start(self, labels: str) -> None:
        """Set all tasks to waiting with the priority of their trial, and action these labels."""
        everything = list(self.label)
        with self.store.transaction() as tx:
            tx.cancel_tasks(everything, self.hub)
            assert tx.set_task_waiting(everything) == everything
            for number, trial in enumerate(self.trials, 1):
                tx.set_task_priority(trial, number)
        self.store.action_tasks(self.of_all(labels), self.hub)

    def of(self, trial: Sequence[ScopedKey], label: str) -> list[ScopedKey]:
        return [task for task in trial if self.label[task] == label]

    def of_all(self, labels: str) -> list[ScopedKey]:
        return [task for trial in self.trials for task in trial if self.label[task] in labels]

    def weigh(self, weights: Mapping[str, float], hub: ScopedKey | None = None) -> None:
        weighed = {task: weights[label] for task, label in self.label.items() if label in weights}
        assert self.store.set_task_weights(weighed, hub or self.hub) == list(weighed)

    def claim(self, count: int, hub: ScopedKey | None = None, by: str = "a") -> list[ScopedKey]:
        claimed = [
            task for task in self.store.claim_taskhub_tasks(hub or self.hub, by, count) if task
        ]
        assert len(claimed) == count
        return claimed

    def read(self, tasks: Sequence[ScopedKey]) -> str:
        return "".join(self.label[task] for task in tasks)


@pytest.fixture
def seeded(
    store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StateStore]:
    """A store with reproducible task keys and draws, and a service `a`."""
    keys = random.Random(1)
    monkeypatch.setattr(tasks, "uuid7", lambda: UUID(int=keys.getrandbits(128)))
    register(store, "a")
    seeded = StateStore(pooled_database, rng=random.Random(20240119))
    yield seeded
    seeded.close()


def test_laws_are_normalized_and_distinguishable() -> None:
    assert sum(STATIC.values()) == pytest.approx(1)
    assert STATIC["wxyz"] == pytest.approx(1 / 1.875 * 0.5 / 0.875 * 0.25 / 0.375)
    assert in_turn({"a": 1.0, "b": 3.0}, {"a": 2, "b": 1}) == pytest.approx(
        {"baa": 0.6, "aba": 0.3, "aab": 0.1}
    )
    generator, trials = random.Random(3), PRIORITIES * ROUNDS
    holds(generator.choices(list(STATIC), list(STATIC.values()), k=trials), STATIC, uniform(STATIC))
    holds(generator.choices(list(STATIC), k=trials), uniform(STATIC), STATIC)


@pytest.mark.parametrize("way", ["set waiting", "by way of error", "cancelled and actioned again"])
def test_draws_of_a_static_set_follow_the_weights(
    seeded: StateStore, scope: Scope, way: str
) -> None:
    trials = Trials(seeded, scope, 100, **ONE_EACH)
    trials.weigh(WEIGHTS)
    orders = []
    for _ in range(4):
        drawn = trials.claim(4 * 100)
        orders += [trials.read(drawn[i : i + 4]) for i in range(0, len(drawn), 4)]
        if way == "by way of error":
            seeded.set_task_error(drawn)
        seeded.set_task_waiting(drawn)
        if way == "cancelled and actioned again":
            seeded.cancel_tasks(drawn, trials.hub)
            seeded.action_tasks(drawn, trials.hub)
            trials.weigh(WEIGHTS)
    holds(orders, STATIC, uniform(STATIC))


@pytest.mark.parametrize("protocols", [None, ["PushProtocol"]])
def test_claims_of_one_task_follow_the_weights(
    seeded: StateStore, scope: Scope, protocols: list[str] | None
) -> None:
    trials = Trials(seeded, scope, **ONE_EACH)
    trials.weigh(WEIGHTS)
    orders = []
    for _ in range(ROUNDS):
        for _ in trials.trials:
            drawn = [seeded.claim_taskhub_tasks(trials.hub, "a", 1, protocols)[0] for _ in range(4)]
            orders.append(trials.read([task for task in drawn if task]))
        seeded.set_task_waiting(trials.of_all("wxyz"))
    holds(orders, STATIC, uniform(STATIC))


def test_claims_of_ten_tasks_follow_the_weights(seeded: StateStore, scope: Scope) -> None:
    trials = Trials(seeded, scope, heavy=10, light=10)
    trials.weigh({"h": 1.0, "l": 0.25})
    heavies = []
    for _ in range(4):
        for _ in trials.trials:
            heavies.append(str(trials.read(trials.claim(10)).count("h")))
            trials.claim(10)
        seeded.set_task_waiting(trials.of_all("hl"))
    by_weight, heedless = (
        {str(n): float(nchypergeom_wallenius.pmf(n, 20, 10, 10, odds)) for n in range(11)}
        for odds in (4.0, 1.0)
    )
    holds(heavies, by_weight, heedless)


def test_draws_with_replacement_follow_the_weights(seeded: StateStore, scope: Scope) -> None:
    trials = Trials(seeded, scope, 1, **ONE_EACH)
    trials.weigh(WEIGHTS)
    drawn = []
    for i in range(200):
        task = trials.claim(1)
        if i % 2:
            seeded.set_task_error(task)
        seeded.set_task_waiting(task)
        drawn.append(trials.read(task))
    law = {label: weight / sum(WEIGHTS.values()) for label, weight in WEIGHTS.items()}
    holds(drawn, law, uniform(law))


# How the two tasks "n" of a trial become claimable late: a preparation, then a step per trial.
Preparation = Callable[[Trials, StateStore], object]
Step = Callable[[Trials, StateStore, list[ScopedKey]], object]


def held_by_others(trials: Trials, store: StateStore) -> None:
    for trial in trials.trials:
        service = f"holder of {trials.of(trial, 'n')[0]}"
        register(store, service)
        trials.claim(2, by=service)


def in_error(trials: Trials, store: StateStore) -> None:
    store.set_task_running(trials.of_all("n"))
    store.set_task_error(trials.of_all("n"))


ARRIVALS: dict[str, tuple[Preparation, Step]] = {
    "actioned": (
        lambda trials, store: store.cancel_tasks(trials.of_all("n"), trials.hub),
        lambda trials, store, tasks: store.action_tasks(tasks, trials.hub),
    ),
    "weight raised from 0": (
        lambda trials, store: store.set_task_weights(trials.of_all("n"), trials.hub, 0),
        lambda trials, store, tasks: store.set_task_weights(tasks, trials.hub, 0.5),
    ),
    "error to waiting": (in_error, lambda trials, store, tasks: store.set_task_waiting(tasks)),
    "priority raised": (
        lambda trials, store: store.set_task_priority(trials.of_all("n"), 10**6),
        lambda trials, store, tasks: store.set_task_priority(
            tasks,
            next(number for number, trial in enumerate(trials.trials, 1) if tasks[0] in trial),
        ),
    ),
    "service lost": (
        held_by_others,
        lambda trials, store, tasks: store.deregister_computeservice(f"holder of {tasks[0]}"),
    ),
}
OLD, NEW = 0.125, 0.5
TWO_AND_TWO = in_turn({"o": OLD, "n": NEW}, {"o": 2, "n": 2})


def without_clock(trials: int = 20_000) -> Law:
    """Return the law of the last two of eight "o" and two "n" if late arrivals raced from 0."""
    generator, orders = random.Random(1), Counter[str]()
    for _ in range(trials):
        left = sorted(generator.expovariate(OLD) for _ in range(8))[6:]
        late = [(generator.expovariate(NEW), "n") for _ in range(2)]
        orders["".join(label for _, label in sorted([*late, *((key, "o") for key in left)]))] += 1
    return {order: count / trials for order, count in orders.items()}


@pytest.mark.parametrize("way", ARRIVALS)
def test_late_arrivals_neither_overtake_nor_queue_up(
    seeded: StateStore, scope: Scope, way: str
) -> None:
    prepare, arrive = ARRIVALS[way]
    trials = Trials(seeded, scope, o=8, n=2)
    orders = []
    for _ in range(ROUNDS):
        trials.start("n")
        prepare(trials, seeded)
        seeded.action_tasks(trials.of_all("o"), trials.hub)
        trials.weigh({"o": OLD})
        for trial in trials.trials:
            assert trials.read(trials.claim(6)) == "oooooo"
            arrive(trials, seeded, trials.of(trial, "n"))
            orders.append(trials.read(trials.claim(4)))
    holds(orders, TWO_AND_TWO, uniform(TWO_AND_TWO), without_clock(), {"nnoo": 1}, {"oonn": 1})


def test_children_of_a_parent_that_completes_late_neither_overtake_nor_queue_up(
    seeded: StateStore, scope: Scope
) -> None:
    trials = Trials(seeded, scope, PRIORITIES * ROUNDS, o=8, child=2)
    seeded.set_task_running(trials.parents)
    trials.weigh({"o": OLD})
    orders = []
    for parent in trials.parents:
        assert trials.read(trials.claim(6)) == "oooooo"
        seeded.set_task_complete([parent])
        orders.append(trials.read(trials.claim(4)).replace("c", "n"))
    holds(orders, TWO_AND_TWO, uniform(TWO_AND_TWO), without_clock(), {"nnoo": 1}, {"oonn": 1})


@pytest.mark.parametrize("way", ["changed", "lowered to 0 between", "cancelled and actioned again"])
def test_draws_follow_weights_changed_while_waiting(
    seeded: StateStore, scope: Scope, way: str
) -> None:
    trials = Trials(seeded, scope, o=8)
    orders = []
    for _ in range(ROUNDS):
        trials.start("o")
        for trial in trials.trials:
            drawn = trials.claim(4)
            left = [task for task in trial if task not in drawn]
            if way == "lowered to 0 between":
                seeded.set_task_weights(left, trials.hub, 0)
            elif way == "cancelled and actioned again":
                seeded.cancel_tasks(left, trials.hub)
                seeded.action_tasks(left, trials.hub)
            seeded.set_task_weights(dict(zip(left, WEIGHTS.values(), strict=True)), trials.hub)
            label = dict(zip(left, WEIGHTS, strict=True))
            orders.append("".join(label[task] for task in trials.claim(4)))
    holds(orders, STATIC, uniform(STATIC))


def test_draws_follow_the_weights_after_a_change_to_a_new_priority(
    seeded: StateStore, scope: Scope
) -> None:
    trials = Trials(seeded, scope, 2 * PRIORITIES, o=8)
    orders = []
    for _ in range(ROUNDS):
        trials.start("o")
        trials.weigh({"o": NEW})
        for number in range(2, 2 * PRIORITIES + 1, 2):
            one, other = trials.trials[number - 2 : number]
            drawn = trials.claim(6)
            moved = [task for task in one if task not in drawn]
            seeded.cancel_tasks(other[2:], trials.hub)
            seeded.set_task_weights(other[:2], trials.hub, OLD)
            seeded.set_task_priority(moved, number)
            orders.append("".join("n" if task in moved else "o" for task in trials.claim(4)))
    holds(orders, TWO_AND_TWO, uniform(TWO_AND_TWO), {"nnoo": 1}, {"oonn": 1})


def test_hubs_sharing_tasks_draw_by_their_own_weights(seeded: StateStore, scope: Scope) -> None:
    here, there = {"x": 1.0, "y": 0.3, "z": 0.1}, {"x": 0.1, "y": 0.3, "z": 1.0}
    trials = Trials(seeded, scope, x=1, y=1, z=1)
    other = campaign(seeded, scope, name="other").hub
    seeded.action_tasks(trials.of_all("xyz"), other)
    trials.weigh(here)
    trials.weigh(there, other)
    orders = []
    for _ in range(2 * ROUNDS):
        for _ in trials.trials:
            orders.append(
                trials.read([trials.claim(1, hub)[0] for hub in (trials.hub, other, trials.hub)])
            )
        seeded.set_task_waiting(trials.of_all("xyz"))

    def law(second: Mapping[str, float]) -> Law:
        """The first and the last task are drawn from the one hub, the second from the other."""
        return {
            f"{first}{then}{last}": here[first]
            / sum(here.values())
            * second[then]
            / (second[then] + second[last])
            for first, then, last in permutations("xyz")
        }

    holds(orders, law(there), law(here), uniform(law(here)))
