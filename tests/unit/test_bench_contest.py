"""The contests of stores of tasks: turns, ratios and tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import contest
from bench.contest import OURS, SUBMITTED, WARMUP, Row, drain, measures, table
from bench.timing import Target


class Queue:
    """A queue that notes what is asked of it, and takes a fixed time for each."""

    def __init__(self, name: str, claim: float) -> None:
        self.name, self.seconds = name, claim
        self.asked: list[str] = []

    def submit(self, count: int) -> float:
        self.asked.append(f"submit {count}")
        return self.seconds * 4

    def claim(self) -> float:
        self.asked.append("claim")
        return self.seconds

    def settle(self) -> float:
        self.asked.append("settle")
        return self.seconds * 2


class Run:
    """A run without a display."""

    @contextmanager
    def step(self, what: str, total: float) -> Iterator[Any]:
        yield lambda done: None


RUN: Any = Run()


def test_every_claim_is_finished_and_only_turns_that_count_are_kept() -> None:
    queues = [Queue(OURS, 1.0), Queue("other", 2.0)]
    rows = contest.contest(RUN, 1_000, True, queues, rounds=5, submissions=2)
    assert [row.what for row in rows] == ["claim one", "settle one", f"submit {SUBMITTED}"]
    assert [dict(row.seconds) for row in rows] == [
        {OURS: [1.0] * 5, "other": [2.0] * 5},
        {OURS: [2.0] * 5, "other": [4.0] * 5},
        {OURS: [4.0] * 2, "other": [8.0] * 2},
    ]
    for queue in queues:
        turns = queue.asked[: 2 * (WARMUP + 5)]
        assert turns == ["claim", "settle"] * (WARMUP + 5)


def test_drained_queue_gives_every_task_once() -> None:
    queue = Queue(OURS, 1.0)
    rows = drain(RUN, 30, False, [queue])
    assert queue.asked == ["claim", "settle"] * 30
    assert [(row.what, row.seconds) for row in rows] == [
        (f"drain, {part}", {OURS: [1.0] * 3}) for part in ("first tenth", "middle", "last tenth")
    ]


def test_only_claims_have_targets() -> None:
    rows = [
        Row("claim one", 1_000, True, {OURS: [1.0, 1.0], "other": [2.0, 2.0]}),
        Row("settle one", 1_000, True, {OURS: [3.0], "other": [2.0]}),
    ]
    claim, settle = measures(rows, {"other": Target(0.4)}, "a note")
    assert (claim.value, claim.reached, claim.note) == (0.5, False, "a note")
    assert (settle.value, settle.reached, settle.note) == (1.5, None, "")


def test_table_has_medians_in_milliseconds_and_a_dash_for_who_did_not_take_part() -> None:
    rows = [
        Row("claim one", 1_000, True, {OURS: [0.001, 0.002, 0.009], "other": [1.5]}),
        Row("drain, middle", 100_000, False, {OURS: [0.0004]}),
    ]
    assert table(rows).splitlines() == [
        "| median ms | waiting |  | alchemistore | other |",
        "|---|---|---|---|---|",
        "| claim one | 1,000 | durable | 2.00 | 1,500.00 |",
        "| drain, middle | 100,000 | not durable | 0.40 | - |",
    ]
