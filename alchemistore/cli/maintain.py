"""`alchemistore maintain`: the regular work of a store, by one of any number of processes."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import age_option, open_store, url_option
from alchemistore.cli.output import ERRORS_ONLY, Output, counted, output_options, printable

if TYPE_CHECKING:
    from alchemistore.store import StateStore

# Rounds that the leader may miss before another process takes over.
MISSED = 3


@click.command(short_help="Expire silent services and clean the queue, again and again.")
@url_option
@age_option("--lease", "30m", "Compute services without a heartbeat for longer than this expire.")
@age_option(
    "--manager-lease", "1h", "Compute managers without a status update for longer than this expire."
)
@age_option("--manager-error-lease", "1d", "The same for compute managers with status ERROR.")
@click.option("--once", is_flag=True, help="Do everything once, and end.")
@click.option(
    "--interval",
    type=click.FloatRange(0.05),
    default=60.0,
    show_default=True,
    help="Seconds between two rounds.",
)
@click.option(
    "--queue-interval",
    type=click.FloatRange(0.05),
    default=3600.0,
    show_default=True,
    help="Seconds between two cleanings of the queue.",
)
@output_options(ERRORS_ONLY)
def maintain(
    out: Output,
    url: str,
    lease: timedelta,
    manager_lease: timedelta,
    manager_error_lease: timedelta,
    once: bool,
    interval: float,
    queue_interval: float,
) -> None:
    """Carry out the regular work of a store, until it is interrupted, or --once.

    In each round, silent compute services and managers expire, the tasks of these services are set
    to waiting, and the floors of the queue are raised. Every --queue-interval, empty lanes of the
    queue and old request identifiers are removed. All times are by the clock of the database.

    Any number of these processes may run, on any machines: one of them works, and another one takes
    over when it ends or has missed three rounds. This also works behind PgBouncer. If the database
    cannot be reached, the next round tries again. SIGTERM and Ctrl-C end the process in order, with
    exit code 0.

    \b
    Examples:
      alchemistore maintain
      alchemistore maintain --once --lease 1h      # for cron
      alchemistore maintain --json >> maintenance.jsonl
    """
    worker = Maintenance(open_store(url), out, lease, manager_lease, manager_error_lease)
    duration = timedelta(seconds=MISSED * interval)
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        if once:
            worker.round(duration, with_queue=True)
            return
        _loop(worker, stop, duration, interval, queue_interval)
    finally:
        worker.release()


def _stop_on_signals(stop: threading.Event) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    # Tests run commands in threads, where signals cannot be handled.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)


def _loop(
    worker: Maintenance,
    stop: threading.Event,
    duration: timedelta,
    interval: float,
    queue_interval: float,
) -> None:
    from alchemistore.errors import StoreUnavailableError

    cleaned: float | None = None
    while not stop.is_set():
        due = cleaned is None or time.monotonic() - cleaned >= queue_interval
        try:
            if worker.round(duration, with_queue=due) and due:
                cleaned = time.monotonic()
        except StoreUnavailableError as error:
            click.echo(f"Error: {printable(str(error))}; the next round tries again", err=True)
        stop.wait(interval)


class Maintenance:
    """A process that does the regular work if it has the lease.

    Parameters
    ----------
    store : StateStore
    out : Output
    lease, manager_lease, manager_error_lease : timedelta
        The times of silence after which services and managers expire.
    """

    def __init__(
        self,
        store: StateStore,
        out: Output,
        lease: timedelta,
        manager_lease: timedelta,
        manager_error_lease: timedelta,
    ) -> None:
        self.store, self.out = store, out
        self.lease = lease
        self.manager_leases = (manager_lease, manager_error_lease)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self.leads: bool | None = None

    def round(self, duration: timedelta, with_queue: bool) -> bool:
        """Carry out the work of one round, if this process has the lease.

        Parameters
        ----------
        duration : timedelta
            How long the lease lasts unless it is renewed.
        with_queue : bool
            Whether to clean the queue, too.

        Returns
        -------
        bool
            Whether this process has the lease.
        """
        from alchemistore.operations.leases import MAINTENANCE

        leads = self.store.acquire_lease(MAINTENANCE, self.holder, duration)
        if leads is not self.leads:
            self.out.say("This process does the work." if leads else "Another process does it.")
        self.leads = leads
        done: dict[str, Any] = {"leads": leads, "services": [], "cleaned": False}
        if leads:
            # Each of these is one transaction, and harmless if another process does it, too.
            done["services"] = list(self.store.expire_registrations(self.lease))
            self.store.expire_computemanager_registrations(*self.manager_leases)
            if with_queue:
                self.store.maintain_queue()
                done["cleaned"] = True
        self.out.json(done)
        if services := done["services"]:
            names = ", ".join(map(printable, services))
            self.out.say(f"{counted(len(services), 'compute service')} expired: {names}")
        if done["cleaned"]:
            self.out.say("Cleaned the queue.")
        return leads

    def release(self) -> None:
        """Release the lease, so that another process takes over at once."""
        from alchemistore.errors import StoreUnavailableError
        from alchemistore.operations.leases import MAINTENANCE

        if not self.leads:
            return
        try:
            self.store.release_lease(MAINTENANCE, self.holder)
        except StoreUnavailableError as error:
            click.echo(
                f"Error: {printable(str(error))}; another process takes over later", err=True
            )
