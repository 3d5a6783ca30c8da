"""Read and write results as self-contained JSON for the object store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from alchemistore.errors import DocumentNotBuildableError
from alchemistore.gufe_adapter.codec import (
    CUSTOM,
    Reviver,
    UnreadableValueError,
    from_text,
    parse,
    to_text,
)
from alchemistore.gufe_adapter.decoding import (
    build_each,
    build_object,
    class_name,
    decode_contents,
    decode_unseen,
    find_slots,
    warn_of_drift,
)
from alchemistore.gufe_adapter.document import Document, check_kind
from alchemistore.gufe_adapter.encoding import encode, referring
from alchemistore.gufe_adapter.files import to_json
from alchemistore.gufe_adapter.keyed_chain import read_chain
from alchemistore.gufe_adapter.screen import UnsafeValueError
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.keys import GufeKey

log = logging.getLogger(__name__)

# A finished result is never rejected for its size; memory is the limit.
RESULT_MAX = 2**40


def result_to_json(result: GufeTokenizable) -> bytes:
    """Return a ``ProtocolDAGResult`` and everything it refers to as JSON.

    Parameters
    ----------
    result : ProtocolDAGResult
        A success or a failure. Exception arguments that JSON cannot represent are written as
        their ``repr``.

    Returns
    -------
    bytes
        The keyed chain as ASCII JSON: ``[[key, document], ...]``, children first, the result last.
    """
    return to_json(encode(result, verify=False))


def result_from_json(text: bytes | str, *, use_memory: bool = True) -> GufeTokenizable:
    """Build a result from the JSON of :func:`result_to_json`, or from its older form.

    The older form is one dict with all parts nested in it.

    Parameters
    ----------
    text : bytes or str
        The JSON.
    use_memory : bool, default True
        Use objects that are in memory, instead of building all parts from the text.

    Returns
    -------
    ProtocolDAGResult
        The existing object if it is in memory.

    Raises
    ------
    ValueError
        If the text has neither form.
    DocumentNotBuildableError
        If the text is intact, but the installed packages cannot build a part.
    """
    value = _parse(text)
    if isinstance(value, dict):
        return _Nested(len(text)).read(value, text)
    documents = _documents(value)
    root, reviver = documents[-1].key, Reviver(len(text))
    contents = {str(document.key): _content(document, root, reviver) for document in documents}
    return decode_contents(root, contents) if use_memory else decode_unseen(root, contents)[0]


def verify_keys(keys: Iterable[GufeKey], documents: Mapping[Any, Document], other: bool) -> None:
    """Check the keys of results from outside against those that gufe computes.

    The keys of units and of their results are random, so they cannot be compared. Results that the
    installed packages cannot build are not compared.

    Parameters
    ----------
    keys : iterable of GufeKey
        The keys of the results.
    documents : mapping of GufeKey to Document
        The documents of the results and of all their parts, by key.
    other : bool
        Whether another version of gufe is known to have written them.

    Raises
    ------
    ValueError
        If a key differs, and nothing indicates that another version of gufe wrote the result.

    Warns
    -----
    KeyDriftWarning
        If a key differs, and another version of gufe wrote the result.
    """
    drifted = []
    for key, found in build_each(keys, documents):
        if isinstance(found, DocumentNotBuildableError):
            log.info("the key of a result cannot be verified: %s", found)
        elif found.key != key:
            # Another version writes other fields.
            if not other and found.to_shallow_dict().keys() == documents[key].content.keys():
                raise ValueError(
                    f"the result {key} was changed, or another version of gufe wrote it: the"
                    f" installed gufe computes {found.key}. If another version wrote it, name that"
                    " version with --written-by (in Python, written_by=)"
                )
            drifted.append((str(key), str(found.key)))
    if drifted:
        warn_of_drift(drifted)


def result_to_dict(text: bytes | str) -> dict[str, Any]:
    """Return a result in either form as one dict with all parts nested in it.

    No object is built.

    Parameters
    ----------
    text : bytes or str
        The JSON.

    Returns
    -------
    dict
        A part that occurs more than once is the same dict each time: copy it before changing it.
    """
    value = _parse(text)
    if isinstance(value, dict):
        return dict(_revived(value, text, Reviver(len(text))))
    expanded: dict[str, dict[str, Any]] = {}
    documents = _documents(value)
    reviver = Reviver(len(text))
    for document in documents:
        content = _content(document, documents[-1].key, reviver)
        for slot in find_slots(content):
            slot.container[slot.place] = expanded[slot.key]
        expanded[document.key] = content
    return expanded[documents[-1].key]


class _Nested:
    """Builds the parts of a nested dict while it is parsed, innermost first; equal parts once."""

    def __init__(self, size: int) -> None:
        self.built: dict[str, GufeTokenizable] = {}
        self.revive = Reviver(size)

    def read(self, value: dict[str, Any], text: bytes | str) -> GufeTokenizable:
        result = _revived(value, text, self.part)
        if isinstance(result, dict):
            raise ValueError(
                "the text is not a result: neither a keyed chain nor the dict of a gufe object"
            )
        return result

    def part(self, dct: dict[str, Any]) -> Any:
        if "__qualname__" not in dct or "__module__" not in dct:
            return self.revive(dct)
        key = dct.get("_key", f"{dct['__qualname__']}-")
        check_kind(key, dct)
        # Large parts, such as proteins, occur in every unit. Comparing texts is much faster than
        # building such a part again.
        text = to_text(referring(dct, {}, {}))
        if text not in self.built:
            self.built[text] = build_object(key, dct)
        return self.built[text]


def _documents(chain: Any) -> list[Document]:
    try:
        return read_chain(chain, document_max=RESULT_MAX)
    except UnsafeValueError as error:
        key, content = chain[-1]
        raise DocumentNotBuildableError(key, class_name(content), str(error)) from error


def _revived(
    value: dict[str, Any], text: bytes | str, hook: Callable[[dict[str, Any]], Any]
) -> Any:
    try:
        return parse(_decoded(text), object_hook=hook)
    except UnreadableValueError as error:
        if not {"__module__", "__qualname__"} <= value.keys():
            raise
        key = str(value.get("_key", value["__qualname__"]))
        raise DocumentNotBuildableError(key, class_name(value), str(error)) from error


def _parse(text: bytes | str) -> Any:
    return parse(_decoded(text))


def _decoded(text: bytes | str) -> str:
    if isinstance(text, str):
        return text
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not readable as JSON: {error}") from error


def _content(document: Document, root: str, reviver: Reviver) -> dict[str, Any]:
    if CUSTOM not in document.text:
        return dict(document.content)
    try:
        return dict(from_text(document.text, reviver))
    except UnreadableValueError as error:
        raise DocumentNotBuildableError(
            document.key, class_name(document.content), str(error), root
        ) from error
