"""A compute service for tests that stops at each stage, so that it can be killed there.

It runs in a process of its own, which :mod:`multiprocessing` forks from one that has imported this
module already.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from alchemistore import ComputeServiceRegistration, ScopedKey, StateStore, get_s3os, gufe_adapter
from alchemistore.settings import get_s3_settings, get_settings

# Documents may name the classes of modules that are loaded.
from tests.support import gufe_classes  # noqa: F401


def run(
    taskhub: ScopedKey, identifier: str, environment: Mapping[str, str], test: Connection
) -> None:
    """Run one task, with the servers that the environment names, and report to the test."""

    def reached(stage: str, text: object = "") -> None:
        """Report where the worker is, and wait for permission to continue."""
        test.send((stage, str(text)))
        try:
            test.recv()
        except EOFError:
            sys.exit("the test has ended")

    os.environ.clear()
    os.environ.update(environment)
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
