"""Import modules that may not be installed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from alchemistore.errors import GufeNotInstalledError


def required(name: str) -> ModuleType:
    """Return a module that is gufe's or needs gufe.

    Raises
    ------
    GufeNotInstalledError
        If gufe or one of its dependencies is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "alchemistore":
            raise
        raise GufeNotInstalledError(error.name) from error
