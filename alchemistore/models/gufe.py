"""Types of gufe objects in signatures; gufe itself ships no type annotations."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, TypeAlias

from alchemistore.models.keys import GufeKey

GufeTokenizable: TypeAlias = Any
# Returns those of the keys that are stored already.
AlreadyStored: TypeAlias = Callable[[Set[GufeKey]], Set[GufeKey]]
