"""Restart patterns: failures that are tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy
import pytest
from sqlalchemy import text

from alchemistore import MissingObjectError, Scope, ScopedKey, StateStore, TaskRestartPattern
from tests.support.campaigns import ZERO, Campaign, campaign, register, star
from tests.support.databases import row_counts
from tests.support.history import attempts, history_of, status
from tests.support.restarts import NAN, counters, fail, fail_in_steps, retries
from tests.support.results import ref


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A task on a hub, and the service `b`."""
    register(store, "b")
    return campaign(store, scope, tasks=1, arms=1)


@pytest.fixture
def other(store: StateStore, made: Campaign, scope: Scope) -> ScopedKey:
    """A second hub that the task is on."""
    network = store.create_network(star(1, "another"), scope)
    hub = store.create_taskhub(network)
    assert store.action_tasks(made.tasks, hub) == made.tasks
    return hub


def patterns(store: StateStore, hub: ScopedKey) -> set[tuple[str, int]]:
    return store.get_task_restart_patterns([hub])[hub]


def hubs(store: StateStore, task: ScopedKey) -> set[ScopedKey]:
    return {*store.get_task_actioned_networks(task)}


# patterns of a hub


def test_patterns_are_added_changed_and_removed(store: StateStore, made: Campaign) -> None:
    hub = made.hub
    assert patterns(store, hub) == set()
    store.add_task_restart_patterns(hub, ["NaN", "out of memory", "NaN"], 3)
    store.add_task_restart_patterns(str(hub), iter(["CUDA"]), number_of_retries=5)
    assert patterns(store, hub) == {("NaN", 3), ("out of memory", 3), ("CUDA", 5)}
    store.set_task_restart_patterns_max_retries(hub, ["NaN", "unknown"], 4)
    store.add_task_restart_patterns(hub, ["CUDA"], 1)
    assert patterns(store, hub) == {("NaN", 4), ("out of memory", 3), ("CUDA", 1)}
    store.remove_task_restart_patterns(hub, ["CUDA", "unknown"])
    assert patterns(store, hub) == {("NaN", 4), ("out of memory", 3)}
    store.clear_task_restart_patterns(hub)
    assert patterns(store, hub) == set()


def test_single_text_is_one_pattern(store: StateStore, made: Campaign) -> None:
    store.add_task_restart_patterns(made.hub, "NaN", 3)
    store.set_task_restart_patterns_max_retries(made.hub, "NaN", 5)
    assert patterns(store, made.hub) == {("NaN", 5)}
    store.remove_task_restart_patterns(made.hub, "NaN")
    assert patterns(store, made.hub) == set()


def test_patterns_belong_to_their_hub(store: StateStore, made: Campaign, other: ScopedKey) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 3)
    store.add_task_restart_patterns(other, ["NaN"], 4)
    missing = ScopedKey.from_str(f"TaskHub-{ZERO}-{made.hub.scope}")
    assert store.get_task_restart_patterns([str(made.hub), missing, other, None, other]) == {
        made.hub: {("NaN", 3)},
        missing: set(),
        other: {("NaN", 4)},
        None: set(),
    }
    store.clear_task_restart_patterns(other)
    assert patterns(store, made.hub) == {("NaN", 3)}
    assert store.get_task_restart_patterns([]) == {}


def test_odd_and_long_patterns_are_read_back_exactly(store: StateStore, made: Campaign) -> None:
    odd = {"a\0b", "\ud800", "\x1a0041", "ü😀", "x" * 10_000}
    store.add_task_restart_patterns(made.hub, odd, 1)
    assert patterns(store, made.hub) == {(one, 1) for one in odd}
    store.remove_task_restart_patterns(made.hub, odd)
    assert patterns(store, made.hub) == set()


@pytest.mark.parametrize("number", [0, -1, 2**31])
def test_number_of_retries_that_is_not_positive_is_refused(
    store: StateStore, made: Campaign, number: Any
) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 3)
    with pytest.raises(ValueError, match="retries"):
        store.add_task_restart_patterns(made.hub, ["new"], number)
    with pytest.raises(ValueError, match="retries"):
        store.set_task_restart_patterns_max_retries(made.hub, ["NaN"], number)
    assert patterns(store, made.hub) == {("NaN", 3)}


