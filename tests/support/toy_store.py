"""Notes in one table: a minimal store, to test transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, text

from alchemistore.database.transaction import Transactional, reads, writes


def add(tx: Connection, number: int, note: str = "") -> int:
    """Add a note."""
    tx.execute(text("INSERT INTO notes VALUES (:number, :note)"), {"number": number, "note": note})
    return number


def add_all(
    tx: Connection, numbers: Iterable[int], before: Callable[[Connection], None] = lambda tx: None
) -> int:
    # Read first, so that an iterator is used up if `before` fails.
    given = list(numbers)
    before(tx)
    return sum(add(tx, number) for number in given)


def numbers(tx: Connection) -> list[int]:
    return list(tx.scalars(text("SELECT number FROM notes ORDER BY number")))


def run(tx: Connection, act: Callable[[Connection], Any]) -> Any:
    return act(tx)


class Notes(Transactional):
    add = writes(add)
    add_all = writes(add_all)
    numbers = reads(numbers)
    write = writes(run)
    read = reads(run)
