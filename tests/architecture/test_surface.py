"""Public calls have the names, parameters and defaults of the reference interface."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import alchemistore
from alchemistore import S3ObjectStore, StateStore
from tests.support.reference_api import (
    ANY,
    BY_NAME_ONLY,
    FUNCTIONS,
    OBJECT_STORE,
    REQUIRED,
    STATE_STORE,
)

# Nothing is connected before the first call.
STORE = StateStore("postgresql://nowhere/nothing")


def check(
    call: Callable[..., Any], expected: dict[str, object], by_name_only: bool = False
) -> None:
    found = {
        name: one for name, one in inspect.signature(call).parameters.items() if name != "self"
    }
    assert list(found)[: len(expected)] == list(expected)
    for name, parameter in found.items():
        default = expected.get(name, ANY)
        if name not in expected:
            # What is more than in the reference must not be asked of its users.
            assert parameter.default is not parameter.empty
        elif default is REQUIRED:
            assert parameter.default is parameter.empty
        elif default is not ANY:
            assert parameter.default == default
        kinds = (
            (parameter.KEYWORD_ONLY,)
            if by_name_only
            else (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        )
        assert parameter.kind in (kinds if name not in expected or by_name_only else kinds[:1])


@pytest.mark.parametrize("name", STATE_STORE)
def test_state_store_call_has_the_reference_signature(name: str) -> None:
    check(getattr(STORE, name), STATE_STORE[name], name in BY_NAME_ONLY)


@pytest.mark.parametrize("name", OBJECT_STORE)
def test_object_store_call_has_the_reference_signature(name: str) -> None:
    check(getattr(S3ObjectStore, name), OBJECT_STORE[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_the_reference_signature(name: str) -> None:
    check(getattr(alchemistore, name), FUNCTIONS[name])


def test_call_has_its_signature_on_the_class_too() -> None:
    # What help() and documentation tools look at.
    call: Any = StateStore.get_task_priority
    assert callable(call)
    assert str(inspect.signature(call)).startswith("(self, tasks:")


def test_no_call_has_a_parameter_called_tx() -> None:
    for name, call in inspect.getmembers(StateStore):
        if hasattr(call, "operation"):
            assert "tx" not in inspect.signature(call).parameters, name


@pytest.mark.parametrize(
    "name",
    [name for name in dir(StateStore) if hasattr(getattr(StateStore, name, None), "operation")],
)
def test_call_names_distinguish_reads_from_writes(name: str) -> None:
    reads = name.startswith(("get_", "query_", "check_", "list_", "authenticate"))
    assert getattr(StateStore, name).readonly is reads