@pytest.mark.parametrize("number", [True, 1.0, 2.5, "2", None, float("nan")])
def test_number_of_retries_that_is_no_integer_is_refused(
    store: StateStore, made: Campaign, number: Any
) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 3)
    with pytest.raises(TypeError, match="retries"):
        store.add_task_restart_patterns(made.hub, ["new"], number)
    with pytest.raises(TypeError, match="retries"):
        store.set_task_restart_patterns_max_retries(made.hub, ["NaN"], number)
    assert patterns(store, made.hub) == {("NaN", 3)}


def test_number_of_retries_may_be_an_integer_of_numpy(store: StateStore, made: Campaign) -> None:
    number: Any = numpy.int64(3)
    store.add_task_restart_patterns(made.hub, ["NaN"], number)
    assert patterns(store, made.hub) == {("NaN", 3)}


@pytest.mark.parametrize(
    "bad",
    ["", "[", "*", "a(?i)b", "(?<name>x)", r"\p{L}", "x" * 10_001, "é" * 5_001, None, 5, b"x"],
)
def test_text_that_is_no_pattern_is_refused(store: StateStore, made: Campaign, bad: Any) -> None:
    with pytest.raises(ValueError, match="pattern"):
        store.add_task_restart_patterns(made.hub, ["fine", bad], 1)
    assert patterns(store, made.hub) == set()


def test_model_of_a_pattern_is_validated_and_frozen(made: Campaign) -> None:
    one = TaskRestartPattern(pattern="NaN", max_retries=1, taskhub_scoped_key=made.hub)
    with pytest.raises(ValueError):
        one.max_retries = 2
    for pattern, number in (("", 1), ("NaN", 0), ("NaN", True)):
        with pytest.raises(ValueError):
            TaskRestartPattern(pattern=pattern, max_retries=number, taskhub_scoped_key=made.hub)


def test_missing_hub_gets_no_pattern_and_has_none(store: StateStore, made: Campaign) -> None:
    before = row_counts(store)
    for missing in (None, f"TaskHub-{ZERO}-{made.hub.scope}", f"TaskHub-{ZERO}-no-such-scope"):
        with pytest.raises(MissingObjectError, match="No such object in database"):
            store.add_task_restart_patterns(missing, ["NaN"], 1)
        store.remove_task_restart_patterns(missing, ["NaN"])
        store.clear_task_restart_patterns(missing)
        store.set_task_restart_patterns_max_retries(missing, ["NaN"], 1)
    assert row_counts(store) == before


def test_key_of_another_kind_for_a_hub_is_refused(store: StateStore, made: Campaign) -> None:
    calls: list[Callable[[Any], object]] = [
        lambda wrong: store.add_task_restart_patterns(wrong, ["NaN"], 1),
        lambda wrong: store.remove_task_restart_patterns(wrong, ["NaN"]),
        lambda wrong: store.clear_task_restart_patterns(wrong),
        lambda wrong: store.set_task_restart_patterns_max_retries(wrong, ["NaN"], 1),
        lambda wrong: store.get_task_restart_patterns([made.hub, wrong]),
    ]
    for call in calls:
        for wrong in (made.network, str(made.tasks[0]), "nonsense"):
            with pytest.raises(ValueError):
                call(wrong)
    single: Any = made.hub
    with pytest.raises(TypeError, match="list of hubs"):
        store.get_task_restart_patterns(single)


@pytest.mark.parametrize("what", ["delete_taskhub", "delete_network"])
def test_patterns_and_counters_go_with_hub_or_network(
    store: StateStore, made: Campaign, what: str
) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 3)
    assert fail(store, made, NAN).status == "waiting"
    assert counters(store) == 1
    getattr(store, what)(made.network)
    assert (row_counts(store)["restart_patterns"], counters(store)) == (0, 0)
    assert status(store, made.tasks[0]) == "waiting"
    if what == "delete_taskhub":
        assert patterns(store, store.create_taskhub(made.network)) == set()


# settlement


