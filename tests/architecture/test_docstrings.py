"""Docstrings of the public calls."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
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


CHECKOUT = Path(__file__).parents[2]
SOURCES = sorted(
    file
    for folder in ("alchemistore", "bench", "examples", "migrations")
    for file in (CHECKOUT / folder).rglob("*.py")
)
VERBS = {
    "Add",
    "Bring",
    "Build",
    "Check",
    "Choose",
    "Claim",
    "Close",
    "Collect",
    "Combine",
    "Convert",
    "Count",
    "Create",
    "Delete",
    "Disable",
    "Dispose",
    "Draw",
    "Enable",
    "Estimate",
    "Fill",
    "Find",
    "Gather",
    "Grant",
    "Hold",
    "Insert",
    "Iterate",
    "Keep",
    "Kill",
    "List",
    "Lock",
    "Maintain",
    "Make",
    "Manage",
    "Measure",
    "Migrate",
    "Notify",
    "Open",
    "Parse",
    "Print",
    "Put",
    "Raise",
    "Read",
    "Rebuild",
    "Record",
    "Register",
    "Remove",
    "Repair",
    "Report",
    "Restart",
    "Restore",
    "Ignore",
    "Import",
    "Repeat",
    "Resume",
    "Terminate",
    "Return",
    "Revoke",
    "Run",
    "Sample",
    "Send",
    "Serve",
    "Set",
    "Settle",
    "Show",
    "Start",
    "Stop",
    "Store",
    "Suspend",
    "Unpack",
    "Update",
    "Upgrade",
    "Verify",
    "Wait",
    "Write",
    "Yield",
    "Acquire",
    "Carry",
    "Change",
    "Explain",
    "Release",
}
# Words that begin a riddle instead of a sentence.
UNCLEAR = re.compile(r"(Give|Tell|Let|Say|Whether|Who|What|Whoever|Whatever|Where|Nobody)\b")


def summaries(code: str) -> Iterator[tuple[str, str]]:
    """The first line of each docstring of a module: the kind of object, and the line."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None:
            continue
        kind = "other"
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
            kind = "property" if decorators & {"property", "cached_property"} else "function"
        yield kind, docstring.splitlines()[0]


def all_summaries() -> Iterator[tuple[str, str, str]]:
    for file in SOURCES:
        for kind, line in summaries(file.read_text()):
            yield str(file.relative_to(CHECKOUT)), kind, line


def test_summary_of_a_function_begins_with_a_verb() -> None:
    functions = [(file, line) for file, kind, line in all_summaries() if kind == "function"]
    assert functions
    assert [one for one in functions if re.split(r"\W", one[1])[0] not in VERBS] == []


def test_summary_begins_clearly() -> None:
    assert [(file, line) for file, _, line in all_summaries() if UNCLEAR.match(line)] == []


def test_summaries_of_a_module_are_found() -> None:
    code = '''
"""Whatever it is."""
class A:
    """Who asks."""
    @property
    def size(self):
        """The size."""
    def get(self):
        """Give it.

        More.
        """
def _own():
    """Its own."""
def bare():
    pass
'''
    found = list(summaries(code))
    assert sorted(found) == [
        ("function", "Give it."),
        ("other", "Its own."),
        ("other", "Whatever it is."),
        ("other", "Who asks."),
        ("property", "The size."),
    ]
    assert [line for _, line in found if UNCLEAR.match(line)] == [
        "Whatever it is.",
        "Who asks.",
        "Give it.",
    ]
