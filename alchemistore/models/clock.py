"""The clock: the current time in UTC, and UUIDs that sort by time."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator


def utc(moment: datetime) -> datetime:
    """Return a time in UTC; a naive time is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def uuid7() -> UUID:
    """Create a UUID that sorts by creation time, to the millisecond (RFC 9562, version 7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


UTCDatetime = Annotated[datetime, AfterValidator(utc)]
