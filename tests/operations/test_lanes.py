"""Floors of lanes rise only as far as no claimable task lies below them; empty lanes are closed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Event

import gufe
import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore
from alchemistore.database.throttle import Throttle
from alchemistore.models.clock import now
from alchemistore.operations.claims import has_work
from alchemistore.operations.queue.lanes import RAISE_FLOORS
from tests.support.campaigns import Campaign, campaign, created, register
from tests.support.claims import LONG_AGO
from tests.support.concurrency import run_while_open
from tests.support.databases import rolled_back
from tests.support.gufe_classes import Effort, PushProtocol, system
from tests.support.results import ref


class SecondProtocol(PushProtocol):
    """A second protocol."""


PROTOCOLS = ["PushProtocol", "SecondProtocol"]


HELD_BACK = text("""
    SELECT count(*) FROM lanes
    WHERE candidate_xid >= CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)
""")
EXPECTED_FLOORS = text("""
    SELECT l.protocol, l.priority, least(
        coalesce((
            SELECT max(a.race) FROM attempts AS a
            WHERE a.lane IN ('', l.protocol) AND a.priority = l.priority
        ), 0),
        (
            SELECT min(q.race) FROM queue AS q
            WHERE l.protocol IN ('', q.protocol) AND q.priority = l.priority
        )
    ) AS floor FROM lanes AS l
""")


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Thirty tasks on a hub, and the services `a` and `b`."""
    register(store, "a", "b")
    return campaign(store, scope, tasks=30)


@pytest.fixture
def mixed(store: StateStore, scope: Scope) -> Campaign:
    """A hub without tasks, one transformation for each of two protocols, and the service `a`."""
    register(store, "a")
    edges = [
        gufe.Transformation(
            system(f"{protocol.__name__} a"), system(f"{protocol.__name__} b"), protocol(Effort())
        )
        for protocol in (PushProtocol, SecondProtocol)
    ]
    network = store.create_network(gufe.AlchemicalNetwork(edges, name="mixed"), scope)
    transformations = [
        next(
            key
            for key in store.get_network_transformations(network)
            if type(store.get_gufe(key).protocol).__name__ == name
        )
        for name in PROTOCOLS
    ]
    return Campaign(network, store.create_taskhub(network), transformations, [])


def action(store: StateStore, made: Campaign, count: int, arm: int = 0) -> list[ScopedKey]:
    """Create tasks of one transformation and action them."""
    tasks = created(store.create_tasks([made.transformations[arm]] * count))
    assert store.action_tasks(tasks, made.hub) == tasks
    return tasks


def claim(store: StateStore, hub: ScopedKey, count: int, *protocols: str) -> set[ScopedKey]:
    """Claim at most so many tasks."""
    got = store.claim_taskhub_tasks(hub, "a", count, protocols=protocols or None)
    return {task for task in got if task is not None}


def visit(store: StateStore, times: int = 3) -> None:
    """Visit all lanes, so many times."""
    for _ in range(times):
        age_lanes(store)
        with store.engine.begin() as connection:
            connection.execute(RAISE_FLOORS, {"now": now()})


def raise_floors(store: StateStore) -> None:
    """Visit all lanes until their floors are as high as they get."""
    for _ in range(3):
        wait_for_older_transactions(store)
        visit(store, times=1)


def wait_for_older_transactions(store: StateStore) -> None:
    """Wait until no transaction, of whatever test on this server, holds a floor back."""
    for _ in range(6000):
        with store.engine.begin() as connection:
            if not connection.scalar(HELD_BACK):
                return
        Event().wait(0.01)
    raise AssertionError("a transaction does not end")


