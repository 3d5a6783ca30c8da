"""The state store works without gufe; calls that need it say how to install it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from alchemistore import GufeKey, S3ObjectStore, Scope, ScopedKey, StateStore
from alchemistore.settings import S3ObjectStoreSettings
from tests.support.campaigns import ZERO, campaign

CHECKOUT = Path(__file__).parents[2]
# A new interpreter in which a package cannot be imported, as if it were not installed.
BLOCK = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

PACKAGE, URL, TASKS, HUB, TRANSFORMATION = json.loads(sys.argv[1])
sys.meta_path.insert(0, Blocked())
from alchemistore import ComputeServiceRegistration, GufeNotInstalledError, StateStore
store = StateStore(URL)
"""
CALLS_WITHOUT_OBJECTS = """
store.register_computeservice(ComputeServiceRegistration.from_now("service"))
[claimed] = store.claim_taskhub_tasks(HUB, "service")
print(json.dumps({
    "checked": store.check(),
    "claimed": str(claimed),
    "statuses": [status.value for status in store.get_task_status(TASKS)],
    "completed": [str(task) for task in store.set_task_complete([claimed])],
    "created": len(store.create_tasks([TRANSFORMATION] * 2)),
    "task": store.get_gufe(claimed).status.value,
    "transformation": str(store.get_task_transformation(claimed, return_gufe=False)[0]),
    "gufe": "gufe" in sys.modules,
}))
"""
RELAY = """
stored = store.query_networks()[0]
chain = store.get_keyed_chain(stored)
copy = store.create_network(json.loads(json.dumps(chain)), "other-relayed-scope")
print(json.dumps({
    "same": store.get_keyed_chain(copy) == chain,
    "document": store.get_document(copy) == store.get_document(stored),
    "key": str(copy),
    "gufe": "gufe" in sys.modules,
}))
"""
PULL = """
from alchemistore import get_s3os
from alchemistore.settings import get_s3_settings
s3os = get_s3os(get_s3_settings())
data = s3os.pull_protocoldagresult(location=HUB, return_as="bytes")
text = s3os.pull_protocoldagresult(location=HUB, return_as="json")
print(json.dumps({"text": text, "same": data == text.encode(), "gufe": "gufe" in sys.modules}))
"""
CALLS_WITH_OBJECTS = """
refused = []
for call in (
    lambda: store.create_network(object(), "a-b-c"),
    lambda: store.get_gufe(TRANSFORMATION),
    lambda: store.get_task_transformation(TASKS[0]),
    lambda: store.query_networks(return_gufe=True),
):
    try:
        call()
    except GufeNotInstalledError as error:
        refused.append(str(error))
print(json.dumps(refused))
"""


def run_without(
    package: str,
    code: str,
    store: StateStore,
    tasks: list[ScopedKey],
    hub: ScopedKey | str | None,
    of: ScopedKey,
) -> Any:
    url = store.engine.url.render_as_string(hide_password=False)
    argument = json.dumps([package, url, [str(task) for task in tasks], str(hub), str(of)])
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code, argument],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_calls_about_tasks_work_without_gufe(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3, arms=1)
    of = made.transformations[0]
    answer = run_without("gufe", CALLS_WITHOUT_OBJECTS, store, made.tasks, made.hub, of)
    claimed = answer["claimed"]
    assert claimed in [str(task) for task in made.tasks]
    assert answer == {
        "checked": None,
        "claimed": claimed,
        "statuses": ["running" if str(task) == claimed else "waiting" for task in made.tasks],
        "completed": [claimed],
        "created": 2,
        "task": "complete",
        "transformation": str(of),
        "gufe": False,
    }


# networkx is a package that gufe itself imports.
@pytest.mark.parametrize("package", ["gufe", "networkx"])
def test_calls_about_objects_say_how_to_install_gufe(
    package: str, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1, arms=1)
    of = made.transformations[0]
    refused = run_without(package, CALLS_WITH_OBJECTS, store, made.tasks, made.hub, of)
    assert len(refused) == 4
    for message in refused:
        assert f"{package!r} is not installed" in message
        assert "conda install -c conda-forge gufe" in message
        assert "pip install 'alchemistore[gufe]'" in message


@pytest.mark.parametrize("package", ["gufe", "networkx"])
def test_networks_are_relayed_without_gufe(package: str, store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1, arms=1)
    of = made.transformations[0]
    answer = run_without(package, RELAY, store, made.tasks, made.hub, of)
    assert answer == {
        "same": True,
        "document": True,
        "key": f"{made.network.gufe_key}-other-relayed-scope",
        "gufe": False,
    }
    assert store.get_gufe(answer["key"]).key == made.network.gufe_key


def test_result_is_pulled_without_gufe(
    store: StateStore,
    scope: Scope,
    objects: S3ObjectStore,
    bucket: S3ObjectStoreSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = campaign(store, scope, arms=1)
    of = made.transformations[0]
    key = GufeKey(f"ProtocolDAGResult-{ZERO}")
    objects.initialize()
    kind = {"__module__": "gufe", "__qualname__": "ProtocolDAGResult"}
    text = json.dumps([[key, {**kind, "protocol_unit_results": []}]])
    ref = objects.put_result(text.encode(), key, True, of, None)
    for name, value in bucket:
        shown = value.get_secret_value() if isinstance(value, SecretStr) else value
        if shown is not None:
            monkeypatch.setenv(name, str(shown))
    answer = run_without("gufe", PULL, store, [], ref.location, of)
    assert answer == {"text": text, "same": True, "gufe": False}
