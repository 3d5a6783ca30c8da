"""The whole way on a real Neo4j that the original has filled; `make test-neo4j` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alchemistore import Scope, StateStore
from alchemistore.neo4j.graph import Neo4jGraph
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.verification import Verification
from bench.neo4j_server import build, missing, serving
from tests.support.recorded_graph import DATA, RecordedGraph, record

CHECKOUT = Path(__file__).parents[2]
FILL = Path(__file__).parent / "programs" / "fill.py"
PYTHON = "ALCHEMISTORE_SERVER_PYTHON"

ONE, TWO = Scope("org", "campaign", "one"), Scope("org", "campaign", "two")

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="session")
def server_python() -> str:
    """The interpreter of an environment with alchemiscale 0.8, gufe 1.x and stratocaster."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"{PYTHON} names no interpreter that has alchemiscale")
    return python


@pytest.fixture(scope="session")
def graph_url(server_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Neo4j that the original has filled."""
    lacking = missing()
    if lacking:
        pytest.skip(f"{lacking} is not installed")
    built = build(CHECKOUT / "build" / "neo4j")
    with serving(built, tmp_path_factory.mktemp("neo4j")) as url:
        done = run(server_python, str(FILL), url)
        assert done.returncode == 0, done.stderr
        yield url


def run(python: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the checkout and the examples."""
    return subprocess.run(
        [python, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={
            **os.environ,
            "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'examples'}",
            "ALCHEMISTORE_MODULES": "harmonic",
            **variables,
        },
    )


def import_graph(python: str, url: str, database: str) -> tuple[int, str]:
    """Run the import; its exit code and what it printed."""
    return command(python, "import", url, database)


def command(python: str, verb: str, url: str, database: str) -> tuple[int, str]:
    """Run a command about a graph; its exit code and what it printed."""
    done = run(
        python,
        "-c",
        "from alchemistore.cli import main; main()",
        verb,
        "neo4j",
        url,
        ALCHEMISTORE_DATABASE_URL=database,
        NEO4J_PASS="x",
    )
    return done.returncode, done.stdout + done.stderr


def test_everything_is_moved_and_equal(
    graph_url: str, server_python: str, store: StateStore, pooled_database: str
) -> None:
    code, printed = import_graph(server_python, graph_url, pooled_database)
    assert code == 0, printed
    assert "stored as the graph has it" not in printed
    assert "different:" not in printed
    store.check()
    code, again = import_graph(server_python, graph_url, pooled_database)
    assert code == 0, again
    parts = ("services", "identities", "org-campaign-one", "org-campaign-two")
    for part in parts:
        assert f"{part}: no changes" in again


def test_documents_are_as_gufe_writes_them(
    graph_url: str, server_python: str, store: StateStore, pooled_database: str
) -> None:
    import_graph(server_python, graph_url, pooled_database)
    program = Path(__file__).parent / "programs" / "compare.py"
    done = run(server_python, str(program), ALCHEMISTORE_DATABASE_URL=pooled_database)
    assert (done.returncode, done.stdout) == (0, "30 documents are equal"), done.stderr


def test_changes_in_the_graph_are_stored(graph_url: str, store: StateStore) -> None:
    import neo4j

    with Neo4jGraph(graph_url, "neo4j", "x") as graph:
        reader = GraphReader(graph)
        [*GraphImport(store, reader, graph_url).run()]
        with neo4j.GraphDatabase.driver(graph_url, auth=("neo4j", "x")) as driver:
            driver.execute_query("MATCH (t:Task {status: 'waiting'}) SET t.priority = 4")
            try:
                reports = [*GraphImport(store, reader, graph_url).run()]
            finally:
                driver.execute_query("MATCH (t:Task {status: 'waiting'}) SET t.priority = 10")
        changed = sum(one.counts["tasks"].changed for one in reports if "-" in one.part)
        scopes = reader.scopes().scopes
        tasks = [task for scope in scopes for task in reader.tasks(scope)]
        assert changed == [task.status for task in tasks].count("waiting") > 0
        for report in [*GraphImport(store, reader, graph_url).run()]:
            if "-" in report.part:
                assert [
                    one for one in Verification(store, reader).part(report) if one.different
                ] == []


def test_graph_is_not_changed(graph_url: str, store: StateStore, tmp_path: Path) -> None:
    with Neo4jGraph(graph_url, "neo4j", "x") as graph:
        record(graph, tmp_path / "before.jsonl")
        [*GraphImport(store, GraphReader(graph), graph_url).run()]
        record(graph, tmp_path / "after.jsonl")
    before, after = (RecordedGraph.read(name, tmp_path).answers for name in ("before", "after"))
    assert before.keys() == after.keys()
    for question, rows in before.items():
        assert sorted(map(str, rows)) == sorted(map(str, after[question]))


@pytest.fixture(scope="session")
def empty_graph_url(
    server_python: str, graph_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Another Neo4j, which is empty."""
    with serving(CHECKOUT / "build" / "neo4j", tmp_path_factory.mktemp("empty")) as url:
        yield url


def normalised(graph: RecordedGraph) -> dict[str, list[str]]:
    """The answers without the order of rows and of what they hold."""
    return {
        question: sorted(json.dumps(_sorted(row), default=str, sort_keys=True) for row in rows)
        for question, rows in graph.answers.items()
    }


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _sorted(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return sorted(map(_sorted, value), key=str)
    return value


def test_there_and_back_is_equal(
    graph_url: str,
    empty_graph_url: str,
    server_python: str,
    store: StateStore,
    pooled_database: str,
    tmp_path: Path,
) -> None:
    code, printed = command(server_python, "import", graph_url, pooled_database)
    assert code == 0, printed
    code, printed = command(server_python, "export", empty_graph_url, pooled_database)
    assert code == 0, printed
    code, printed = command(server_python, "export", empty_graph_url, pooled_database)
    assert (code, "is not empty" in printed) == (2, True), printed
    for name, url in (("there", graph_url), ("back", empty_graph_url)):
        with Neo4jGraph(url, "neo4j", "x") as graph:
            record(graph, tmp_path / f"{name}.jsonl")
    there, back = (RecordedGraph.read(name, tmp_path) for name in ("there", "back"))
    # The task that has got the scope of its transformation, with its result.
    for question in (f"tasks {ONE}", f"results {ONE}"):
        text = json.dumps(there.answers[question], default=str)
        moved = text.replace(f"-{TWO}", f"-{ONE}") if question.startswith("results") else text
        there.answers[question] = json.loads(moved)
        back.answers[question] = json.loads(json.dumps(back.answers[question], default=str))
    for row in there.of("tasks", str(ONE)):
        row["key"] = row["key"].replace(f"-{TWO}", f"-{ONE}")
        row["results"] = [one.replace(f"-{TWO}", f"-{ONE}") for one in row["results"]]
    expected, found = normalised(there), normalised(back)
    assert expected.keys() == found.keys()
    for question, rows in expected.items():
        assert rows == found[question], question
    program = Path(__file__).parent / "programs" / "read.py"
    done = run(server_python, str(program), graph_url, empty_graph_url)
    assert (done.returncode, done.stdout) == (0, "equal"), done.stderr


KINDS = (
    "Task",
    "TaskHub",
    "NetworkMark",
    "ProtocolDAGResultRef",
    "Tracebacks",
    "TaskRestartPattern",
)


def test_what_the_store_does_not_hold_is_listed(graph_url: str, store: StateStore) -> None:
    import neo4j

    with neo4j.GraphDatabase.driver(graph_url, auth=("neo4j", "x")) as driver:
        for kind in (*KINDS, "ChemicalSystem"):
            driver.execute_query(
                f"CREATE (n:GufeTokenizable:{kind}:Stray) SET n += $properties",
                properties={
                    "_org": "org",
                    "_campaign": "campaign",
                    "_project": "one",
                    "_gufe_key": f"{kind}-{'0' * 32}",
                    "_scoped_key": f"{kind}-{'0' * 32}-{ONE}",
                    "status": "waiting",
                },
            )
        driver.execute_query("""
            MATCH (:ComputeServiceRegistration)-[:CLAIMS]->(t:Task)
            MATCH (s:ComputeServiceRegistration) WHERE NOT (s)-[:CLAIMS]->(t)
            CREATE (s)-[:CLAIMS {claimed: datetime(), stray: true}]->(t)
        """)
        driver.execute_query("""
            MATCH (h:TaskHub)-[:ACTIONS]->(t:Task {status: 'waiting'}) WITH h, t LIMIT 1
            CREATE (h)-[:ACTIONS {weight: 0.9, task: t._scoped_key, stray: true}]->(t)
        """)
        try:
            with Neo4jGraph(graph_url, "neo4j", "x") as graph:
                reports = [*GraphImport(store, GraphReader(graph), graph_url).run()]
        finally:
            driver.execute_query("MATCH (n:Stray) DETACH DELETE n")
            driver.execute_query("MATCH ()-[r]->() WHERE r.stray DELETE r")
    found = [one for report in reports for one in report.findings if not one.document]
    texts = {one.key: one.text for one in found}
    for kind in (*KINDS, "ChemicalSystem"):
        assert texts[f"{kind}-{'0' * 32}-{ONE}"].endswith("it was left out")
    others = [one.text for one in found if "0" * 32 not in one.key]
    assert len(others) == 2
    assert any("it is claimed more than once" in one for one in others)
    assert any("twice; the larger weight was taken" in one for one in others)
    store.check()


def test_recording_is_what_the_original_writes(graph_url: str, tmp_path: Path) -> None:
    """The recorded graph of the other tests has the same questions and kinds of rows."""
    with Neo4jGraph(graph_url, "neo4j", "x") as graph:
        record(graph, tmp_path / "now.jsonl")
    recorded = RecordedGraph.read("wells")
    now = RecordedGraph.read("now", tmp_path)
    assert recorded.answers.keys() == now.answers.keys()
    for question, rows in recorded.answers.items():
        fresh = now.answers[question]
        assert len(rows) == len(fresh), question
        assert {name for row in rows for name in row} == {name for row in fresh for name in row}


if __name__ == "__main__":
    file = sys.argv[2] if len(sys.argv) > 2 else DATA / "wells.jsonl"
    with Neo4jGraph(sys.argv[1], "neo4j", "x") as source:
        record(source, Path(file))
