"""Random texts and documents as arguments: documented errors only, and nothing half-written.

`make soak` tries more: `ALCHEMISTORE_TEST_EXAMPLES` sets how many (default 20,000).
"""

from __future__ import annotations

import copy
import io
import json
import os
import resource
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from alchemistore import (
    AlchemistoreError,
    ComputeManagerRegistration,
    ComputeServiceRegistration,
    CredentialedUserIdentity,
    DocumentConflictWarning,
    GufeKey,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
    StrategyState,
    add_file,
    gufe_adapter,
)
from alchemistore.models.text import escape, unescape
from tests.support.campaigns import ZERO, campaign
from tests.support.databases import row_counts
from tests.support.files import nested
from tests.support.gufe_classes import Ball, keyed_chain_of, network

EXAMPLES = int(os.environ.get("ALCHEMISTORE_TEST_EXAMPLES", 20_000))
# Missing objects raise a KeyError, bad arguments a ValueError or TypeError.
DOCUMENTED = (AlchemistoreError, ValueError, KeyError, TypeError)
READING = (AlchemistoreError, ValueError, OSError, ImportError)
# The largest growth of the process, in kB.
GROWTH_MAX = 256 * 1024

CHAIN = keyed_chain_of(network())
NESTED = json.loads(nested(network()))
WORDS = st.sampled_from(
    ["", "*", "\0", "\ud800", "-", "--", "a-b-c", f"Task-{ZERO}-a-b-c", "é" * 3000, ZERO, "A.B"]
)
TEXTS = (
    st.text(st.characters() | st.sampled_from("-_*.\0\x1a\ud800:{}[]\"'%0a"), max_size=40) | WORDS
)
MARKS = (
    ":gufe-key:",
    ":is_custom:",
    "__qualname__",
    "__module__",
    "latin-1",
    "_key",
    "name",
    "unit",
)
# No module that could be imported: an attack on imports is a test of its own.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(st.sampled_from(MARKS) | TEXTS, part, max_size=3)
    ),
    max_leaves=6,
)


def profile(examples: int) -> settings:
    """Return the settings for a number of examples, the same ones each time."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Return all places in a JSON value, as containers and indices."""
    found: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        container = stack.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for place, item in list(items):
            found.append((container, place))
            if isinstance(item, dict | list):
                stack.append(item)
    return found


@st.composite
def changed(draw: st.DrawFn, original: Any) -> Any:
    """Return a copy of a JSON value with some parts replaced or removed."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        places = places_in(value)
        if not places:
            break
        container, place = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            container[place] = draw(JSON)
        else:
            del container[place]
    return value


def read(source: Any) -> None:
    """Read a file, and convert a chain in it as storing it would do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content = gufe_adapter.read_file(source)
            if isinstance(content.network, list):
                gufe_adapter.read_chain(content.network)
        except READING:
            return


def check_documents(examples: int) -> None:
    """Read changed chains, changed nested dicts, any JSON, and any bytes."""

    @profile(examples)
    @given(changed(CHAIN) | changed(NESTED) | JSON)
    def parsed(value: Any) -> None:
        read(json.dumps(value))
        if isinstance(value, list | dict):
            read(value)

    @profile(examples)
    @given(
        st.binary(max_size=60),
        st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"[", b"{"]),
    )
    def raw(data: bytes, start: bytes) -> None:
        read(start + data)
        read(io.BytesIO(start + data))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parsed()
    raw()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_MAX


def check_parsers(examples: int) -> None:
    """Parse any text as what takes text."""
    parsers: list[Callable[[str], object]] = [
        Scope.from_str,
        ScopedKey.from_str,
        Scope,
        lambda text: ComputeServiceRegistration.from_now(text, hostname=text),
        lambda text: CredentialedUserIdentity(identifier=text, hashed_key=text, scopes=[text]),
        lambda text: ProtocolDAGResultRef.from_dict(
            {"location": text, "obj_key": text, "scope": text, "ok": True, "creator": text}
        ),
    ]

    @profile(examples)
    @given(TEXTS)
    def run(text: str) -> None:
        assert unescape(escape(text)) == text
        for parser in parsers:
            try:
                str(parser(text))
            except ValueError:
                continue

    run()


