"""A compute service: ``python -m harmonic.worker <network>`` runs tasks until none is left.

It reads the settings of the database and the object store from the environment. SIGTERM ends it
after the current task.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import tempfile
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import gufe

from alchemistore import (
    ComputeServiceRegistration,
    S3ObjectStore,
    ScopedKey,
    StateStore,
    TaskStatusEnum,
    get_s3os,
    gufe_adapter,
)
from alchemistore.errors import StoreUnavailableError
from alchemistore.settings import get_s3_settings, get_settings

# Documents may name the classes of modules that are loaded.
from harmonic import protocol, system  # noqa: F401

# Seconds to wait if there is no task to claim.
POLL = 0.2
UNFINISHED = (TaskStatusEnum.waiting.value, TaskStatusEnum.running.value)

log = logging.getLogger("worker")


class Worker:
    """Runs the tasks of one network.

    Parameters
    ----------
    store : StateStore
    objects : S3ObjectStore
    network : ScopedKey
        The network whose tasks are claimed.
    identifier : str
        The name to register under.
    heartbeat : float
        Seconds between two heartbeats.
    """

    def __init__(
        self,
        store: StateStore,
        objects: S3ObjectStore,
        network: ScopedKey,
        identifier: str,
        heartbeat: float,
    ) -> None:
        self._store, self._objects = store, objects
        taskhub = store.get_taskhub(network)
        if taskhub is None:
            raise KeyError(f"{network} is not stored or has no task hub")
        self._network, self._taskhub = network, taskhub
        self._identifier, self._heartbeat = identifier, heartbeat
        self._stopped = Event()

    def stop(self) -> None:
        """Stop after the current task."""
        self._stopped.set()

    def run(self) -> None:
        """Run tasks until stopped, or until no task of the network is waiting or running."""
        self.register()
        heart = Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        try:
            while not self._stopped.is_set():
                task = self._claim()
                if task is not None:
                    self.perform(task)
                elif self._work_may_come():
                    self._stopped.wait(POLL)
                else:
                    log.info("no tasks are left")
                    break
        finally:
            self._stopped.set()
            heart.join()
            self._deregister()

    def register(self) -> None:
        """Register as a compute service."""
        self._store.register_computeservice(
            ComputeServiceRegistration.from_now(self._identifier, hostname=socket.gethostname())
        )
        log.info("registered as %s", self._identifier)

    def _beat(self) -> None:
        # A registration has the time of this machine, whose clock may be behind. A heartbeat right
        # after it has the time of the database.
        while not self._stopped.is_set():
            try:
                self._store.heartbeat_computeservice(self._identifier)
            except KeyError:
                log.warning(
                    "the registration has expired, and with it the claim; registering again"
                )
                self.register()
                continue
            except StoreUnavailableError as error:
                log.warning("the heartbeat failed: %s", error)
            self._stopped.wait(self._heartbeat)

    def _deregister(self) -> None:
        try:
            self._store.deregister_computeservice(self._identifier)
        except KeyError:
            log.warning("the registration has expired already")

    def _claim(self) -> ScopedKey | None:
        try:
            [task] = self._store.claim_taskhub_tasks(self._taskhub, self._identifier, count=1)
        except KeyError:
            # The registration has expired; the next heartbeat registers again.
            self._stopped.wait(self._heartbeat)
            return None
        return task

    def _work_may_come(self) -> bool:
        # A task of another worker can be claimed again if that worker dies.
        status = self._store.get_network_status(self._network)
        return any(status.get(name) for name in UNFINISHED)

    def perform(self, task: ScopedKey) -> None:
        """Run a claimed task, store its result and settle it."""
        key, _ = self._store.get_task_transformation(task, return_gufe=False)
        transformation, previous = self._store.get_task_transformation(task)
        extends = (
            None
            if previous is None
            else self._objects.pull_protocoldagresult(location=previous.location)
        )
        log.info(
            "%s: %s%s",
            task,
            transformation.name,
            " (extends an earlier result)" if extends is not None else "",
        )
        dag = gufe_adapter.create_dag(transformation, extends=extends)
        with tempfile.TemporaryDirectory(prefix="harmonic-") as directory:
            result = gufe_adapter.execute_dag(
                dag, shared_basedir=Path(directory), scratch_basedir=Path(directory)
            )
        self._report(task, key, result)

    def _report(
        self, task: ScopedKey, transformation: ScopedKey, result: gufe.ProtocolDAGResult
    ) -> None:
        # Store the object first, so that the reference is never dangling.
        ref = self._objects.push_protocoldagresult(
            result, transformation=transformation, creator=self._identifier
        )
        settlement = self._store.settle_task(task, ref, compute_service_id=self._identifier)
        log.info(
            "%s: the result is %s; the status of the task is %s",
            task,
            "a success" if ref.ok else "a failure",
            settlement.status.value,
        )


def main() -> None:
    """Run a worker with the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m harmonic.worker", description=__doc__)
    parser.add_argument("network", type=ScopedKey.from_str, help="scoped key of the network")
    parser.add_argument(
        "--identifier", default=f"worker-{uuid4()}", help="unique name to register under"
    )
    parser.add_argument(
        "--heartbeat",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="time between two heartbeats",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)
    store = StateStore(get_settings())
    try:
        worker = Worker(
            store,
            get_s3os(get_s3_settings()),
            arguments.network,
            arguments.identifier,
            arguments.heartbeat,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()
    finally:
        store.close()


if __name__ == "__main__":
    main()
