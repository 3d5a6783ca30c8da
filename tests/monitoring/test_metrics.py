"""`alchemistore metrics`: its numbers, and the files that refer to them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from alchemistore import ComputeManagerID, ComputeManagerRegistration, Scope, StateStore
from alchemistore.cli import main
from alchemistore.errors import S3UnavailableError
from alchemistore.monitoring import readings
from alchemistore.monitoring.collection import Collection, build_info
from alchemistore.monitoring.exposition import exposed_samples
from alchemistore.monitoring.families import BOUNDS, FAMILIES, PREFIX, exposed
from alchemistore.monitoring.readings import By, database_parts, object_store_part
from tests.cli.conftest import Run
from tests.support.campaigns import Campaign, campaign, register

FILES = resources.files("alchemistore.monitoring")
HERE = {"org": "org", "campaign": "campaign", "project": "project"}
Labels = frozenset[tuple[str, str]]
Numbers = dict[tuple[str, Labels], float]


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A hub with six tasks: one is complete, one has failed, and two are running."""
    made = campaign(store, scope, tasks=6, name="mine")
    register(store, "alive", "silent", "expired")
    first = store.claim_taskhub_tasks(made.hub, "alive", count=2)
    store.set_task_complete(first[:1])
    store.set_task_error(first[1:])
    store.claim_taskhub_tasks(made.hub, "alive", count=2)
    name = ComputeManagerID(f"manager-{'1' * 32}")
    store.register_computemanager(ComputeManagerRegistration.from_now(name))
    with store.engine.begin() as connection:
        for service, minutes in (("silent", 11), ("expired", 31)):
            connection.execute(
                text(
                    "UPDATE compute_services SET heartbeat_at = clock_timestamp() - :ago"
                    " WHERE identifier = :name"
                ),
                {"name": service, "ago": timedelta(minutes=minutes)},
            )
        connection.execute(
            text(
                "UPDATE attempts SET claimed_at = ended_at - interval '2 hours'"
                " WHERE outcome = 'complete'"
            )
        )
    return made


def read(store: StateStore, by: By = By.project) -> Numbers:
    """Return all numbers by name and labels, with those of an object store that works."""
    parts = [
        *database_parts(store.engine, timedelta(minutes=30), by),
        object_store_part(lambda: None),
    ]
    collection = Collection(parts, 10.0, absolute=True)
    collection.refresh()
    assert collection.errors() == {}
    samples = exposed_samples(lambda: [build_info(), *collection.samples()])
    return {(name, frozenset(labels.items())): value for name, labels, value in samples}


def get(numbers: Numbers, name: str, **labels: str) -> float | None:
    return numbers.get((PREFIX + name, frozenset(labels.items())))


def test_numbers_are_those_of_the_store(store: StateStore, made: Campaign) -> None:
    numbers = read(store)
    expected = {"complete": 1, "running": 2, "waiting": 2, "error": 1, "invalid": 0, "deleted": 0}
    for status, count in expected.items():
        assert get(numbers, "tasks", **HERE, status=status) == count
    assert get(numbers, "poisoned_tasks", **HERE) == 0
    assert get(numbers, "claims_total", **HERE) == 4
    assert get(numbers, "ended_attempts_total", **HERE, outcome="complete") == 1
    assert get(numbers, "ended_attempts_total", **HERE, outcome="error") == 1
    assert get(numbers, "claimable_tasks", **HERE) == 2
    for state in ("alive", "silent", "expired"):
        assert get(numbers, "compute_services", state=state) == 1
    assert get(numbers, "compute_managers", status="OK") == 1
    assert get(numbers, "compute_managers", status="ERROR") == 0
    assert get(numbers, "maintenance_running") == 0
    assert get(numbers, "schema_current") == 1
    assert get(numbers, "database_standby") == 0
    assert store.acquire_lease("maintenance", "me", timedelta(hours=1))
    assert get(read(store), "maintenance_running") == 1


def test_unfinished_tasks_with_many_attempts_are_counted(
    store: StateStore, made: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "MANY_ATTEMPTS", 1)
    # The complete one is not counted.
    assert get(read(store), "poisoned_tasks", **HERE) == 3


def test_durations_are_counted_up_to_each_bound(store: StateStore, made: Campaign) -> None:
    numbers = read(store)
    for bound in BOUNDS:
        found = get(numbers, "attempt_duration_seconds_bucket", outcome="complete", le=f"{bound:g}")
        assert found == (1 if bound > 7200 else 0), bound
    everything = get(numbers, "attempt_duration_seconds_bucket", outcome="complete", le="+Inf")
    assert everything == get(numbers, "attempt_duration_seconds_count", outcome="complete") == 1
    assert get(numbers, "attempt_duration_seconds_sum", outcome="complete") == 7200
    assert get(numbers, "attempt_duration_seconds_count", outcome="expired") == 0


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        (By.all, {"org": "", "campaign": "", "project": ""}),
        (By.org, {"org": "org", "campaign": "", "project": ""}),
        (By.campaign, {"org": "org", "campaign": "campaign", "project": ""}),
    ],
)
def test_scopes_are_added_up(
    store: StateStore, made: Campaign, by: By, labels: dict[str, str]
) -> None:
    campaign(store, Scope("org", "campaign", "another"), tasks=3)
    numbers = read(store, by)
    assert get(numbers, "tasks", **labels, status="waiting") == 5
    assert get(numbers, "claimable_tasks", **labels) == 5
    assert get(numbers, "claims_total", **labels) == 4
    assert len([name for name, _ in numbers if name == f"{PREFIX}claimable_tasks"]) == 1


