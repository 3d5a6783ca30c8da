"""Put the state store of this package in the place of alchemiscale's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec, spec_from_loader
from types import ModuleType
from typing import Any

from alchemistore.alchemiscale.settings import complete_environment
from alchemistore.errors import AlchemiscaleNotInstalledError

STATESTORE = "alchemiscale.storage.statestore"
SUBSTITUTE = "alchemistore.alchemiscale.statestore"
STRATEGIST = "alchemiscale.strategist.service"
WORKER = "alchemistore.alchemiscale.worker"
BASE_API = "alchemiscale.base.api"
# The names of the module that others import.
NAMES = ("AlchemiscaleStateStore", "Neo4JStoreError", "Neo4jStore", "get_n4js")
# The name under which the strategist keeps the function that another one stands for.
KEPT = "_execute_strategy_worker_of_alchemiscale"
REQUIRED = ("alchemiscale", "gufe", "stratocaster")


def install() -> None:
    """Put the state store of this package in the place of alchemiscale's.

    Call it once per process, best before alchemiscale is imported; names that have been imported
    already are replaced. Stores that have been created already stay. Processes that are forked
    later, such as those of gunicorn, and the processes that the strategist starts have it, too.

    If ``NEO4J_URL`` is not set, it becomes the value of ``ALCHEMISTORE_DATABASE_URL``.

    Raises
    ------
    AlchemiscaleNotInstalledError
        If alchemiscale, gufe or stratocaster is not installed.
    """
    require_installed()
    complete_environment()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    loaded = sys.modules.get(STATESTORE)
    if loaded is not None and loaded.__name__ != SUBSTITUTE:
        _replace(loaded, import_module(SUBSTITUTE))
    strategist = sys.modules.get(STRATEGIST)
    if strategist is not None:
        _replace_worker(strategist)


def require_installed() -> None:
    """Check that the packages that a server needs are installed.

    Raises
    ------
    AlchemiscaleNotInstalledError
        If one is not. The message says which, and how to install it.
    """
    missing = [name for name in REQUIRED if name not in sys.modules and find_spec(name) is None]
    if "gufe" not in missing and (old := _version_of_gufe()).startswith("0."):
        missing.append(f"gufe 1.x instead of {old}")
    if missing:
        raise AlchemiscaleNotInstalledError(missing)


def _version_of_gufe() -> str:
    try:
        return version("gufe")
    except PackageNotFoundError:
        # A source tree on the path; alchemiscale imports it or not.
        return ""


class _Substitution(Loader):
    """Loads the substitute under the name of alchemiscale's module."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[STATESTORE] = import_module(SUBSTITUTE)


class _Strategist(Loader):
    """Loads the strategist, then replaces the function that its processes run."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _replace_worker(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == STATESTORE:
            return spec_from_loader(fullname, _Substitution())
        if fullname != STRATEGIST:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found is not None and found.loader is not None:
            found.loader = _Strategist(found.loader)
        return found


def _replace(module: ModuleType, substitute: ModuleType) -> None:
    """Replace a module, and its names, wherever they have been imported."""
    names: list[tuple[Any, Any]] = [
        (module, substitute),
        *((vars(module)[name], getattr(substitute, name)) for name in NAMES),
    ]
    for importer in list(sys.modules.values()):
        if importer in (module, substitute):
            continue
        for name, value in list(getattr(importer, "__dict__", {}).items()):
            for theirs, ours in names:
                if value is theirs:
                    setattr(importer, name, ours)
    sys.modules[STATESTORE] = substitute
    if (api := sys.modules.get(BASE_API)) is not None:
        # It keeps the stores that it has created.
        api.get_n4js_depends.cache_clear()


def _replace_worker(strategist: Any) -> None:
    """Run `install` first in the processes of the strategist, which import alchemiscale again."""
    worker = import_module(WORKER)
    if strategist.execute_strategy_worker is not worker.execute_strategy_worker:
        setattr(strategist, KEPT, strategist.execute_strategy_worker)
        strategist.execute_strategy_worker = worker.execute_strategy_worker
