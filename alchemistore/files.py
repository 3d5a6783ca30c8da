"""Add files with networks and results to a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alchemistore import gufe_adapter
from alchemistore.database.keys import parse_key, parse_scope
from alchemistore.errors import MissingObjectError
from alchemistore.models import ProtocolDAGResultRef, Scope, ScopedKey
from alchemistore.operations.conflicts import require_writer
from alchemistore.operations.imports import (
    ComputedResult,
    find_tasks_of_results,
    import_results,
)
from alchemistore.operations.networks import create_network
from alchemistore.operations.topology import TRANSFORMATION_KINDS
from alchemistore.store import StateStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from alchemistore.objectstore import S3ObjectStore


@dataclass(frozen=True)
class AddedFile:
    """The keys of the network and the tasks of a file that was added to a store.

    Attributes
    ----------
    network : ScopedKey or None
        The network in the file.
    tasks : tuple of ScopedKey
        One task for each result in the file.
    num_new_tasks : int
        How many of them were created by this call; the others existed.
    """

    network: ScopedKey | None
    tasks: tuple[ScopedKey, ...]
    num_new_tasks: int


@dataclass(frozen=True)
class _Result:
    """A result with the key of its transformation."""

    found: gufe_adapter.FileResult
    of: ScopedKey

    def computed(self, ref: ProtocolDAGResultRef | None = None) -> ComputedResult:
        """Return the result with its reference, as it is imported."""
        return ComputedResult(self.of, self.found.key, self.found.extends, ref)


def add_file(
    store: StateStore,
    source: Any,
    scope: Scope | str,
    *,
    transformation: ScopedKey | str | None = None,
    object_store: S3ObjectStore | None = None,
    creator: str | None = None,
    written_by: str | None = None,
) -> AddedFile:
    """Store the network and the results in a file, once however often it is added.

    Parameters
    ----------
    store : StateStore
        The state store.
    source : path, str, bytes, file object, list, dict or gufe object
        A network, a transformation, an archive or a result: as a nested dict, a keyed chain or an
        object, or the result file of ``openfe quickrun``. Files may be compressed by gzip or zstd.
    scope : Scope or str
        The scope to store it in; it must be specific.
    transformation : ScopedKey or str, optional
        The transformation of a single result. Required if the file does not name it.
    object_store : S3ObjectStore, optional
        The store of results. Default: that of the environment.
    creator : str, optional
        The creator of the new tasks and references.
    written_by : str, optional
        The versions of the packages that wrote the file, such as ``gufe 1.9.0``, if they are not
        the installed ones. Keys and documents may then differ from those that the installed
        packages would write.

    Returns
    -------
    AddedFile
        The keys of the network and of the tasks.

    Raises
    ------
    ValueError
        If the file is of another kind, lacks something, or gufe computes another key for a result
        than the file gives it. The message says what to do.
    DocumentConflictError
        If a document differs from the one that is stored under its key.
    DocumentNotBuildableError
        If the installed packages cannot build an object that must be built.
    KeyError
        If the transformation of a result is not stored.
    OSError
        If the file cannot be read.
    GufeNotInstalledError
        If the form of the file needs gufe, and gufe is not installed.
    S3ObjectStoreError
        If a result cannot be stored.

    Warns
    -----
    KeyDriftWarning
        If gufe computes another key for a result that another version of gufe wrote.
    DocumentConflictWarning
        If a stored document differs and stays, because another version wrote it.
    """
    into = parse_scope(scope).require_storable()
    if not into.specific():
        raise ValueError(f"{into} is not specific; name an organisation, a campaign and a project")
    edge = None if transformation is None else parse_key(transformation, TRANSFORMATION_KINDS)
    if edge is not None and edge.scope != into:
        raise ValueError(f"the transformation {edge} is not in the scope {into}")
    require_writer(written_by)
    content = gufe_adapter.read_file(source, written_by)
    results = _pushed(store, object_store, _placed(store, content, into, edge), into, creator)
    num_new = sum(one.ref is not None for one in results)

    def write(tx: Connection, again: bool) -> AddedFile:
        network = _network(tx, content, into, written_by)
        tasks = import_results(tx, into, results, creator)
        return AddedFile(network, tuple(tasks), num_new)

    return store.run(write, readonly=False, known=True)


def _network(
    tx: Connection, content: gufe_adapter.FileContent, scope: Scope, written_by: str | None
) -> ScopedKey | None:
    if content.network is None:
        return None
    return create_network(tx, content.network, scope, written_by=written_by)


def _placed(
    store: StateStore, content: gufe_adapter.FileContent, scope: Scope, edge: ScopedKey | None
) -> list[_Result]:
    """Return the results of a file with their transformations."""
    found = content.results
    if content.quickrun is not None:
        if edge is None:
            raise ValueError(
                "the file is a result of 'openfe quickrun', which does not name its transformation;"
                " name it with --transformation KEY (in Python, transformation=key)"
            )
        result = gufe_adapter.result_of_quickrun(
            content.quickrun, store.get_gufe(edge), edge.gufe_key
        )
        found = (gufe_adapter.result_of(gufe_adapter.encode(result), edge.gufe_key),)
    if edge is not None and (content.network is not None or len(found) != 1):
        raise ValueError(
            "the file is not a single result, so it names its transformations; leave out the"
            " transformation"
        )
    placed = []
    for one in found:
        if edge is None and one.transformation is None:
            raise ValueError(
                f"{one.key} does not name its transformation; name it with --transformation KEY (in"
                " Python, transformation=key)"
            )
        key = edge or ScopedKey.from_str(f"{one.transformation}-{scope}")
        placed.append(_Result(one, parse_key(key, TRANSFORMATION_KINDS)))
    if content.network is None:
        for item in placed:
            if not store.check_existence(item.of):
                raise MissingObjectError(
                    f"{item.of}, the transformation of {item.found.key}; add its network first"
                )
    return placed


def _pushed(
    store: StateStore,
    object_store: S3ObjectStore | None,
    results: list[_Result],
    scope: Scope,
    creator: str | None,
) -> list[ComputedResult]:
    """Put those results that no task has into the object store."""
    if not results:
        return []
    known = store.run(
        lambda tx, again: find_tasks_of_results(tx, scope, [one.computed() for one in results]),
        readonly=True,
    )
    pushed = []
    for one, task in zip(results, known, strict=True):
        ref = None
        if task is None:
            object_store = object_store or _default_object_store()
            ref = object_store.put_result(
                one.found.data, one.found.key, one.found.ok, one.of, creator
            )
        pushed.append(one.computed(ref))
    return pushed


def _default_object_store() -> S3ObjectStore:
    from alchemistore.objectstore import get_s3os
    from alchemistore.settings import get_s3_settings

    return get_s3os(get_s3_settings())
