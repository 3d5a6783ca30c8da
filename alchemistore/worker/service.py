"""The compute service: register, claim, run, store and settle, until it is time to end."""

from __future__ import annotations

import json
import logging
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from alchemistore.errors import (
    AlchemistoreError,
    MissingObjectError,
    OutcomeUnknownError,
    S3ObjectStoreError,
    StoreUnavailableError,
)
from alchemistore.models import (
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    ScopedKey,
    Settlement,
    TaskStatusEnum,
)
from alchemistore.objectstore import S3ObjectStore
from alchemistore.store import StateStore
from alchemistore.worker.events import Event
from alchemistore.worker.files import AttemptFiles, Product
from alchemistore.worker.launcher import AttemptProcess, Launcher, LauncherError
from alchemistore.worker.options import Options

log = logging.getLogger(__name__)

R = TypeVar("R")

# Seconds to wait for work at a time.
WAIT = 60.0
# Seconds between two looks at the process of an attempt; its end is noticed at once.
LOOK = 0.5
# Seconds between two tries of a call, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
# Seconds to try to give claims back. After that, they expire.
GIVE_BACK = 20.0
# An object that does not exist, to find out whether the bucket can be read.
PROBE = "alchemistore-worker-probe"


class WorkerError(AlchemistoreError):
    """The worker cannot go on. What it had claimed has been given back."""


class _AbortedError(Exception):
    """The worker was told to stop at once."""


class _WokenError(KeyboardInterrupt):
    """Ends the wait for work. The database driver stops its calls cleanly for this class."""


@dataclass(frozen=True)
class Summary:
    """The work that a worker has done.

    Attributes
    ----------
    num_tasks : int
        Number of attempts whose result or failure was delivered.
    num_failed : int
        How many of them failed.
    num_failures_in_a_row : int
        How many of the last ones failed.
    num_stopped : int
        Number of attempts that were stopped, because nobody wanted their results or the worker was
        told to stop at once.
    reason : str
        Why the worker ended.
    aborted : bool
        Whether it was told to stop at once.
    """

    num_tasks: int
    num_failed: int
    num_failures_in_a_row: int
    num_stopped: int
    reason: str
    aborted: bool = False


class _Claim(NamedTuple):
    """A claimed task and the number of the attempt."""

    task: ScopedKey
    attempt: int

    @property
    def fields(self) -> dict[str, Any]:
        return {"task": str(self.task), "attempt": self.attempt}

    def __str__(self) -> str:
        return f"{self.task}, attempt {self.attempt}"


class _Stop(NamedTuple):
    """The reason why an attempt was stopped, and whether nobody wants its result."""

    why: str
    unwanted: bool


