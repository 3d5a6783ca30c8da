"""Build objects from documents."""

from __future__ import annotations

import warnings
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, cast

from alchemistore.errors import (
    DamagedDocumentError,
    DocumentNotBuildableError,
    KeyDriftWarning,
)
from alchemistore.gufe_adapter.codec import Reviver, UnreadableValueError, from_text, parse, unpack
from alchemistore.gufe_adapter.document import REFERENCE, Document, check_kind
from alchemistore.gufe_adapter.encoding import cached
from alchemistore.gufe_adapter.modules import ClassNotAvailableError, find_class
from alchemistore.gufe_adapter.version import build, gufe_version
from alchemistore.models.gufe import GufeTokenizable


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
    DamagedDocumentError
        If a document is missing or damaged, is not that of a gufe object, or does not match its
        key. The message names the key.
    DocumentNotBuildableError
        If the documents are intact, but the installed packages cannot build an object from them.

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
    built, drifted = _build_all(root, contents, documents or {})
    if drifted:
        warn_of_drift(drifted)
    return built


def decode_unseen(
    root: str, contents: Mapping[str, dict[str, Any]], documents: Mapping[str, bytes] | None = None
) -> tuple[GufeTokenizable, list[tuple[str, str]]]:
    """Build an object from parsed documents, and compare the keys that gufe computes.

    Objects in memory are used only for keys that `contents` does not have.

    Returns
    -------
    tuple of (GufeTokenizable, list of (str, str))
        The object, and the pairs of given and computed keys that differ, children first.
    """
    return _build_all(root, contents, documents or {}, lambda key: key not in contents)


def rebuild(key: str, document: bytes, others: Mapping[str, bytes]) -> GufeTokenizable:
    """Build an object from its document, even if one with its key is in memory.

    Parameters
    ----------
    key : str
        The key that the document has; the object may have another one.
    document : bytes
        The document.
    others : mapping of str to bytes
        The documents of everything it refers to, by key.

    Raises
    ------
    DamagedDocumentError
        If a document is missing or damaged.
    DocumentNotBuildableError
        If the installed packages cannot build the object.
    """
    documents = ChainMap({key: document}, cast(dict[str, bytes], others))
    return _build_all(key, {}, documents, lambda other: other != key)[0]


class _Parsed(Mapping[str, dict[str, Any]]):
    """Documents that are parsed each time they are asked for, because building modifies them."""

    def __init__(self, documents: Mapping[Any, Document]) -> None:
        self._documents = documents
        self._reviver = Reviver(sum(len(one.text) for one in documents.values()))

    def __getitem__(self, key: str) -> dict[str, Any]:
        document = self._documents[key]
        try:
            return dict(from_text(document.text, self._reviver))
        except UnreadableValueError as error:
            name = class_name(document.content)
            raise DocumentNotBuildableError(document.key, name, str(error)) from error

    def __contains__(self, key: object) -> bool:
        return key in self._documents

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)


def build_each(
    keys: Iterable[str], documents: Mapping[Any, Document]
) -> Iterator[tuple[str, GufeTokenizable | DocumentNotBuildableError]]:
    """Build objects from documents that come from outside, even if they are in memory.

    Parts that several of them share are built once.

    Parameters
    ----------
    keys : iterable of str
        The keys that the documents give the objects; the objects may have other ones.
    documents : mapping of str to Document
        The documents of the objects and of everything that they refer to, by key.

    Yields
    ------
    tuple of (str, GufeTokenizable or DocumentNotBuildableError)
        Each key with its object, or with the reason why the installed packages cannot build it.
    """
    # Objects in memory are found by their keys as long as something holds them.
    alive: list[GufeTokenizable] = []
    for root in keys:
        try:
            alive.append(_build_all(root, _Parsed(documents), {}, partial(_differs, root))[0])
        except DocumentNotBuildableError as error:
            yield root, error
        else:
            yield root, alive[-1]


def _differs(root: str, key: str) -> bool:
    return key != root


