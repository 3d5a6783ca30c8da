"""Pages of rows, so that memory does not grow with a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def pages(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most `size` rows."""
    iterator = iter(rows)
    while page := list(islice(iterator, size)):
        yield page
