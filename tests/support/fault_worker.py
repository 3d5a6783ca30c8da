"""A compute service for tests that stops at each stage, so that it can be killed there.

``python -m tests.support.fault_worker <taskhub> <identifier>`` uses the database and the object
store that the environment names.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from alchemistore import ComputeServiceRegistration, ScopedKey, StateStore, get_s3os, gufe_adapter
from alchemistore.settings import get_s3_settings, get_settings


def reached(stage: str, text: object = "") -> None:
    """Print where the worker is, and wait for permission to continue."""
    sys.stdout.write(f"{stage} {text}\n")
    sys.stdout.flush()
    if not sys.stdin.readline():
        sys.exit("the test has ended")


def main(taskhub: ScopedKey, identifier: str) -> None:
    """Run one task."""
    store, objects = StateStore(get_settings()), get_s3os(get_s3_settings())
    registered = datetime(2020, 1, 1, tzinfo=UTC)
    store.register_computeservice(
        ComputeServiceRegistration.model_validate(
            {
                "identifier": identifier,
                "registered": registered,
                "heartbeat": registered,
                "hostname": "host",
            }
        )
    )
    [task] = store.claim_taskhub_tasks(taskhub, identifier)
    assert task is not None
    reached("claimed", task)
    edge, _ = store.get_task_transformation(task, return_gufe=False)
    transformation, _ = store.get_task_transformation(task)
    with tempfile.TemporaryDirectory() as directory:
        dag = gufe_adapter.create_dag(transformation)
        result = gufe_adapter.execute_dag(
            dag, shared_basedir=Path(directory), scratch_basedir=Path(directory)
        )
    reached("computed")
    ref = objects.push_protocoldagresult(result, transformation=edge, creator=identifier)
    reached("written", ref.location)
    with store.transaction() as tx:
        tx.settle_task(task, ref, compute_service_id=identifier)
        reached("settling")
    reached("settled")
    try:
        store.heartbeat_computeservice(identifier)
        reached("alive")
    except KeyError:
        reached("given up")
    store.close()


if __name__ == "__main__":
    main(ScopedKey.from_str(sys.argv[1]), sys.argv[2])
