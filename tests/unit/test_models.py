"""Public records: defaults, validation, keys and copies."""

from __future__ import annotations

import hashlib
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from alchemistore import (
    ComputeManagerRegistration,
    ComputeServiceID,
    ComputeServiceRegistration,
    NetworkMark,
    NetworkStateEnum,
    ObjectStoreRef,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    Task,
    TaskArchive,
    TaskHub,
    TaskProvenance,
    TaskStatusEnum,
)
from alchemistore.models import GufeKey
from alchemistore.models.clock import uuid7

NETWORK = f"AlchemicalNetwork-{'a' * 32}-o-c-p"
PARENT = f"Task-{'b' * 32}-o-c-p"
RESULT = GufeKey(f"ProtocolDAGResult-{'c' * 32}")
MOMENT = datetime(2024, 1, 19, 12, 30, 15, 123456, tzinfo=UTC)
SCOPE = Scope("o", "c", "p")


def build(cls: type[BaseModel], **fields: Any) -> Any:
    """Make a record of values that its types do not allow."""
    return cls(**fields)


def ref(**more: Any) -> ProtocolDAGResultRef:
    made: ProtocolDAGResultRef = build(
        ProtocolDAGResultRef, **{"obj_key": RESULT, "scope": SCOPE, "ok": True, **more}
    )
    return made


# hubs


def test_hub_has_default_weight_one_half() -> None:
    assert TaskHub(network=NETWORK).weight == 0.5


def test_hub_key_depends_on_its_network_only() -> None:
    expected = f"TaskHub-{hashlib.md5(NETWORK.encode()).hexdigest()}"
    assert TaskHub(network=NETWORK).key == expected
    assert TaskHub(network=NETWORK, weight=1).key == expected
    assert TaskHub(network=NETWORK.replace("-p", "-q")).key != expected


def test_hub_accepts_its_network_as_scoped_key() -> None:
    hub = build(TaskHub, network=ScopedKey.from_str(NETWORK))
    assert hub == TaskHub(network=NETWORK)
    assert type(hub.network) is str


@pytest.mark.parametrize("weight", [0, 0.0, 1, 1.0, 0.3])
def test_weight_between_0_and_1_is_accepted(weight: float) -> None:
    assert TaskHub(network=NETWORK, weight=weight).weight == weight


@pytest.mark.parametrize("weight", [-0.1, 1.1, 7, float("nan"), float("inf"), "much", None])
def test_weight_outside_0_and_1_is_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match="weight"):
        build(TaskHub, network=NETWORK, weight=weight)


def test_hub_without_network_is_refused() -> None:
    with pytest.raises(ValueError, match="network"):
        build(TaskHub)


# marks


def test_mark_of_a_network_is_active_and_its_key_depends_on_the_network_only() -> None:
    mark = build(NetworkMark, target=ScopedKey.from_str(NETWORK))
    assert (mark.target, mark.state) == (NETWORK, NetworkStateEnum.active)
    assert type(mark.target) is str
    expected = f"NetworkMark-{hashlib.md5(NETWORK.encode()).hexdigest()}"
    assert mark.key == NetworkMark(target=NETWORK, state=NetworkStateEnum.invalid).key == expected
    assert build(NetworkMark, target=NETWORK, state="deleted").state is NetworkStateEnum.deleted


@pytest.mark.parametrize("state", ["notastate", "Active", "", None, 1])
def test_mark_with_an_unknown_state_is_refused(state: Any) -> None:
    with pytest.raises(
        ValueError, match=r"is not a valid state\. Valid values include: \['active'"
    ):
        build(NetworkMark, target=NETWORK, state=state)


# tasks


def test_task_has_default_values() -> None:
    before = datetime.now(UTC)
    task = Task()
    assert (task.status, task.priority) == (TaskStatusEnum.waiting, 10)
    assert (task.creator, task.extends, task.claim) == (None, None, None)
    assert before <= task.datetime_created <= datetime.now(UTC)
    assert task.datetime_created.tzinfo is not None


def test_task_statuses_are_the_six_known_ones() -> None:
    assert [one.value for one in TaskStatusEnum] == [
        "waiting",
        "running",
        "complete",
        "error",
        "invalid",
        "deleted",
    ]
    assert [one.name for one in TaskStatusEnum] == [one.value for one in TaskStatusEnum]


@pytest.mark.parametrize("status", list(TaskStatusEnum))
def test_status_is_accepted_as_text(status: TaskStatusEnum) -> None:
    assert build(Task, status=status.value).status is status
    assert Task(status=status).status is status


@pytest.mark.parametrize("status", ["", "Waiting", "done", None, 1])
def test_unknown_status_is_refused(status: Any) -> None:
    with pytest.raises(ValueError, match="status"):
        build(Task, status=status)


