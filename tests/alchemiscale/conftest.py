"""Programs that run in an environment with alchemiscale, which ours does not have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
PYTHON = "ALCHEMISTORE_SERVER_PYTHON"

# Settings of a server. Nothing connects to the object store before a result is sent.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_S3_BUCKET": "bucket",
    "AWS_S3_PREFIX": "prefix",
    "AWS_DEFAULT_REGION": "us-east-1",
    "JWT_SECRET_KEY": "98d11ba9ca329a4e5a6626faeffc6a9b9fb04e2745cff030f7d6793751bb8245",
}

Run = Callable[..., str]


@pytest.fixture(scope="session")
def server_python() -> str:
    """The interpreter of an environment with alchemiscale 0.8, gufe 1.x and stratocaster."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"{PYTHON} names no interpreter that has alchemiscale")
    return python


def environment(**variables: str) -> dict[str, str]:
    """The environment of a server, without other variables of this process that it reads."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ALCHEMISTORE_", "NEO4J_", "AWS_", "JWT_", "PYTEST_", "COV_"))
    }
    paths = f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'examples'}"
    return {**kept, **ENVIRONMENT, "PYTHONPATH": paths, **variables}


@pytest.fixture
def run_program(server_python: str, tmp_path: Path) -> Run:
    """Runs a file of `programs/` with arguments and variables, and returns what it prints."""

    def run(name: str, *arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [server_python, str(PROGRAMS / name), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment(**variables),
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@contextmanager
def running(python: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[Any]]:
    """Run ``alchemistore`` in the background, and end it with all its children."""
    process = subprocess.Popen(
        [python, "-c", "from alchemistore.cli import main; main()", *arguments],
        env=environment(**variables),
    )
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(timeout=60)
        for child in children:
            if child.is_running():
                child.kill()
