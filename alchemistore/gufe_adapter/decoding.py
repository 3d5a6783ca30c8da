"""From documents back to objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from gufe.tokenization import GufeTokenizable as _Tokenizable, get_class

from alchemistore.errors import KeyDriftWarning
from alchemistore.gufe_adapter.codec import VALUE_ERRORS, loads
from alchemistore.gufe_adapter.encoding import REFERENCE, cached
from alchemistore.gufe_adapter.version import build, gufe_version
from alchemistore.models.gufe import GufeTokenizable

# What building an object raises when document and class do not fit.
_BUILD_ERRORS = (*VALUE_ERRORS, AssertionError, RuntimeError, NotImplementedError)


class _Slot(NamedTuple):
    """Where in a document an object belongs."""

    container: Any
    place: Any
    key: str


def decode(root: str, documents: Mapping[str, bytes]) -> GufeTokenizable:
    """Build an object from its document and the documents of everything it refers to.

    What is alive in memory is used as it is. References are resolved by the keys under which the documents are stored.

    Parameters
    ----------
    root : str
        Key of the object.
    documents : mapping of str to bytes
        The stored documents, by the keys under which they are stored.

    Returns
    -------
    GufeTokenizable
        The object; the living one, if there is one.

    Raises
    ------
    ValueError
        For a document that is missing, damaged, not gufe's, or not what its key says; the text names the key.
    ImportError
        For an object of a class that is not installed here.

    Warns
    -----
    KeyDriftWarning
        If the installed gufe computes other keys than the stored ones.
    """
    return decode_contents(root, {}, documents)


def decode_contents(
    root: str, contents: Mapping[str, dict[str, Any]], documents: Mapping[str, bytes] | None = None
) -> GufeTokenizable:
    """Do the work of :func:`decode`; documents that are read already are in `contents`, and are used up."""
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
        elif (living := cached(key)) is not None:
            built[key] = living
            stack.pop()
        else:
            content = contents[key] if key in contents else _read(key, documents or {})
            begun[key] = content, find_slots(content)
            stack.extend(slot.key for slot in begun[key][1] if slot.key not in built)
    if drifted:
        _warn(drifted)
    return built[root]


def find_slots(content: dict[str, Any]) -> list[_Slot]:
    """Find the references in a document."""
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


def check_kind(key: str, content: Any) -> None:
    """Check that a document is of the class its key names, and claims no other key."""
    if not isinstance(content, dict) or not all(
        isinstance(content.get(n), str) for n in ("__module__", "__qualname__")
    ):
        raise ValueError(
            f"{key}: the document is not an object of gufe: it does not name its class"
        )
    if content["__qualname__"] != key.partition("-")[0]:
        raise ValueError(f"{key}: the document is of another class, {content['__qualname__']}")
    if "_key" in content and content["_key"] != key:
        raise ValueError(f"{key}: the document claims another key, {content['_key']!r:.200}")


def import_class(key: str, module: str, qualname: str) -> Any:
    """Import the class of an object; an :class:`ImportError` says which package is missing."""
    try:
        cls = get_class(module, qualname)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{key} is of the class {module}.{qualname}, and the module {error.name!r} is not installed here;"
            f" install the package that has it"
        ) from error
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ImportError(
            f"{key} is of the class {module}.{qualname}, which the installed packages do not have: {error}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, _Tokenizable)):
        raise ValueError(f"{key}: {module}.{qualname} is not a class of gufe objects")
    return cls


def _read(key: str, documents: Mapping[str, bytes]) -> dict[str, Any]:
    if key not in documents:
        raise ValueError(f"{key}: its document is missing, but something refers to it")
    try:
        content = loads(documents[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    check_kind(key, content)
    return dict(content)


def build_object(key: str, content: dict[str, Any]) -> GufeTokenizable:
    """Build one object from its document, in which objects stand in place of the references; the document is used up."""
    module, qualname = content["__module__"], content["__qualname__"]
    cls = import_class(key, module, qualname)
    try:
        obj = build(content)
    except _BUILD_ERRORS as error:
        raise ValueError(
            f"{key}: gufe {gufe_version()} cannot build {module}.{qualname} from the document: {type(error).__name__}: {error}"
        ) from error
    # gufe answers with whatever is registered under the computed key, also when that is a forgery of another class.
    if not isinstance(obj, cls):
        raise ValueError(
            f"{key}: gufe has an object of another class, {type(obj).__qualname__}, registered under this key"
        )
    return obj


def _warn(drifted: list[tuple[str, str]]) -> None:
    shown = "; ".join(f"{stored} is now {computed}" for stored, computed in drifted[:-6:-1])
    more = f"; and {len(drifted) - 5} more" if len(drifted) > 5 else ""
    warnings.warn(
        f"gufe {gufe_version()} computes other keys than the stored ones: {shown}{more}."
        " The stored key stays the identity; storing the object again would make a second one",
        KeyDriftWarning,
        stacklevel=4,
    )
