"""Tasks are claimed from whichever hubs of some scopes have work, hubs drawn by their weight."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import gufe
import pytest
from scipy.stats import chisquare
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore
from tests.builders import Campaign, campaign, register
from tests.databases import everything
from tests.deliveries import undone
from tests.unit.gufe_classes import Effort, PushProtocol, system

HERE, NEAR, FAR = (
    Scope("org", "one", "here"),
    Scope("org", "one", "near"),
    Scope("org", "two", "far"),
)
ELSEWHERE = Scope("other", "one", "here")
NOBODY = Scope("org", "one", "nobody")
TRIALS = 300


class SlowProtocol(PushProtocol):
    """A second protocol."""


@pytest.fixture
def seeded(database: str) -> Iterator[StateStore]:
    """A store whose draws can be repeated, with the service `b`."""
    store = StateStore(database, rng=random.Random(20240119))
    register(store, "b")
    yield store
    problems = store.problems()
    store.close()
    assert not problems


def claimed(answer: Sequence[ScopedKey | None]) -> list[ScopedKey]:
    """What was really claimed, after seeing that the padding is at the end."""
    got = [task for task in answer if task is not None]
    assert list(answer) == got + [None] * (len(answer) - len(got))
    assert len(set(got)) == len(got)
    return got


def put_back(store: StateStore, tasks: list[ScopedKey]) -> None:
    assert store.set_task_waiting(tasks) == tasks


def test_tasks_come_from_the_given_scopes_only(store: StateStore) -> None:
    register(store, "b")
    made = {scope: campaign(store, scope, tasks=2) for scope in (HERE, NEAR, FAR, ELSEWHERE)}
    cases: list[tuple[list[Scope | str], list[Scope]]] = [
        ([HERE], [HERE]),
        (["org-one-near"], [NEAR]),
        ([HERE, FAR, HERE], [HERE, FAR]),
        (["org-one-*"], [HERE, NEAR]),
        (["org-*-*"], [HERE, NEAR, FAR]),
        ([Scope("other")], [ELSEWHERE]),
        (["*-*-*"], [HERE, NEAR, FAR, ELSEWHERE]),
        ([NOBODY, "org-three-*"], []),
        ([], []),
    ]
    for asked, found in cases:
        got = claimed(store.claim_tasks(asked, "b", count=20))
        assert sorted(got) == sorted(task for scope in found for task in made[scope].tasks), asked
        assert store.get_service_tasks("b") == sorted(
            got, key=lambda task: (task.scope, task.gufe_key)
        )
        put_back(store, got)


def test_excluded_scopes_are_left_out(store: StateStore) -> None:
    register(store, "b")
    made = {scope: campaign(store, scope, tasks=2) for scope in (HERE, NEAR, FAR)}
    cases: list[tuple[list[Scope | str], list[Scope]]] = [
        ([HERE], [NEAR, FAR]),
        (["org-one-*"], [FAR]),
        ([NEAR, "org-two-*"], [HERE]),
        (["*-*-*"], []),
        ([NOBODY], [HERE, NEAR, FAR]),
        ([], [HERE, NEAR, FAR]),
    ]
    for exclude, found in cases:
        got = claimed(store.claim_tasks([Scope()], "b", count=10, exclude_scopes=exclude))
        assert sorted(got) == sorted(task for scope in found for task in made[scope].tasks), exclude
        put_back(store, got)


def test_a_claim_goes_on_to_the_next_hub_until_there_are_enough(store: StateStore) -> None:
    register(store, "b")
    made = [campaign(store, HERE, tasks=3, name=f"net {i}") for i in range(4)]
    got = claimed(store.claim_tasks([HERE], "b", count=7))
    assert len(got) == 7
    hubs = [next(i for i, one in enumerate(made) if task in one.tasks) for task in got]
    assert sorted(Counter(hubs).values()) == [1, 3, 3]
    assert [hub for hub, before in zip(hubs, [None, *hubs], strict=False) if hub != before] == list(
        dict.fromkeys(hubs)
    )
    rest = store.claim_tasks([HERE], "b", count=7)
    assert len(claimed(rest)) == 5
    assert len(rest) == 7
    assert set(claimed(rest)) | set(got) == {task for one in made for task in one.tasks}
    assert store.claim_tasks([HERE], "b", count=2) == [None, None]


def test_many_hubs_with_one_task_each_give_all_that_is_asked(store: StateStore) -> None:
    register(store, "b")
    made = [campaign(store, HERE, tasks=1, arms=1, name=f"net {i}") for i in range(40)]
    assert len(claimed(store.claim_tasks([HERE], "b", count=40))) == len(made)


@pytest.mark.parametrize("hashed", [False, True], ids=["usual plan", "hashed"])
@pytest.mark.parametrize(
    "protocols", [None, ["PushProtocol"]], ids=["any protocol", "one protocol"]
)
def test_tasks_that_several_hubs_share_are_claimed_once_each(
    store: StateStore, protocols: list[str] | None, hashed: bool
) -> None:
    register(store, "b")
    first = campaign(store, HERE, tasks=8, name="first")
    second, third = (campaign(store, HERE, tasks=2, name=name) for name in ("second", "third"))
    for other in (second, third):
        assert store.action_tasks(first.tasks, other.hub) == first.tasks
    everywhere = sorted([*first.tasks, *second.tasks, *third.tasks])
    with store.transaction() as tx:
        assert tx.connection is not None
        if hashed:
            # A plan that draws all before it changes any.
            for plan in ("indexscan", "bitmapscan"):
                tx.connection.execute(text(f"SET LOCAL enable_{plan} = off"))
            tx.connection.execute(text("SET LOCAL enable_nestloop = off"))
        got = tx.claim_tasks([HERE], "b", count=12, protocols=protocols)
    assert sorted(claimed(got)) == everywhere
    assert store.claim_tasks([HERE], "b") == [None]


@pytest.mark.parametrize("count", [0, -1])
def test_nothing_asked_is_nothing_claimed(store: StateStore, count: int) -> None:
    register(store, "b")
    made = campaign(store, HERE, tasks=1)
    assert store.claim_tasks([HERE], "b", count=count) == []
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks


def test_one_task_is_claimed_by_default(store: StateStore) -> None:
    register(store, "b")
    campaign(store, HERE, tasks=3)
    assert len(claimed(store.claim_tasks([str(HERE)], "b"))) == 1


def test_a_hub_of_weight_zero_gives_nothing(store: StateStore) -> None:
    register(store, "b")
    off, on = (campaign(store, HERE, tasks=2, name=name) for name in ("off", "on"))
    store.set_taskhub_weight(off.network, 0)
    assert sorted(claimed(store.claim_tasks([HERE], "b", count=9))) == on.tasks
    store.set_taskhub_weight(on.network, 0)
    put_back(store, on.tasks)
    assert store.claim_tasks([HERE], "b") == [None]
    store.set_taskhub_weight(off.network, 0.001)
    assert sorted(claimed(store.claim_tasks([HERE], "b", count=9))) == off.tasks


def test_hubs_are_drawn_by_their_weights(seeded: StateStore) -> None:
    weights = [0.1, 0.3, 0.6, 0.0, 0.9]
    made = [
        campaign(seeded, scope, tasks=1, name=f"net {i}")
        for i, scope in enumerate((HERE, NEAR, FAR, HERE, HERE))
    ]
    for one, weight in zip(made, weights, strict=True):
        seeded.set_taskhub_weight(one.network, weight)
    # A hub without work has no part in the draw, whatever its weight.
    seeded.cancel_tasks(made[4].tasks, made[4].hub)
    counts = [0] * len(made)
    for _ in range(TRIALS):
        with undone(seeded) as tx:
            [task] = tx.claim_tasks([Scope()], "b")
            counts[next(i for i, one in enumerate(made) if task in one.tasks)] += 1
    assert counts[3] == counts[4] == 0
    assert chisquare(counts[:3], [0.1 * TRIALS, 0.3 * TRIALS, 0.6 * TRIALS]).pvalue > 0.001
    assert chisquare(counts[:3]).pvalue < 1e-6


def test_the_second_hub_is_drawn_by_weight_among_the_rest(seeded: StateStore) -> None:
    weights = [0.8, 0.3, 0.1]
    made = [campaign(seeded, HERE, tasks=1, name=f"net {i}") for i in range(3)]
    for one, weight in zip(made, weights, strict=True):
        seeded.set_taskhub_weight(one.network, weight)
    orders: Counter[tuple[int, ...]] = Counter()
    for _ in range(TRIALS):
        with undone(seeded) as tx:
            got = claimed(tx.claim_tasks([HERE], "b", count=3))
            orders[
                tuple(next(i for i, one in enumerate(made) if task in one.tasks) for task in got)
            ] += 1
    expected = {
        (i, j, 3 - i - j): weights[i] / sum(weights) * weights[j] / (sum(weights) - weights[i])
        for i in range(3)
        for j in range(3)
        if i != j
    }
    assert set(orders) <= set(expected)
    assert (
        chisquare(
            [orders[order] for order in expected], [TRIALS * share for share in expected.values()]
        ).pvalue
        > 0.001
    )


def test_a_seed_repeats_the_draw(database: str) -> None:
    store = StateStore(database)
    register(store, "b")
    for i in range(6):
        campaign(store, HERE, tasks=1, name=f"net {i}")
    store.close()
    draws = []
    for seed in (1, 1, 2, 3):
        again = StateStore(database, rng=random.Random(seed))
        with undone(again) as tx:
            draws.append(tx.claim_tasks([HERE], "b", count=6))
        again.close()
    assert draws[0] == draws[1]
    assert draws[0] not in draws[2:]


def test_protocols_choose_hubs_and_tasks(store: StateStore) -> None:
    register(store, "b")
    quick = campaign(store, HERE, tasks=3, name="quick only")
    slow, fast = (
        gufe.Transformation(system("a"), system("b"), protocol(Effort()), name="edge")
        for protocol in (SlowProtocol, PushProtocol)
    )
    network = store.create_network(gufe.AlchemicalNetwork([slow, fast], name="both"), HERE)
    hub = store.create_taskhub(network)
    of = {
        protocol: store.create_task(store.get_scoped_key(edge, HERE))
        for protocol, edge in (("slow", slow), ("fast", fast))
    }
    both = Campaign(network, hub, [], list(of.values()))
    store.action_tasks(both.tasks, hub)
    for protocols, found in (
        (["SlowProtocol"], [of["slow"]]),
        (["PushProtocol"], [of["fast"], *quick.tasks]),
        (iter(["SlowProtocol", "PushProtocol"]), [*both.tasks, *quick.tasks]),
        (["NoProtocol"], []),
        (None, [*both.tasks, *quick.tasks]),
    ):
        got = claimed(store.claim_tasks([HERE], "b", count=9, protocols=protocols))
        assert sorted(got) == sorted(found), protocols
        put_back(store, got)


def test_inside_a_hub_priority_comes_first(store: StateStore) -> None:
    register(store, "b")
    made = campaign(store, HERE, tasks=5)
    for priority, task in zip((5, 3, 1, 4, 2), made.tasks, strict=True):
        store.set_task_priority([task], priority)
    order = [made.tasks[i] for i in (2, 4, 1, 3, 0)]
    assert store.claim_tasks([HERE], "b", count=5) == order


def test_who_is_not_registered_claims_and_changes_nothing(store: StateStore) -> None:
    campaign(store, HERE, tasks=3)
    register(store, "b")
    before = everything(store)
    for scopes in ([HERE], [NOBODY], []):
        with pytest.raises(KeyError, match="'stranger'"):
            store.claim_tasks(scopes, "stranger", count=2)
    assert everything(store) == before


@pytest.mark.parametrize(
    "malformed", ["org-one", "org-*-here", "1-2-3", "", "org-one-here-there", "org'-one-here"]
)
def test_a_malformed_scope_is_a_value_error(store: StateStore, malformed: str) -> None:
    campaign(store, HERE, tasks=1)
    register(store, "b")
    before = everything(store)
    with pytest.raises(ValueError):
        store.claim_tasks([HERE, malformed], "b")
    with pytest.raises(ValueError):
        store.claim_tasks([HERE], "b", exclude_scopes=[malformed])
    assert everything(store) == before
