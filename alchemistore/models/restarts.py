"""Restart patterns: which failures are tried again, and how often."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from alchemistore.models.keys import ScopedKey
from alchemistore.models.text import FreeText, text_size

# The longest pattern, in bytes.
PATTERN_MAX = 10_000
RETRIES_MAX = 2**31 - 1


def _pattern(pattern: str) -> str:
    if not pattern:
        raise ValueError("a restart pattern must not be empty")
    if (size := text_size(pattern)) > PATTERN_MAX:
        raise ValueError(
            f"the restart pattern {pattern!r:.100} has {size} bytes; at most {PATTERN_MAX} are"
            " allowed, so choose a shorter one"
        )
    return pattern


PatternText = Annotated[FreeText, AfterValidator(_pattern)]
Maximum = Annotated[int, Field(ge=1, le=RETRIES_MAX, strict=True)]


class TaskRestartPattern(BaseModel):
    """A restart pattern of a task hub.

    Parameters
    ----------
    pattern : str
        A regular expression, as :func:`re.search` takes it; at most 10,000 bytes.
    max_retries : int
        How often a task may be restarted because of it, at least 1.
    taskhub_scoped_key : ScopedKey
        The hub.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    pattern: PatternText
    max_retries: Maximum
    taskhub_scoped_key: ScopedKey


class RestartCount(BaseModel):
    """How often a restart pattern of a hub has restarted a task.

    Attributes
    ----------
    taskhub : ScopedKey
        A hub that the task is on.
    pattern : str
        A restart pattern of the hub.
    retries : int
        How often it has restarted the task since the task was actioned there.
    max_retries : int
        How often it may.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    taskhub: ScopedKey
    pattern: FreeText
    retries: int
    max_retries: int
