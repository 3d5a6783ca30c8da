"""The name of a statement means the same statement in all operations."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

OPERATIONS = Path(__file__).parents[2] / "alchemistore" / "operations"


def constants(code: str) -> list[str]:
    """The names of the constants that a module assigns."""
    return [
        target.id
        for node in ast.parse(code).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.isupper() and len(target.id) > 1
    ]


def test_constants_have_unique_names_across_operations() -> None:
    names = Counter(
        name for file in OPERATIONS.rglob("*.py") for name in constants(file.read_text())
    )
    assert "ADD_ACTIONS" in names
    assert [name for name, count in names.items() if count > 1] == []


def test_constants_of_a_module_are_found() -> None:
    code = 'LOCK = text("SELECT")\nOTHER: int = 1\nR = TypeVar("R")\ndef f():\n    INNER = 2\n'
    assert constants(code) == ["LOCK", "OTHER"]
