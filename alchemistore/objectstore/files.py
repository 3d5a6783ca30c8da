"""Files to read results from and write them to."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

Source: TypeAlias = bytes | str | os.PathLike[str] | IO[bytes]
Target: TypeAlias = str | os.PathLike[str] | IO[bytes]


@contextmanager
def reading(source: Source) -> Iterator[IO[bytes]]:
    """Open bytes, a path, or a binary file, which stays open.

    Raises
    ------
    TypeError
        If it is something else.
    OSError
        If the file cannot be opened.
    """
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield file
    elif hasattr(source, "read"):
        yield source
    else:
        raise TypeError(
            f"expected bytes, a path or a binary file to read, not {type(source).__name__}"
        )


@contextmanager
def writing(target: Target) -> Iterator[IO[bytes]]:
    """Open a path or a binary file, which stays open.

    A file at a path appears when it is complete: it is written beside its place under another name,
    and replaces an older file. After an error, nothing is left and the older file is unchanged.

    Raises
    ------
    TypeError
        If it is something else.
    OSError
        If the file cannot be written.
    """
    if not isinstance(target, str | os.PathLike):
        if not hasattr(target, "write"):
            raise TypeError(
                f"expected a path or a binary file to write, not {type(target).__name__}"
            )
        yield target
        return
    path = Path(target)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; expected the path of a file")
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
