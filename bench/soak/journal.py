"""Journals: the record that each worker process keeps of its calls and their answers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """A file to which a process adds one line per event; a killed process leaves whole lines.

    Parameters
    ----------
    path : Path
        The file; created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, **facts: Any) -> None:
        """Add an event, with a time that all processes of this machine share."""
        line = json.dumps({"kind": kind, "at": time.monotonic(), **facts})
        os.write(self._file, f"{line}\n".encode())


def events(directory: Path) -> Iterator[dict[str, Any]]:
    """Return the events of all journals of a directory."""
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)