def age_lanes(store: StateStore) -> None:
    """Make all lanes due."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE lanes SET visited_at = visited_at - interval '1 minute'"))


def lanes(store: StateStore) -> dict[tuple[str, int], float]:
    """Return the floor of each lane by protocol and priority."""
    with store.engine.connect() as connection:
        rows = connection.execute(text("SELECT protocol, priority, floor FROM lanes"))
        return {(row.protocol, row.priority): row.floor for row in rows}


def clocks(store: StateStore) -> dict[str, float]:
    """Return the largest key handed out, by lane."""
    with store.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT lane, max(race) AS race FROM attempts GROUP BY lane")
        )
        return {row.lane: row.race for row in rows}


def heads(store: StateStore) -> dict[str, float]:
    """Return the smallest key that waits, by protocol."""
    with store.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT protocol, min(race) AS race FROM queue GROUP BY protocol")
        )
        return {row.protocol: row.race for row in rows}


@pytest.mark.parametrize("protocols", [[], ["PushProtocol"]], ids=["any protocol", "one protocol"])
def test_tasks_actioned_by_a_transaction_older_than_the_floor_can_be_claimed(
    store: StateStore, made: Campaign, protocols: list[str]
) -> None:
    late = store.create_tasks([made.transformations[0]] * 30)
    with store.transaction() as tx:
        assert tx.action_tasks(late, made.hub) == late
        assert claim(store, made.hub, 30, *protocols) == set(made.tasks)
        visit(store)
        assert set(lanes(store).values()) == {0.0}
    assert claim(store, made.hub, 30, *protocols) == set(late)


def test_expiry_raises_no_floor_over_a_transaction_that_is_older(
    store: StateStore, made: Campaign
) -> None:
    late = store.create_tasks([made.transformations[0]] * 30)
    with store.transaction() as tx:
        assert tx.action_tasks(late, made.hub) == late
        assert claim(store, made.hub, 30) == set(made.tasks)
        for _ in range(3):
            age_lanes(store)
            store.expire_registrations(LONG_AGO)
    assert claim(store, made.hub, 30) == set(late)


def test_floors_rise_once_older_transactions_that_write_have_ended(
    store: StateStore, made: Campaign
) -> None:
    with store.transaction() as tx:
        register(tx, "c")
        claim(store, made.hub, 30)
        visit(store)
        assert set(lanes(store).values()) == {0.0}
    raise_floors(store)
    assert set(lanes(store).values()) == {clocks(store)[""]}


@pytest.mark.parametrize("waiting", [0, 1, 10])
@pytest.mark.parametrize("visits", [1, 3])
def test_first_visits_of_a_lane_raise_no_floor_over_an_older_transaction(
    store: StateStore, made: Campaign, waiting: int, visits: int
) -> None:
    late = store.create_tasks([made.transformations[0]] * 100)
    claimed = claim(store, made.hub, 30 - waiting)
    with store.transaction() as tx:
        assert tx.action_tasks(late, made.hub) == late
        visit(store, visits)
        assert set(lanes(store).values()) == {0.0}
    assert claim(store, made.hub, 130) == {*late, *made.tasks} - claimed


def test_visit_by_an_old_transaction_raises_no_floor_over_a_newer_one(
    store: StateStore, made: Campaign
) -> None:
    late = store.create_tasks([made.transformations[0]] * 30)
    with store.transaction() as newer:
        with store.transaction() as older:
            register(older, "c")
            # The newer transaction draws from the clock before the claim. The older one sees the
            # clock after it.
            assert newer.action_tasks(late, made.hub) == late
            assert claim(store, made.hub, 30) == set(made.tasks)
            age_lanes(store)
            older.expire_registrations(LONG_AGO)
        visit(store)
        assert set(lanes(store).values()) == {0.0}
    raise_floors(store)
    assert claim(store, made.hub, 30) == set(late)


def test_floor_that_has_risen_is_held_back_by_an_older_transaction_again(
    store: StateStore, made: Campaign
) -> None:
    late = store.create_tasks([made.transformations[0]] * 30)
    first = claim(store, made.hub, 10)
    raise_floors(store)
    assert min(lanes(store).values()) > 0
    with store.transaction() as tx:
        assert tx.action_tasks(late, made.hub) == late
        assert claim(store, made.hub, 20) == set(made.tasks) - first
        visit(store)
    assert claim(store, made.hub, 30) == set(late)


def test_clock_after_the_candidate_does_not_replace_it_before_it_is_ripe(
    store: StateStore, made: Campaign
) -> None:
    late = store.create_tasks([made.transformations[0]] * 30)
    first = claim(store, made.hub, 10)
    with store.transaction() as newer:
        with store.transaction() as older:
            register(older, "c")
            # The candidate waits for the older transaction only.
            visit(store, times=1)
            assert newer.action_tasks(late, made.hub) == late
            assert claim(store, made.hub, 20) == set(made.tasks) - first
            visit(store, times=1)
        visit(store)
    assert claim(store, made.hub, 30) == set(late)


def test_floors_rise_in_two_steps(store: StateStore, made: Campaign) -> None:
    claim(store, made.hub, 30)
    visit(store, times=1)
    assert set(lanes(store).values()) == {0.0}
    wait_for_older_transactions(store)
    visit(store, times=1)
    assert lanes(store) == dict.fromkeys([("", 10), ("PushProtocol", 10)], clocks(store)[""])


def test_floors_rise_while_an_older_transaction_only_reads(
    store: StateStore, made: Campaign
) -> None:
    with store.transaction(readonly=True) as tx:
        assert tx.get_taskhub_tasks(made.hub) == made.tasks
        claim(store, made.hub, 30)
        raise_floors(store)
        assert min(lanes(store).values()) > 0


def test_floors_rise_to_the_smallest_key_that_waits_or_the_largest_handed_out(
    store: StateStore, mixed: Campaign
) -> None:
    tasks = [action(store, mixed, 20, arm) for arm in (0, 1)]
    store.set_task_priority(tasks[0][:8] + tasks[1][:8], 20)
    # Of the first protocol, some of priority 10 are left; of the second, some of priority 20.
    assert len(claim(store, mixed.hub, 6, "PushProtocol")) == 6
    assert len(claim(store, mixed.hub, 16, "SecondProtocol")) == 16
    assert len(claim(store, mixed.hub, 3)) == 3
    with store.engine.connect() as connection:
        expected = {
            (row.protocol, row.priority): row.floor for row in connection.execute(EXPECTED_FLOORS)
        }
    raise_floors(store)
    assert lanes(store) == expected
    assert {lane for lane, floor in expected.items() if floor > 0} == {
        ("", 10),
        ("PushProtocol", 10),
        ("SecondProtocol", 10),
        ("SecondProtocol", 20),
    }
    assert len(claim(store, mixed.hub, 40)) == 15


@pytest.mark.parametrize("protocols", [[], PROTOCOLS], ids=["any protocol", "both protocols"])
def test_tasks_that_claims_passed_over_stay_above_the_floor(
    store: StateStore, mixed: Campaign, protocols: list[str]
) -> None:
    tasks = {*action(store, mixed, 20, 0), *action(store, mixed, 20, 1)}
    with rolled_back(store) as tx:
        first = claim(tx, mixed.hub, 10, *protocols)
        passed = claim(store, mixed.hub, 20, *protocols)
    raise_floors(store)
    floors, smallest = lanes(store), heads(store)
    assert floors["", 10] == (0.0 if protocols else min(smallest.values()))
    assert [floors[protocol, 10] for protocol in PROTOCOLS] == [
        smallest[protocol] for protocol in PROTOCOLS
    ]
    assert first <= claim(store, mixed.hub, 40, *protocols) == tasks - passed


def test_floors_stay_as_they_are_while_nothing_is_claimed(
    store: StateStore, made: Campaign
) -> None:
    claim(store, made.hub, 10)
    raise_floors(store)
    before = lanes(store)
    raise_floors(store)
    assert lanes(store) == before
    # A task of small weight is far behind the clock and pulls no floor up.
    store.set_task_weights(made.tasks, made.hub, 0.001)
    raise_floors(store)
    assert lanes(store) == before


def test_lane_is_visited_again_after_more_than_a_second(store: StateStore, made: Campaign) -> None:
    claim(store, made.hub, 10)
    start = now() + timedelta(minutes=1)

    def visited(seconds: float) -> set[float]:
        with store.engine.begin() as connection:
            connection.execute(RAISE_FLOORS, {"now": start + timedelta(seconds=seconds)})
            rows = connection.scalars(text("SELECT visited_at FROM lanes"))
            return {(moment - start).total_seconds() for moment in rows}

    assert [visited(seconds) for seconds in (0.0, 0.5, 1.0, 1.001, 2.0, 2.002)] == [
        {0.0},
        {0.0},
        {0.0},
        {1.001},
        {1.001},
        {2.002},
    ]


def test_a_hundred_lanes_are_visited_at_once_the_oldest_first(
    store: StateStore, made: Campaign
) -> None:
    tasks = store.create_tasks([made.transformations[0]] * 60)
    for priority, task in enumerate(tasks, 100):
        store.set_task_priority([task], priority)
    assert store.action_tasks(tasks, made.hub) == tasks
    start = now() + timedelta(minutes=1)
    counts = []
    for minute in range(5):
        with store.engine.begin() as connection:
            connection.execute(RAISE_FLOORS, {"now": start + timedelta(minutes=minute)})
            rows = connection.execute(
                text("SELECT count(*) AS number FROM lanes GROUP BY visited_at ORDER BY visited_at")
            )
            counts.append([row.number for row in rows])
    # 122 lanes: those that were left out before come first.
    assert counts == [[22, 100], [22, 100], [22, 100], [22, 100], [22, 100]]


def test_visits_of_the_same_lanes_do_not_wait_for_each_other(
    store: StateStore, made: Campaign
) -> None:
    age_lanes(store)

    def visit(tx: StateStore) -> list[object]:
        return list(tx.expire_registrations(LONG_AGO))

    _, second = run_while_open(store, visit, lambda: visit(store), commit=True)
    assert second.result() == []
    assert not second.waited


# when floors are raised


def fail(store: StateStore, made: Campaign) -> None:
    [task] = claim(store, made.hub, 1)
    store.set_task_error([task])


def deliver(store: StateStore, made: Campaign) -> None:
    [task] = claim(store, made.hub, 1)
    store.settle_task(task, ref(task.scope), "a")


OCCASIONS: dict[str, Callable[[StateStore, Campaign], object]] = {
    "task fails": fail,
    "result comes in": deliver,
    "registrations are expired": lambda store, made: store.expire_registrations(LONG_AGO),
    "queue is maintained": lambda store, made: store.maintain_queue(),
}
THROTTLED = {"task fails", "result comes in"}


@pytest.mark.parametrize("occasion", OCCASIONS)
def test_floors_are_raised_as_a_side_effect_at_most_once_per_interval(
    store: StateStore,
    made: Campaign,
    occasion: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("alchemistore.database.throttle.time.monotonic", lambda: clock[0])

    def is_visited() -> bool:
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE lanes SET visited_at = '2020-01-01'"))
        OCCASIONS[occasion](store, made)
        with store.engine.connect() as connection:
            return bool(
                connection.scalar(text("SELECT bool_and(visited_at > '2020-01-01') FROM lanes"))
            )

    assert is_visited()
    assert is_visited() is (occasion not in THROTTLED)
    clock[0] += 1.5
    assert is_visited()


def test_throttle_allows_each_kind_of_work_once_per_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("alchemistore.database.throttle.time.monotonic", lambda: clock[0])
    throttle = Throttle(seconds=2.0)
    assert (throttle.allows("x"), throttle.allows("x"), throttle.allows("y")) == (True, False, True)
    clock[0] = 2.0
    assert not throttle.allows("x")
    clock[0] = 2.5
    assert throttle.allows("x")
    clock[0] = 4.25
    # Refused work does not count as done, and a later allowance counts from its own moment.
    assert (throttle.allows("x"), throttle.allows("y")) == (False, True)
    assert Throttle(seconds=2.0).allows("x")


# closing lanes


def test_lanes_without_a_claimable_task_are_closed(store: StateStore, mixed: Campaign) -> None:
    tasks = [action(store, mixed, 2, arm) for arm in (0, 1)]
    assert store.set_task_priority(tasks[1][:1], 20) == tasks[1][:1]
    store.maintain_queue()
    everything = {(name, priority) for name in ("", *PROTOCOLS) for priority in (10, 20)}
    everything.remove(("PushProtocol", 20))
    assert set(lanes(store)) == everything
    assert len(claim(store, mixed.hub, 2, "SecondProtocol")) == 2
    store.maintain_queue()
    assert set(lanes(store)) == {("", 10), ("PushProtocol", 10)}
    assert claim(store, mixed.hub, 2) == set(tasks[0])
    store.maintain_queue()
    assert lanes(store) == {}


def test_lanes_of_one_hub_are_closed_whatever_waits_on_another(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    other = campaign(store, scope, name="other", tasks=3)
    assert claim(store, made.hub, 30) == set(made.tasks)
    store.maintain_queue()
    with store.engine.connect() as connection:
        open_on = set(connection.scalars(text("SELECT taskhub FROM lanes")))
    assert open_on == {other.hub.token}
    assert claim(store, other.hub, 3) == set(other.tasks)


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
def test_lane_that_a_task_is_just_entering_is_not_closed(
    store: StateStore, made: Campaign, commit: bool
) -> None:
    assert claim(store, made.hub, 30) == set(made.tasks)
    late = store.create_tasks([made.transformations[0]])
    _, closing = run_while_open(
        store,
        lambda tx: tx.action_tasks(late, made.hub),
        store.maintain_queue,
        commit=commit,
    )
    closing.result()
    assert closing.waited
    assert claim(store, made.hub, 1) == (set(late) if commit else set())


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "rolled back"])
def test_task_that_enters_a_lane_that_is_just_closed_can_be_claimed(
    store: StateStore, made: Campaign, commit: bool
) -> None:
    assert claim(store, made.hub, 30) == set(made.tasks)
    late = store.create_tasks([made.transformations[0]])
    _, entering = run_while_open(
        store,
        lambda tx: tx.maintain_queue(),
        lambda: store.action_tasks(late, made.hub),
        commit=commit,
    )
    assert entering.result() == late
    assert claim(store, made.hub, 1) == set(late)


def test_claims_do_not_wait_while_lanes_are_closed(store: StateStore, made: Campaign) -> None:
    _, claiming = run_while_open(
        store,
        lambda tx: tx.maintain_queue(),
        lambda: claim(store, made.hub, 30),
        commit=True,
    )
    assert claiming.result() == set(made.tasks)
    assert not claiming.waited


# floors and later keys


@pytest.mark.parametrize("protocols", [[], ["PushProtocol"]], ids=["any protocol", "one protocol"])
def test_keys_of_later_tasks_are_larger_than_all_handed_out(
    store: StateStore, made: Campaign, protocols: list[str]
) -> None:
    assert len(claim(store, made.hub, 20, *protocols)) == 20
    action(store, made, 30)
    assert min(heads(store).values()) > max(clocks(store).values())


def test_floors_do_not_fall_after_the_attempts_were_removed(
    store: StateStore, made: Campaign
) -> None:
    assert claim(store, made.hub, 30) == set(made.tasks)
    clock = clocks(store)[""]
    visit(store, times=1)
    for task in made.tasks:
        store.delete_task(task, force=True)
    for _ in range(4):
        wait_for_older_transactions(store)
        visit(store, times=1)
        assert set(lanes(store).values()) == {clock}


def test_task_in_a_new_lane_of_its_protocol_is_not_below_the_floor_of_any_protocol(
    store: StateStore, mixed: Campaign
) -> None:
    action(store, mixed, 20, 0)
    action(store, mixed, 40, 1)
    claimed = claim(store, mixed.hub, 30)
    raise_floors(store)
    claimed |= claim(store, mixed.hub, 20, "PushProtocol")
    store.maintain_queue()
    assert set(lanes(store)) == {("", 10), ("SecondProtocol", 10)}
    for task in claimed:
        store.delete_task(task, force=True)
    late = action(store, mixed, 20, 0)
    assert set(late) <= claim(store, mixed.hub, 60)


@pytest.mark.parametrize("protocols", [[], ["PushProtocol"]], ids=["any protocol", "one protocol"])
def test_tasks_that_come_after_the_attempts_were_removed_can_be_claimed(
    store: StateStore, made: Campaign, protocols: list[str]
) -> None:
    assert claim(store, made.hub, 30, *protocols) == set(made.tasks)
    raise_floors(store)
    for task in made.tasks:
        store.delete_task(task, force=True)
    late = action(store, made, 30)
    assert min(heads(store).values()) > max(lanes(store).values()) > 0
    assert claim(store, made.hub, 30, *protocols) == set(late)


@pytest.mark.parametrize("protocols", [[], ["PushProtocol"]], ids=["any protocol", "one protocol"])
def test_key_equal_to_the_floor_is_claimed_and_counts_as_work(
    store: StateStore, made: Campaign, protocols: list[str]
) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE lanes SET floor = (SELECT max(race) FROM queue)"))
        connection.execute(text("DELETE FROM queue WHERE race < (SELECT max(race) FROM queue)"))
        assert has_work(connection, [Scope()], protocols or None)
    assert len(claim(store, made.hub, 30, *protocols)) == 1
    assert store.repair_queue()


@pytest.mark.parametrize("protocols", [[], ["PushProtocol"]], ids=["any protocol", "one protocol"])
def test_claims_read_the_queue_from_the_floor_on(
    store: StateStore, made: Campaign, protocols: list[str]
) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE lanes SET floor = (SELECT max(race) FROM queue)"))
    last = claim(store, made.hub, 30, *protocols)
    assert len(last) == 1
    assert store.repair_queue()
    assert claim(store, made.hub, 30, *protocols) == set(made.tasks) - last
