"""Queries by state and by patterns, and the order of keys."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gufe
import pytest
from sqlalchemy import text

from alchemistore import NetworkStateEnum, Scope, ScopedKey, StateStore
from alchemistore.database.patterns import MAX_LENGTH, parse_pattern
from tests.support.campaigns import campaign, move_to_status, star
from tests.support.gufe_classes import Ball, Effort, PushProtocol, system

STATES = ("active", "inactive", "invalid", "deleted")
BAD_PATTERNS = [
    "[",
    "*",
    "a**",
    "a++",
    "(",
    ")",
    "a{",
    "a{3,2}",
    "a{1,999}",
    "((a{100}){100})",
    r"(a)\1",
    r"\p{L}",
    "(?=a)",
    "(?<=a)a",
    "(?x)a",
    "a(?i)b",
    "(?i",
    "(^a)*",
    "[z-a]",
    r"[\d-z]",
    "[a[b]]",
    "[a-z&&[b]]",
    r"[^\s\S]",
    "\\",
    r"\x0",
    r"\u0000",
    r"\ud800",
    "(" * 100 + ")" * 100,
    "a" * (MAX_LENGTH + 1),
    "a\0",
    "a\ud800",
]
# Random patterns are made of these.
PIECES = [
    *"ab-1 |||()()()[]^$.*+?{},:<>&=!",
    *(
        "(?:",
        "(?i)",
        "(?s)",
        "(?<n>",
        "{0}",
        "{2}",
        "{1,}",
        "{0,3}",
        "*?",
        "[^",
        "[a-",
        r"\d",
        r"\W",
    ),
    *(
        r"\s",
        r"\b",
        r"\B",
        r"\A",
        r"\z",
        r"\n",
        r"\x41",
        r"\u00e9",
        r"\Q",
        r"\E",
        r"\\",
        r"\.",
        "é",
        "\n",
    ),
]
PATTERNS = int(os.environ.get("ALCHEMISTORE_TEST_EXAMPLES", 5_000))


def named(store: StateStore, scope: Scope, *names: str | None) -> dict[str | None, ScopedKey]:
    """Empty networks with names."""
    return {
        name: store.create_network(gufe.AlchemicalNetwork([], name=name), scope) for name in names
    }


# States


def test_query_networks_by_state(store: StateStore, scope: Scope) -> None:
    keys = [store.create_network(star(1, state), scope) for state in STATES]
    store.set_network_state(keys, STATES)
    by_state = dict(zip(STATES, keys, strict=True))
    assert set(store.query_networks()) == set(keys)
    for state, key in by_state.items():
        assert store.query_networks(state=state) == [key]
        assert store.query_networks(state=NetworkStateEnum(state)) == [key]
    matches = {
        "active|inactive": ["active", "inactive"],
        "in.*": ["inactive", "invalid"],
        ".*active": ["active", "inactive"],
        "act": [],
        "": [],
        "Active": [],
        "(?i)Active": ["active"],
        ".*": STATES,
    }
    for pattern, states in matches.items():
        assert store.query_networks(state=pattern) == sorted(by_state[state] for state in states)
    assert store.query_networks(name="invalid", state="in.*") == [by_state["invalid"]]
    assert store.query_networks(name="active", state="in.*") == []
    assert list(store.query_networks(state="deleted", return_gufe=True)) == [by_state["deleted"]]
    first, second = store.query_networks(state="in.*")
    assert store.query_networks(state="in.*", limit=1) == [first]
    assert store.query_networks(state="in.*", limit=1, after=first) == [second]


def test_network_without_a_mark_is_found_as_active(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM network_marks")
    assert store.query_networks(state="active") == [made.network]
    assert store.query_networks(state="inactive") == []
    assert store.get_scope_status(scope) == {"waiting": 2}
    assert store.get_scope_status(scope, "inactive") == {}


# Patterns


def test_name_and_key_are_compared_exactly_without_patterns(
    store: StateStore, scope: Scope
) -> None:
    keys = named(store, scope, "a.c", "abc", "", None)
    assert store.query_networks(name="a.c") == [keys["a.c"]]
    assert store.query_networks(name=".*") == []
    assert set(store.query_networks(name="")) == {keys[""], keys[None]}
    assert store.query_networks(key="AlchemicalNetwork-.*") == []
    assert store.query_networks(name="[", key="*") == []


def test_name_pattern_must_match_the_whole_name(store: StateStore, scope: Scope) -> None:
    keys = named(store, scope, "abc", "a+b", "two\nlines", "", None)
    matches: dict[str, list[str | None]] = {
        "abc": ["abc"],
        "ab": [],
        "ab.*": ["abc"],
        "ABC": [],
        "(?i)ABC": ["abc"],
        "a+b": [],
        r"a\+b": ["a+b"],
        r"\Qa+b\E": ["a+b"],
        "abc|a.b": ["abc", "a+b"],
        ".*": ["abc", "a+b", ""],
        "(?s).*": ["abc", "a+b", "", "two\nlines"],
        "": [""],
        "^abc$": ["abc"],
    }
    for pattern, names in matches.items():
        found = store.query_networks(name=pattern, patterns=True)
        assert set(found) == {keys[name] for name in names}, pattern


def test_key_pattern_must_match_the_whole_gufe_key(store: StateStore, scope: Scope) -> None:
    keys = named(store, scope, "one", "two")
    one, two = keys["one"], keys["two"]
    query: Callable[[str], list[ScopedKey]] = lambda key: store.query_networks(  # noqa: E731
        key=key, patterns=True
    )
    assert query(str(one.gufe_key)) == [one]
    assert query("AlchemicalNetwork-[0-9a-f]{32}") == sorted([one, two])
    assert query(f"{one.gufe_key}|{two.gufe_key}") == sorted([one, two])
    assert query(one.gufe_key.token) == query(str(one)) == query("Alchemical") == []
    assert store.query_networks(
        name="t.o", key="Alch.*", state="active", scope=scope, patterns=True
    ) == [two]


@pytest.mark.parametrize("pattern", BAD_PATTERNS, ids=[one[:20] for one in BAD_PATTERNS])
def test_bad_pattern_is_a_value_error_that_shows_it(shared_store: StateStore, pattern: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: shared_store.query_networks(name=pattern, patterns=True),
        lambda: shared_store.query_networks(key=pattern, patterns=True),
        lambda: shared_store.query_networks(state=pattern),
        lambda: shared_store.get_scope_status(Scope(), pattern),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(repr(pattern)[:90])):
            call()


def test_pattern_of_another_type_is_a_type_error(shared_store: StateStore) -> None:
    wrong: list[Any] = [1, b"a", ["a"]]
    for value in wrong:
        with pytest.raises(TypeError):
            shared_store.query_networks(state=value)
        with pytest.raises(TypeError):
            shared_store.query_networks(name=value, patterns=True)
        with pytest.raises(TypeError):
            shared_store.get_scope_status(Scope(), value)


def _random_pattern(rng: random.Random, depth: int = 3) -> str:
    """Return a random pattern in a syntax that Python has, too."""
    atoms = [
        "a",
        "b",
        ".",
        r"\d",
        r"\W",
        r"\.",
        "[ab]",
        "[^a]",
        r"[\s1-3]",
        r"[^\w.]",
        r"\x41",
        "é",
    ]
    if depth == 0:
        return rng.choice(atoms)
    one, other = (_random_pattern(rng, depth - 1) for _ in range(2))
    forms = [one + other, f"{one}|{other}", f"({one})", f"(?:{one}|{other}|)", rng.choice(atoms)]
    forms += [f"(?:{one}){end}" for end in ("*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "{0}")]
    return rng.choice([*forms, f"[{rng.choice('ab-')}.]"])


def test_patterns_mean_what_they_mean_to_python(shared_store: StateStore) -> None:
    rng = random.Random(8)
    texts = ["".join(rng.choices("aabbA1. é_", k=rng.randint(0, 6))) for _ in range(60)]
    cases = []
    for _ in range(300):
        body = "|".join(
            rng.choice([r"\b", "^", r"\B", "", ""])
            + _random_pattern(rng)
            + rng.choice(["$", r"\b", ""])
            for _ in range(rng.randint(1, 2))
        )
        pattern = rng.choice(["", "", "(?i)", "(?s)"]) + body
        # To Python, an empty text has neither a boundary of a word nor the opposite.
        cases += [(pattern, one) for one in texts if one or "\\B" not in pattern]
    expected = [re.compile(pattern, re.ASCII).fullmatch(one) is not None for pattern, one in cases]
    assert 500 < sum(expected) < len(cases) - 500
    with shared_store.engine.connect() as connection:
        found = connection.scalars(
            text("""
                SELECT one COLLATE "C" ~ pattern
                FROM unnest(CAST(:patterns AS text[]), CAST(:texts AS text[]))
                    WITH ORDINALITY AS x (pattern, one, i)
                ORDER BY i
            """),
            {
                "patterns": [parse_pattern(pattern, "it") for pattern, _ in cases],
                "texts": [one for _, one in cases],
            },
        ).all()
    wrong = [
        case for case, ours, theirs in zip(cases, found, expected, strict=True) if ours != theirs
    ]
    assert wrong[:10] == []


def test_postgresql_takes_every_pattern_that_is_accepted(shared_store: StateStore) -> None:
    rng = random.Random(9)
    accepted = []
    for _ in range(PATTERNS):
        pattern = "".join(rng.choices(PIECES, k=rng.randint(1, 9)))
        try:
            accepted.append(parse_pattern(pattern, "it"))
        except ValueError:
            continue
    assert len(accepted) > PATTERNS // 20
    with shared_store.engine.connect() as connection:
        connection.execute(
            text(
                "SELECT count(*) FILTER (WHERE 'ab-1' ~ p) FROM unnest(CAST(:all AS text[])) AS p"
            ),
            {"all": accepted},
        )


@pytest.mark.parametrize(
    "pattern",
    [
        "(a*)*b",
        "(a|a)*b",
        "(a|b|ab)*c",
        "(?:a+)+(?:a+)+$b",
        "(.*a){20}b",
        "(a?){200}a{200}b",
        "((((a*)*)*)*)*b",
        "(?:(?:[a-z]{1,30}){1,30})",
        "(?i)(?:[^b-z]*[^c-z]*)*b",
        "(?s)(?:.{1,240}|.{1,240}|.{1,240}|.{1,240})b",
        "|".join("a" * (n % 20) for n in range(90)),
    ],
)
def test_no_pattern_takes_long(store: StateStore, scope: Scope, pattern: str) -> None:
    store.create_network(gufe.AlchemicalNetwork([], name="a" * 20_000), scope)
    with store.transaction(readonly=True) as tx:
        assert tx.connection is not None
        tx.connection.execute(text("SET LOCAL statement_timeout = '10s'"))
        assert tx.query_networks(name=pattern, patterns=True) == []


# Counts


def test_scope_status_counts_tasks_of_active_networks(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    # The first has the transformations to two arms, the second those and a third.
    one = campaign(store, scope, arms=2, tasks=2, name="one")
    two = campaign(store, scope, arms=3, tasks=3, name="two")
    elsewhere = campaign(store, other_scope, tasks=1)
    move_to_status(store, two.tasks[:1], "error")
    every = {"waiting": 4, "error": 1}
    [only] = set(two.transformations) - set(one.transformations)
    shared = dict(Counter(every) - Counter(store.get_transformation_status(only)))
    states: list[tuple[tuple[str, str], dict[str | None, dict[str, int]]]] = [
        (("active", "active"), {"active": every, "inactive": {}}),
        # A task is left out only if all its networks are in other states.
        (("active", "inactive"), {"active": shared, "inactive": every}),
        (("inactive", "active"), {"active": every, "inactive": shared}),
        (("invalid", "inactive"), {"active": {}, "invalid": shared, "in.*": every}),
        (("deleted", "deleted"), {"active": {}, "deleted": every}),
    ]
    for given, answers in states:
        store.set_network_state([one.network, two.network], given)
        assert store.get_scope_status(scope) == answers["active"]
        for pattern, counts in {**answers, None: every, ".*": every, "act": {}}.items():
            assert store.get_scope_status(scope, pattern) == counts, (given, pattern)
            assert store.get_scope_status(scope=scope, network_state=pattern) == counts
    assert store.get_scope_status("org-*-*") == {"waiting": 1}
    assert store.get_scope_status(Scope(), NetworkStateEnum.deleted) == every
    assert store.get_scope_status(other_scope) == {"waiting": len(elsewhere.tasks)}


def test_tasks_of_a_deleted_network_are_counted_without_a_state(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2)
    store.delete_network(made.network)
    assert store.get_scope_status(scope) == store.get_scope_status(scope, ".*") == {}
    assert store.get_scope_status(scope, None) == {"waiting": 2}


# Orders


def test_transformations_are_in_the_order_of_their_gufe_keys(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    protocol = PushProtocol(Effort())
    nodes = [system(f"arm {n}") for n in range(5)]
    edges = [gufe.Transformation(a, b, protocol) for a, b in pairwise(nodes)]
    edges += [gufe.NonTransformation(node, protocol) for node in nodes]
    for at in (other_scope, scope):
        store.create_network(gufe.AlchemicalNetwork(edges), at)
    found = store.query_transformations()
    order = [(*key.scope.to_tuple(), str(key.gufe_key)) for key in found]
    assert order == sorted(order)
    assert len(found) == 2 * len(edges)
    walked: list[ScopedKey] = []
    while page := store.query_transformations(limit=4, after=walked[-1] if walked else None):
        walked += page
    assert walked == found


def test_end_states_are_in_the_order_of_the_transformation(store: StateStore, scope: Scope) -> None:
    protocol = PushProtocol(Effort())
    nodes = [system(f"node {n}") for n in range(6)]
    edges = [gufe.Transformation(a, b, protocol) for a, b in pairwise(nodes)]
    assert {edge.stateA.key < edge.stateB.key for edge in edges} == {True, False}
    edges.append(gufe.NonTransformation(nodes[0], protocol))
    store.create_network(gufe.AlchemicalNetwork(edges), scope)
    for edge in edges:
        states = dict.fromkeys([edge.stateA.key, edge.stateB.key])
        found = store.get_transformation_chemicalsystems(f"{edge.key}-{scope}")
        assert [key.gufe_key for key in found] == list(states)


# Details


def test_network_details_have_name_state_hub_strategy_and_tasks(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=4, name="mine")
    move_to_status(store, made.tasks[:1], "complete")
    store.set_network_state(made.network, "inactive")
    store.set_taskhub_weight(made.network, 0.25)
    strategy = store.set_network_strategy(made.network, Ball("strategy"))
    plain = store.create_network(star(1, "", "fail"), scope)
    found, missing, again, other = store.get_network_details(
        [made.network, None, str(made.network), plain]
    )
    assert found is not None
    assert (missing, again) == (None, found)
    assert (found.network, found.name, found.state) == (made.network, "mine", "inactive")
    assert (found.taskhub, found.weight, found.strategy) == (made.hub, 0.25, strategy)
    assert (found.num_transformations, found.tasks) == (3, {"waiting": 3, "complete": 1})
    assert other is not None
    assert (other.state, other.taskhub, other.weight, other.strategy) == ("active", *[None] * 3)
    assert (other.num_transformations, other.tasks) == (1, {})
    assert store.get_network_details([made.tasks[0], "nonsense"]) == [None, None]
    with pytest.raises(TypeError, match="single key"):
        store.get_network_details(made.network)  # type: ignore[arg-type]  # a single key
