"""Operations neither open transactions nor build statements from values."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "alchemistore"
OPERATIONS = sorted((PACKAGE / "operations").rglob("*.py"))
# The transactions of calls; the connections that listen; the catalog of an empty schema; and the
# private server.
MAY_CONNECT = {
    "database/notifications.py",
    "database/transaction.py",
    "local/postgres.py",
}
CONNECTS = {"begin", "begin_nested", "commit", "connect", "raw_connection", "rollback"}
# Methods that use the connection in another way, or keep state between calls.
SESSION_STATE = (
    "SET SESSION",
    "SET LOCAL",
    "pg_advisory_lock",
    "LISTEN ",
    "PREPARE ",
    "TEMP TABLE",
    "TEMPORARY",
)
# Settings of connections and transactions, and a connection outside the pool.
ALLOWED = {
    "terms.py": {"SET LOCAL", "SET SESSION"},
    "transaction.py": {"SET LOCAL"},
    "notifications.py": {"LISTEN "},
}


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def calls(node: ast.AST) -> Iterator[ast.Call]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Call))


def functions_with_a_transaction(file: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef) and any(
            argument.arg == "tx" for argument in node.args.args
        ):
            yield node


def test_parser_detects_forbidden_code() -> None:
    spoilt = ast.parse(
        "def f(tx):\n    tx.commit()\n    tx.execute(text(f'{name}'))\n"
        "    tx.execute('%s' % name)\n"
    )
    assert [call.func.attr for call in calls(spoilt) if isinstance(call.func, ast.Attribute)] == [
        "commit",
        "execute",
        "execute",
    ]
    assert list(_pasted(spoilt))
    assert list(_texts(spoilt))
    assert {file.stem for file in OPERATIONS if not list(functions_with_a_transaction(file))} == {
        "__init__",
        "key_hashing",
        "matching",
    }


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_only_the_known_modules_open_connections(file: Path) -> None:
    used = {call.func.attr for call in calls(tree(file)) if isinstance(call.func, ast.Attribute)}
    assert bool(CONNECTS & used) == (str(file.relative_to(PACKAGE)) in MAY_CONNECT)


@pytest.mark.parametrize("file", OPERATIONS, ids=lambda file: file.stem)
def test_transaction_comes_first(file: Path) -> None:
    for function in functions_with_a_transaction(file):
        assert function.args.args[0].arg == "tx", function.name


def _is_constant(node: ast.AST) -> bool:
    """Check whether an expression is a literal, the name of a constant, or both combined."""
    if isinstance(node, ast.JoinedStr):
        return all(_is_constant(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _is_constant(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr.isupper()
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Name) and node.id.strip("_").isupper()
    )


def _texts(node: ast.AST) -> Iterator[ast.Call]:
    for call in calls(node):
        if (
            isinstance(call.func, ast.Name)
            and call.func.id == "text"
            and not _is_constant(call.args[0])
        ):
            yield call


def _pasted(node: ast.AST) -> Iterator[ast.AST]:
    """Statements that are put together in a call to the transaction, or by formatting."""
    for one in ast.walk(node):
        if (
            isinstance(one, ast.BinOp)
            and isinstance(one.op, ast.Mod)
            and isinstance(one.left, ast.Constant | ast.JoinedStr)
        ):
            yield one
        if (
            isinstance(one, ast.Call)
            and isinstance(one.func, ast.Attribute)
            and one.func.attr == "format"
        ):
            yield one


@pytest.mark.parametrize("file", OPERATIONS, ids=lambda file: file.stem)
def test_statement_is_made_of_constants(file: Path) -> None:
    for function in functions_with_a_transaction(file):
        for call in _texts(function):
            pytest.fail(
                f"{file.name}:{call.lineno}: a statement is made in {function.name},"
                " which knows the caller's values"
            )
        for node in _pasted(function):
            pytest.fail(
                f"{file.name}: {ast.unparse(node)} in {function.name} pastes values into text"
            )


@pytest.mark.parametrize("file", OPERATIONS, ids=lambda file: file.stem)
def test_executed_statement_is_a_constant_or_chosen_from_constants(file: Path) -> None:
    for function in functions_with_a_transaction(file):
        names = {argument.arg for argument in function.args.args}
        local = {
            node.id
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for call in calls(function):
            method = call.func
            if not (
                isinstance(method, ast.Attribute)
                and isinstance(method.value, ast.Name)
                and method.value.id == "tx"
            ):
                continue
            if method.attr not in ("execute", "scalar", "scalars"):
                continue
            statement = call.args[0]
            while isinstance(statement, ast.Subscript):
                statement = statement.value
            # A parameter named `statement` receives a constant of the caller.
            named = isinstance(statement, ast.Name) and statement.id in {*names, *local} & {
                "statement"
            }
            made = isinstance(statement, ast.Call) and not list(_texts(statement))
            assert named or made or _is_constant(statement), (
                f"{file.name}:{call.lineno}: {ast.unparse(call.args[0])}"
            )


@pytest.mark.parametrize(
    "file",
    [*OPERATIONS, *sorted((PACKAGE / "database").glob("*.py"))],
    ids=lambda file: file.stem,
)
def test_session_state_is_not_changed(file: Path) -> None:
    code = file.read_text()
    found = {word for word in SESSION_STATE if word in code}
    assert found == ALLOWED.get(file.name, set())