def check_calls(store: StateStore, scope: Scope, examples: int) -> None:
    """Make calls with any text for their arguments; a refused call changes nothing."""
    made = campaign(store, scope, tasks=2)
    task = made.tasks[0]
    store.register_computeservice(ComputeServiceRegistration.from_now("service"))
    manager = f"manager-{ZERO}"
    store.register_computemanager(ComputeManagerRegistration.from_now(manager))
    calls: list[Callable[[StateStore, str], object]] = [
        lambda s, text: s.get_gufe(text),
        lambda s, text: s.get_keyed_chain(text),
        lambda s, text: s.get_document(text),
        lambda s, text: s.check_existence(text),
        lambda s, text: s.create_network(text, scope),
        lambda s, text: s.create_network(network(), text),
        lambda s, text: s.delete_network(text),
        lambda s, text: s.query_networks(name=text, key=text),
        lambda s, text: s.query_networks(scope=text, after=text),
        lambda s, text: s.query_networks(state=text),
        lambda s, text: s.query_networks(name=text, key=text, patterns=True),
        lambda s, text: s.get_scope_status(scope, text),
        lambda s, text: s.set_network_state([made.network, text], [text, "active"]),
        lambda s, text: s.assemble_network(network(), scope, text),
        lambda s, text: s.get_taskhubs([text, made.network]),
        lambda s, text: s.set_network_strategy(text, None),
        lambda s, text: s.set_network_strategy(made.network, Ball(text), state_with(text)),
        lambda s, text: s.get_network_strategy(text),
        lambda s, text: s.get_network_strategy_state(text),
        lambda s, text: s.get_strategies_for_execution([text]),
        lambda s, text: s.update_strategy_state(text, StrategyState()),
        lambda s, text: s.update_strategy_state(made.network, state_with(text)),
        lambda s, text: s.query_transformations(name=text, key=text),
        lambda s, text: s.query_tasks(scope=text, status=text),
        lambda s, text: s.create_task(text, creator=text),
        lambda s, text: s.create_task(made.transformations[0], extends=text),
        lambda s, text: s.create_taskhub(text),
        lambda s, text: s.action_tasks([text], made.hub),
        lambda s, text: s.set_task_weights([text], text, 0.5),
        lambda s, text: s.set_task_status([text, task], text),
        lambda s, text: s.set_task_status([task], "error", reason=text, actor=text),
        lambda s, text: s.claim_taskhub_tasks(made.hub, text),
        lambda s, text: s.claim_tasks([text], "service", protocols=[text]),
        lambda s, text: s.heartbeat_computeservice(text, made_at),
        lambda s, text: s.deregister_computeservice(text),
        lambda s, text: s.log_failure_compute_service(text, made_at),
        lambda s, text: s.compute_services_can_claim([text, "service"], made_at, 0),
        lambda s, text: s.register_computeservice(
            ComputeServiceRegistration.from_now("new", hostname=text, manager_name=text)
        ),
        lambda s, text: s.register_computemanager(ComputeManagerRegistration.from_now(text)),
        lambda s, text: s.deregister_computemanager(text),
        lambda s, text: s.clear_errored_computemanager(text),
        lambda s, text: s.get_compute_manager_id(text),
        lambda s, text: s.get_compute_manager_status(text),
        lambda s, text: s.update_compute_manager_status(manager, "ERROR", text),
        lambda s, text: s.update_compute_manager_status(text, text, text),
        lambda s, text: s.get_computemanager_instruction(manager, made_at, 0, [text], [text]),
        lambda s, text: s.set_quota(text, 1),
        lambda s, text: s.get_quota(text),
        lambda s, text: s.get_service_tasks(text),
        lambda s, text: s.settle_task(task, reference(text), text, tracebacks=[text]),
        lambda s, text: s.add_task_restart_patterns(made.hub, [text], 1),
        lambda s, text: s.add_task_restart_patterns(text, ["NaN"], 1),
        lambda s, text: s.remove_task_restart_patterns(made.hub, [text]),
        lambda s, text: s.get_task_restart_patterns([text]),
        lambda s, text: s.resolve_task_restarts([text]),
        lambda s, text: s.get_task_history([text]),
        lambda s, text: s.get_task_tracebacks(text),
        lambda s, text: s.get_task_logs(text),
        lambda s, text: s.set_attempt_log(text, 1, text, [text]),
        lambda s, text: s.get_credentialed_entity(text, CredentialedUserIdentity),
    ]
    registration = ComputeServiceRegistration.from_now("other")
    made_at = registration.heartbeat

    def state_with(text: str) -> StrategyState:
        return StrategyState(exception=(text, text), traceback=text)

    def reference(text: str) -> ProtocolDAGResultRef:
        key = GufeKey(f"ProtocolDAGResult-{ZERO}")
        return ProtocolDAGResultRef(obj_key=key, location="a", scope=scope, ok=False, creator=text)

    before = row_counts(store)

    @profile(examples)
    @given(st.integers(0, len(calls) - 1), TEXTS)
    def run(number: int, text: str) -> None:
        try:
            with store.transaction() as tx:
                calls[number](tx, text)
                raise InterruptedError
        except (*DOCUMENTED, InterruptedError):
            pass

    run()
    assert row_counts(store) == before


def check_networks(store: StateStore, scope: Scope, examples: int) -> None:
    """Store changed documents: all of the network or nothing of it."""
    refused = []

    @profile(examples)
    @given(changed(CHAIN))
    def run(chain: Any) -> None:
        source = json.dumps(chain)
        before = row_counts(store)
        try:
            with warnings.catch_warnings():
                # A document without a default value has the same key.
                warnings.simplefilter("ignore", DocumentConflictWarning)
                stored = add_file(store, source, scope).network
        except READING as error:
            refused.append(error)
            assert row_counts(store) == before
        else:
            assert stored is not None
            assert store.get_keyed_chain(stored)[-1][0] == stored.gufe_key

    run()
    assert refused
    assert store.problems() == []


def test_any_document_is_read_or_refused() -> None:
    check_documents(300)


def test_any_text_is_parsed_or_refused() -> None:
    check_parsers(1000)


def test_call_with_any_text_changes_nothing_or_succeeds(store: StateStore, scope: Scope) -> None:
    check_calls(store, scope, 150)


def test_changed_network_is_stored_completely_or_not_at_all(
    store: StateStore, scope: Scope
) -> None:
    check_networks(store, scope, 40)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_documents_and_texts(store: StateStore, scope: Scope) -> None:
    check_documents(EXAMPLES)
    check_parsers(EXAMPLES)
    check_networks(store, scope, EXAMPLES // 10)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_calls_with_any_text(store: StateStore, scope: Scope) -> None:
    check_calls(store, scope, EXAMPLES)
