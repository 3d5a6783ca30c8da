"""Files of an attempt: its input, and the results that it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from alchemistore.models.keys import GufeKey, parse_gufe_key

# Bytes of the output that are read; the store keeps as many.
TAIL = 2**16


class Product(NamedTuple):
    """A result that the process of an attempt has written; its fields are those of gufe_adapter."""

    key: GufeKey
    ok: bool
    tracebacks: list[str]
    data: bytes


class AttemptFiles:
    """The files of one attempt.

    Parameters
    ----------
    directory : Path
        The directory of the attempt.
    log : Path
        The file for standard output and standard error.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory, self.log = directory, log
        self.transformation = directory / "transformation.json"
        self.extends = directory / "extends.json"
        self.error = directory / "error.txt"
        self.result = directory / "result.json"
        self.unfinished = directory / "unfinished.json"

    @classmethod
    def below(cls, directory: Path, task: str, attempt: int) -> AttemptFiles:
        """Return the files of an attempt below the directory of a worker."""
        name = f"{task}.{attempt}"
        return cls(directory / name, directory / f"{name}.log")

    def create(self) -> None:
        """Create an empty directory and an empty log."""
        # A result that was left behind must not be taken for a new one.
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.log.write_bytes(b"")

    def remove(self) -> None:
        """Remove everything but the log. What cannot be removed stays."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def write_product(self, file: Path, product: Any) -> None:
        """Write a result completely, or not at all."""
        about = {"key": str(product.key), "ok": product.ok, "tracebacks": product.tracebacks}
        partial = file.with_suffix(".partial")
        partial.write_bytes(product.data)
        file.with_suffix(".about").write_text(json.dumps(about))
        partial.replace(file)

    def read_product(self, file: Path) -> Product | None:
        """Return a result; ``None`` if the process ended before it was written."""
        if not file.exists():
            return None
        about = json.loads(file.with_suffix(".about").read_text())
        key = parse_gufe_key(about["key"])
        return Product(key, about["ok"], about["tracebacks"], file.read_bytes())

    def read_error(self) -> str | None:
        """Return the traceback of an error outside the units; ``None`` if there was none."""
        return self.error.read_text(errors="replace") if self.error.exists() else None

    def tail(self) -> tuple[str, int]:
        """Return the end of the output, and the number of bytes of the whole."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read().decode(errors="replace"), size