@pytest.mark.parametrize("priority", [1, 10, 2**63 - 1])
def test_priority_from_1_to_the_largest_integer_is_accepted(priority: int) -> None:
    assert Task(priority=priority).priority == priority


@pytest.mark.parametrize("priority", [0, -5, 2**63, "high", 1.5, None])
def test_priority_out_of_range_is_refused(priority: Any) -> None:
    with pytest.raises(ValueError, match="priority"):
        build(Task, priority=priority)


def test_every_task_has_a_unique_key() -> None:
    keys = [Task().key for _ in range(100)]
    assert len(set(keys)) == 100
    assert all(key.qualname == "Task" and len(key.token) == 32 for key in keys)


def test_keys_of_tasks_sort_by_the_time_they_were_made() -> None:
    milliseconds = [uuid7().int >> 80 for _ in range(1000)]
    assert milliseconds == sorted(milliseconds)
    made = uuid7()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    age = datetime.now(UTC).timestamp() * 1000 - (made.int >> 80)
    assert 0 <= age < 60_000


def test_given_task_key_is_kept() -> None:
    task = build(Task, key=f"Task-{'d' * 32}")
    assert task.key == f"Task-{'d' * 32}"
    assert isinstance(task.key, GufeKey)
    assert Task(**dict(task)).key == task.key


def test_task_accepts_its_parent_as_scoped_key() -> None:
    assert build(Task, extends=ScopedKey.from_str(PARENT)).extends == PARENT
    assert Task(extends=PARENT).extends == PARENT


# references


@pytest.mark.parametrize("missing", ["obj_key", "scope", "ok"])
def test_reference_to_a_result_needs_its_object_scope_and_outcome(missing: str) -> None:
    fields = {
        name: value
        for name, value in {"obj_key": RESULT, "scope": SCOPE, "ok": True}.items()
        if name != missing
    }
    with pytest.raises(ValueError, match=missing):
        build(ProtocolDAGResultRef, **fields)


def test_reference_has_default_values() -> None:
    assert (ref().location, ref().datetime_created, ref().creator) == (None, None, None)
    assert (ObjectStoreRef(scope=SCOPE).location, ObjectStoreRef(scope=SCOPE).obj_key) == (
        None,
        None,
    )


def test_scope_of_a_reference_may_be_open_and_given_as_text() -> None:
    assert ref(scope=Scope()).scope == Scope()
    assert ref(scope="o-c-p") == ref()


@pytest.mark.parametrize(
    "field", ["location", "obj_key", "scope", "ok", "datetime_created", "creator"]
)
def test_reference_key_depends_on_all_its_fields(field: str) -> None:
    other = {
        "location": "elsewhere",
        "obj_key": f"ProtocolDAGResult-{'e' * 32}",
        "scope": "o-c-q",
        "ok": False,
        "datetime_created": MOMENT,
        "creator": "somebody",
    }
    assert ref().key == ref().key
    assert ref(**{field: other[field]}).key != ref().key
    assert ref().key.qualname == "ProtocolDAGResultRef"
    assert len(ref().key.token) == 32


def test_key_of_a_reference_is_the_same_in_every_process() -> None:
    content = {"obj_key": str(RESULT), "ok": True, "scope": "o-c-p"}
    expected = hashlib.md5(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert ref().key == f"ProtocolDAGResultRef-{expected}"


@pytest.mark.parametrize(
    "made",
    [
        ref(location="a/b", datetime_created=MOMENT, creator="service"),
        ref(ok=False),
        ObjectStoreRef(scope=SCOPE),
        ObjectStoreRef(location="x", obj_key=RESULT, scope=Scope("o")),
    ],
    ids=["full", "minimal", "no object", "open scope"],
)
def test_reference_survives_its_dict_and_json_with_its_key(made: ObjectStoreRef) -> None:
    for content in (made.to_dict(), json.loads(json.dumps(made.to_dict()))):
        again = type(made).from_dict(content)
        assert again == made
        assert again.key == made.key


def test_missing_object_key_is_none_and_not_a_word() -> None:
    assert ObjectStoreRef(scope=SCOPE).to_dict()["obj_key"] is None


def test_reference_keeps_its_creation_time() -> None:
    again: Any = ProtocolDAGResultRef.from_dict(ref(datetime_created=MOMENT).to_dict())
    assert again.datetime_created == MOMENT


@pytest.mark.parametrize("bad", ["", "no key", "A-b-c", None, 7])
def test_object_key_is_a_gufe_key(bad: Any) -> None:
    with pytest.raises(ValueError, match="obj_key"):
        ref(obj_key=bad)


# times

ELSEWHERE = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "make",
    [
        lambda moment: Task(datetime_created=moment).datetime_created,
        lambda moment: ref(datetime_created=moment).datetime_created,
        lambda moment: (
            ComputeServiceRegistration(
                identifier=ComputeServiceID("a"), registered=moment, heartbeat=moment
            ).heartbeat
        ),
        lambda moment: (
            TaskProvenance(
                computeserviceid=ComputeServiceID("a"), datetime_start=moment, datetime_end=moment
            ).datetime_end
        ),
    ],
    ids=["task", "reference", "registration", "provenance"],
)
def test_time_without_a_zone_is_utc_and_others_are_converted(make: Any) -> None:
    for given in (MOMENT.replace(tzinfo=None), MOMENT, MOMENT.astimezone(ELSEWHERE)):
        assert make(given) == MOMENT
        assert make(given).utcoffset() == timedelta(0)


