"""Import layers, and the packages that an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import alchemistore

CHECKOUT = Path(__file__).parents[2]
HEAVY = {
    "alembic",
    "boto3",
    "botocore",
    "gufe",
    "moto",
    "numpy",
    "psycopg",
    "pydantic",
    "rdkit",
    "sqlalchemy",
    "zstandard",
}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded after some code."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    return set(done.stdout.split())


def test_imports_only_point_down() -> None:
    pytest.importorskip("importlinter")
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stdout


def test_import_of_the_package_loads_no_heavy_package() -> None:
    assert not loaded_by("import alchemistore") & HEAVY


def test_models_need_neither_a_database_nor_gufe() -> None:
    loaded = loaded_by("from alchemistore import Scope, ScopedKey, Task, Settings")
    assert not loaded & {"alembic", "boto3", "botocore", "gufe", "psycopg", "sqlalchemy"}


def test_state_store_does_not_load_boto3() -> None:
    assert not loaded_by("from alchemistore import StateStore") & {"boto3", "botocore"}


def test_object_store_does_not_load_the_database() -> None:
    assert not loaded_by("from alchemistore import S3ObjectStore") & {
        "alembic",
        "psycopg",
        "sqlalchemy",
    }


def test_command_line_loads_neither_gufe_nor_boto3() -> None:
    assert not loaded_by("import alchemistore.cli") & {"boto3", "botocore", "gufe"}


@pytest.mark.parametrize("name", alchemistore.__all__)
def test_every_public_name_is_importable(name: str) -> None:
    assert getattr(alchemistore, name) is not None
    assert name in dir(alchemistore)


def test_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        alchemistore.nonsense


def test_bench_imports_nothing_from_tests() -> None:
    files = sorted((CHECKOUT / "bench").rglob("*.py"))
    assert "run.py" in {file.name for file in files}
    imported = {
        (file.name, module)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert ("run.py", "bench.report") in imported
    assert not {found for found in imported if found[1].partition(".")[0] == "tests"}
