"""The rows of a graph as a file, so that tests need no Neo4j."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from alchemistore.models import ScopedKey
from alchemistore.neo4j.graph import Graph, Row

DATA = Path(__file__).parents[1] / "data" / "neo4j"
TIME = "$time"


class RecordedGraph:
    """Answers queries with the rows of a file; `answers` can be changed, as a graph can.

    Attributes
    ----------
    answers : dict
        The rows, by query and parameters.
    """

    def __init__(self, answers: dict[str, list[dict[str, Any]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    @classmethod
    def read(cls, name: str, folder: Path = DATA) -> RecordedGraph:
        """A recorded graph, by default of `tests/data/neo4j`."""
        text = (folder / f"{name}.jsonl").read_text()
        answers: dict[str, list[dict[str, Any]]] = {}
        for line in text.splitlines():
            one = json.loads(line, object_hook=_with_times)
            answers.setdefault(one["question"], []).extend(one["rows"])
        return cls(answers)

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """The rows of the answer to a query."""
        question = _question(query, parameters)
        self.asked.append(question)
        yield from self.answers.get(question, ())

    def of(self, query: str, scope: str = "") -> list[dict[str, Any]]:
        """The rows of a query about a scope, to be changed."""
        return self.answers.setdefault(f"{query} {scope}".strip(), [])


def _question(query: str, parameters: Mapping[str, Any]) -> str:
    """Name a query about a scope or a key."""
    return " ".join([query, "-".join(map(str, parameters.values()))]).strip()


class Recorder:
    """Asks a graph and keeps the answers."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.answers: dict[str, list[Row]] = {}

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        """The rows of the answer to a query."""
        found = list(self.graph.rows(query, **parameters))
        self.answers[_question(query, parameters)] = found
        yield from found

    def write(self, file: Path) -> None:
        """Write the answers, one line for each question."""
        lines = [
            json.dumps({"question": question, "rows": rows}, default=_written, sort_keys=True)
            for question, rows in sorted(self.answers.items())
        ]
        file.write_text("\n".join(lines) + "\n")


def _written(value: Any) -> Any:
    assert isinstance(value, datetime)
    return {TIME: value.isoformat()}


def _with_times(dct: dict[str, Any]) -> Any:
    return datetime.fromisoformat(dct[TIME]) if TIME in dct else dct


def record(graph: Graph, file: Path) -> None:
    """Write everything that an import asks."""
    from alchemistore.neo4j.reader import GraphReader

    recorder = Recorder(graph)
    reader = GraphReader(recorder)
    reader.require_marks()
    for scope in reader.scopes().scopes:
        keys: list[ScopedKey] = [one.key for one in reader.networks(scope)]
        keys += [one.key for one in reader.roots(scope)]
        for key in keys:
            list(reader.objects(key))
        for kind in (
            reader.tasks,
            reader.results,
            reader.tracebacks,
            reader.patterns,
            reader.strays,
        ):
            list(kind(scope))
        reader.count_tasks(scope)
    for registered in (reader.services, reader.managers, reader.identities):
        list(registered())
    recorder.write(file)


def graph_of(scope: str, *networks: Any) -> RecordedGraph:
    """A graph of networks without tasks, as the original writes gufe objects."""
    from alchemistore import gufe_adapter
    from alchemistore.neo4j.exports.nodes import convert

    org, campaign, project = scope.split("-")
    answers: dict[str, list[dict[str, Any]]] = {
        "kinds": [{"networks": len(networks), "marks": len(networks)}],
        "scopes": [{"org": org, "campaign": campaign, "project": project}],
        f"networks {scope}": [],
    }
    for network in networks:
        rows = []
        for document in gufe_adapter.encode(network):
            properties, links, _ = convert(json.loads(document.text))
            rows.append(
                {
                    "key": str(document.key),
                    # A graph has no properties without a value.
                    "properties": {
                        name: value for name, value in properties.items() if value is not None
                    },
                    "links": [
                        {
                            "key": key,
                            "attribute": place["attribute"],
                            "name": place.get("key"),
                            "index": place.get("index"),
                        }
                        for key, place in links.items()
                    ],
                }
            )
        key = f"{network.key}-{scope}"
        answers[f"objects {key}"] = rows
        answers[f"networks {scope}"].append(
            {
                "key": key,
                "name": network.name,
                "hubs": [],
                "states": ["active"],
                "strategies": [],
                "edges": [str(edge.key) for edge in network.edges],
            }
        )
    return RecordedGraph(answers)
