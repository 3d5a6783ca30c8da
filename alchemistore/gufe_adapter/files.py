"""Read files with networks and results, in all forms in circulation.

Keyed chains are taken apart without gufe. Nested dicts contain no keys of their parts, so gufe
builds them.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import zstandard

from alchemistore.errors import GufeNotInstalledError
from alchemistore.gufe_adapter.codec import parse, to_text
from alchemistore.gufe_adapter.document import REFERENCE, Document, in_order, parse_key
from alchemistore.gufe_adapter.keyed_chain import read_chain
from alchemistore.gufe_adapter.require import required
from alchemistore.gufe_adapter.writer import is_other_version, writer_versions
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.keys import GufeKey

# The largest unpacked size of a file, in bytes.
FILE_MAX = 2**32
CHUNK = 2**20
# The longest text that is taken for a path.
PATH_MAX = 4096

NETWORK, ARCHIVE, RESULT = "AlchemicalNetwork", "AlchemicalArchive", "ProtocolDAGResult"
TRANSFORMATIONS = ("Transformation", "NonTransformation")
TAKEN = (
    "an AlchemicalNetwork, a Transformation, an AlchemicalArchive, a ProtocolDAGResult, or a result"
    " of 'openfe quickrun'"
)

# A path, JSON as text or bytes, an open file, parsed JSON, a keyed chain, or a gufe object.
Source: TypeAlias = Any


class FileResult(NamedTuple):
    """A result in a file.

    Attributes
    ----------
    key : GufeKey
        The key of the result.
    transformation : GufeKey or None
        The key of its transformation; ``None`` if the file does not say.
    extends : GufeKey or None
        The key of the result that it continues.
    ok : bool
        Whether every unit succeeded.
    data : bytes
        The keyed chain as JSON, for the object store.
    """

    key: GufeKey
    transformation: GufeKey | None
    extends: GufeKey | None
    ok: bool
    data: bytes


class FileContent(NamedTuple):
    """The content of a file.

    Attributes
    ----------
    network : gufe.AlchemicalNetwork, or list of (key, keyed dict), or None
        The network in the form in which `create_network` takes it.
    results : tuple of FileResult
        The results, those that others continue first.
    quickrun : dict or None
        A result of ``openfe quickrun``, which does not name its transformation.
    """

    network: GufeTokenizable | None = None
    results: tuple[FileResult, ...] = ()
    quickrun: dict[str, Any] | None = None


def read_file(source: Source, written_by: str | None = None) -> FileContent:
    """Read a network, a transformation, an archive or results.

    Parameters
    ----------
    source : path, str, bytes, file object, list, dict or gufe object
        A path, JSON, an open file, parsed JSON, a keyed chain or a gufe object. A text that begins
        with ``{`` or ``[`` is JSON, any other text is a path. Files may be compressed by gzip or
        zstd.
    written_by : str, optional
        The versions of the packages that wrote the file, if they are not the installed ones.

    Returns
    -------
    FileContent
        A single transformation becomes a network of its own.

    Raises
    ------
    ValueError
        If it is something else; the message says what it is and what to do.
    OSError
        If the file cannot be read.
    GufeNotInstalledError
        If the form needs gufe, and gufe is not installed.

    Warns
    -----
    KeyDriftWarning
        If gufe computes another key for a result that another version of gufe wrote.
    """
    if isinstance(source, list | tuple) or is_keyed_chain(source):
        return _from_chain(list(source), written_by)
    # A ChemicalSystem is a mapping, but not a dict.
    if isinstance(source, dict):
        return _from_dict(source, None)
    if isinstance(source, str | bytes | bytearray | memoryview | PathLike) or hasattr(
        source, "read"
    ):
        return _from_text(_text(source), written_by)
    if not required("alchemistore.gufe_adapter.encoding").is_gufe(source):
        raise ValueError(f"expected {TAKEN}, or a file with one, not {type(source).__name__}")
    return _from_object(source)


def read_object(source: Source) -> GufeTokenizable:
    """Read any gufe object from a file: a nested dict or a keyed chain. Needs gufe.

    Parameters
    ----------
    source : path, str, bytes or file object
        A path, JSON, or an open file; see `read_file`.

    Raises
    ------
    ValueError
        If it is not the JSON of a gufe object.
    DocumentNotBuildableError
        If the installed packages cannot build it.
    OSError
        If the file cannot be read.
    """
    text = _text(source)
    value = parse(text)
    if isinstance(value, list):
        if not value:
            raise ValueError("the list is empty; expected a keyed chain")
        decoding = required("alchemistore.gufe_adapter.decoding")
        obj, drifted = decoding.verify_documents(read_chain(value), {})
        if drifted:
            decoding.warn_of_drift(drifted)
        return obj
    if not isinstance(value, dict) or "__qualname__" not in value:
        raise ValueError("the file is not the JSON of a gufe object; write it with to_json")
    return required("alchemistore.gufe_adapter.results").result_from_json(text)


def is_keyed_chain(value: object) -> bool:
    """Check whether a value is gufe's ``KeyedChain``."""
    return type(value).__name__ == "KeyedChain" and hasattr(value, "to_gufe")


def _text(source: Any) -> str:
    if isinstance(source, str):
        if source.lstrip("\ufeff \t\r\n")[:1] in ("{", "[", "<") or len(source) > PATH_MAX:
            return source
        if "\0" in source or not source:
            raise ValueError(f"{source!r:.100} is neither JSON nor a path")
        source = Path(source)
    if isinstance(source, PathLike):
        with Path(source).open("rb") as file:
            return _text(file)
    if isinstance(source, bytes | bytearray | memoryview):
        return _text(io.BytesIO(source))
    data = source.read()
    if isinstance(data, str):
        return data
    if not isinstance(data, bytes):
        raise ValueError(f"the file object returned {type(data).__name__}, not text or bytes")
    try:
        return str(_unpacked(data), "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the file is not JSON: {error}; save the object with its method to_json"
        ) from error


def _unpacked(data: bytes) -> bytes:
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as file:
                return _bounded(file)
        if data.startswith(zstandard.FRAME_HEADER):
            with zstandard.ZstdDecompressor().stream_reader(
                io.BytesIO(data), read_across_frames=True
            ) as frames:
                return _bounded(frames)
    except (zstandard.ZstdError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"the compressed file is truncated or damaged: {error}") from error
    return data


def _bounded(file: Any) -> bytes:
    parts, size = [], 0
    while part := file.read(CHUNK):
        parts.append(part)
        size += len(part)
        if size > FILE_MAX:
            raise ValueError(f"the file unpacks to more than the allowed {FILE_MAX} bytes")
    return b"".join(parts)


def _from_text(text: str, written_by: str | None) -> FileContent:
    if text.lstrip()[:1] == "<":
        raise ValueError(
            "the file is XML, perhaps a LigandNetwork in GraphML; plan an AlchemicalNetwork with it"
            " and add that"
        )
    try:
        value = parse(text)
    except ValueError as error:
        raise ValueError(f"the file is {error}; expected the JSON of {TAKEN}") from error
    if isinstance(value, list):
        return _from_chain(value, written_by)
    if isinstance(value, dict):
        return _from_dict(value, text)
    raise ValueError(f"the file holds a JSON {type(value).__name__}; expected {TAKEN}")


def _from_chain(chain: list[Any], written_by: str | None) -> FileContent:
    if not chain or not isinstance(chain[-1], list | tuple) or len(chain[-1]) != 2:
        raise ValueError(f"the list is not a keyed chain; expected {TAKEN}")
    root = parse_key(chain[-1][0])
    if root.qualname == NETWORK:
        return FileContent(network=chain)
    if root.qualname in TRANSFORMATIONS:
        # Only gufe can compute the key of the network.
        decoding = required("alchemistore.gufe_adapter.decoding")
        edge, drifted = decoding.verify_documents(read_chain(chain), {})
        if drifted:
            decoding.warn_of_drift(drifted)
        return _from_object(edge)
    if root.qualname in (ARCHIVE, RESULT):
        documents = read_chain(chain, document_max=FILE_MAX)
        content = _from_documents(documents)
        _verify(content.results, documents, written_by)
        return content
    raise _refusal(root.qualname)


def _verify(
    results: Iterable[FileResult], documents: list[Document], written_by: str | None
) -> None:
    """Compare the keys of results with those that the installed gufe computes, if there is one."""
    try:
        read = required("alchemistore.gufe_adapter.results")
        installed = required("alchemistore.gufe_adapter.version").gufe_version()
    except GufeNotInstalledError:
        return
    stated = documents[-1].content.get("version_gufe")
    other = is_other_version(written_by, writer_versions()) or (
        isinstance(stated, str) and stated.removeprefix("v") != installed
    )
    written = {document.key: document for document in documents}
    read.verify_keys([one.key for one in results], written, other)


def _from_dict(value: dict[str, Any], text: str | None) -> FileContent:
    kind = value.get("__qualname__")
    if kind in (NETWORK, ARCHIVE, RESULT, *TRANSFORMATIONS):
        read = required("alchemistore.gufe_adapter.results").result_from_json
        return _from_object(read(to_text(value) if text is None else text))
    if isinstance(kind, str):
        raise _refusal(kind)
    if "estimate" in value and {"unit_results", "protocol_result", "result"} & value.keys():
        return FileContent(quickrun=value)
    raise ValueError(
        f"the JSON object has the keys {', '.join(map(repr, list(value)[:5]))}, which is none of"
        f" the known forms; expected {TAKEN}"
    )


def _from_object(obj: GufeTokenizable) -> FileContent:
    kind = type(obj).__qualname__
    if kind == NETWORK:
        return FileContent(network=obj)
    if kind in TRANSFORMATIONS:
        gufe = required("gufe")
        return FileContent(network=gufe.AlchemicalNetwork([obj], name=obj.name))
    if kind in (ARCHIVE, RESULT):
        return _from_documents(required("alchemistore.gufe_adapter.encoding").encode(obj))
    raise _refusal(kind)


def _refusal(kind: str) -> ValueError:
    if kind.startswith("ProtocolUnit"):
        advice = "it is a part of a result; add the whole result"
    elif kind in ("LigandNetwork", "ChemicalSystem") or kind.endswith("Component"):
        advice = "make an AlchemicalNetwork with it, and add that"
    elif kind == "ProtocolDAG":
        advice = "it has not run; add its Transformation, or its ProtocolDAGResult"
    else:
        advice = f"expected {TAKEN}"
    return ValueError(f"the file holds a {kind:.200}, which cannot be added: {advice}")


def _from_documents(documents: list[Document]) -> FileContent:
    written = {document.key: document for document in documents}
    root = documents[-1]
    if root.key.qualname == RESULT:
        return FileContent(results=(_result(root.key, written, None),))
    content = root.content
    network = _reference(root.key, content.get("network"))
    found = content.get("transformation_results")
    if not isinstance(found, list) or network not in written:
        raise ValueError(f"{root.key} is not an AlchemicalArchive: it lacks a network or results")
    results = []
    for entry in found:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], list):
            raise ValueError(f"{root.key}: expected a transformation with a list of results")
        edge = _reference(root.key, entry[0])
        results += [_result(_reference(root.key, one), written, edge) for one in entry[1]]
    return FileContent(
        [(one.key, one.content) for one in in_order(network, written)], _parents_first(results)
    )