def test_task_on_a_hub_of_weight_zero_is_not_claimable(store: StateStore, made: Campaign) -> None:
    store.set_taskhub_weight(made.network, 0)
    assert get(read(store), "claimable_tasks", **HERE) is None


def test_every_family_appears(store: StateStore, made: Campaign) -> None:
    found = {name for name, _ in read(store)}
    assert found == {name for family in FAMILIES.values() for name in exposed(family)}


def expressions() -> Iterator[str]:
    """The expressions of the rules and of the dashboard, and the queries of its variables."""
    for group in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    board = json.loads((FILES / "dashboard.json").read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def test_dashboard_and_rules_use_metrics_and_labels_that_exist() -> None:
    known = {name: family for family in FAMILIES.values() for name in exposed(family)}
    used = set()
    for expression in expressions():
        for name, matchers in re.findall(rf"({PREFIX}\w+)(\{{[^}}]*\}})?", expression):
            assert name in known, expression
            used.add(known[name].name)
            # Prometheus adds the label 'instance'.
            labels = {*known[name].labels, "instance", "le"}
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= labels, expression
    assert used == set(FAMILIES)


def test_rules_say_what_to_do_with_commands_that_exist() -> None:
    [group] = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"].endswith(".")
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        for command in re.findall(r"'alchemistore (\w+)", str(rule["annotations"])):
            assert command in main.commands, rule["alert"]


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]:
        place = panel["gridPos"]
        across = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in across for y in range(place["y"], place["y"] + place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_part_that_takes_too_long_is_missing_and_the_others_are_there(
    run: Run, store: StateStore, made: Campaign, pooled_database: str
) -> None:
    with store.engine.connect() as connection, connection.begin():
        connection.execute(text("LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE"))
        done = run("metrics", "--url", pooled_database, "--once", "--no-objects", "--timeout", "1s")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: attempts: ")
    assert "--timeout is 1 s" in done.stderr
    assert 'alchemistore_collection_up{part="attempts"} 0.0\n' in done.stdout
    assert 'alchemistore_collection_up{part="tasks"} 1.0\n' in done.stdout
    assert "alchemistore_claims_total" not in done.stdout
    assert re.search(r"^alchemistore_tasks\{.*status=\"running\"\} 2.0$", done.stdout, re.MULTILINE)


def test_database_that_cannot_be_reached_is_a_number(run: Run) -> None:
    done = run("metrics", "--url", "postgresql://me@127.0.0.1:1/x", "--once", "--json")
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    up = [one for one in lines if one["metric"] == "alchemistore_collection_up"]
    assert {one["labels"]["part"]: one["value"] for one in up}["database"] == 0
    assert all(one["value"] == 0 for one in up)
    assert len(up) == done.stderr.count("Error: ") > 3


def test_object_store_that_fails_is_a_number() -> None:
    def fail() -> None:
        raise S3UnavailableError("no server")

    collection = Collection([object_store_part(fail)], 10.0)
    collection.refresh()
    found = {one.family: one.numbers for one in collection.samples()}
    assert found["collection_up"] == (0,)
    assert "object_store_latency_seconds" not in found


def test_schema_that_is_missing_is_a_number(run: Run, empty_database: str) -> None:
    done = run("metrics", "--url", empty_database, "--once", "--no-objects", "-q")
    assert (done.exit_code, done.stdout) == (1, "")
    done = run("metrics", "--url", empty_database, "--once", "--no-objects")
    assert "\nalchemistore_schema_current 0.0\n" in done.stdout


def test_files_are_printed_without_a_database(run: Run) -> None:
    assert "groups" in yaml.safe_load(run("metrics", "--print", "alerts").stdout)
    assert json.loads(run("metrics", "--print", "dashboard").stdout)["uid"] == "alchemistore"


def test_server_answers_until_it_is_terminated(
    store: StateStore, pooled_database: str, made: Campaign
) -> None:
    command = [sys.executable, "-c", "from alchemistore.cli import main; main()", "metrics"]
    program = subprocess.Popen(
        [*command, "--url", pooled_database, "--port", "0", "--no-objects", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        address: str = json.loads(program.stdout.readline())["address"]
        answer = ""
        while "alchemistore_tasks{" not in answer:
            with urllib.request.urlopen(address, timeout=60) as response:
                answer = response.read().decode()
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=60)
    finally:
        program.kill()
    assert (program.returncode, said) == (0, "")


def test_port_that_is_taken_is_an_error(run: Run, pooled_database: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("metrics", "--url", pooled_database, "--port", port, "--no-objects")
    assert done.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_missing_package_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, pooled_database: str
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = run("metrics", "--url", pooled_database, "--once", "--no-objects")
    assert done.exit_code == 2
    assert "pip install 'alchemistore[metrics]'" in done.stderr


def test_documentation_names_every_metric_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    named = set(re.findall(rf"`({PREFIX}\w+)`", page))
    every = {exposed(family)[0].removesuffix("_bucket") for family in FAMILIES.values()}
    assert named == every
