"""Events of a worker, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from alchemistore.models.clock import now


@dataclass(frozen=True)
class Event:
    """Something that a worker did, or that happened to it.

    Attributes
    ----------
    kind : str
        What happened, in one word.
    text : str
        The same in a sentence.
    fields : mapping
        What a program may want to know about it.
    warning : bool
        Whether a person should look at it.
    time : datetime
        When it happened, by the clock of this machine.
    """

    kind: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    warning: bool = False
    time: datetime = field(default_factory=now)
