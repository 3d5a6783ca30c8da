"""`alchemistore network plot`: what is drawn, and the files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import gufe
import pytest

from alchemistore import Scope, ScopedKey, StateStore, gufe_adapter
from alchemistore.errors import MissingStoredObjectError
from alchemistore.plotting import (
    LINES,
    Estimate,
    PlottedEdge,
    PlottedNetwork,
    draw,
    estimator,
    read_network,
)
from tests.cli.conftest import Run
from tests.support.campaigns import Campaign, campaign, created, move_to_status
from tests.support.gufe_classes import Effort, PushProtocol, system
from tests.support.results import ref

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def plot(run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments, typed=None: run("network", "plot", *map(str, arguments))


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Five transformations, of which four have tasks: each with another status among them."""
    made = campaign(store, scope, arms=5, name="$mine$ <&>")
    wanted = ("complete", "running", "waiting", "error")
    for edge, status in zip(made.transformations, wanted, strict=False):
        first, second = created(store.create_tasks([edge] * 2))
        move_to_status(store, [first], "complete")
        move_to_status(store, [second], status)
    return made


def test_drawing_shows_systems_and_the_status_that_needs_attention(
    store: StateStore, made: Campaign
) -> None:
    found = read_network(store, made.network)
    assert found.name == "$mine$ <&>"
    assert sorted(found.systems.values()) == ["arm 0", "arm 1", "arm 2", "arm 3", "arm 4", "middle"]
    by_key = {edge.transformation: edge for edge in found.edges}
    assert [by_key[edge].status for edge in made.transformations] == [
        *("complete", "running", "waiting", "error", "no tasks")
    ]
    for edge in found.edges:
        assert edge.name is not None
        assert edge.name == f"to {found.systems[edge.systems[1]]}"
        assert found.systems[edge.systems[0]] == "middle"


def test_status_of_an_edge_is_the_first_that_needs_attention() -> None:
    key = ScopedKey.from_str("Transformation-" + "0" * 32 + "-org-campaign-project")
    tasks = dict.fromkeys(("complete", "waiting", "invalid", "running", "error"), 1)
    for status in ("error", "running", "waiting", "complete", "no tasks"):
        assert PlottedEdge(key, ("a", "b"), None, tasks).status == status
        tasks.pop(status, None)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_file_is_written_and_summarised(
    plot: Run, made: Campaign, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"network.{suffix}"
    done = plot(made.network, file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"Drew 6 systems and 5 transformations: {file}\n"
    if suffix == "png":
        assert file.read_bytes().startswith(PNG)
    else:
        assert ElementTree.parse(file).getroot().tag.endswith("svg")
    first = file.read_bytes()
    summary = json.loads(plot(made.network, file, "--json").stdout)
    assert summary["statuses"] == dict.fromkeys(LINES, 1)
    assert (summary["systems"], summary["estimates"]) == (6, None)
    # The same network gives the same file.
    assert file.read_bytes() == first
    assert plot(made.network, file, "-q").output == ""


def test_wrong_file_network_or_package_is_an_error(
    plot: Run, made: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = plot(made.network, tmp_path / "network.pdf")
    assert refused.exit_code == 2
    assert ".svg or .png" in refused.stderr
    missing = str(made.network).replace("-org-", "-other-")
    assert plot(missing, tmp_path / "x.svg").exit_code == 2
    assert plot(made.hub, tmp_path / "x.svg").exit_code == 2
    monkeypatch.setitem(sys.modules, "networkx", None)
    done = plot(made.network, tmp_path / "x.svg")
    assert done.exit_code == 2
    assert "pip install 'alchemistore[plot]'" in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_lone_systems_loops_and_parallel_edges_are_drawn(
    store: StateStore, scope: Scope, tmp_path: Path
) -> None:
    a, b, lone = map(system, ("a", "b", "lone"))
    edges = [
        gufe.Transformation(a, b, PushProtocol(Effort(mode)), name=mode) for mode in ("work", "x")
    ]
    network = gufe.AlchemicalNetwork(edges, nodes=[a, b, lone], name="parts")
    found = read_network(store, store.create_network(network, scope))
    assert sorted(found.systems.values()) == ["a", "b", "lone"]
    one = found.edges[0]
    loop = PlottedEdge(one.transformation, (one.systems[0],) * 2, None, {"waiting": 1})
    found.edges.append(loop)
    draw(found, tmp_path / "parts.svg")
    drawn = (tmp_path / "parts.svg").read_text()
    assert drawn.count("<path") > 10


def test_results_are_drawn_and_listed(
    plot: Run, store: StateStore, made: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {made.transformations[0]: Estimate(-1.5, 0.25, "kcal/mol")}
    monkeypatch.setattr("alchemistore.plotting.estimator", lambda store, objects: known.get)
    # Nothing is connected before the first request.
    for name in ("BUCKET", "PREFIX"):
        monkeypatch.setenv(f"AWS_S3_{name}", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    file = tmp_path / "network.svg"
    done = plot(made.network, file, "--results")
    assert done.stdout == f"Drew 6 systems and 5 transformations, 1 of them with a result: {file}\n"
    summary = json.loads(plot(made.network, file, "--results", "--json").stdout)
    assert summary["estimates"] == [
        {
            "transformation": str(made.transformations[0]),
            "value": -1.5,
            "uncertainty": 0.25,
            "unit": "kcal/mol",
        }
    ]


class Objects:
    """Stored results, by location."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results

    def pull_protocoldagresult(self, location: str) -> Any:
        if location not in self.results:
            raise MissingStoredObjectError(location)
        return self.results[location]


def test_estimate_is_what_the_protocol_gathers_from_the_results_that_are_there(
    store: StateStore, made: Campaign, tmp_path: Path
) -> None:
    edge = made.transformations[0]
    transformation = store.get_gufe(edge)
    dag = gufe_adapter.create_dag(transformation)
    result = gufe_adapter.execute_dag(dag, shared_basedir=tmp_path, scratch_basedir=tmp_path)
    gathered = gufe_adapter.gather(transformation.protocol, [result])
    task = store.get_transformation_tasks(edge, status="complete")[0]
    for location in ("here", "gone"):
        store.set_task_result(task, ref(edge.scope, location=location, creator=location))
    estimate = estimator(store, cast(Any, Objects({"here": result})))
    assert estimate(edge) == Estimate(gathered.get_estimate(), gathered.get_uncertainty())
    assert estimator(store, cast(Any, Objects({})))(edge) is None
    assert estimate(made.transformations[1]) is None


def test_large_network_is_drawn_without_labels(tmp_path: Path) -> None:
    key = ScopedKey.from_str("AlchemicalNetwork-" + "0" * 32 + "-org-campaign-project")
    systems = {f"ChemicalSystem-{i}": f"system {i}" for i in range(80)}
    keys = [*systems]
    edges = [PlottedEdge(key, (keys[i], keys[i // 2]), None, {"complete": 1}) for i in range(1, 80)]
    draw(PlottedNetwork(key, None, systems, edges), tmp_path / "large.svg")
    small = PlottedNetwork(key, None, dict.fromkeys(keys[:2], "x"), edges[:1])
    draw(small, tmp_path / "small.svg")
    text = (tmp_path / "large.svg").read_text()
    assert "system 7" not in text
    assert text.count("<!-- ") < 10 + (tmp_path / "small.svg").read_text().count("<!-- ")
