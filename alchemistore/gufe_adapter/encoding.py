"""Convert objects to documents: one document per object, with references by key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import gufe
from gufe.protocols import ProtocolUnitFailure
from gufe.tokenization import TOKENIZABLE_REGISTRY, GufeTokenizable as _Tokenizable

from alchemistore.gufe_adapter.codec import CUSTOM, from_text, to_text
from alchemistore.gufe_adapter.document import REFERENCE, Document, in_order, parse_key
from alchemistore.models.gufe import AlreadyStored, GufeTokenizable
from alchemistore.models.keys import GufeKey

# The keys of objects and the references to them, by the keys as text.
References: TypeAlias = dict[str, tuple[GufeKey, dict[str, str]]]

_ATOMS = frozenset({str, int, float, bool, type(None)})


def is_gufe(obj: object) -> bool:
    """Check whether an object is a gufe object."""
    # The class is an ABC, which makes `isinstance` slow.
    return _Tokenizable in type(obj).__mro__


def is_network(obj: object) -> bool:
    """Check whether an object is an ``AlchemicalNetwork``."""
    return isinstance(obj, gufe.AlchemicalNetwork)


def is_result(obj: object) -> bool:
    """Check whether an object is a ``ProtocolDAGResult``."""
    return isinstance(obj, gufe.ProtocolDAGResult)


def key_of(obj: GufeTokenizable) -> GufeKey:
    """Return the key of a gufe object.

    Raises
    ------
    TypeError
        If it is not a gufe object.
    """
    if not is_gufe(obj):
        raise TypeError(f"expected a gufe object, got {type(obj).__name__}")
    return parse_key(obj.key)


def cached(key: str) -> GufeTokenizable | None:
    """Return the object with this key if it is in memory.

    gufe registers an object under any key that its document contains, so the class is compared with
    the one in the key.
    """
    obj = TOKENIZABLE_REGISTRY.get(key)
    if obj is None or type(obj).__qualname__ != key.partition("-")[0] or obj.key != key:
        return None
    return obj


def encode(
    root: GufeTokenizable, already_stored: AlreadyStored | None = None, *, verify: bool = True
) -> list[Document]:
    """Convert an object and everything it refers to into documents.

    Parameters
    ----------
    root : GufeTokenizable
        Any gufe object.
    already_stored : callable, optional
        Takes a set of keys and returns those that are stored already. It is called once per level
        of nesting, beginning with the object itself. Stored objects, and the objects they refer
        to, are not converted.
    verify : bool, default True
        Reject values that gufe's codecs can write but not read, such as arrays of objects.

    Returns
    -------
    list of Document
        Children first, the object itself last. Empty if the object itself is stored already.

    Raises
    ------
    TypeError
        If it is not a gufe object.
    ValueError
        If a part of it cannot be written, or cannot be read back.
    """
    written: dict[GufeKey, Document] = {}
    known: References = {}
    seen = {key_of(root)}
    level = {key_of(root): root}
    while level:
        stored = already_stored(frozenset(level)) if already_stored else frozenset()
        below: dict[GufeKey, GufeTokenizable] = {}
        for key, obj in level.items():
            if key in stored:
                continue
            written[key], children = write_one(key, obj, verify, known)
            below.update((child, part) for child, part in children.items() if child not in seen)
            seen.update(children)
        level = below
    return in_order(key_of(root), written)


def write_one(
    key: GufeKey, obj: GufeTokenizable, verify: bool, known: References | None = None
) -> tuple[Document, dict[GufeKey, GufeTokenizable]]:
    """Return the document of one object, and the objects that it refers to.

    Parameters
    ----------
    key : GufeKey
        The key of the object.
    obj : GufeTokenizable
        The object.
    verify : bool
        Check that gufe's codecs can read what they write.
    known : dict, optional
        The references to objects that were met already, and to those that are met here.

    Raises
    ------
    ValueError
        If a part of it cannot be written or, with `verify`, cannot be read back.
    """
    children: dict[GufeKey, GufeTokenizable] = {}
    known = {} if known is None else known
    shallow = obj.to_shallow_dict()
    if isinstance(obj, ProtocolUnitFailure):
        shallow["exception"] = _writable_exception(*obj.exception)
    try:
        content = {name: referring(value, children, known) for name, value in shallow.items()}
        text = to_text(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key} cannot be stored: {error}") from error
    if verify and CUSTOM in text:
        try:
            from_text(text)
        except ValueError as error:
            raise ValueError(
                f"{key} cannot be stored: gufe can write it, but cannot read it back: {error}"
            ) from error
    return Document(key, text, tuple(children), content), children


def referring(value: Any, children: dict[GufeKey, GufeTokenizable], known: References) -> Any:
    """Return a value with references instead of gufe objects, and add the objects to `children`.

    Raises
    ------
    ValueError
        If a gufe object is where gufe does not look for one, or a dict looks like a reference.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list:
        return [referring(item, children, known) for item in value]
    if kind is not dict and is_gufe(value):
        # Most objects are parts of many others, and one reference to each is enough.
        found = known.get(value.key)
        if found is None:
            key = parse_key(value.key)
            found = known[value.key] = key, {REFERENCE: str(key)}
        children.setdefault(found[0], value)
        return found[1]
    if isinstance(value, dict):
        if REFERENCE in value:
            raise ValueError(
                f"a dict has the key {REFERENCE!r}, which marks references to gufe objects"
            )
        if any(map(is_gufe, value)):
            raise ValueError("a gufe object is a key of a dict; only values can be gufe objects")
        return {name: referring(item, children, known) for name, item in value.items()}
    if isinstance(value, list):
        return [referring(item, children, known) for item in value]
    if isinstance(value, (tuple, set, frozenset)):
        _refuse_objects_in(value, kind.__name__)
    return value


def _refuse_objects_in(values: Iterable[Any], where: str) -> None:
    # gufe looks for objects in lists and dicts only, and fails much later on objects elsewhere.
    for value in values:
        if is_gufe(value):
            raise ValueError(
                f"the gufe object {value.key} is inside a {where};"
                " gufe finds objects in lists and dicts only"
            )
        if isinstance(value, dict):
            _refuse_objects_in((*value, *value.values()), where)
        elif isinstance(value, (list, tuple, set, frozenset)):
            _refuse_objects_in(value, where)


def _writable_exception(name: str, args: Iterable[Any]) -> list[Any]:
    # An exception argument that JSON cannot represent must not prevent storing the result.
    writable = []
    for arg in args:
        try:
            from_text(to_text(arg))
            writable.append(arg)
        except ValueError:
            writable.append(repr(arg))
    return [name, writable]