def test_failure_that_matches_is_waiting_as_soon_as_it_is_settled(
    store: StateStore, made: Campaign
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN", "not found"], 2)
    assert retries(store, task) == {
        (str(made.hub), "NaN"): (0, 2),
        (str(made.hub), "not found"): (0, 2),
    }
    for number in (1, 2):
        answer = fail(store, made, "no match", NAN)
        assert (answer.status, answer.attempt, answer.outcome) == ("waiting", number, "error")
        assert status(store, task) == "waiting"
        assert retries(store, task)[str(made.hub), "NaN"] == (number, 2)
        assert retries(store, task)[str(made.hub), "not found"] == (0, 2)
    answer = fail(store, made, NAN)
    assert (answer.status, answer.outcome) == ("error", "error")
    assert hubs(store, task) == set()
    assert retries(store, task) == {}
    assert [one.outcome for one in attempts(store, task)] == ["error"] * 3
    changes = history_of(store, task).changes
    assert [one.status for one in changes] == [
        "waiting", *["running", "error", "waiting"] * 2, "running", "error",
    ]  # fmt: skip
    assert {one.reason for one in changes if one.status == "waiting"} == {
        None,
        "a restart pattern matches the traceback",
    }


def test_failure_that_does_not_match_is_removed_from_the_hub(
    store: StateStore, made: Campaign
) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 2)
    assert fail(store, made, "Traceback: something else").status == "error"
    assert hubs(store, made.tasks[0]) == set()


@pytest.mark.parametrize("tracebacks", [None, []])
def test_failure_without_tracebacks_is_removed_from_the_hub(
    store: StateStore, made: Campaign, tracebacks: Any
) -> None:
    store.add_task_restart_patterns(made.hub, [".*"], 2)
    assert fail(store, made, *(tracebacks or ())).status == "error"
    assert hubs(store, made.tasks[0]) == set()
    assert store.get_task_tracebacks(made.tasks[0]) == []


def test_failure_on_a_hub_without_patterns_stays_there(store: StateStore, made: Campaign) -> None:
    assert fail(store, made, NAN).status == "error"
    assert hubs(store, made.tasks[0]) == {made.network}


def test_repeated_settlement_counts_once(store: StateStore, made: Campaign) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 2)
    store.claim_taskhub_tasks(made.hub, "b")
    failure = ref(task.scope, ok=False)
    for _ in range(3):
        assert store.settle_task(task, failure, "b", 1, [NAN]).status == "waiting"
    store.resolve_task_restarts([task])
    assert retries(store, task) == {(str(made.hub), "NaN"): (1, 2)}


def test_failure_of_a_task_that_is_named_several_times_counts_once(
    store: StateStore, made: Campaign
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 2)
    fail_in_steps(store, task, NAN)
    store.resolve_task_restarts([task, str(task), task])
    assert retries(store, task) == {(str(made.hub), "NaN"): (1, 2)}


def test_late_failure_is_not_counted(store: StateStore, made: Campaign) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 2)
    store.claim_taskhub_tasks(made.hub, "b")
    store.set_task_waiting([task])
    store.settle_task(task, ref(task.scope, ok=False), "b", tracebacks=[NAN])
    assert retries(store, task) == {(str(made.hub), "NaN"): (0, 2)}


def test_restarted_task_can_be_claimed_and_completed(store: StateStore, made: Campaign) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 1)
    fail(store, made, NAN)
    assert store.claim_taskhub_tasks(made.hub, "b") == [task]
    assert store.settle_task(task, ref(task.scope), "b").status == "complete"
    assert counters(store) == 0
    assert patterns(store, made.hub) == {("NaN", 1)}


# alchemiscale's calls, one after the other


def test_set_task_error_does_not_count_so_that_the_following_call_counts_once(
    store: StateStore, made: Campaign
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 2)
    for number in (1, 2):
        fail_in_steps(store, task, NAN)
        assert (status(store, task), retries(store, task)) == (
            "error",
            {(str(made.hub), "NaN"): (number - 1, 2)},
        )
        store.resolve_task_restarts(task_scoped_keys=[task])
        store.resolve_task_restarts([task])
        assert (status(store, task), retries(store, task)) == (
            "waiting",
            {(str(made.hub), "NaN"): (number, 2)},
        )
    fail_in_steps(store, task, NAN)
    store.resolve_task_restarts([task])
    assert (status(store, task), hubs(store, task)) == ("error", set())


