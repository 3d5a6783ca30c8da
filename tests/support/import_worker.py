"""An import of the recorded graph in a process of its own, so that it can be killed."""

from __future__ import annotations

from multiprocessing.connection import Connection

from sqlalchemy import event

from alchemistore import StateStore
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from tests.support.recorded_graph import RecordedGraph


def run(url: str, statements: int, test: Connection) -> None:
    """Import the graph, and tell the test when this many statements have been sent.

    The import does not wait, so that the kill hits it somewhere behind that statement.
    """
    store = StateStore(url)
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent == statements:
            test.send(sent)

    event.listen(store.engine, "before_cursor_execute", count)
    for _ in GraphImport(store, GraphReader(RecordedGraph.read("wells")), "killed").run():
        pass
    store.close()
