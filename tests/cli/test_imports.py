"""`alchemistore import neo4j` and `export neo4j`: output and exit codes, on a recorded graph."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from alchemistore import StateStore
from alchemistore.neo4j import graph as graph_module
from alchemistore.neo4j.graph import Row
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings
from tests.cli.conftest import Run
from tests.support.recorded_graph import RecordedGraph

URL = "bolt://localhost:7687"


class Opened:
    """Stands for the connection; `given` is what it was opened with."""

    given: tuple[str, ...] = ()

    def __init__(self, *given: str) -> None:
        type(self).given = given
        self._recorded = RecordedGraph.read("wells")

    address = URL

    def write(self, statement: str, **parameters: Any) -> list[Row]:
        return [{"written": len(parameters["rows"])}] if parameters else []

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        return self._recorded.rows(query, **parameters)


@pytest.fixture(autouse=True)
def recorded(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    monkeypatch.setenv("NEO4J_PASS", "geheim")
    monkeypatch.setattr(graph_module, "Neo4jGraph", Opened)


def test_import_reports_as_text(run: Run, store: StateStore) -> None:
    done = run("import", "neo4j", URL)
    assert done.exit_code == 0, done.output
    assert "tasks                           13 added         0 changed         0 removed" in (
        done.stdout
    )
    assert Opened.given == (URL, "neo4j", "geheim", "neo4j")
    assert len(store.query_networks()) == 3
    again = run("import", "neo4j", URL)
    assert "org-campaign-one: no changes" in again.stdout


def test_import_reports_as_json_and_writes_the_new_keys(run: Run, tmp_path: Path) -> None:
    keys = tmp_path / "keys.tsv"
    done = run("import", "neo4j", URL, "--json", "--new-keys", str(keys))
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    parts = {one["part"]: one for one in lines if "part" in one}
    assert list(parts) == ["services", "identities", "org-campaign-one", "org-campaign-two"]
    one = parts["org-campaign-one"]
    assert one["counts"]["tasks"] == {"added": 13, "changed": 0, "removed": 0}
    assert not one["dry_run"]
    assert dict(line.split("\t") for line in keys.read_text().splitlines()) == one["new_keys"]


def test_dry_run_says_that_nothing_was_stored(run: Run, store: StateStore) -> None:
    done = run("import", "neo4j", URL, "--dry-run", "-s", "org-campaign-two")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("This was a dry run: nothing was stored.\n")
    assert store.query_networks() == []


def test_changed_store_is_refused_unless_forced(run: Run, store: StateStore) -> None:
    run("import", "neo4j", URL)
    [network] = store.query_networks(name="three")
    store.set_taskhub_weight(network, 0.9)
    done = run("import", "neo4j", URL)
    assert done.exit_code == 2
    assert "use --force" in done.stderr
    assert run("import", "neo4j", URL, "--force").exit_code == 0
    assert store.get_taskhub_weight(network) == 0.25


def test_password_is_asked_for_if_the_variable_is_not_set(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEO4J_PASS")
    done = run("import", "neo4j", URL, typed="typed\n")
    assert done.exit_code == 0, done.output
    assert Opened.given[2] == "typed"


def test_password_in_the_url_is_refused(run: Run) -> None:
    done = run("import", "neo4j", "bolt://neo4j:geheim@localhost:7687")
    assert done.exit_code == 2
    assert "NEO4J_PASS" in done.stderr
    assert "geheim" not in done.output


def test_export_reports_what_was_written(run: Run) -> None:
    run("import", "neo4j", URL)
    done = run("export", "neo4j", URL)
    assert done.exit_code == 0, done.output
    assert "  tasks                           13 added" in done.stdout
    assert "changes of status" in done.stdout
    done = run("export", "neo4j", URL, "--json")
    parts = [json.loads(line)["part"] for line in done.stdout.splitlines()]
    assert parts == [
        "services", "identities", "org-campaign-one", "org-campaign-two", "no place in a graph",
    ]  # fmt: skip
    assert run("export", "neo4j", "bolt://a:b@host").exit_code == 2


def test_quiet_commands_print_nothing(run: Run, store: StateStore) -> None:
    for command in ("import", "export"):
        done = run(command, "neo4j", URL, "--quiet")
        assert (done.exit_code, done.output) == (0, "")
    assert len(store.query_networks()) == 3
    done = run("import", "neo4j", URL, "--quiet", "--dry-run")
    assert (done.exit_code, done.output) == (0, "")
    assert run("import", "neo4j", URL, "--quiet", "--json").exit_code == 2


def test_comparison_is_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_S3_BUCKET", raising=False)
    done = run("import", "neo4j", URL)
    assert (
        "  tasks                     13        13         0          0         0\n" in done.stdout
    )
    assert "AWS_S3_BUCKET is not set" in done.stdout
    assert "different:" not in done.stdout


def test_difference_is_named_and_makes_the_exit_code_1(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(self: Opened, query: str, **parameters: Any) -> Iterator[Row]:
        asked.append(query)
        for row in self._recorded.rows(query, **parameters):
            # The graph changes between the import and the comparison.
            later = query == "patterns" and asked.count("patterns") > 2
            yield {**row, "max_retries": 7} if later else row

    asked: list[str] = []
    monkeypatch.setattr(Opened, "rows", changing)
    done = run("import", "neo4j", URL)
    assert done.exit_code == 1
    assert "different: 'Out of memory' of TaskHub-" in done.stdout
    asked.clear()
    done = run("import", "neo4j", URL, "--no-verify")
    assert done.exit_code == 0
    asked.clear()
    done = run("import", "neo4j", URL, "--quiet")
    assert (done.exit_code, done.output) == (1, "")
    asked.clear()
    done = run("import", "neo4j", URL, "--json")
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    compared = [one["comparison"] for one in lines if "comparison" in one]
    assert [one["kind"] for one in compared if one["different"]] == ["restart patterns"]
    assert lines[-1] == {"bucket": None}


@pytest.fixture
def bucket_settings(
    s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The variables of an empty place in the object store."""
    settings = s3_server.model_copy(update={"AWS_S3_PREFIX": uuid.uuid4().hex})
    for name, value in settings.model_dump().items():
        if value is not None:
            monkeypatch.setenv(
                name, value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            )
    get_s3_settings.cache_clear()
    yield
    get_s3_settings.cache_clear()


def test_results_are_looked_up_in_the_bucket(run: Run, bucket_settings: None) -> None:
    done = run("import", "neo4j", URL)
    assert done.exit_code == 1
    assert "4 results were looked up; 4 are not in the bucket." in done.stdout
