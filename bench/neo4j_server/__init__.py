"""A private Neo4j of Maven's packages, for benchmarks and tests that need a real one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = "GraphServer"
# The classes that its storage engine reaches by reflection.
OPENED = ("java.base/java.nio", "java.base/sun.nio.ch", "java.base/java.util.concurrent")


def missing() -> str | None:
    """Return the name of a program that is missing here; None if all are there."""
    return next((name for name in ("mvn", "javac", "java") if shutil.which(name) is None), None)


def build(directory: Path) -> Path:
    """Build the program from fetched packages, once for a directory; return the directory."""
    done = directory / f"{PROGRAM}.class"
    if not done.exists():
        directory.mkdir(parents=True, exist_ok=True)
        packages = directory / "packages"
        _run(
            "mvn", "--batch-mode", "--quiet", "--file", str(HERE / "pom.xml"),
            "dependency:copy-dependencies", f"-DoutputDirectory={packages}",
        )  # fmt: skip
        _run("javac", "-cp", f"{packages}/*", "-d", str(directory), str(HERE / f"{PROGRAM}.java"))
    return directory


@contextmanager
def serving(built: Path, data: Path) -> Iterator[str]:
    """Serve an empty graph; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    opened = [f"--add-opens={name}=ALL-UNNAMED" for name in OPENED]
    command = [
        "java", "-Xmx1g", *opened, "-cp", f"{built}/packages/*{os.pathsep}{built}", PROGRAM,
        str(data), str(port),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            said = []
            for line in server.stdout:
                said.append(line)
                if line.strip() == "ready":
                    break
            else:
                raise RuntimeError("Neo4j has not started:\n" + "".join(said))
            yield f"bolt://127.0.0.1:{port}"
        finally:
            server.stdin.close()
            server.wait(timeout=60)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
