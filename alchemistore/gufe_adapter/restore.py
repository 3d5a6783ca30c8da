"""Restore documents that have lost something, with their keys as the proof."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, NamedTuple

from alchemistore.errors import DocumentNotBuildableError
from alchemistore.gufe_adapter.codec import Reviver, UnreadableValueError, from_text, to_text
from alchemistore.gufe_adapter.decoding import build_object, find_slots
from alchemistore.gufe_adapter.document import REFERENCE, Document
from alchemistore.gufe_adapter.encoding import write_one
from alchemistore.gufe_adapter.modules import ClassNotAvailableError, find_class
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.keys import GufeKey

# Combinations of lost values that are tried for an object.
TRIES = 256


class Restored(NamedTuple):
    """Documents as gufe writes them, as far as gufe computes their keys.

    Attributes
    ----------
    documents : list of Document
        The documents, in the order in which they were given.
    kept : dict of GufeKey to str
        The documents that are unchanged because gufe does not compute their keys, and why.
    completed : dict of GufeKey to str
        The documents that had lost values, and which values their keys have confirmed.
    wrong : set of GufeKey
        Those of the unchanged documents for which gufe computes other keys. The others could not be
        built, or refer to unchanged ones.
    """

    documents: list[Document]
    kept: dict[GufeKey, str]
    completed: dict[GufeKey, str]
    wrong: set[GufeKey]


class _OtherKeyError(ValueError):
    """gufe computes another key for a document."""


def restore_documents(documents: Sequence[Document]) -> Restored:
    """Return documents as gufe writes them, if gufe computes their keys from what is left of them.

    Attributes that are missing are tried as ``None``, an empty dict, an empty list, and each object
    that the document refers to; an attempt is right if gufe computes the key for it.

    Parameters
    ----------
    documents : sequence of Document
        The documents, children first.
    """
    size = sum(len(document.text) for document in documents)
    found = Restored([], {}, {}, set())
    built: dict[str, GufeTokenizable] = {}
    for document in documents:
        try:
            obj, added = _find(document, built, size)
        except (DocumentNotBuildableError, UnreadableValueError, ValueError) as error:
            found.kept[document.key] = getattr(error, "reason", None) or str(error)
            found.documents.append(document)
            if isinstance(error, _OtherKeyError):
                found.wrong.add(document.key)
            continue
        built[str(document.key)] = obj
        if added:
            found.completed[document.key] = ", ".join(
                f"{name} is {to_text(value)}" for name, value in added.items()
            )
        found.documents.append(write_one(document.key, obj, True)[0])
    return found


def _find(
    document: Document, built: Mapping[str, GufeTokenizable], size: int
) -> tuple[GufeTokenizable, Mapping[str, Any]]:
    """Return the object that has the key of a document, and what was added for it.

    `size` is that of all documents.

    Raises
    ------
    DocumentNotBuildableError
        If the installed packages cannot build an object from the document.
    ValueError
        If gufe computes other keys, or an object that the document refers to was not built.
    """
    for child in document.children:
        if child not in built:
            raise ValueError(f"its part {child} is stored as it was found")
    first: Exception | None = None
    for added in islice(_attempts(document), TRIES):
        try:
            content = dict(from_text(document.text, Reviver(size))) | _copied(added)
            for slot in find_slots(content):
                slot.container[slot.place] = built[slot.key]
            obj = build_object(str(document.key), content)
        except DocumentNotBuildableError as error:
            first = first or error
            continue
        if obj.key == document.key:
            return obj, added
        first = first or _OtherKeyError(f"the installed packages compute the key {obj.key} for it")
    raise first or ValueError("it was not tried")


def _attempts(document: Document) -> Iterator[Mapping[str, Any]]:
    """Yield values for the attributes that are missing, beginning with none."""
    yield {}
    content = document.content
    try:
        cls = find_class(content["__module__"], content["__qualname__"])
    except ClassNotAvailableError:
        return
    missing = [
        name
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name not in {*content, "self", "_key"}
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    values: list[Any] = [None, {}, [], *({REFERENCE: str(child)} for child in document.children)]
    for chosen in product([*values, ...], repeat=len(missing)):
        added = {
            name: value for name, value in zip(missing, chosen, strict=True) if value is not ...
        }
        if added:
            yield added


def _copied(added: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of their own, because building an object may change them."""
    return {
        name: type(value)(value) if isinstance(value, dict | list) else value
        for name, value in added.items()
    }
