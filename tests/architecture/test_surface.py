"""The public calls have the names, parameters and defaults of the reference interface."""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

import alchemistore
from alchemistore import S3BytesStore, S3ObjectStore, StateStore, errors
from tests.support.reference_api import (
    ANY,
    BY_NAME_ONLY,
    BYTES_STORE,
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
            # A parameter that the reference does not have must be optional.
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
def test_call_of_the_state_store_takes_the_reference_parameters(name: str) -> None:
    check(getattr(STORE, name), STATE_STORE[name], name in BY_NAME_ONLY)


@pytest.mark.parametrize("name", OBJECT_STORE)
def test_call_of_the_object_store_takes_the_reference_parameters(name: str) -> None:
    check(getattr(S3ObjectStore, name), OBJECT_STORE[name])


@pytest.mark.parametrize("name", BYTES_STORE)
def test_call_of_the_bytes_store_takes_the_reference_parameters(name: str) -> None:
    check(getattr(S3BytesStore, name), BYTES_STORE[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_takes_the_reference_parameters(name: str) -> None:
    check(getattr(alchemistore, name), FUNCTIONS[name])


OPERATIONS = [name for name in dir(StateStore) if hasattr(getattr(StateStore, name), "operation")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_call_has_the_signature_of_its_operation_with_self_for_tx(name: str) -> None:
    call = getattr(StateStore, name)
    operation = inspect.signature(call.operation)
    on_class, on_instance = inspect.signature(call), inspect.signature(getattr(STORE, name))
    tx, *others = operation.parameters.values()
    assert tx.name == "tx"
    assert [*on_class.parameters.values()][1:] == others
    assert next(iter(on_class.parameters)) == "self"
    assert [*on_instance.parameters.values()] == others
    assert on_class.return_annotation == on_instance.return_annotation
    assert on_class.return_annotation == operation.return_annotation


@pytest.mark.parametrize("name", OPERATIONS)
def test_help_shows_signature_and_docstring_of_a_call(name: str) -> None:
    call = getattr(StateStore, name)
    shown = pydoc.plain(pydoc.render_doc(call))
    assert f"{name}(self" in shown
    assert call.operation.__doc__.splitlines()[0] in shown
    assert f"{name}(" in pydoc.plain(pydoc.render_doc(getattr(STORE, name)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_types_of_a_call_can_be_resolved(name: str) -> None:
    hints = get_type_hints(getattr(StateStore, name))
    assert "return" in hints
    assert {*inspect.signature(getattr(STORE, name)).parameters} <= {*hints}


# Calls of the reference interface that write although their names begin with a word for reading.
WRITES_DESPITE_ITS_NAME = {"get_computemanager_instruction", "get_strategies_for_execution"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_name_of_a_call_tells_whether_it_writes(name: str) -> None:
    reads = name.startswith(("get_", "query_", "check_", "list_"))
    assert getattr(StateStore, name).readonly is (reads and name not in WRITES_DESPITE_ITS_NAME)


def test_all_errors_are_public() -> None:
    defined = {
        name
        for name, found in vars(errors).items()
        if isinstance(found, type) and found.__module__ == errors.__name__
    }
    assert "KeyDriftWarning" in defined
    assert defined <= {*alchemistore.__all__}


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse(inspect.getsource(alchemistore))
    imported = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert [*imported] == alchemistore.__all__
    for name, module in imported.items():
        assert module is not None
        assert getattr(alchemistore, name) is getattr(importlib.import_module(module), name)