def result_of(documents: list[Document], transformation: GufeKey | None = None) -> FileResult:
    """Return a result from its documents."""
    return _result(
        documents[-1].key, {document.key: document for document in documents}, transformation
    )


def _result(
    key: GufeKey, written: Mapping[GufeKey, Document], transformation: GufeKey | None
) -> FileResult:
    if key.qualname != RESULT:
        raise ValueError(
            f"{key} is a {key.qualname}, not a ProtocolDAGResult; add the whole result"
        )
    if key not in written:
        raise ValueError(f"{key} is not in the file")
    content = written[key].content
    units, outcomes = content.get("protocol_units"), content.get("protocol_unit_results")
    if not isinstance(units, list) or not isinstance(outcomes, list):
        raise ValueError(f"{key} is not a ProtocolDAGResult: it has no lists of units and results")
    succeeded = {
        written[outcome].content.get("source_key")
        for outcome in (_reference(key, one) for one in outcomes)
        if outcome.qualname != "ProtocolUnitFailure" and outcome in written
    }
    named = content.get("transformation_key")
    return FileResult(
        key=key,
        transformation=transformation or (None if named is None else parse_key(named)),
        extends=None if content.get("extends_key") is None else parse_key(content["extends_key"]),
        ok=all(_reference(key, unit) in succeeded for unit in units),
        data=to_json(in_order(key, written)),
    )


def to_json(documents: Iterable[Document]) -> bytes:
    """Return documents as the JSON of a keyed chain."""
    pairs = (f'["{document.key}", {document.text}]' for document in documents)
    return f"[{', '.join(pairs)}]".encode("ascii")


def _parents_first(results: list[FileResult]) -> tuple[FileResult, ...]:
    ordered: dict[GufeKey, FileResult] = {}
    waiting = {result.key: result for result in results}
    while waiting:
        ready = [one for one in waiting.values() if one.extends not in waiting]
        if not ready:
            raise ValueError(f"{next(iter(waiting))} extends itself")
        for one in ready:
            ordered[one.key] = waiting.pop(one.key)
    return tuple(ordered.values())


def _reference(key: GufeKey, value: Any) -> GufeKey:
    if not isinstance(value, Mapping) or REFERENCE not in value:
        raise ValueError(f"{key}: expected a reference to a gufe object, got {value!r:.200}")
    return parse_key(value[REFERENCE])
