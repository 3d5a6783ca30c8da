"""A private name is used in its own module only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FILES = sorted(
    file
    for folder in ("alchemistore", "bench", "examples", "migrations", "tests")
    for file in (CHECKOUT / folder).rglob("*.py")
)
# Private names that belong to the interfaces of gufe, of alchemiscale, of Python and of notebooks.
FOREIGN = {
    *("_execute", "_exit", "_from_dict", "_getframe", "_mapping", "_repr_html_", "_store_check"),
}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined(tree: ast.AST) -> set[str]:
    """The names that a module or its classes define."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        ):
            found.add(node.attr)
    return found


def foreign_names(code: str) -> Iterator[str]:
    """The private names of other modules that a module uses."""
    tree = ast.parse(code)
    own = _defined(tree) | FOREIGN
    for node in ast.walk(tree):
        used: list[str] = []
        if isinstance(node, ast.Attribute):
            used = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            used = [alias.name for alias in node.names]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute | ast.Name)
            and ast.unparse(node.func).endswith(("getattr", "setattr", "delattr"))
        ):
            used = [
                argument.value.rpartition(".")[2]
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            ]
        yield from (name for name in used if _is_private(name) and name not in own)


def test_modules_use_no_private_name_of_another() -> None:
    found = {str(file): set(foreign_names(file.read_text())) for file in FILES}
    assert {file: names for file, names in found.items() if names} == {}


def test_private_names_of_others_are_found() -> None:
    code = """
from somewhere import _imported, public
class Own:
    def __init__(self):
        self._field = 1
        self.other._missed = self.__dict__
    def _method(self):
        return self._field + self._method() + public._attribute
monkeypatch.setattr(public, "_patched", None)
monkeypatch.setattr("public._by_path", None)
getattr(public, "__name__")
"""
    assert set(foreign_names(code)) == {
        "_imported",
        "_missed",
        "_attribute",
        "_patched",
        "_by_path",
    }
