"""Find the classes that documents name, without running code that nobody chose to trust.

Allowed are the modules of installed distributions that are gufe or require it, those of
:data:`KNOWN_PACKAGES`, the modules of the entry-point group ``alchemistore.gufe``, those that the
setting ``ALCHEMISTORE_MODULES`` lists, and those that are loaded already. ``__main__`` is never
allowed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, distributions, entry_points
from importlib.util import find_spec
from typing import Any

from alchemistore.gufe_adapter.require import required
from alchemistore.settings import MODULES_VARIABLE, allowed_modules

ENTRY_POINTS = "alchemistore.gufe"
# Packages with gufe objects whose distributions do not say that they require gufe.
KNOWN_PACKAGES = frozenset({"alchemiscale", "feflow", "gufe", "openfe", "stratocaster"})

_REQUIRES_GUFE = re.compile(r"\s*gufe\s*([\[(<>=!~;@]|$)", re.IGNORECASE)
_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


class ClassNotAvailableError(Exception):
    """A class is not installed, cannot be imported, or is not allowed; the message says why."""


def find_class(module: str, qualname: str) -> Any:
    """Return the class of gufe objects with this name.

    Raises
    ------
    ClassNotAvailableError
        If its module is not allowed, not installed or fails to load, or it is not such a class.
    """
    _refuse_main(module)
    tokenization = required("gufe.tokenization")
    registry = tokenization.TOKENIZABLE_CLASS_REGISTRY
    name = module, qualname
    known = name in registry
    # Classes that moved in gufe; their old modules may not exist.
    moved = getattr(tokenization, "REMAPPED_CLASSES", {})
    if not known and name not in moved:
        load(module)
    try:
        cls = tokenization.get_class(module, qualname)
    # Walking to the class runs code of the module, which may raise anything.
    except Exception as error:
        raise ClassNotAvailableError(
            f"the installed packages do not contain this class: {error};"
            " install the version that has it"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, tokenization.GufeTokenizable)):
        if not known:
            registry.pop(name, None)
        raise ClassNotAvailableError("it is not a class of gufe objects")
    return cls


def load(module: str) -> None:
    """Import a module that a document names, if it is allowed.

    Raises
    ------
    ClassNotAvailableError
        If it is not allowed, not installed, or fails to load.
    """
    _refuse_main(module)
    if sys.modules.get(module) is not None:
        return
    if not all(part.isidentifier() for part in module.split(".")):
        raise ClassNotAvailableError(f"{module!r:.200} is not the name of a module")
    top = module.partition(".")[0]
    try:
        installed = top in sys.modules or find_spec(top) is not None
    except (ImportError, ValueError):
        installed = False
    if not installed:
        raise ClassNotAvailableError(
            f"the module {top!r} is not installed; install the package that contains it"
        )
    if not is_allowed(module):
        raise ClassNotAvailableError(
            f"the module {module!r} is not loaded and not part of a distribution that requires"
            f" gufe, so it is not imported; if you trust it, add it to {MODULES_VARIABLE}"
        )
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise ClassNotAvailableError(
            f"the module {error.name!r} is not installed; install the package that contains it"
        ) from error
    except KeyboardInterrupt:
        raise
    # The code of the module may raise anything, and may even try to end the process.
    except BaseException as error:
        raise ClassNotAvailableError(
            f"the module {module!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def is_allowed(module: str) -> bool:
    """Check whether a module may be imported because a document names it."""
    exact, packages = modules_of_gufe()
    packages = packages | {*allowed_modules()}
    parts = module.split(".")
    return module in exact or any(
        ".".join(parts[:length]) in packages for length in range(1, len(parts) + 1)
    )


def _refuse_main(module: str) -> None:
    if "__main__" in module.split("."):
        raise ClassNotAvailableError(
            f"the module {module!r} is a script and is never imported; move the class to a module"
        )


@cache
def modules_of_gufe() -> tuple[frozenset[str], frozenset[str]]:
    """Return the modules of distributions that require gufe, and packages allowed as a whole."""
    exact: set[str] = set()
    packages = {
        *KNOWN_PACKAGES,
        *(point.value.partition(":")[0] for point in entry_points(group=ENTRY_POINTS)),
    }
    for distribution in distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("-", "_")
        requirements = distribution.requires or ()
        if name == "gufe" or any(map(_REQUIRES_GUFE.match, requirements)):
            modules = set(_modules(distribution))
            exact |= modules
            # An editable installation does not list its modules.
            packages |= set() if modules else {name}
    return frozenset(exact), frozenset(packages)


def _modules(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        suffix = next((suffix for suffix in _SUFFIXES if file.name.endswith(suffix)), None)
        if suffix is not None:
            parts = [*file.parts[:-1], file.name.removesuffix(suffix)]
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