def test_hubs_decide_each_on_its_own(store: StateStore, made: Campaign, other: ScopedKey) -> None:
    [task] = made.tasks
    [network] = store.get_task_actioned_networks(task).keys() - {made.network}
    store.add_task_restart_patterns(made.hub, ["NaN"], 1)
    store.add_task_restart_patterns(other, ["coordinate", "Particle"], 9)
    fail(store, made, NAN)
    assert retries(store, task) == {
        (str(made.hub), "NaN"): (1, 1),
        (str(other), "coordinate"): (1, 9),
        (str(other), "Particle"): (1, 9),
    }
    answer = fail(store, made, NAN)
    assert answer.status == "waiting"
    assert hubs(store, task) == {network}
    assert retries(store, task) == {
        (str(other), "coordinate"): (2, 9),
        (str(other), "Particle"): (2, 9),
    }
    assert store.claim_taskhub_tasks(made.hub, "b") == [None]
    assert store.claim_taskhub_tasks(other, "b") == [task]


def test_hub_without_patterns_keeps_what_another_drops(
    store: StateStore, made: Campaign, other: ScopedKey
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(other, ["no match"], 1)
    assert fail(store, made, NAN).status == "error"
    assert hubs(store, task) == {made.network}


def test_one_pattern_at_its_maximum_ends_the_restarts_of_all(
    store: StateStore, made: Campaign
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 1)
    store.add_task_restart_patterns(made.hub, ["Particle"], 9)
    assert fail(store, made, NAN).status == "waiting"
    assert fail(store, made, "Particle lost").status == "waiting"
    assert retries(store, task) == {
        (str(made.hub), "NaN"): (1, 1),
        (str(made.hub), "Particle"): (2, 9),
    }
    assert fail(store, made, NAN).status == "error"
    assert hubs(store, task) == set()


def test_adding_a_pattern_restarts_or_removes_tasks_in_error_at_once(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3, arms=1)
    match, miss, waiting = made.tasks
    fail_in_steps(store, match, NAN)
    fail_in_steps(store, miss, "something else")
    store.add_task_restart_patterns(made.hub, ["NaN"], 1)
    assert [status(store, task) for task in made.tasks] == ["waiting", "error", "waiting"]
    assert {*store.get_taskhub_tasks(made.hub)} == {match, waiting}
    assert retries(store, match) == {(str(made.hub), "NaN"): (1, 1)}


def test_pattern_added_again_keeps_its_counters_and_gets_the_new_maximum(
    store: StateStore, made: Campaign
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 5)
    fail(store, made, NAN)
    fail(store, made, NAN)
    store.add_task_restart_patterns(made.hub, ["NaN"], 2)
    assert retries(store, task) == {(str(made.hub), "NaN"): (2, 2)}
    assert fail(store, made, NAN).status == "error"


def test_removed_pattern_that_is_added_again_starts_at_zero(
    store: StateStore, made: Campaign
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 5)
    fail(store, made, NAN)
    store.remove_task_restart_patterns(made.hub, ["NaN"])
    assert (status(store, task), retries(store, task)) == ("waiting", {})
    store.add_task_restart_patterns(made.hub, ["NaN"], 5)
    assert retries(store, task) == {(str(made.hub), "NaN"): (0, 5)}


def test_task_that_is_actioned_again_starts_at_zero_with_its_old_traceback(
    store: StateStore, made: Campaign
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 1)
    fail(store, made, NAN)
    fail(store, made, NAN)
    assert store.action_tasks([task], made.hub) == [task]
    assert (status(store, task), retries(store, task)) == (
        "error",
        {(str(made.hub), "NaN"): (0, 1)},
    )
    store.resolve_task_restarts([task])
    assert (status(store, task), retries(store, task)) == (
        "waiting",
        {(str(made.hub), "NaN"): (1, 1)},
    )


@pytest.mark.parametrize("end", ["complete", "invalid", "deleted", "cancelled"])
def test_counters_go_when_the_task_leaves_the_hub(
    store: StateStore, made: Campaign, end: str
) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 3)
    fail(store, made, NAN)
    if end == "cancelled":
        assert store.cancel_tasks([task], made.hub) == [task]
    else:
        store.set_task_running([task])
        assert store.set_task_status([task], end) == [task]
    assert counters(store) == 0
    assert retries(store, task) == {}


