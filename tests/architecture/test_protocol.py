"""The state store as a type has the calls of the state store: no more, no fewer, and with the same parameters."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from alchemistore import AlchemiscaleStateStore, StateStore
from alchemistore.transaction import Call


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def signature(cls: type, name: str) -> inspect.Signature:
    """What a caller passes and gets: without the store itself."""
    found = inspect.getattr_static(cls, name)
    if isinstance(found, Call):
        return found.__signature__
    whole = inspect.signature(found)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


NAMES = sorted(public(StateStore) | public(AlchemiscaleStateStore))


def as_any_store(store: AlchemiscaleStateStore) -> AlchemiscaleStateStore:
    return store


def test_the_type_checker_takes_the_state_store_for_one(store: StateStore) -> None:
    # What is tested here is tested by mypy.
    assert as_any_store(store) is store
    with store.transaction() as tx:
        assert as_any_store(tx).query_tasks() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_in_both_with_the_same_parameters(name: str) -> None:
    assert name in public(StateStore)
    assert name in public(AlchemiscaleStateStore)
    one, other = (signature(cls, name) for cls in (AlchemiscaleStateStore, StateStore))
    assert [(p.name, p.kind, p.default) for p in one.parameters.values()] == [
        (p.name, p.kind, p.default) for p in other.parameters.values()
    ]


# A context manager is made of a generator: its types are the type checker's affair.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "transaction"])
def test_a_call_has_the_same_types_in_both(name: str) -> None:
    assert signature(AlchemiscaleStateStore, name) == signature(StateStore, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_described_by_the_same_sentence_in_both(name: str) -> None:
    one, other = ((getattr(cls, name).__doc__ or "").strip().splitlines()[:1] for cls in (AlchemiscaleStateStore, StateStore))
    assert one == other != []


def test_no_call_is_left_to_be_written() -> None:
    package = Path(inspect.getfile(StateStore)).parent
    assert not [file for file in package.rglob("*.py") if "raise NotImplementedError" in file.read_text()]
