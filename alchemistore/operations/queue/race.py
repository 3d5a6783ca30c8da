"""The exponential race: random draws, and the clock that they start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

if TYPE_CHECKING:
    import random

# The smallest weight above 0: larger races would cost later ones their precision. Smaller weights
# are refused, so every draw follows the given weights exactly.
WEIGHT_MIN = 1e-6


def seed(tx: Connection) -> int:
    """Return 63 random bits from the generator of the store."""
    rng: random.Random = tx.get_execution_options()["rng"]
    return rng.getrandbits(63)


def exponential(bits: str) -> str:
    """Return a draw from the exponential distribution of rate 1, made from 64 random bits.

    The upper 53 bits, as many as a double has, give a number between 0 and 1, both excluded.
    """
    return f"""-ln(
        (({bits} >> 11 & 9007199254740991) + 0.5)
        / 9007199254740992
    )"""


def largest_race(row: str, lane: str) -> str:
    """Return the largest race claimed so far from a lane; `row` has its scope, hub and priority."""
    return f"""(
        SELECT race FROM attempts AS a
        WHERE a.scope_id = {row}.scope_id AND a.taskhub = {row}.taskhub
            AND a.lane = {lane} AND a.priority = {row}.priority
        ORDER BY race DESC LIMIT 1
    )"""