class Worker:
    """A compute service that runs one task at a time, each in a process of its own.

    A result is always delivered once it is complete, even if the claim is gone by then. A task
    without a result is stopped if its claim is gone, or if it was set to invalid or deleted.

    Parameters
    ----------
    store : StateStore
        The state store.
    objects : S3ObjectStore
        The object store.
    options : Options
        What to claim, the limits, and when to end.
    tell : callable
        Takes each :class:`Event`. The thread of the heartbeats calls it, too.
    launcher : Launcher, optional
        Starts the processes of attempts. It stays open. Default: one of its own.

    Examples
    --------
    >>> options = Options("my-service", Path("work"), max_idle=600)  # doctest: +SKIP
    >>> Worker(store, get_s3os(settings), options, print).run()  # doctest: +SKIP
    """

    def __init__(
        self,
        store: StateStore,
        objects: S3ObjectStore,
        options: Options,
        tell: Callable[[Event], None],
        launcher: Launcher | None = None,
    ) -> None:
        self._store, self._objects, self._options = store, objects, options
        self._tell_event = tell
        self._own_launcher = launcher is None
        self._launcher = launcher or Launcher()
        self._name = options.name
        self._draining, self._aborted = threading.Event(), threading.Event()
        self._ended = threading.Event()
        self._waiting = self._told_draining = False
        self._registration = threading.Lock()
        self._claims: list[_Claim] = []
        self._tasks = self._failed = self._stopped = self._failures_in_a_row = 0
        self._begin = self._busy = 0.0

    # Control, from other threads and signal handlers.

    def drain(self) -> None:
        """Stop after the running task. Claims of other tasks are given back at once."""
        self._draining.set()

    def abort(self) -> None:
        """Stop the running task and end. All claims are given back."""
        self._draining.set()
        self._aborted.set()

    def interrupt(self) -> None:
        """Stop after the running task or, if asked again, at once. For handlers of signals."""
        if self._draining.is_set():
            self.abort()
            return
        self.drain()
        if self._waiting:
            self._waiting = False
            raise _WokenError

    # The life of the service.

    def run(self) -> Summary:
        """Run tasks until it is time to end.

        Returns
        -------
        Summary
            What was done, and why it ended.

        Raises
        ------
        ValueError
            If another service is registered under the name.
        StoreUnavailableError
            If a server cannot be reached at the start. Later, calls are repeated until it can.
        GufeNotInstalledError
            If gufe is not installed.
        WorkerError
            If files cannot be written, or the object store refuses a result.
        """
        self._begin = self._busy = time.monotonic()
        try:
            # Whatever is wrong is found before anything is claimed.
            self._options.directory.mkdir(parents=True, exist_ok=True)
            self._launcher.start()
            self._objects.absent([PROBE])
            self._register()
            heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            heart.start()
            try:
                reason = self._work()
            except _AbortedError:
                reason = "it was told to stop at once"
            finally:
                self._ended.set()
                heart.join()
                self._deregister()
        except OSError as error:
            raise WorkerError(f"a file cannot be used: {error}") from error
        finally:
            if self._own_launcher:
                self._launcher.close()
        aborted = self._aborted.is_set()
        summary = Summary(
            num_tasks=self._tasks,
            num_failed=self._failed,
            num_failures_in_a_row=self._failures_in_a_row,
            num_stopped=self._stopped,
            reason=reason,
            aborted=aborted,
        )
        self._tell(
            "ended",
            f"Ended, because {reason}; tasks: {self._tasks}, failed: {self._failed}, stopped:"
            f" {self._stopped}",
            service=self._name,
            tasks=self._tasks,
            failed=self._failed,
            stopped=self._stopped,
            reason=reason,
        )
        return summary

    def _tell(self, kind: str, text: str, *, warning: bool = False, **fields: Any) -> None:
        log.debug("%s: %s", self._name, text)
        self._tell_event(Event(kind, text, fields, warning))

    def _register(self) -> None:
        self._store.register_computeservice(
            ComputeServiceRegistration.from_now(self._name, hostname=socket.gethostname())
        )
        # A registration has the time of this machine, whose clock may be behind.
        self._store.heartbeat_computeservice(self._name)
        self._tell("registered", f"Registered as {self._name}", service=self._name)

    def _register_again(self) -> None:
        """Register again, unless another thread has done so."""
        with self._registration:
            if self._ended.is_set():
                return
            try:
                self._store.heartbeat_computeservice(self._name)
            except KeyError:
                self._tell(
                    "expired",
                    "The registration has expired, and with it all claims; registering again",
                    warning=True,
                    service=self._name,
                )
                self._register()

    def _beat(self) -> None:
        while not self._ended.wait(self._options.heartbeat):
            try:
                try:
                    self._store.heartbeat_computeservice(self._name)
                except KeyError:
                    self._register_again()
            # The next heartbeat may succeed.
            except (AlchemistoreError, ValueError) as error:
                self._tell("unavailable", f"The heartbeat failed: {error}", warning=True)

    def _deregister(self) -> None:
        """Release all claims."""
        until = time.monotonic() + GIVE_BACK
        while True:
            try:
                self._store.deregister_computeservice(self._name)
            except KeyError:
                # It has expired.
                return
            except OutcomeUnknownError:
                continue
            except StoreUnavailableError as error:
                if time.monotonic() > until:
                    self._tell(
                        "unavailable",
                        f"The service cannot be deregistered, so it will expire: {error}",
                        warning=True,
                        service=self._name,
                    )
                    return
                time.sleep(FIRST_PAUSE)
            else:
                self._tell("deregistered", f"Deregistered {self._name}", service=self._name)
                return

    def _patiently(self, call: Callable[[], R], what: str) -> R:
        """Repeat a call while a server is not available."""
        pause = FIRST_PAUSE
        while True:
            try:
                return call()
            except StoreUnavailableError as error:
                self._tell("unavailable", f"Cannot {what}, will try again: {error}", warning=True)
            if self._aborted.wait(pause):
                raise _AbortedError
            pause = min(2 * pause, LONGEST_PAUSE)

    def _work(self) -> str:
        while True:
            if self._aborted.is_set():
                raise _AbortedError
            if (reason := self._why_end()) is not None:
                self._give_back()
                return reason
            if not self._claims:
                self._claim()
            if self._claims:
                self._perform(self._claims.pop(0))
                self._busy = time.monotonic()
            elif (
                self._options.max_idle is not None
                and time.monotonic() - self._busy >= self._options.max_idle
            ):
                return "there was nothing to claim"
            else:
                self._wait()

    def _tell_draining(self) -> None:
        if not self._told_draining:
            self._told_draining = True
            self._tell("draining", "Told to end; the running task is finished first")

    def _why_end(self) -> str | None:
        options, now = self._options, time.monotonic()
        if self._draining.is_set():
            return "it was told to end"
        if options.max_tasks is not None and self._tasks + self._stopped >= options.max_tasks:
            return "it has run as many tasks as it may"
        if options.max_failures is not None and self._failures_in_a_row >= options.max_failures:
            return f"too many tasks in a row have failed ({self._failures_in_a_row})"
        if options.max_time is not None and now - self._begin >= options.max_time:
            return "it has run for as long as it may"
        return None

    # Claims.

    def _claim(self) -> None:
        options = self._options
        count = options.claim_limit
        if options.max_tasks is not None:
            count = min(count, options.max_tasks - self._tasks - self._stopped)

        def claim() -> list[ScopedKey | None]:
            return self._store.claim_tasks(
                options.scopes,
                self._name,
                count=count,
                protocols=options.protocols,
                exclude_scopes=options.exclude_scopes,
            )

        while True:
            try:
                found = self._patiently(claim, "claim tasks")
                break
            except KeyError:
                self._patiently(self._register_again, "register again")
        tasks = [task for task in found if task is not None]
        details = self._patiently(lambda: self._store.get_task_details(tasks), "read tasks")
        for task, one in zip(tasks, details, strict=True):
            if one is not None and one.service == self._name:
                self._claims.append(_Claim(task, one.num_attempts))
                self._tell("claimed", f"Claimed {task}", **self._claims[-1].fields)

    def _wait(self) -> None:
        """Wait until there may be something to claim."""
        options, now = self._options, time.monotonic()
        seconds = WAIT
        for limit, since in ((options.max_time, self._begin), (options.max_idle, self._busy)):
            if limit is not None:
                seconds = min(seconds, max(0.0, since + limit - now))
        try:
            self._waiting = True
            if not self._draining.is_set():
                self._store.wait_for_tasks(
                    options.scopes,
                    timeout=seconds,
                    protocols=options.protocols,
                    exclude_scopes=options.exclude_scopes,
                )
            self._waiting = False
        except _WokenError:
            return
        except StoreUnavailableError as error:
            self._waiting = False
            self._tell("unavailable", f"Cannot look for work: {error}", warning=True)
            self._draining.wait(LOOK)

    def _give_back(self) -> None:
        """Release the claims of tasks that have not been started."""
        claims, self._claims = self._claims, []
        if not claims:
            return
        tasks = [claim.task for claim in claims]

        def release() -> list[ScopedKey]:
            with self._store.transaction() as tx:
                details = tx.get_task_details(tasks)
                held = [
                    claim.task
                    for claim, one in zip(claims, details, strict=True)
                    if one is not None and (one.service, one.num_attempts) == (self._name, claim[1])
                ]
                reason = "the worker gave the claim back"
                released = tx.set_task_status(held, "waiting", reason=reason, actor=self._name)
                return [task for task in released if task is not None]

        for task in self._patiently(release, "give claims back"):
            self._tell("released", f"Gave back {task}", task=str(task))

    def _why_stop(self, claim: _Claim) -> str | None:
        """Return why nobody wants the result of an attempt any more."""
        try:
            [details] = self._store.get_task_details([claim.task])
        except StoreUnavailableError as error:
            self._tell("unavailable", f"Cannot look at the claim: {error}", warning=True)
            return None
        if details is None:
            return "the task does not exist any more"
        if details.status in (TaskStatusEnum.invalid, TaskStatusEnum.deleted):
            return f"the task was set to {details.status}"
        if (details.service, details.num_attempts) != (self._name, claim.attempt):
            return f"the claim is gone; the task is {details.status}"
        return None

    # Attempts.

    def _perform(self, claim: _Claim) -> None:
        files = AttemptFiles.below(self._options.directory, str(claim.task.gufe_key), claim.attempt)
        files.create()
        try:
            edge = self._prepare(claim, files)
            if edge is not None:
                self._run(claim, files, edge)
        finally:
            if not self._options.keep_files:
                files.remove()

    def _prepare(self, claim: _Claim, files: AttemptFiles) -> ScopedKey | None:
        """Write what the process reads. Return the transformation; ``None`` if that failed."""

        def write() -> ScopedKey:
            edge, previous = self._store.get_task_transformation(claim.task, return_gufe=False)
            files.transformation.write_text(json.dumps(self._store.get_keyed_chain(edge)))
            if previous is not None:
                location = self._store.get_gufe(previous).location
                data = self._objects.pull_protocoldagresult(location=location, return_as="bytes")
                files.extends.write_bytes(data)
            return edge

        try:
            return self._patiently(write, "read the task")
        # What the task needs is missing or damaged.
        except (KeyError, ValueError, AlchemistoreError) as error:
            if (why := self._why_stop(claim)) is not None:
                self._count_stopped(claim, why)
            else:
                self._fail(claim, files, f"the task cannot be prepared: {error}", {})
            return None

    def _run(self, claim: _Claim, files: AttemptFiles, edge: ScopedKey) -> None:
        begin = time.monotonic()
        try:
            process = self._launcher.launch(files, self._options.memory, self._options.retries)
        except LauncherError as error:
            raise WorkerError(str(error)) from error
        self._tell(
            "started",
            f"Started {claim}; its output is in {files.log}",
            **claim.fields,
            pid=process.pid,
            log=str(files.log),
        )
        try:
            stop = self._watch(claim, process)
        except BaseException:
            process.stop(grace=0)
            raise
        used = {"seconds": round(time.monotonic() - begin, 3)}
        if process.end is not None:
            used |= {"cpu": round(process.end.cpu, 3), "memory": process.end.memory}
        product = files.read_product(files.result)
        if product is None and stop is not None and stop.unwanted:
            self._store_log(claim, files)
            self._count_stopped(claim, stop.why)
            return
        if product is None:
            why = stop.why if stop is not None else files.read_error() or str(process.end)
            unfinished = files.read_product(files.unfinished)
            if unfinished is None:
                self._fail(claim, files, why, used)
                return
            product = Product(unfinished.key, False, [why], unfinished.data)
        self._deliver(claim, files, edge, product, used)

    def _watch(self, claim: _Claim, process: AttemptProcess) -> _Stop | None:
        """Wait until the process has ended. Return why it was stopped, if it was."""
        options, begin = self._options, time.monotonic()
        looked = begin
        while not process.wait(min(LOOK, options.heartbeat)):
            if self._aborted.is_set():
                self._count_stopped(claim, "the worker was told to stop at once")
                raise _AbortedError
            if self._draining.is_set():
                self._tell_draining()
                self._give_back()
            now = time.monotonic()
            if options.wall_time is not None and now - begin > options.wall_time:
                process.stop()
                limit = f"{options.wall_time:g} s"
                return _Stop(f"the wall time of the attempt, {limit}, is over", unwanted=False)
            if now - looked < options.heartbeat:
                continue
            looked = now
            why = self._why_stop(claim)
            # A result that is complete is delivered in any case.
            if why is not None and not process.wait(0):
                process.stop()
                return _Stop(why, unwanted=True)
        return None

    def _count_stopped(self, claim: _Claim, why: str) -> None:
        self._stopped += 1
        self._tell("stopped", f"Stopped {claim}: {why}", warning=True, **claim.fields, reason=why)

    def _store_log(
        self, claim: _Claim, files: AttemptFiles, tracebacks: Sequence[str] = ()
    ) -> None:
        text, size = files.tail()
        try:
            self._patiently(
                lambda: self._store.set_attempt_log(*claim, text, tracebacks, size), "store the log"
            )
        except MissingObjectError as error:
            self._tell("lost", f"The log of {claim} cannot be stored: {error}", **claim.fields)

    def _deliver(
        self,
        claim: _Claim,
        files: AttemptFiles,
        edge: ScopedKey,
        product: Product,
        used: Mapping[str, float],
    ) -> None:
        """Store a result, then its reference and all consequences."""

        def put() -> ProtocolDAGResultRef:
            return self._objects.put_result(product.data, product.key, product.ok, edge, self._name)

        def settle() -> Settlement:
            return self._store.settle_task(
                claim.task,
                ref,
                self._name,
                attempt=claim.attempt,
                tracebacks=product.tracebacks,
                environment=self._environment,
            )

        try:
            ref = self._patiently(put, "store the result")
            # The log first, so that it is there when the task has failed.
            self._store_log(claim, files)
            settled = self._patiently(settle, "settle the task")
        except MissingObjectError as error:
            self._count_stopped(claim, f"its result is not needed: {error}")
            return
        except S3ObjectStoreError as error:
            kept = self._keep(files, product)
            raise WorkerError(
                f"the object store refused the result of {claim}, which is now in {kept}: {error}"
            ) from error
        except _AbortedError:
            kept = self._keep(files, product)
            self._count_stopped(claim, f"its result was not delivered; it is now in {kept}")
            raise
        self._count(claim, product.ok, settled.status, product.tracebacks, used, settled.result)

    def _keep(self, files: AttemptFiles, product: Product) -> Path:
        """Write a result that cannot be delivered to a file that stays."""
        kept = files.log.with_suffix(".result.json")
        kept.write_bytes(product.data)
        return kept

    def _fail(
        self, claim: _Claim, files: AttemptFiles, why: str, used: Mapping[str, float]
    ) -> None:
        """Record a failure without a result."""
        text, size = files.tail()
        summary = why.strip().splitlines()[-1]

        def fail() -> bool:
            with self._store.transaction() as tx:
                is_open = tx.set_attempt_log(*claim, text, [why], size)
                if is_open:
                    tx.set_task_status([claim.task], "error", reason=summary, actor=self._name)
                return is_open

        try:
            if not self._patiently(fail, "record the failure"):
                self._count_stopped(claim, "the claim is gone")
                return
        except MissingObjectError as error:
            self._count_stopped(claim, str(error))
            return
        self._count(claim, False, TaskStatusEnum.error, [why], used)

    def _count(
        self,
        claim: _Claim,
        ok: bool,
        status: TaskStatusEnum,
        tracebacks: Sequence[str],
        used: Mapping[str, float],
        result: ScopedKey | None = None,
    ) -> None:
        """Count and report an attempt that has ended."""
        self._tasks += 1
        self._failures_in_a_row = 0 if ok else self._failures_in_a_row + 1
        why = None if ok or not tracebacks else tracebacks[0].strip().splitlines()[-1]
        if not ok:
            self._failed += 1
            self._patiently(
                lambda: self._store.log_failure_compute_service(self._name), "record the failure"
            )
        self._tell(
            "finished",
            f"{claim}, {'succeeded' if ok else 'failed'}; the task is {status.value}"
            + (f": {why}" if why else ""),
            warning=not ok,
            **claim.fields,
            ok=ok,
            status=status.value,
            result=None if result is None else str(result),
            reason=why,
            **used,
        )

    @cached_property
    def _environment(self) -> dict[str, str]:
        """The packages that protocols run with, and their versions."""
        found = {one.metadata["Name"]: one.version for one in distributions()}
        return {"python": platform.python_version()} | {
            name: version for name, version in found.items() if name and version
        }
