"""The connection to Neo4j, as far as no server is needed."""

from __future__ import annotations

import socket
import sys

import pytest

from alchemistore.errors import GraphError, Neo4jNotInstalledError
from alchemistore.neo4j.graph import Neo4jGraph, checked_url
from alchemistore.neo4j.queries import QUERIES


@pytest.mark.parametrize("url", ["bolt://host:7687", "neo4j+s://host", "bolt+ssc://host:1"])
def test_url_of_a_graph_is_accepted(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize("url", ["http://host:7474", "host", "bolt://", ""])
def test_other_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected bolt://host:port"):
        checked_url(url)


def test_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="NEO4J_PASS") as caught:
        Neo4jGraph("bolt://neo4j:geheim@host:7687", "neo4j", "x")
    assert "geheim" not in str(caught.value)


def test_missing_driver_is_an_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "neo4j", None)
    with pytest.raises(Neo4jNotInstalledError, match=r"pip install 'alchemistore\[neo4j\]'"):
        Neo4jGraph("bolt://host:7687", "neo4j", "x")


def test_unreachable_server_is_an_own_error_with_the_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"bolt://127.0.0.1:{unused.getsockname()[1]}"
        with (
            Neo4jGraph(url, "neo4j", "x") as graph,
            pytest.raises(GraphError, match=f"the graph at {url} cannot be used"),
        ):
            list(graph.rows("kinds"))


@pytest.mark.parametrize("name", QUERIES)
def test_query_only_reads(name: str) -> None:
    words = set(QUERIES[name].upper().split())
    assert not words & {"CREATE", "MERGE", "SET", "DELETE", "DETACH", "REMOVE", "DROP", "FOREACH"}
