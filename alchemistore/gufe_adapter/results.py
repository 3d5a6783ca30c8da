"""Read and write results as self-contained JSON for the object store."""

from __future__ import annotations

from typing import Any

from alchemistore.gufe_adapter.codec import CUSTOM, from_text, parse, revive, to_text
from alchemistore.gufe_adapter.decoding import build_object, decode_contents, find_slots
from alchemistore.gufe_adapter.document import Document, check_kind
from alchemistore.gufe_adapter.encoding import encode, referring
from alchemistore.gufe_adapter.files import to_json
from alchemistore.gufe_adapter.keyed_chain import read_chain
from alchemistore.models.gufe import GufeTokenizable

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


def result_from_json(text: bytes | str) -> GufeTokenizable:
    """Build a result from the JSON of :func:`result_to_json`, or from its older form.

    The older form is one dict with all parts nested in it.

    Parameters
    ----------
    text : bytes or str
        The JSON.

    Returns
    -------
    ProtocolDAGResult
        The existing object if it is in memory.

    Raises
    ------
    ValueError
        If the text has neither form, or a part cannot be built.
    ImportError
        If the class of a part is not installed.
    """
    value = _parse(text)
    if isinstance(value, dict):
        return _Nested().read(text)
    documents = read_chain(value, document_max=RESULT_MAX)
    return decode_contents(
        documents[-1].key, {document.key: _content(document) for document in documents}
    )


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
        return dict(from_text(_decoded(text)))
    expanded: dict[str, dict[str, Any]] = {}
    documents = read_chain(value, document_max=RESULT_MAX)
    for document in documents:
        content = _content(document)
        for slot in find_slots(content):
            slot.container[slot.place] = expanded[slot.key]
        expanded[document.key] = content
    return expanded[documents[-1].key]


class _Nested:
    """Builds the parts of a nested dict while it is parsed, innermost first; equal parts once."""

    def __init__(self) -> None:
        self.built: dict[str, GufeTokenizable] = {}

    def read(self, text: bytes | str) -> GufeTokenizable:
        result = parse(text, object_hook=self.part)
        if isinstance(result, dict):
            raise ValueError(
                "the text is not a result: neither a keyed chain nor the dict of a gufe object"
            )
        return result

    def part(self, dct: dict[str, Any]) -> Any:
        if "__qualname__" not in dct or "__module__" not in dct:
            return revive(dct)
        key = dct.get("_key", f"{dct['__qualname__']}-")
        check_kind(key, dct)
        # Large parts, such as proteins, occur in every unit. Comparing texts is much faster than
        # building such a part again.
        text = to_text(referring(dct, {}))
        if text not in self.built:
            self.built[text] = build_object(key, dct)
        return self.built[text]


def _parse(text: bytes | str) -> Any:
    return parse(_decoded(text))


def _decoded(text: bytes | str) -> str:
    if isinstance(text, str):
        return text
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not readable as JSON: {error}") from error


def _content(document: Document) -> dict[str, Any]:
    return dict(from_text(document.text) if CUSTOM in document.text else document.content)
