"""Docstrings of the public calls."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from alchemistore import S3ObjectStore, StateStore

SECTION = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)


def public(home: object) -> list[tuple[str, Callable[..., Any]]]:
    found = [
        (name, value)
        for name, value in inspect.getmembers(home)
        if not name.startswith("_") and callable(value)
    ]
    return [(f"{getattr(home, '__name__', 'StateStore')}.{name}", value) for name, value in found]


# Nothing is connected before the first call.
CALLS = [*public(StateStore("postgresql://nowhere/nothing")), *public(S3ObjectStore)]
IDS = [name for name, _ in CALLS]


def sections(call: Callable[..., Any]) -> dict[str, str]:
    """The sections of a numpydoc docstring by title; the summary has the title ''."""
    parts = SECTION.split(inspect.getdoc(call) or "")
    return {"": parts[0].strip(), **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented(section: str) -> list[str]:
    """The names of a Parameters section, in order."""
    heads = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip() for head in heads for name in head.partition(" : ")[0].split(",")]


def parameters(call: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(call).parameters if name != "self"]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=IDS)
def test_docstring_starts_with_one_sentence(name: str, call: Callable[..., Any]) -> None:
    first = sections(call)[""].splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")


@pytest.mark.parametrize(("name", "call"), CALLS, ids=IDS)
def test_docstring_lists_all_parameters(name: str, call: Callable[..., Any]) -> None:
    parts, names = sections(call), parameters(call)
    if "Parameters" in parts:
        assert documented(parts["Parameters"]) == names
        return
    # Without a list, the docstring refers to another call, or the summary describes the parameter.
    others = re.findall(r"`(\w+)`", parts[""])
    refers = [other for other in others if hasattr(getattr(StateStore, other, None), "operation")]
    assert refers or len(names) <= 1


def defaults(call: Callable[..., Any]) -> dict[str, str]:
    """The defaults that the docstring states, by parameter."""
    lines = sections(call).get("Parameters", "").splitlines()
    said = [re.fullmatch(r"(\w+) : .*, default (\S+)", line) for line in lines]
    return {one[1]: one[2].strip('"') for one in said if one}


@pytest.mark.parametrize(("name", "call"), CALLS, ids=IDS)
def test_docstring_defaults_match_the_signature(name: str, call: Callable[..., Any]) -> None:
    parameters = inspect.signature(call).parameters
    for parameter, said in defaults(call).items():
        if said != "all":
            default = parameters[parameter].default
            assert said in (str(default), f"{default:g}" if isinstance(default, float) else "")


def test_docstrings_contain_defaults_to_compare() -> None:
    assert defaults(StateStore.delete_network) == {}
    assert defaults(StateStore.claim_taskhub_tasks)["count"] == "1"


@pytest.mark.parametrize(("name", "call"), CALLS, ids=IDS)
def test_docstring_sections_are_known_to_numpydoc(name: str, call: Callable[..., Any]) -> None:
    known = ["", "Parameters", "Returns", "Yields", "Raises", "Warns", "Notes", "Examples"]
    assert set(sections(call)) <= set(known)
