"""Networks that are stored in portions, and the memory that a large one needs."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import event, text

from alchemistore import Scope, StateStore
from alchemistore.operations import documents
from tests.support.campaigns import star

MB = 2**20
CHECKOUT = Path(__file__).parents[2]
# Stores a network with some transformations, and prints by how much the most memory of this process
# grew, in bytes. The network itself is in memory before.
PROGRAM = """
import gc, sys
from pathlib import Path
from alchemistore import Scope, StateStore
from bench.star import star
def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
store = StateStore(sys.argv[1])
store.create_network(star(100, name="first"), Scope("org", "campaign", "project"))
network = star(int(sys.argv[2]), name="large")
gc.collect()
before = most()
store.create_network(network, Scope("org", "campaign", "project"))
print(most() - before)
"""


def test_documents_of_a_large_network_are_stored_in_portions(
    store: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "DOCUMENTS_AT_ONCE", 7)
    network = star(10, name="in portions")
    portions: list[list[str]] = []

    def note(
        connection: object, cursor: object, statement: str, values: object, *_: object
    ) -> None:
        if "INSERT INTO gufe_objects" in statement:
            assert isinstance(values, dict)
            portions.append(values["tokens"].strip("{}").split(","))

    event.listen(store.engine, "before_cursor_execute", note)
    key = store.create_network(network, scope)
    event.remove(store.engine, "before_cursor_execute", note)
    assert {len(portion) for portion in portions[:-1]} == {7}
    sent = [token for portion in portions for token in portion]
    # Each portion sorts its rows; all must be in one order, or two transactions could deadlock.
    assert all(max(one) < min(other) for one, other in pairwise(portions))
    with store.engine.connect() as connection:
        stored = connection.scalars(
            text(
                "SELECT replace(CAST(token AS text), '-', '') FROM gufe_objects WHERE scope_id ="
                " (SELECT scope_id FROM networks WHERE token = CAST(:token AS uuid) LIMIT 1)"
            ),
            {"token": key.token},
        )
        assert sorted(sent) == sorted(stored)
    assert store.get_gufe(key) == network
    assert store.create_network(network, scope) == key


@pytest.mark.soak
def test_network_of_20000_transformations_needs_little_memory(database: str) -> None:
    with StateStore(database) as store:
        store.initialize()
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, database, "20000"],
        cwd=CHECKOUT,
        env={"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'examples'}"},
        check=True,
        stdout=subprocess.PIPE,
    )
    # Its documents have 22 MB, and some parts are in memory twice while they are sent.
    assert int(program.stdout) < 180 * MB