def verify_documents(
    documents: Sequence[Document], stored: Mapping[str, bytes]
) -> tuple[GufeTokenizable, list[tuple[str, str]]]:
    """Build the last of some documents, which are children first, and compare the keys.

    Parameters
    ----------
    documents : sequence of Document
        The documents, the root last.
    stored : mapping of str to bytes
        Stored documents that they refer to, by key.

    Returns
    -------
    tuple of (GufeTokenizable, list of (str, str))
        The object, and the pairs of given and computed keys that differ, children first.

    Raises
    ------
    DocumentNotBuildableError
        If the installed packages cannot build an object.
    """
    reviver = Reviver(sum(len(document.text) for document in documents))
    contents: dict[str, dict[str, Any]] = {}
    for document in documents:
        try:
            contents[str(document.key)] = dict(from_text(document.text, reviver))
        except UnreadableValueError as error:
            name = class_name(document.content)
            raise DocumentNotBuildableError(document.key, name, str(error)) from error
    return decode_unseen(str(documents[-1].key), contents, stored)


def _build_all(
    root: str,
    contents: Mapping[str, dict[str, Any]],
    documents: Mapping[str, bytes],
    may_be_cached: Callable[[str], bool] = lambda key: True,
) -> tuple[GufeTokenizable, list[tuple[str, str]]]:
    reviver = Reviver()
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
                    raise DamagedDocumentError(f"{key} contains itself")
                slot.container[slot.place] = built[slot.key]
            built[key] = build_object(key, content, root)
            if built[key].key != key:
                drifted.append((key, str(built[key].key)))
            stack.pop()
        elif may_be_cached(key) and (existing := cached(key)) is not None:
            built[key] = existing
            stack.pop()
        else:
            content = contents[key] if key in contents else _read(key, documents, root, reviver)
            begun[key] = content, find_slots(content)
            stack.extend(slot.key for slot in begun[key][1] if slot.key not in built)
    return built[root], drifted


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


def _read(key: str, documents: Mapping[str, bytes], root: str, reviver: Reviver) -> dict[str, Any]:
    if key not in documents:
        raise DamagedDocumentError(
            f"{key}: the document is missing, but another document refers to it"
        )
    try:
        text = unpack(documents[key])
        reviver.allow(len(documents[key]))
        content = from_text(text, reviver)
        check_kind(key, content)
    except UnreadableValueError as error:
        check_kind(key, plain := parse(text))
        raise DocumentNotBuildableError(key, class_name(plain), str(error), root) from error
    except ValueError as error:
        raise DamagedDocumentError(
            str(error) if key in str(error) else f"{key}: {error}"
        ) from error
    return dict(content)


def class_name(content: Mapping[str, Any]) -> str:
    """Return the name of the class of a document, with its module."""
    return f"{content['__module__']}.{content['__qualname__']}"


def build_object(key: str, content: dict[str, Any], root: str = "") -> GufeTokenizable:
    """Build one object from a document in which objects have replaced the references.

    The document is modified. `root` is the key of the object that was asked for.

    Raises
    ------
    DocumentNotBuildableError
        If the installed packages cannot build the object.
    """
    name = class_name(content)
    try:
        cls = find_class(content["__module__"], content["__qualname__"])
    except ClassNotAvailableError as error:
        raise DocumentNotBuildableError(key, name, str(error), root) from error
    try:
        obj = build(content)
    # The class may be of any version and raise anything for a document that does not fit it.
    except Exception as error:
        raise DocumentNotBuildableError(
            key, name, f"{_installed(cls)} failed with {type(error).__name__}: {error}", root
        ) from error
    # gufe returns the object registered under the computed key, even one of another class.
    if not isinstance(obj, cls):
        raise DocumentNotBuildableError(
            key,
            name,
            f"gufe has an object of another class, {type(obj).__qualname__}, registered under this"
            " key in this process",
            root,
        )
    return obj


def _installed(cls: type) -> str:
    """Return gufe and the package of a class, with their installed versions."""
    package = cls.__module__.partition(".")[0]
    if package == "gufe":
        return f"gufe {gufe_version()}"
    try:
        return f"{package} {version(package)} with gufe {gufe_version()}"
    except PackageNotFoundError:
        return f"gufe {gufe_version()}"


def warn_of_drift(drifted: list[tuple[str, str]]) -> None:
    """Report pairs of given and computed keys that differ, children first, in a warning."""
    shown = "; ".join(f"{stored} is now {computed}" for stored, computed in drifted[:-6:-1])
    more = f"; and {len(drifted) - 5} more" if len(drifted) > 5 else ""
    warnings.warn(
        f"gufe {gufe_version()} computes keys that differ from the stored ones: {shown}{more}."
        " The stored key remains the identity; storing the object again would create a second one",
        KeyDriftWarning,
        stacklevel=4,
    )
