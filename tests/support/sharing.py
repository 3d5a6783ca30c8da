"""Sharing of what is slow to create between the workers of pytest-xdist."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alchemistore.local.daemon import exclusive


@contextmanager
def shared_by_workers(
    note: Path, create: Callable[[], str], discard: Callable[[str], None]
) -> Iterator[str]:
    """Yield what the first worker of this run created; the last one discards it.

    Parameters
    ----------
    note : Path
        A file in the directory of the run, in which workers find it.
    create, discard : callable
        Return what is shared, as text; discard it.
    """
    lock = note.with_suffix(".lock")
    with exclusive(lock):
        value, users = json.loads(note.read_text()) if note.exists() else (create(), 0)
        note.write_text(json.dumps([value, users + 1]))
    yield value
    with exclusive(lock):
        value, users = json.loads(note.read_text())
        if users > 1:
            note.write_text(json.dumps([value, users - 1]))
        else:
            note.unlink()
            discard(value)
