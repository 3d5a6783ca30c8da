"""The cached samples: parts fail alone, slow ones are read less often, counters only grow."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from alchemistore.errors import StateStoreError, StoreUnavailableError
from alchemistore.monitoring.collection import Collection, Totals
from alchemistore.monitoring.families import FAMILIES, Sample
from alchemistore.monitoring.readings import Part


class World:
    """A clock, and parts that read what they are told to."""

    def __init__(self) -> None:
        self.time = 100.0
        self.takes: dict[str, float] = {}
        self.fails: dict[str, Exception] = {}
        self.reads: list[str] = []
        self.claims = 0.0

    def part(self, name: str, pause: float = 0.0) -> Part:
        def read() -> Sequence[Sample]:
            self.reads.append(name)
            self.time += self.takes.get(name, 0.0)
            if name in self.fails:
                raise self.fails[name]
            return [Sample("claims", (name, "", ""), self.claims)]

        return Part(name, read, pause)

    def collection(self, *parts: Part, interval: float = 10.0) -> Collection:
        return Collection(parts, interval, clock=lambda: self.time)


def values(collection: Collection, family: str) -> dict[str, float]:
    return {one.labels[0]: one.numbers[0] for one in collection.samples() if one.family == family}


@pytest.mark.parametrize("error", [StateStoreError("cancelled"), RuntimeError("a mistake")])
def test_part_that_fails_is_absent_and_the_others_are_read(error: Exception) -> None:
    world = World()
    collection = world.collection(*map(world.part, "abc"))
    collection.refresh()
    assert set(values(collection, "claims")) == {*"abc"}
    world.fails["b"] = error
    world.time += 10
    collection.refresh()
    assert set(values(collection, "claims")) == {*"ac"}
    assert values(collection, "collection_up") == {"a": 1, "b": 0, "c": 1}
    assert values(collection, "collection_failures") == {"a": 0, "b": 1, "c": 0}
    assert set(values(collection, "collection_timestamp_seconds")) == {*"abc"}
    assert collection.errors() == {"b": str(error)}
    del world.fails["b"]
    world.time += 10
    collection.refresh()
    assert set(values(collection, "claims")) == {*"abc"}
    assert collection.errors() == {}


def test_parts_are_read_again_after_the_interval_and_not_before() -> None:
    world = World()
    collection = world.collection(world.part("often"), world.part("seldom", pause=35.0))
    assert collection.refresh() == 10
    world.time += 9
    assert collection.refresh() == 1
    assert world.reads == ["often", "seldom"]
    for _ in range(3):
        world.time += 10
        collection.refresh()
    assert world.reads == ["often", "seldom", "often", "often", "often", "seldom"]


def test_part_that_takes_long_is_read_for_a_twentieth_of_the_time() -> None:
    world = World()
    world.takes["slow"] = 4.0
    collection = world.collection(world.part("slow"), world.part("fast"))
    for _ in range(20):
        world.time += collection.refresh()
    seconds = world.time - 100
    assert seconds >= 100
    assert world.reads.count("slow") * 4 <= seconds / 20 + 4
    assert world.reads.count("fast") >= 10
    assert values(collection, "collection_seconds") == {"slow": 4, "fast": 0}


def test_server_that_cannot_be_reached_is_asked_once_in_a_round() -> None:
    world = World()
    collection = world.collection(*map(world.part, "abc"))
    world.fails["a"] = StoreUnavailableError("no server")
    world.takes["a"] = 5.0
    assert collection.refresh() == 5
    assert world.reads == ["a"]
    assert values(collection, "collection_up") == {"a": 0, "b": 0, "c": 0}
    # Its return is noticed after the interval, although the attempt took long.
    world.fails.clear()
    world.time += 10
    collection.refresh()
    assert values(collection, "collection_up") == {"a": 1, "b": 1, "c": 1}


def test_counters_begin_with_zero_and_only_grow() -> None:
    totals = Totals(absolute=False)
    here, there = ("here", "", ""), ("there", "", "")
    seen = []
    for counts in ({here: 1000}, {here: 1003}, {here: 900}, {here: 905, there: 2}, {there: 3}):
        samples = [Sample("claims", labels, number) for labels, number in counts.items()]
        seen.append({one.labels: one.numbers[0] for one in totals.update(samples)})
    assert seen == [
        {here: 0},
        {here: 3},
        {here: 3},
        {here: 8, there: 2},
        {here: 8, there: 3},
    ]


def test_counters_begin_with_the_counts_if_wanted() -> None:
    totals = Totals(absolute=True)
    [one] = totals.update([Sample("claims", ("here", "", ""), 7)])
    assert one.numbers == (7,)


def test_each_interval_of_a_histogram_only_grows() -> None:
    totals = Totals(absolute=False)
    [one] = totals.update([Sample("attempt_duration_seconds", ("error",), 4, 2, 60)])
    assert one.numbers == (0, 0, 0)
    [one] = totals.update([Sample("attempt_duration_seconds", ("error",), 3, 4, 90)])
    assert one.numbers == (0, 2, 30)


def test_families_are_named_by_the_rules_of_prometheus() -> None:
    for name, family in FAMILIES.items():
        assert name == family.name
        assert name.replace("_", "").isalnum()
        assert name.islower()
        assert family.text[0].isalnum()
        assert not name.endswith("_total")
