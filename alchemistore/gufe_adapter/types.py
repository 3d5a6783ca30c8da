"""Types that the modules of this package share."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, TypeAlias

from alchemistore.models.keys import GufeKey

# gufe ships no type annotations.
GufeTokenizable: TypeAlias = Any
# Returns those of the keys that are stored already.
AlreadyStored: TypeAlias = Callable[[Set[GufeKey]], Set[GufeKey]]
