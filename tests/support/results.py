"""References to results, and their delivery."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from alchemistore import (
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
)
from alchemistore.models import Settlement

ENVIRONMENT = {"gufe": "1.1.0", "openmm": "8.1"}


ok_or_failed = pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])


def ref(scope: Scope, *, ok: bool = True, **fields: Any) -> ProtocolDAGResultRef:
    """Return a reference to a new result."""
    fields = {"obj_key": f"ProtocolDAGResult-{uuid4().hex}", "location": "a/b/obj.json", **fields}
    return ProtocolDAGResultRef(scope=scope, ok=ok, **fields)


def reference_key(one: ProtocolDAGResultRef, task: ScopedKey) -> ScopedKey:
    """Return the key under which the store keeps a reference to a result of a task."""
    return ScopedKey.from_str(f"{one.key}-{task.scope}")


def settle(
    store: StateStore,
    task: ScopedKey,
    one: ProtocolDAGResultRef,
    service: str | None = None,
    **more: Any,
) -> Settlement:
    """Settle a task, and assert that the answer names this reference."""
    answer = store.settle_task(task, one, compute_service_id=service, **more)
    assert answer.result == reference_key(one, task)
    return answer


def assert_listed(store: StateStore, task: ScopedKey, *refs: ProtocolDAGResultRef) -> None:
    """Assert that exactly these results of the task are listed."""
    assert store.get_task_results(task) == sorted(
        reference_key(one, task) for one in refs if one.ok
    )
    assert store.get_task_failures(task) == sorted(
        reference_key(one, task) for one in refs if not one.ok
    )
    for result in refs:
        assert store.get_gufe(reference_key(result, task)) == result