# compute services


def test_service_identifier_is_text() -> None:
    identifier = ComputeServiceID("my service-1 'é'")
    assert identifier == "my service-1 'é'"
    assert isinstance(identifier, str)


def test_registration_from_now_has_equal_times() -> None:
    made = ComputeServiceRegistration.from_now("a")
    assert made.registered == made.heartbeat
    assert isinstance(made.identifier, ComputeServiceID)
    assert str(made) == "a"


def test_registration_survives_its_dict() -> None:
    made = ComputeServiceRegistration.from_now("a", hostname="host")
    assert type(made.to_dict()["identifier"]) is str
    assert ComputeServiceRegistration.from_dict(made.to_dict()) == made
    assert isinstance(
        ComputeServiceRegistration.from_dict(made.to_dict()).identifier, ComputeServiceID
    )


@pytest.mark.parametrize("missing", ["identifier", "registered", "heartbeat"])
def test_registration_needs_an_identifier_and_times(missing: str) -> None:
    fields = {"identifier": "a", "registered": MOMENT, "heartbeat": MOMENT}
    del fields[missing]
    with pytest.raises(ValueError, match=missing):
        build(ComputeServiceRegistration, **fields)


def test_heartbeat_may_be_older_than_the_registration() -> None:
    long_ago = MOMENT - timedelta(days=1)
    made = ComputeServiceRegistration(
        identifier=ComputeServiceID("a"), registered=MOMENT, heartbeat=long_ago
    )
    assert made.heartbeat == long_ago


@pytest.mark.parametrize("missing", ["computeserviceid", "datetime_start", "datetime_end"])
def test_provenance_needs_all_its_fields(missing: str) -> None:
    fields = {"computeserviceid": "a", "datetime_start": MOMENT, "datetime_end": MOMENT}
    del fields[missing]
    with pytest.raises(ValueError, match=missing):
        build(TaskProvenance, **fields)


def test_archive_can_be_created() -> None:
    assert TaskArchive() == TaskArchive()
    assert not TaskArchive.model_fields


# all of them

RECORDS: list[BaseModel] = [
    TaskHub(network=NETWORK, weight=0.25),
    NetworkMark(target=NETWORK, state=NetworkStateEnum.deleted),
    Task(creator="me", extends=PARENT, claim="service", datetime_created=MOMENT),
    ref(location="a", datetime_created=MOMENT),
    ObjectStoreRef(scope=SCOPE),
    ComputeServiceRegistration(
        identifier=ComputeServiceID("a"), registered=MOMENT, heartbeat=MOMENT
    ),
    ComputeManagerRegistration.from_now(f"east-{'1' * 32}"),
    TaskProvenance(
        computeserviceid=ComputeServiceID("a"), datetime_start=MOMENT, datetime_end=MOMENT
    ),
]
IDS = [type(record).__name__ for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_record_cannot_be_changed(record: BaseModel) -> None:
    for name in type(record).model_fields:
        with pytest.raises((ValidationError, AttributeError)):
            setattr(record, name, None)


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_record_survives_fields_copies_and_pickles(record: BaseModel) -> None:
    for again in (
        type(record)(**dict(record)),
        record.model_copy(deep=True),
        pickle.loads(pickle.dumps(record)),
    ):
        assert again == record
        assert getattr(again, "key", None) == getattr(record, "key", None)


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_equal_records_are_not_the_same_object(record: BaseModel) -> None:
    # What is read twice may have changed in between.
    assert type(record)(**dict(record)) is not record


def test_records_of_one_key_and_other_values_differ() -> None:
    hubs = TaskHub(network=NETWORK, weight=0.1), TaskHub(network=NETWORK, weight=0.2)
    assert hubs[0].key == hubs[1].key
    assert hubs[0] != hubs[1]
    assert [hub.weight for hub in hubs] == [0.1, 0.2]
