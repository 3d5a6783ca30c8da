"""The function that the processes of the strategist run.

A new process imports the module of the function first, which calls `install`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from alchemistore.alchemiscale.substitution import KEPT, STRATEGIST, install


def execute_strategy_worker(*args: Any, **kwargs: Any) -> Any:
    """Run the function of alchemiscale that this one stands for."""
    return getattr(import_module(STRATEGIST), KEPT)(*args, **kwargs)


# Last, because it may need the function.
install()
