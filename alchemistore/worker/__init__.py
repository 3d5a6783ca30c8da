"""A compute service for one machine or a batch queue.

It claims tasks, runs each in a process of its own, and stores and settles the results. The process
that runs a protocol sees neither the database nor the object store.
"""

from alchemistore.worker.events import Event
from alchemistore.worker.launcher import Launcher, LauncherError
from alchemistore.worker.options import Options
from alchemistore.worker.service import Summary, Worker, WorkerError

__all__ = [
    "Event",
    "Launcher",
    "LauncherError",
    "Options",
    "Summary",
    "Worker",
    "WorkerError",
]
