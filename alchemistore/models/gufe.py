"""The type of gufe objects in signatures."""

from typing import Any, TypeAlias

# gufe ships no types.
GufeTokenizable: TypeAlias = Any
