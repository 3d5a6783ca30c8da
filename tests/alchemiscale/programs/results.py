"""The calls with which alchemiscale's server stores a result, in its order."""

from __future__ import annotations

import os
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from alchemistore.alchemiscale import install

install()

from alchemiscale.models import ScopedKey
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.models import (
    ComputeServiceID,
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    TaskStatusEnum,
)
from alchemiscale.storage.statestore import get_n4js

STEPS = ("reference", "tracebacks", "status", "failure", "restarts")

store: Any = get_n4js(Neo4jStoreSettings(NEO4J_URL=os.environ["URL"], NEO4J_USER="", NEO4J_PASS=""))
hub = ScopedKey.from_str(os.environ["HUB"])


def service() -> ComputeServiceID:
    made = ComputeServiceID.new_from_name("service")
    store.register_computeservice(ComputeServiceRegistration.from_now(made))
    return made


def claim(by: ComputeServiceID) -> ScopedKey:
    [task] = store.claim_taskhub_tasks(hub, by, count=1)
    assert task is not None
    return task


class Result:
    """A result that a service sends, perhaps more than once."""

    def __init__(self, task: ScopedKey, sender: ComputeServiceID, ok: bool) -> None:
        self.task, self.sender, self.ok = task, sender, ok
        self.key = f"ProtocolDAGResult-{uuid4().hex}"
        self.failure = SimpleNamespace(
            traceback="NaN", source_key="ProtocolUnit-1", key="ProtocolUnitFailure-1"
        )

    def send(self, steps: int = len(STEPS)) -> None:
        """Do the first steps of a request, in a context of its own."""
        copy_context().run(self._request, STEPS[:steps])

    def _request(self, steps: tuple[str, ...]) -> None:
        now = datetime.now(UTC)
        ref = ProtocolDAGResultRef(
            location="location",
            obj_key=self.key,
            scope=self.task.scope,
            ok=self.ok,
            datetime_created=now,
            creator=str(self.sender),
        )
        result = store.set_task_result(task=self.task, protocoldagresultref=ref)
        assert type(result) is ScopedKey
        if self.ok:
            if "status" in steps:
                store.set_task_complete(tasks=[self.task])
            return
        if "tracebacks" in steps:
            store.add_protocol_dag_result_ref_tracebacks([self.failure], result)
        if "status" in steps:
            store.set_task_error(tasks=[self.task])
        if "failure" in steps:
            store.log_failure_compute_service(str(self.sender), now)
        if "restarts" in steps:
            store.resolve_task_restarts(task_scoped_keys=[self.task])


def status(task: ScopedKey) -> str:
    [found] = store.get_task_status([task])
    assert type(found) is TaskStatusEnum
    return str(found.value)


def failures(of: ComputeServiceID) -> int:
    limit = 0
    since = datetime.now(UTC) - timedelta(hours=1)
    while not store.compute_service_can_claim(of, since, limit):
        limit += 1
    return limit


def retries(task: ScopedKey) -> int:
    [details] = store.store.get_task_details([str(task)])
    return max((one.retries for one in details.restarts), default=0)


def claimed(task: ScopedKey, by: ComputeServiceID) -> bool:
    return task in [ScopedKey.from_str(str(one)) for one in store.get_service_tasks(by)]


store.add_task_restart_patterns(hub, ["NaN"], 3)

# A success settles at once, whether or not the rest comes, and however often it is sent.
for steps in range(1, len(STEPS) + 1):
    a = service()
    result = Result(claim(a), a, ok=True)
    for _ in range(2):
        result.send(steps)
        assert status(result.task) == "complete"
        assert len(store.get_task_results(result.task)) == 1
    assert failures(a) == 0

# A failure settles at once, too; what is missing is made up for when it is sent again.
for steps in range(1, len(STEPS) + 1):
    a = service()
    result = Result(claim(a), a, ok=False)
    result.send(steps)
    complete = steps == len(STEPS)
    assert status(result.task) == ("waiting" if complete else "error")
    assert not claimed(result.task, a)
    for _ in range(2):
        result.send()
        assert status(result.task) == "waiting"
        assert len(store.get_task_failures(result.task)) == 1
        assert retries(result.task) == 1
        assert failures(a) == 1
    store.set_task_deleted([result.task])

# A failure that is sent again, or comes late, does not end the attempt of another service.
a, b = service(), service()
again = Result(claim(a), a, ok=False)
again.send()
assert store.set_task_priority([again.task], 1) == [again.task]
assert claim(b) == again.task
again.send()
assert (status(again.task), claimed(again.task, b)) == ("running", True)
Result(again.task, a, ok=False).send()
assert (status(again.task), claimed(again.task, b)) == ("running", True)
assert retries(again.task) == 1
assert failures(a) == 2

# What follows in another program, or about another task, is done.
store.set_task_error([again.task])
assert status(again.task) == "error"
store.log_failure_compute_service(a, datetime.now(UTC))
assert failures(a) == 3
first, second = (Result(claim(one), one, ok=False) for one in (a, b))
first._request(STEPS[:1])
assert store.set_task_error([second.task]) == [second.task]
assert status(second.task) == "error"

# A task that nobody has claimed, or that another service has, takes the status as it is told.
b = service()
other = Result(claim(b), a, ok=True)
other.send(1)
assert (status(other.task), claimed(other.task, b)) == ("running", True)
other.send()
assert status(other.task) == "complete"
