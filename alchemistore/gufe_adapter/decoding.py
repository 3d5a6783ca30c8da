"""Build objects from documents."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from gufe.tokenization import GufeTokenizable as _Tokenizable, get_class

from alchemistore.errors import KeyDriftWarning
from alchemistore.gufe_adapter.codec import VALUE_ERRORS, loads
from alchemistore.gufe_adapter.document import REFERENCE, check_kind
from alchemistore.gufe_adapter.encoding import cached
from alchemistore.gufe_adapter.version import build, gufe_version
from alchemistore.models.gufe import GufeTokenizable

# Raised by gufe when a document does not fit its class.
_BUILD_ERRORS = (*VALUE_ERRORS, AssertionError, RuntimeError, NotImplementedError)


class _Slot(NamedTuple):
    """The position of a reference in a document."""

    container: Any
    place: Any
    key: str


def decode(root: str, documents: Mapping[str, bytes]) -> GufeTokenizable:
    """Build an object from its document and the documents of everything it refers to.

    Objects that are in memory already are used as they are. References are resolved by the keys
    under which the documents are stored.

    Parameters
    ----------
    root : str
        Key of the object.
    documents : mapping of str to bytes
        The stored documents, by the keys under which they are stored.

    Returns
    -------
    GufeTokenizable
        The object; the existing one if it is in memory.

    Raises
    ------
    ValueError
        If a document is missing or damaged, is not that of a gufe object, or does not match its
        key. The message names the key.
    ImportError
        If the class of an object is not installed.

    Warns
    -----
    KeyDriftWarning
        If the installed gufe computes keys that differ from the stored ones.
    """
    return decode_contents(root, {}, documents)


def decode_contents(
    root: str, contents: Mapping[str, dict[str, Any]], documents: Mapping[str, bytes] | None = None
) -> GufeTokenizable:
    """Build an object as :func:`decode` does, also from parsed documents.

    `contents` holds the parsed documents by key; they are modified.
    """
    built: dict[str, GufeTokenizable] = {}
    drifted: list[tuple[str, str]] = []
    begun: dict[str, tuple[dict[str, Any], list[_Slot]]] = {}
    stack = [root]
    while stack:
        key = stack[-1]
        if key in built:
            stack.pop()
        elif key in begun:
            content, slots = begun[key]
            for slot in slots:
                if slot.key not in built:
                    raise ValueError(f"{key} contains itself")
                slot.container[slot.place] = built[slot.key]
            built[key] = build_object(key, content)
            if built[key].key != key:
                drifted.append((key, str(built[key].key)))
            stack.pop()
        elif (existing := cached(key)) is not None:
            built[key] = existing
            stack.pop()
        else:
            content = contents[key] if key in contents else _read(key, documents or {})
            begun[key] = content, find_slots(content)
            stack.extend(slot.key for slot in begun[key][1] if slot.key not in built)
    if drifted:
        _warn(drifted)
    return built[root]


def find_slots(content: dict[str, Any]) -> list[_Slot]:
    """Return the references in a document."""
    slots: list[_Slot] = []
    containers: list[Any] = [content]
    while containers:
        container = containers.pop()
        for place, value in container.items() if type(container) is dict else enumerate(container):
            kind = type(value)
            if kind is dict and REFERENCE in value:
                slots.append(_Slot(container, place, value[REFERENCE]))
            elif kind is dict or kind is list:
                containers.append(value)
    return slots


def import_class(key: str, module: str, qualname: str) -> Any:
    """Return the class of an object.

    Raises
    ------
    ImportError
        If the class is not installed. The message names the missing module.
    ValueError
        If the class is not a class of gufe objects.
    """
    try:
        cls = get_class(module, qualname)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{key} is of the class {module}.{qualname}, but the module {error.name!r}"
            " is not installed; install the package that contains it"
        ) from error
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ImportError(
            f"{key} is of the class {module}.{qualname}, which the installed packages do not"
            f" contain: {error}; install the version that has it"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, _Tokenizable)):
        raise ValueError(f"{key}: {module}.{qualname} is not a class of gufe objects")
    return cls


def _read(key: str, documents: Mapping[str, bytes]) -> dict[str, Any]:
    if key not in documents:
        raise ValueError(f"{key}: the document is missing, but another document refers to it")
    try:
        content = loads(documents[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    check_kind(key, content)
    return dict(content)


def build_object(key: str, content: dict[str, Any]) -> GufeTokenizable:
    """Build one object from a document in which objects have replaced the references.

    The document is modified.
    """
    module, qualname = content["__module__"], content["__qualname__"]
    cls = import_class(key, module, qualname)
    try:
        obj = build(content)
    except _BUILD_ERRORS as error:
        raise ValueError(
            f"{key}: gufe {gufe_version()} cannot build {module}.{qualname} from the document:"
            f" {type(error).__name__}: {error}"
        ) from error
    # gufe returns the object registered under the computed key, even one of another class.
    if not isinstance(obj, cls):
        raise ValueError(
            f"{key}: gufe has an object of another class, {type(obj).__qualname__},"
            " registered under this key"
        )
    return obj


def _warn(drifted: list[tuple[str, str]]) -> None:
    shown = "; ".join(f"{stored} is now {computed}" for stored, computed in drifted[:-6:-1])
    more = f"; and {len(drifted) - 5} more" if len(drifted) > 5 else ""
    warnings.warn(
        f"gufe {gufe_version()} computes keys that differ from the stored ones: {shown}{more}."
        " The stored key remains the identity; storing the object again would create a second one",
        KeyDriftWarning,
        stacklevel=4,
    )