def test_deleted_task_leaves_nothing(store: StateStore, made: Campaign) -> None:
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["NaN"], 3)
    fail(store, made, NAN)
    store.delete_task(task, force=True)
    counts = row_counts(store)
    assert (counts["actions"], counts["tracebacks"], counts["results"]) == (0, 0, 0)


def test_tasks_that_are_missing_or_not_in_error_are_ignored(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2)
    failed, waiting = made.tasks
    fail_in_steps(store, failed, NAN)
    fail_in_steps(store, waiting, NAN)
    store.set_task_waiting([waiting])
    store.remove_task_restart_patterns(made.hub, "NaN")
    others: list[Any] = [None, "nonsense", made.network, f"Task-{ZERO}-{scope}", waiting, waiting]
    with store.transaction() as tx:
        # The hub gets its pattern without a look at its tasks.
        assert tx.connection is not None
        tx.connection.execute(
            text(
                "INSERT INTO restart_patterns SELECT scope_id, token, md5('NaN')::uuid, 'NaN', 1,"
                " now() FROM taskhubs"
            )
        )
    before = row_counts(store)
    store.resolve_task_restarts(others)
    store.resolve_task_restarts([])
    assert row_counts(store) == before
    store.resolve_task_restarts(iter([*others, str(failed), failed]))
    assert status(store, failed) == "waiting"
    assert retries(store, failed) == {(str(made.hub), "NaN"): (1, 1)}
    single: Any = failed
    with pytest.raises(TypeError, match="single key"):
        store.resolve_task_restarts(single)


# the tracebacks that decide


def test_latest_result_with_tracebacks_decides(store: StateStore, made: Campaign) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 9)
    late, early = (datetime(2030, 1, day, tzinfo=UTC) for day in (2, 1))
    fail(store, made, NAN, datetime_created=late)
    assert fail(store, made, "another", datetime_created=early).status == "waiting"
    # Without tracebacks, it is passed over.
    assert fail(store, made, datetime_created=datetime(2031, 1, 1, tzinfo=UTC)).status == "waiting"
    # Without a time, it is the latest.
    assert fail(store, made, "another").status == "error"


def test_tracebacks_of_the_latest_result_decide_together(store: StateStore, made: Campaign) -> None:
    store.add_task_restart_patterns(made.hub, ["^NaN$", "memory$"], 1)
    assert fail(store, made, "one", "two\nNaN", "out of memory").status == "waiting"
    assert retries(store, made.tasks[0]) == {
        (str(made.hub), "^NaN$"): (0, 1),
        (str(made.hub), "memory$"): (1, 1),
    }


def test_many_tasks_are_resolved_in_one_call(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=30)
    for number, task in enumerate(made.tasks):
        fail_in_steps(store, task, f"error {number}")
    store.add_task_restart_patterns(made.hub, [r"error \d?[0-4]$"], 1)
    restarted = [task for number, task in enumerate(made.tasks) if number % 10 < 5]
    assert {*store.get_taskhub_unclaimed_tasks(made.hub)} == {*restarted}
    assert store.get_network_status(made.network) == {"waiting": 15, "error": 15}


def test_tracebacks_are_read_in_portions_that_fit_into_memory(
    store: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alchemistore.operations.restarts.PORTION", 100)
    made = campaign(store, scope, tasks=5)
    for task in made.tasks:
        fail_in_steps(store, task, "x" * 60 + "NaN")
    store.add_task_restart_patterns(made.hub, ["NaN"], 1)
    assert store.get_network_status(made.network) == {"waiting": 5}


def test_search_that_takes_too_long_is_a_miss_and_is_logged(
    store: StateStore,
    made: Campaign,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alchemistore.operations.matching.SECONDS", 0.05)
    [task] = made.tasks
    store.add_task_restart_patterns(made.hub, ["^(a|a)*$", "c$"], 1)
    assert fail(store, made, "a" * 60 + "c").status == "waiting"
    assert retries(store, task) == {
        (str(made.hub), "^(a|a)*$"): (0, 1),
        (str(made.hub), "c$"): (1, 1),
    }
    assert "^(a|a)*$" in caplog.text
    assert "counts as a miss" in caplog.text
