"""Draws follow the weights exactly, whatever happened to the queue before: chi-square against the law by enumeration.

Each priority of a hub is a race of its own, so one hub holds hundreds of independent trials, one in each priority. Every test
holds what was drawn against the law, and against what a queue would draw that ignores the weights or the time of arrival: the
first must fit, the others must be ruled out, so that the number of trials is known to be large enough.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from scipy.stats import chisquare, nchypergeom_wallenius

from alchemistore import Scope, ScopedKey, StateStore
from tests.builders import campaign, register

Law = Mapping[str, float]
FITS = 1e-4
RULED_OUT = 1e-8
WEIGHTS = {"w": 1.0, "x": 0.5, "y": 0.25, "z": 0.125}


def in_turn(weights: Mapping[str, float], counts: Mapping[str, int], drawn: str = "") -> dict[str, float]:
    """The probability of each order in which labelled tasks are drawn, by weight, without replacement."""
    total = sum(weights[label] * count for label, count in counts.items())
    if not total:
        return {drawn: 1.0}
    law: dict[str, float] = {}
    for label, count in counts.items():
        if count:
            below = in_turn(weights, {**counts, label: count - 1}, drawn + label)
            law |= {order: weights[label] * count / total * chance for order, chance in below.items()}
    return law


def p_value(orders: Sequence[str], law: Law) -> float:
    """How likely a deviation from the law as large as that of the orders drawn is, if the law holds."""
    found = Counter(orders)
    if not set(found) <= set(law):
        return 0.0
    observed, expected = [0.0], [0.0]
    for order in sorted(law, key=lambda order: law[order]):
        # Cells that are expected less than five times are taken together.
        if expected[-1] >= 5:
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
    """A hub with as many tasks of each label in each of so many priorities; the priority is the number of the trial.

    Keys are sorted so that a seeded generator deals the same numbers to the same labels in every run. Tasks labelled `child`
    extend one parent for each trial.
    """

    def __init__(self, store: StateStore, scope: Scope, trials: int, actioned: str = "", **labels: int) -> None:
        self.store = store
        made = campaign(store, scope)
        self.hub, transformation = made.hub, made.transformations[0]
        self.parents = store.create_tasks([transformation] * trials) if "child" in labels else []
        self.label: dict[ScopedKey, str] = {}
        self.trials: list[list[ScopedKey]] = [[] for _ in range(trials)]
        for label, count in labels.items():
            parents = [parent for parent in self.parents for _ in range(count)] if label == "child" else None
            tasks = store.create_tasks([transformation] * (count * trials), parents)
            tasks = tasks if parents else sorted(tasks)
            for i, trial in enumerate(self.trials):
                trial += tasks[count * i : count * (i + 1)]
            self.label |= dict.fromkeys(tasks, label[0])
        with store.transaction() as tx:
            for number, trial in enumerate(self.trials, 1):
                tx.set_task_priority(trial, number)
        store.action_tasks(self.of_all(actioned or "".join(label[0] for label in labels)), self.hub)

    def of(self, trial: Sequence[ScopedKey], labels: str) -> list[ScopedKey]:
        return [task for task in trial if self.label[task] in labels]

    def of_all(self, labels: str) -> list[ScopedKey]:
        return [task for trial in self.trials for task in self.of(trial, labels)]

    def weigh(self, hub: ScopedKey | None = None, **weights: float) -> None:
        weighed = {task: weights[label] for task, label in self.label.items() if label in weights}
        assert self.store.set_task_weights(weighed, hub or self.hub) == list(weighed)

    def claim(self, tx: StateStore, count: int, hub: ScopedKey | None = None, by: str = "a") -> list[ScopedKey]:
        claimed = [task for task in tx.claim_taskhub_tasks(hub or self.hub, by, count) if task]
        assert len(claimed) == count
        return claimed

    def read(self, tasks: Sequence[ScopedKey]) -> str:
        return "".join(self.label[task] for task in tasks)


@pytest.fixture
def seeded(store: StateStore, database: str) -> Iterator[StateStore]:
    """A store whose draws are the same in every run, and a service `a`."""
    register(store, "a")
    seeded = StateStore(database, generator=random.Random(20240119))
    yield seeded
    seeded.close()


def test_the_laws_add_up_and_are_told_apart() -> None:
    assert sum(STATIC.values()) == pytest.approx(1)
    assert STATIC["wxyz"] == pytest.approx(1 / 1.875 * 0.5 / 0.875 * 0.25 / 0.375)
    assert in_turn({"a": 1.0, "b": 3.0}, {"a": 2, "b": 1}) == pytest.approx({"baa": 0.6, "aba": 0.3, "aab": 0.1})
    generator = random.Random(3)
    holds(generator.choices(list(STATIC), list(STATIC.values()), k=400), STATIC, uniform(STATIC))
    holds(generator.choices(list(STATIC), k=400), uniform(STATIC), STATIC)


@pytest.mark.parametrize("way", ["set waiting", "by way of error", "cancelled and actioned again"])
def test_a_static_set_drawn_many_times(seeded: StateStore, scope: Scope, way: str) -> None:
    trials = Trials(seeded, scope, 150, **ONE_EACH)
    trials.weigh(**WEIGHTS)
    orders = []
    for _ in range(4):
        drawn = trials.claim(seeded, 4 * 150)
        orders += [trials.read(drawn[i : i + 4]) for i in range(0, len(drawn), 4)]
        if way == "by way of error":
            seeded.set_task_error(drawn)
        seeded.set_task_waiting(drawn)
        if way == "cancelled and actioned again":
            seeded.cancel_tasks(drawn, trials.hub)
            seeded.action_tasks(drawn, trials.hub)
            trials.weigh(**WEIGHTS)
    holds(orders, STATIC, uniform(STATIC))


@pytest.mark.parametrize("protocols", [None, ["PushProtocol"]])
def test_claims_of_one(seeded: StateStore, scope: Scope, protocols: list[str] | None) -> None:
    trials = Trials(seeded, scope, 300, **ONE_EACH)
    trials.weigh(**WEIGHTS)
    with seeded.transaction() as tx:
        drawn = [tx.claim_taskhub_tasks(trials.hub, "a", 1, protocols)[0] for _ in range(4 * 300)]
    labels = trials.read([task for task in drawn if task])
    holds([labels[i : i + 4] for i in range(0, len(labels), 4)], STATIC, uniform(STATIC))


def test_claims_of_ten(seeded: StateStore, scope: Scope) -> None:
    trials = Trials(seeded, scope, 150, heavy=10, light=10)
    trials.weigh(h=1.0, l=0.25)
    heavies = []
    with seeded.transaction() as tx:
        for _ in trials.trials:
            heavies.append(str(trials.read(trials.claim(tx, 10)).count("h")))
            trials.claim(tx, 10)
    by_weight, heedless = (
        {str(n): float(nchypergeom_wallenius.pmf(n, 20, 10, 10, odds)) for n in range(11)} for odds in (4.0, 1.0)
    )
    holds(heavies, by_weight, heedless)


def test_one_drawn_and_put_back_again_and_again(seeded: StateStore, scope: Scope) -> None:
    trials = Trials(seeded, scope, 1, **ONE_EACH)
    trials.weigh(**WEIGHTS)
    drawn = []
    with seeded.transaction() as tx:
        for i in range(600):
            task = trials.claim(tx, 1)
            if i % 2:
                tx.set_task_error(task)
            tx.set_task_waiting(task)
            drawn.append(trials.read(task))
    law = {label: weight / sum(WEIGHTS.values()) for label, weight in WEIGHTS.items()}
    holds(drawn, law, uniform(law))


# Ways in which the two tasks "n" of each trial become claimable late: a preparation of all trials, and then in each trial a step.
Preparation = Callable[[Trials, StateStore], object]
Step = Callable[[Trials, StateStore, list[ScopedKey]], object]


def held_by_others(trials: Trials, tx: StateStore) -> None:
    for trial in trials.trials:
        service = f"holder of {trials.of(trial, 'n')[0]}"
        register(tx, service)
        trials.claim(tx, 2, by=service)


def in_error(trials: Trials, tx: StateStore) -> None:
    tx.set_task_running(trials.of_all("n"))
    tx.set_task_error(trials.of_all("n"))


ARRIVALS: dict[str, tuple[Preparation, Step]] = {
    "actioned": (
        lambda trials, tx: tx.cancel_tasks(trials.of_all("n"), trials.hub),
        lambda trials, tx, tasks: tx.action_tasks(tasks, trials.hub),
    ),
    "weight raised from 0": (
        lambda trials, tx: tx.set_task_weights(trials.of_all("n"), trials.hub, 0),
        lambda trials, tx, tasks: tx.set_task_weights(tasks, trials.hub, 0.5),
    ),
    "error to waiting": (in_error, lambda trials, tx, tasks: tx.set_task_waiting(tasks)),
    "priority raised": (
        lambda trials, tx: tx.set_task_priority(trials.of_all("n"), 10**6),
        lambda trials, tx, tasks: tx.set_task_priority(
            tasks, next(number for number, trial in enumerate(trials.trials, 1) if tasks[0] in trial)
        ),
    ),
    "service lost": (
        held_by_others,
        lambda trials, tx, tasks: tx.deregister_computeservice(f"holder of {tasks[0]}"),
    ),
}


def without_clock(trials: int = 50_000) -> Law:
    """The order of the last two of eight "o" and two "n" if late arrivals raced from 0, as if they had been there all along."""
    generator, orders = random.Random(1), Counter[str]()
    for _ in range(trials):
        keys = sorted(generator.expovariate(1.0) for _ in range(8))[6:]
        late = [(generator.expovariate(0.5), "n") for _ in range(2)]
        orders["".join(label for _, label in sorted([*late, *((key, "o") for key in keys)]))] += 1
    return {order: count / trials for order, count in orders.items()}


TWO_AND_TWO = in_turn({"o": 1.0, "n": 0.5}, {"o": 2, "n": 2})


def late_arrivals(trials: Trials, store: StateStore, arrive: Step) -> list[str]:
    """Draw six of eight "o" in each trial, let the two "n" arrive, draw the rest."""
    orders = []
    trials.weigh(o=1.0)
    with store.transaction() as tx:
        for trial in trials.trials:
            assert trials.read(trials.claim(tx, 6)) == "oooooo"
            arrive(trials, tx, trials.of(trial, "n") or trials.of(trial, "c"))
            orders.append(trials.read(trials.claim(tx, 4)))
    return orders


@pytest.mark.parametrize("way", ARRIVALS)
def test_late_arrivals_neither_overtake_nor_queue_up(seeded: StateStore, scope: Scope, way: str) -> None:
    prepare, arrive = ARRIVALS[way]
    trials = Trials(seeded, scope, 250, actioned="n", o=8, n=2)
    with seeded.transaction() as tx:
        prepare(trials, tx)
    assert len(seeded.action_tasks(trials.of_all("o"), trials.hub)) == 2000
    orders = late_arrivals(trials, seeded, arrive)
    holds(orders, TWO_AND_TWO, uniform(TWO_AND_TWO), without_clock(), {"nnoo": 1}, {"oonn": 1})


def test_children_of_a_parent_that_completes_late_neither_overtake_nor_queue_up(seeded: StateStore, scope: Scope) -> None:
    trials = Trials(seeded, scope, 250, o=8, child=2)
    seeded.set_task_running(trials.parents)
    parent = dict(zip((trial[-1] for trial in trials.trials), trials.parents, strict=True))
    orders = late_arrivals(trials, seeded, lambda trials, tx, tasks: tx.set_task_complete([parent[tasks[-1]]]))
    orders = [order.replace("c", "n") for order in orders]
    holds(orders, TWO_AND_TWO, uniform(TWO_AND_TWO), without_clock(), {"nnoo": 1}, {"oonn": 1})


@pytest.mark.parametrize("way", ["changed", "changed twice", "lowered to 0 between", "cancelled and actioned again"])
def test_weights_changed_while_waiting(seeded: StateStore, scope: Scope, way: str) -> None:
    trials = Trials(seeded, scope, 250, o=8)
    orders = []
    with seeded.transaction() as tx:
        for trial in trials.trials:
            drawn = trials.claim(tx, 4)
            weights = dict(zip((task for task in trial if task not in drawn), WEIGHTS.values(), strict=True))
            if way == "changed twice":
                tx.set_task_weights(dict(zip(weights, reversed(weights.values()), strict=True)), trials.hub)
            elif way == "lowered to 0 between":
                tx.set_task_weights(list(weights), trials.hub, 0)
            elif way == "cancelled and actioned again":
                tx.cancel_tasks(weights, trials.hub)
                tx.action_tasks(weights, trials.hub)
            tx.set_task_weights(weights, trials.hub)
            label = dict(zip(weights, WEIGHTS, strict=True))
            orders.append("".join(label[task] for task in trials.claim(tx, 4)))
    holds(orders, STATIC, uniform(STATIC))


def test_priority_changed_into_a_race_that_has_not_begun(seeded: StateStore, scope: Scope) -> None:
    trials = Trials(seeded, scope, 500, o=2, n=2)
    orders = []
    with seeded.transaction() as tx:
        for one, other in zip(trials.trials[::2], trials.trials[1::2], strict=True):
            drawn = trials.claim(tx, 2)
            moved = [task for task in one if task not in drawn]
            # Both pairs weigh what "o" and "n" weigh; what was left behind moves into the other trial.
            tx.cancel_tasks(trials.of(other, "n"), trials.hub)
            tx.set_task_weights(trials.of(other, "o"), trials.hub, 1.0)
            tx.set_task_priority(moved, tx.get_task_priority(other)[0] or 0)
            orders.append("".join("n" if task in moved else "o" for task in trials.claim(tx, 4)))
    holds(orders, TWO_AND_TWO, uniform(TWO_AND_TWO), {"nnoo": 1}, {"oonn": 1})


def test_two_hubs_that_share_tasks_draw_each_by_its_own_weights(seeded: StateStore, scope: Scope) -> None:
    labels = {"x": 1.0, "y": 0.4, "z": 0.1}
    trials = Trials(seeded, scope, 400, x=1, y=1, z=1)
    other = campaign(seeded, scope, name="other").hub
    seeded.action_tasks(trials.of_all("xyz"), other)
    trials.weigh(**labels)
    upside_down = dict(zip(labels, reversed(labels.values()), strict=True))
    trials.weigh(other, **upside_down)
    orders = []
    with seeded.transaction() as tx:
        for _ in trials.trials:
            orders.append(trials.read([trials.claim(tx, 1, hub)[0] for hub in (trials.hub, other, trials.hub)]))

    def law(second: Mapping[str, float]) -> Law:
        chances = {}
        for order in in_turn(labels, dict.fromkeys(labels, 1)):
            first, then, last = order
            chances[order] = labels[first] / sum(labels.values()) * second[then] / (second[then] + second[last])
        return chances

    holds(orders, law(upside_down), law(labels), uniform(law(labels)))
