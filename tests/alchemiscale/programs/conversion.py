"""Every model, converted to ours and back, is equal and of the same class."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from alchemiscale import models as keys
from alchemiscale.security import models as identities
from alchemiscale.storage import models as theirs

from alchemistore import models as ours
from alchemistore.alchemiscale.conversion import to_ours, to_theirs
from alchemistore.models.strategy import StateOrigin

MOMENT = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TOKEN = "0123456789abcdef" * 2
NETWORK = keys.ScopedKey.from_str(f"AlchemicalNetwork-{TOKEN}-org-campaign-project")
SERVICE = theirs.ComputeServiceID(f"service-{TOKEN}")
MANAGER = theirs.ComputeManagerID(f"manager-{TOKEN}")


def manager(status: str, detail: str, saturation: float) -> Any:
    return theirs.ComputeManagerRegistration(
        name=MANAGER.name,
        uuid=MANAGER.uuid,
        registered=MOMENT,
        last_status_update=MOMENT,
        status=status,
        detail=detail,
        saturation=saturation,
    )


def same(value: Any) -> None:
    back = to_theirs(to_ours(value))
    assert type(back) is type(value), value
    assert back == value, value
    # Objects of gufe are equal if their keys are.
    if hasattr(value, "to_dict"):
        assert back.to_dict() == value.to_dict(), value


for enumeration in (
    theirs.TaskStatusEnum,
    theirs.NetworkStateEnum,
    theirs.StrategyModeEnum,
    theirs.StrategyStatusEnum,
    theirs.StrategyTaskScalingEnum,
    theirs.ComputeManagerStatus,
    theirs.ComputeManagerInstruction,
):
    for member in enumeration:
        same(member)
        assert type(to_ours(member)).__module__.startswith("alchemistore.")

for value in (
    NETWORK,
    keys.Scope(),
    keys.Scope("org", "campaign"),
    keys.Scope("org", "campaign", "project"),
    SERVICE,
    MANAGER,
    theirs.ComputeServiceRegistration(
        identifier=SERVICE,
        registered=MOMENT,
        heartbeat=MOMENT,
        failure_times=[MOMENT, MOMENT],
        manager_name="manager",
    ),
    manager("OK", "", 0.25),
    manager("ERROR", "out of disk", 0.0),
    theirs.ProtocolDAGResultRef(
        location="some/where",
        obj_key=keys.GufeKey(f"ProtocolDAGResult-{TOKEN}"),
        scope=keys.Scope("org", "campaign", "project"),
        ok=False,
        datetime_created=MOMENT,
        creator="service",
    ),
    theirs.ProtocolDAGResultRef(
        obj_key=keys.GufeKey(f"ProtocolDAGResult-{TOKEN}"),
        scope=keys.Scope("org", "campaign", "project"),
        ok=True,
    ),
    theirs.Task(
        status=theirs.TaskStatusEnum.running,
        priority=3,
        datetime_created=MOMENT,
        creator="user",
        extends=f"Task-{TOKEN}-org-campaign-project",
        claim="service",
        _key=f"Task-{TOKEN[::-1]}",
    ),
    theirs.TaskHub(network=str(NETWORK), weight=0.75),
    theirs.NetworkMark(target=NETWORK, state="inactive"),
    theirs.StrategyState(),
    theirs.StrategyState(
        mode="full",
        status="error",
        iterations=7,
        sleep_interval=60,
        last_iteration=MOMENT,
        last_iteration_result_count=5,
        max_tasks_per_transformation=9,
        task_scaling="linear",
        exception=("ValueError", "wrong"),
        traceback="Traceback",
    ),
    identities.CredentialedUserIdentity(
        identifier="user",
        hashed_key="$2b$12$hash",
        expires=MOMENT,
        disabled=True,
        scopes=["org-campaign-*", "*-*-*"],
        email="user@example.org",
        full_name="A User",
    ),
    identities.CredentialedComputeIdentity(identifier="service", hashed_key="$2b$12$hash"),
):
    same(value)
    same([value, None])
    same((value, {"key": value}))

# What has no counterpart stays as it is, and iterators become lists.
assert to_ours("text") == to_theirs("text") == "text"
assert to_ours(iter([NETWORK])) == to_ours({NETWORK: 1}.keys()) == [to_ours(NETWORK)]
assert hash(to_theirs(to_ours(NETWORK))) == hash(NETWORK)
assert to_ours(identities.CredentialedUserIdentity) is ours.CredentialedUserIdentity
# A service of another client.
assert to_theirs(ours.ComputeServiceID("no-uuid")) == "no-uuid"

# An object of gufe that is alive keeps its values, and a new one has its own.
old = theirs.TaskHub(network=str(NETWORK), weight=0.5)
new = to_theirs(ours.TaskHub(network=str(NETWORK), weight=0.9))
assert new.key == old.key
assert (old.weight, new.weight) == (0.5, 0.9)

# A state that was read remembers it, also in a copy, after a change and in another process.
origin = StateOrigin(dict(ours.StrategyState()), UUID(hex=TOKEN))
state = pickle.loads(pickle.dumps(to_theirs(ours.StrategyState().copy_of(origin))))
state.iterations += 1
assert state == theirs.StrategyState(iterations=1)
assert "origin" not in state.model_dump_json()
assert to_ours(state.model_copy()).origin == origin
assert to_ours(theirs.StrategyState()).origin is None
