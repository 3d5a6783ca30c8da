"""Import a graph into a store: part by part, each in a transaction of its own.

The parts are the services with their managers, the identities, and each scope. After each
transaction the digest of the part is noted, so that an import knows whether anything else has
written to a part since. An import that was interrupted goes on where it was when it runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from alchemistore.models import Scope, ScopedKey
from alchemistore.models.clock import now, uuid7
from alchemistore.neo4j.documents import documents
from alchemistore.neo4j.imports import (
    corrections,
    identities,
    networks,
    objects,
    parts,
    registrations,
    restarts,
    results,
    staging,
    tasks,
)
from alchemistore.neo4j.imports.merge import merge, remove
from alchemistore.neo4j.imports.parts import IDENTITIES, SERVICES
from alchemistore.neo4j.pages import pages
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.records import GraphNetwork
from alchemistore.neo4j.report import PartReport, Progress, first_line, no_progress
from alchemistore.operations.documents import ensure_scope
from alchemistore.store import StateStore

T = TypeVar("T")

# Networks that one transaction stores. Before and after it, all rows of the scope are hashed.
NETWORKS = 25
# In this order, because rows refer to those of earlier merges.
MERGES = (*networks.MERGES, *tasks.MERGES, *restarts.MERGES, *results.MERGES)


class _Undo(Exception):
    """Ends the transaction of a dry run."""


class GraphImport:
    """An import of a graph into a store.

    Parameters
    ----------
    store : StateStore
        The store.
    reader : GraphReader
        The graph.
    source : str
        A name of the graph, which is noted; not a secret.
    force : bool, default False
        Import into parts that something else has written to, too. What the graph does not have is
        removed from them.
    progress : callable, optional
        Takes what is being imported, how much of it is done, and how much there is.
    """

    def __init__(
        self,
        store: StateStore,
        reader: GraphReader,
        source: str,
        *,
        force: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        self._store, self._reader, self._source, self._force = store, reader, source, force
        self._progress = progress

    def run(self, within: Scope | None = None, *, dry_run: bool = False) -> Iterator[PartReport]:
        """Import the graph, or a part of it.

        Parameters
        ----------
        within : Scope, optional
            Import only the scopes in this one. Default: all scopes, and the identities.
        dry_run : bool, default False
            Do everything in one transaction, and roll it back at the end.

        Yields
        ------
        PartReport
            The reports about the services, the identities and each scope, when they are done.

        Raises
        ------
        GraphError
            If the graph cannot be read or is too old, or something else has written to a part.
        """
        self._reader.require_marks()
        if not dry_run:
            yield from self._parts(within)
            return
        reports: list[PartReport] = []
        with suppress(_Undo), self._store.transaction() as tx:
            trial = GraphImport(
                tx, self._reader, self._source, force=self._force, progress=self._progress
            )
            reports += trial._parts(within)
            raise _Undo
        yield from reports

    def _parts(self, within: Scope | None) -> Iterator[PartReport]:
        reader = self._reader
        yield self._write(SERVICES, partial(registrations.import_registrations, reader=reader))
        if within is None:
            yield self._write(IDENTITIES, partial(identities.import_identities, reader=reader))
        found = reader.scopes()
        if found.refused and within is None:
            report = PartReport("other scopes")
            for text in found.refused:
                report.find(text, "it is no scope of a store; its objects were left out")
            yield report
        scopes = [one for one in found.scopes if within is None or within.is_superset(one)]
        for number, scope in enumerate(scopes):
            self._progress("scopes", number, len(scopes))
            yield self._import_scope(scope)
        self._progress("scopes", len(scopes), len(scopes))
        gone = self._write(SERVICES, partial(registrations.remove_services, reader=reader))
        if any(gone.counts.values()):
            gone.part = "services that left the graph"
            yield gone

    def _write(self, part: str, write: Callable[[Connection, PartReport], None]) -> PartReport:
        """Write to a part in a transaction, and return what was done."""

        def operation(tx: Connection, again: bool) -> PartReport:
            report = PartReport(part)
            parts.lock_part(tx, part)
            if not self._force:
                parts.require_untouched(tx, part)
            write(tx, report)
            parts.note_part(tx, part, self._source)
            return report

        return self._store.run(operation, readonly=False, known=True)

    def _import_scope(self, scope: Scope) -> PartReport:
        part = str(scope)
        report = self._write(part, lambda tx, new: None)
        found = list(self._reader.networks(scope))
        stored = self._read(lambda tx: objects.stored_objects(tx, scope))
        missing = [one for one in found if stored.lacks(one.key.token)]
        done = 0
        for some in pages(missing, NETWORKS):
            store = partial(objects.store_networks, self._reader, scope, some, stored)
            report.add(self._write(part, store))
            done += len(some)
            self._progress(f"networks of {part}", done, len(missing))
        strategies = self._import_strategies(part, scope, report, stored)
        written = self._write(
            part, lambda tx, new: self._import_state(tx, new, scope, found, strategies)
        )
        report.add(written)
        if stored.unbuilt:
            self._read(lambda tx: objects.describe_unbuilt(tx, scope, report))
        for stray in self._reader.strays(scope):
            ending = "" if ";" in stray.reason else "; it was left out"
            report.find(stray.key, f"{stray.reason}{ending}")
        return report

    def _read(self, read: Callable[[Connection], T]) -> T:
        """Read in a transaction, which may add the scope."""
        return self._store.run(lambda tx, again: read(tx), readonly=False)

    def _import_strategies(
        self, part: str, scope: Scope, report: PartReport, stored: objects.StoredObjects
    ) -> set[ScopedKey]:
        """Store the strategies of networks, and return their keys."""
        keys = set()
        for root in self._reader.roots(scope):
            if root.run:
                report.find(
                    root.key, "no network has this transformation; it was left out with its tasks"
                )
                continue
            if not root.used:
                report.find(root.key, "nothing uses this object; it was left out")
                continue
            again = stored.can_build and root.key.token in stored.unbuilt
            if again or not self._read(partial(objects.is_stored, key=root.key)):
                try:
                    found = documents(self._reader.objects(root.key), str(root.key.gufe_key))
                    report.add(self._write(part, partial(objects.store_strategy, scope, found)))
                except ValueError as error:
                    report.find(root.key, f"the strategy was left out: {first_line(error)}")
                    continue
                objects.describe(report, scope, found)
            keys.add(root.key)
        return keys

    def _import_state(
        self,
        tx: Connection,
        report: PartReport,
        scope: Scope,
        found: Sequence[GraphNetwork],
        strategies: set[ScopedKey],
    ) -> None:
        """Make everything but documents equal to the graph."""
        for one in MERGES:
            # In this order, they are reported.
            report.count(one.kind)
        staging.create(tx)
        values = {"scope_id": ensure_scope(tx, scope), "now": now(), "change": uuid7()}
        tasks.lock_tasks(tx, values)
        self._stage(tx, report, scope, found, strategies, values)
        staging.analyze(tx)
        corrections.correct(tx, report, scope, values)
        networks.remove_networks(tx, report, scope, values)
        tasks.remove_claims(tx, report, values)
        remove(tx, report, MERGES, values)
        tasks.note_status_changes(tx, values)
        merge(tx, report, MERGES, values)
        tasks.remove_tasks(tx, report, values)
        results.remove_results(tx, report, values)
        tasks.refresh_queue(tx, values)

    def _stage(
        self,
        tx: Connection,
        report: PartReport,
        scope: Scope,
        found: Sequence[GraphNetwork],
        strategies: set[ScopedKey],
        values: dict[str, Any],
    ) -> None:
        """Read everything but documents of the graph into the staging tables."""
        stored = set(tx.scalars(objects.STORED_NETWORKS, values))
        networks.stage_networks(
            tx, report, [one for one in found if one.key.token in stored], strategies
        )
        restarts.stage_patterns(tx, report, self._reader.patterns(scope))
        done, total = 0, self._reader.count_tasks(scope)
        for page in pages(self._reader.tasks(scope), staging.PAGE):
            tasks.stage_tasks(tx, report, scope, page)
            done += len(page)
            self._progress(f"tasks of {scope}", done, total)
        results.stage_results(tx, report, scope, self._reader.results(scope))
        results.stage_tracebacks(tx, self._reader.tracebacks(scope))
