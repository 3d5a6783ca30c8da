"""`alchemistore network` and `alchemistore result`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from rich.cells import cell_len

from alchemistore import S3ObjectStore, Scope, StateStore, StrategyState, add_file, get_s3os
from alchemistore.errors import S3UnavailableError
from alchemistore.models import StrategyStatusEnum
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings
from tests.cli.conftest import Run
from tests.support.campaigns import ZERO, campaign, star
from tests.support.files import archive, chain, nested, quickrun, run as run_edge
from tests.support.gufe_classes import Ball, network, transformation
from tests.support.results import ref


def test_add_prints_the_network(run: Run, store: StateStore, scope: Scope, tmp_path: Path) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    path = tmp_path / "network.json.gz"
    path.write_bytes(gzip.compress(chain(network()).encode()))
    done = run("network", "add", str(path), "--scope", str(scope), "--url", url)
    [stored] = store.query_networks()
    assert (done.exit_code, done.stdout) == (0, f"Network {stored}\n")
    done = run(
        "network", "add", "-", "-s", str(scope), "--url", url, "--json", typed=chain(network())
    )
    assert json.loads(done.stdout) == {"network": str(stored), "tasks": [], "new_tasks": 0}


def test_add_refuses_a_quickrun_result_without_its_transformation(
    run: Run, store: StateStore, scope: Scope, tmp_path: Path
) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    path = tmp_path / "result.json"
    path.write_text(quickrun(transformation(), run_edge(transformation(), tmp_path)))
    done = run("network", "add", str(path), "--scope", str(scope), "--url", url)
    assert done.exit_code == 2
    assert "--transformation KEY" in done.stderr
    path.write_text(nested(transformation().stateA))
    done = run("network", "add", str(path), "--scope", str(scope), "--url", url)
    assert done.exit_code == 2
    assert "ChemicalSystem, which cannot be added" in done.stderr


@pytest.fixture
def networks(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs commands of this group on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments, typed=None: run("network", *map(str, arguments), typed=typed)


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_networks_are_listed_and_shown(
    networks: Run, store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2, name="mine")
    other = campaign(store, other_scope, name="other")
    store.set_network_state(other.network, "inactive")
    for options in (["--name", "mi.*"], ["--scope", scope], ["--state", "active"]):
        assert networks("list", "-q", *options).stdout.split() == [str(made.network)]
    first, second = json_lines(networks("list", "--json").stdout)
    assert (first["network"], first["state"]) == (str(other.network), "inactive")
    assert (second["hub"], second["tasks"]) == (str(made.hub), {"waiting": 2})
    title, row = networks("list", "--name", "mine").stdout.splitlines()
    assert title.split()[:3] == ["NETWORK", "NAME", "STATE"]
    assert row.endswith("waiting: 2")
    [shown] = json_lines(networks("show", made.network, "--json").stdout)
    assert (shown["name"], shown["strategy"], shown["strategy_state"]) == ("mine", None, None)
    assert str(made.hub) in networks("show", made.network).stdout


def test_all_pages_of_networks_are_listed(
    networks: Run, store: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("alchemistore.cli.network"), "PORTION", 2)
    for number in range(5):
        store.create_network(star(1, f"net {number}"), scope)
    expected = [str(key) for key in store.query_networks()]
    assert networks("list", "-q").stdout.split() == expected
    assert [one["network"] for one in json_lines(networks("list", "--json").stdout)] == expected


def test_columns_are_aligned_where_characters_are_wide(
    networks: Run, store: StateStore, scope: Scope
) -> None:
    store.create_network(star(1, "リガンド"), scope)
    store.create_network(star(2, "ligands"), scope)
    title, *rows = networks("list").stdout.splitlines()
    for row in rows:
        before, found, _ = row.partition("active")
        assert found
        assert cell_len(before) == title.index("STATE")


def test_state_is_shown_and_set(networks: Run, store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    assert networks("state", made.network).stdout == "active\n"
    assert networks("state", made.network, "inactive").stdout == "inactive\n"
    assert store.get_network_state(made.network) == "inactive"


def test_state_of_a_strategy_is_changed_field_by_field(
    networks: Run, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope)
    assert "has no strategy" in networks("strategy", made.network).stderr
    failed = StrategyState(
        status=StrategyStatusEnum.error, exception=("E", "m"), traceback="line 1\nline \x1b2"
    )
    key = store.set_network_strategy(made.network, Ball("strategy"), failed)
    shown = networks("strategy", made.network).stdout
    assert str(key) in shown
    assert shown.splitlines()[-2:] == ["line 1", r"line \x1b2"]
    options = ["--mode", "full", "--sleep-interval", "60", "--max-tasks-per-transformation", "7"]
    [changed] = json_lines(networks("strategy", made.network, *options, "--json").stdout)
    assert (changed["mode"], changed["status"], changed["strategy"]) == ("full", "error", str(key))
    found = store.get_network_strategy_state(made.network)
    assert found is not None
    assert (found.sleep_interval, found.max_tasks_per_transformation) == (60, 7)
    assert found.exception == ("E", "m")
    assert networks("strategy", made.network, "--wake").exit_code == 0
    found = store.get_network_strategy_state(made.network)
    assert found is not None
    assert (found.status, found.exception, found.traceback) == ("awake", None, None)
    assert networks("strategy", made.network, "--remove", typed="n\n").exit_code == 2
    assert networks("strategy", made.network, "--remove", "--mode", "full").exit_code == 2
    assert store.get_network_strategy(made.network) is not None
    assert networks("strategy", made.network, "--remove", "--yes").exit_code == 0
    assert store.get_network_strategy(made.network) is None


def test_exported_network_can_be_added_again(
    networks: Run, store: StateStore, scope: Scope, other_scope: Scope, tmp_path: Path
) -> None:
    made = campaign(store, scope)
    path = tmp_path / "network.json"
    done = networks("export", made.network, path)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("Wrote ")
    printed = networks("export", made.network, "-q")
    assert (printed.stdout, printed.stderr) == (path.read_text(), "")
    assert json.loads(printed.stdout) == json.loads(json.dumps(store.get_keyed_chain(made.network)))
    summary = json.loads(networks("export", made.network, path, "--json").stdout)
    assert summary["file"] == str(path)
    assert summary["objects"] == len(json.loads(path.read_text()))
    refused = networks("export", made.network, "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--json needs a FILE" in refused.stderr
    added = networks("add", path, "--scope", other_scope, "-q").stdout.strip()
    assert added == str(made.network).replace(str(scope), str(other_scope))
    assert store.get_keyed_chain(added) == store.get_keyed_chain(made.network)


def test_network_is_deleted_after_a_question(
    networks: Run, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2, name="mine")
    refused = networks("delete", made.network, typed="n\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "(mine), with its hub and strategy? Its 2 tasks stay." in refused.stderr
    assert store.check_existence(made.network)
    assert networks("delete", made.network, typed="y\n").stdout == f"Deleted {made.network}\n"
    assert not store.check_existence(made.network)
    assert store.get_task_status(made.tasks) == ["waiting", "waiting"]


@pytest.mark.parametrize("command", ["show", "state", "strategy", "export", "delete"])
def test_missing_network_and_wrong_key_are_errors(networks: Run, command: str) -> None:
    done = networks(command, f"AlchemicalNetwork-{ZERO}-a-b-c")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such object in database: AlchemicalNetwork-" in done.stderr
    done = networks(command, f"Task-{ZERO}-a-b-c")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")


def test_results_are_listed_by_task_transformation_and_network(
    run: Run, store: StateStore, pooled_database: str, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2)
    good = store.set_task_result(made.tasks[0], ref(scope))
    bad = store.set_task_result(made.tasks[0], ref(scope, ok=False))
    other = store.set_task_result(made.tasks[1], ref(scope))

    def results(*options: object) -> Any:
        return run("result", "list", "--url", pooled_database, *map(str, options))

    assert results("--task", made.tasks[0], "-q").stdout == f"{good}\n"
    assert results("--task", made.tasks[0], "--failed", "-q").stdout == f"{bad}\n"
    assert results("-t", made.transformations[0], "-q").stdout == f"{good}\n"
    assert results("-t", made.transformations[0], "-q", "--failed").stdout == f"{bad}\n"
    listed = results("--network", made.network, "-q").stdout.split()
    assert sorted(listed) == sorted([str(good), str(other)])
    [found] = json_lines(results("--task", made.tasks[1], "--json").stdout)
    stored: Any = store.get_gufe(other)
    assert (found["result"], found["task"]) == (str(other), str(made.tasks[1]))
    assert (found["ok"], found["obj_key"]) == (True, stored.obj_key)
    assert results("--task", made.tasks[0]).stdout.splitlines()[0].split()[0] == "RESULT"
    assert results().exit_code == 2
    assert results("--task", made.tasks[0], "-n", made.network).exit_code == 2
    assert "No such object" in results("--task", f"Task-{ZERO}-a-b-c").stderr


@pytest.fixture
def objects(
    s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3ObjectStore]:
    """An object store that the environment names."""
    settings = s3_server.model_copy(update={"AWS_S3_PREFIX": uuid4().hex})
    for name, value in settings:
        if value is not None:
            monkeypatch.setenv(
                name, value.get_secret_value() if hasattr(value, "get_secret_value") else value
            )
    get_s3_settings.cache_clear()
    yield get_s3os(settings)
    get_s3_settings.cache_clear()


def test_results_are_got_from_the_object_store(
    run: Run,
    store: StateStore,
    pooled_database: str,
    objects: S3ObjectStore,
    scope: Scope,
    tmp_path: Path,
) -> None:
    edge = transformation()
    source = archive(network(), {str(edge.key): [run_edge(edge, tmp_path) for _ in range(2)]})
    tasks = add_file(store, source, scope, object_store=objects).tasks
    refs = [str(key) for task in tasks for key in store.get_task_results(task)]
    stored: list[Any] = [store.get_gufe(key) for key in refs]
    expected = [
        objects.pull_protocoldagresult(location=one.location, return_as="json") for one in stored
    ]

    def get(*options: object, typed: str | None = None) -> Any:
        return run("result", "get", "--url", pooled_database, *map(str, options), typed=typed)

    one = get(refs[0])
    assert (one.exit_code, one.stdout, one.stderr) == (0, expected[0], "")
    where = tmp_path / "new" / "results"
    done = get("-", "--directory", where, "--json", typed="\n".join(refs))
    assert done.exit_code == 0
    files = [Path(line["file"]) for line in json_lines(done.stdout)]
    assert files == [where / f"{one.obj_key}.json" for one in stored]
    assert [file.read_text() for file in files] == expected
    assert get(*refs).exit_code == 2
    assert "not the key of a ProtocolDAGResultRef" in get(tasks[0]).stderr
    objects.delete(stored[0].location)
    missing = f"ProtocolDAGResultRef-{ZERO}-{scope}"
    done = get(refs[0], missing, refs[1], "-d", where, "-q")
    assert (done.exit_code, done.stdout) == (1, "")
    assert stored[0].location in done.stderr
    assert missing in done.stderr


def test_results_are_exported_with_an_index_and_an_export_goes_on(
    run: Run,
    store: StateStore,
    pooled_database: str,
    objects: S3ObjectStore,
    scope: Scope,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edge = transformation()
    source = archive(network(), {str(edge.key): [run_edge(edge, tmp_path) for _ in range(3)]})
    added = add_file(store, source, scope, object_store=objects)
    key = f"{edge.key}-{scope}"
    refs = [store.get_gufe(one) for one in store.get_transformation_results(key)]
    where = tmp_path / "new" / "results"

    def export(*options: object) -> Any:
        return run("result", "export", str(where), "--url", pooled_database, *map(str, options))

    # Interrupted after two results: the files that are there are whole, and there is no index.
    download, begun = S3ObjectStore.download_protocoldagresult, []

    def interrupted(self: S3ObjectStore, target: Path, location: str, **more: Any) -> int:
        begun.append(location)
        if len(begun) == 3:
            raise S3UnavailableError("the connection was lost")
        return download(self, target, location=location, **more)

    with monkeypatch.context() as patch:
        patch.setattr(S3ObjectStore, "download_protocoldagresult", interrupted)
        assert export("--network", added.network).exit_code == 2
    files = [*where.rglob("*")]
    assert {file.suffix for file in files if file.is_file()} == {".json"}
    assert len(files) == 3
    done = export("--network", added.network)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"Wrote 1 result (2 were there already) to {where}.\n"
    index = json_lines((where / "index.jsonl").read_text())
    assert [one["obj_key"] for one in index] == [str(one.obj_key) for one in refs]
    for one, its in zip(index, refs, strict=True):
        assert one["file"] == f"{edge.key}/{its.obj_key}.json"
        stored = objects.pull_protocoldagresult(location=its.location, return_as="bytes")
        assert (where / one["file"]).read_bytes() == stored
        assert (one["ok"], one["transformation"]) == (True, key)
    # A result that is gone is listed without a file; the others are there.
    objects.delete(refs[0].location)
    lines = export("--task", added.tasks[0], "--zstd", "--json")
    rows = json_lines(lines.stdout)
    assert all(row["file"].endswith(".json.zst") for row in rows if row["file"])
    gone = export("--transformation", key, "--zstd", "-q")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert gone.stderr.count("No such object in the object store") == 1
    assert [row["file"] is None for row in json_lines((where / "index.jsonl").read_text())] == [
        *(True, False, False)
    ]
    objects.bucket_prefix.put(refs[1].location, b"damaged", "application/zstd")
    (where / index[1]["file"]).with_suffix(".json.zst").unlink()
    damaged = export("--transformation", key, "--zstd", "-q")
    assert (damaged.exit_code, damaged.stderr.count("Error: ")) == (1, 2)
    again = add_file(
        store, where / index[1]["file"], scope, transformation=key, object_store=objects
    )
    assert (again.num_new_tasks, len(again.tasks)) == (0, 1)


def test_export_needs_one_subject_that_exists(
    run: Run, pooled_database: str, tmp_path: Path, objects: S3ObjectStore
) -> None:
    missing = f"AlchemicalNetwork-{ZERO}-org-campaign-project"
    start = ("result", "export", str(tmp_path / "x"), "--url", pooled_database)
    assert "use one of" in run(*start).stderr
    assert "No such object" in run(*start, "--network", missing).stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", [chain, nested])
def test_strategy_in_a_file_is_set(
    networks: Run, store: StateStore, scope: Scope, tmp_path: Path, form: Any
) -> None:
    made = campaign(store, scope)
    strategy = Ball("a strategy", 2.0)
    path = tmp_path / "strategy.json"
    path.write_text(form(strategy))
    done = networks("strategy", made.network, "--set", path, "--mode", "full", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    [shown] = json_lines(done.stdout)
    assert (shown["strategy"], shown["mode"]) == (f"{strategy.key}-{scope}", "full")
    assert store.get_network_strategy(made.network) == strategy
    again = networks("strategy", made.network, "--set", "-", typed=path.read_text())
    assert "partial" in again.stdout
    path.write_text("[]")
    assert networks("strategy", made.network, "--set", path).exit_code == 2
    path.write_text('{"a": 1}')
    refused = networks("strategy", made.network, "--set", path)
    assert "not the JSON of a gufe object" in refused.stderr
    assert networks("strategy", made.network, "--set", path, "--remove").exit_code == 2
    assert store.get_network_strategy(made.network) == strategy
