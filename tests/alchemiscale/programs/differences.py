"""Differences that docs/alchemiscale.md promises, through both APIs of alchemiscale."""

from __future__ import annotations

import os
from typing import Any

from alchemistore.alchemiscale import install

os.environ |= {"NEO4J_URL": os.environ["URL"], "NEO4J_USER": " ", "NEO4J_PASS": " "}
install()

from alchemiscale.compute.api import app as compute_app
from alchemiscale.interface.api import app as user_app
from alchemiscale.security.auth import hash_key
from alchemiscale.security.models import CredentialedComputeIdentity, CredentialedUserIdentity
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.models import ComputeServiceID
from alchemiscale.storage.statestore import get_n4js
from starlette.testclient import TestClient

NETWORK = os.environ["NETWORK"]
SCOPE = "org-campaign-project"
SERVICE = ComputeServiceID.new_from_name("service")

store = get_n4js(Neo4jStoreSettings())
for kind in (CredentialedUserIdentity, CredentialedComputeIdentity):
    store.create_credentialed_entity(
        kind(identifier="someone", hashed_key=hash_key("key"), scopes=[SCOPE])
    )


def logged_in(app: Any) -> TestClient:
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.post("/token", data={"username": "someone", "password": "key"})
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return client


def good(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


user, compute = logged_in(user_app), logged_in(compute_app)

# Tasks are created in the order of the request.
one, two, three = good(user.get(f"/networks/{NETWORK}/transformations"))
order = [two, one, three, one]
tasks = good(user.post("/bulk/transformations/tasks/create", json={"transformations": order}))
assert [good(user.get(f"/tasks/{task}/transformation")) for task in tasks] == order

# Weights are 0, or from 1e-6 to 1.
names = ("gufe_key", "org", "campaign", "project")
parts = [dict(zip(names, task.rsplit("-", 3), strict=True)) for task in tasks]
action = f"/networks/{NETWORK}/tasks/action"
assert good(user.post(action, json={"tasks": parts, "weight": None})) == tasks
assert user.post(action, json={"tasks": parts, "weight": 1e-9}).status_code == 400
good(user.post(action, json={"tasks": parts, "weight": 1e-6}))

# A network named twice counts once.
counts = good(user.post("/bulk/networks/status", json={"networks": [NETWORK, NETWORK]}))
assert [{name: n for name, n in found.items() if n} for found in counts] == [{"waiting": 4}] * 2

# Names match a subset of patterns.
assert good(user.get("/networks", params={"name": "moon|st.*"})) == [NETWORK]
assert user.get("/networks", params={"name": "(?=star)star"}).status_code == 500

# Restart patterns must be regular expressions, with a maximum of at least 1.
patterns = f"/networks/{NETWORK}/restartpatterns"
for pattern, maximum, status in (("(", 1, 500), ("killed", 0, 500), ("killed", 1, 200)):
    body = {"patterns": [pattern], "num_allowed_restarts": maximum}
    assert user.post(f"{patterns}/add", json=body).status_code == status, pattern


def claim(protocols: list[str] | None = None) -> Any:
    body = {
        "scopes": [{"org": None, "campaign": None, "project": None}],
        "compute_service_id": str(SERVICE),
        "count": 1,
        "protocols": protocols,
    }
    return good(compute.post("/claim", json=body))


# A service that is not registered is denied.
assert claim() is None
register = f"/computeservice/{SERVICE}/register"
good(compute.post(register, json={}))
assert compute.post(register, json={}).status_code == 422
assert "registered" in compute.post(register, json={}).json()["detail"]
# `protocols` selects by the class of the protocol, not by classes inside a transformation.
assert claim(["ChemicalSystem"]) == [None]
assert claim(["PushProtocol"])[0] in tasks
assert claim()[0] in tasks
store.close()
