"""The queues that ``bench.peers`` compares with, each behind the same three calls."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import networkx
import procrastinate
import psycopg
import sqlalchemy
from exorcist.models import TaskStatus
from exorcist.taskdb import TaskStatusDB
from pgqueuer.db import PsycopgDriver
from pgqueuer.queries import EntrypointExecutionParameter, Queries
from procrastinate.jobs import Job, Status

from alchemistore.database.engine import database_url
from bench.seeding import settle_down
from bench.servers import connect
from bench.timing import BenchError, clocked

T = TypeVar("T")

# Jobs that one call creates when a queue is filled.
CHUNK = 10_000
NAME = "bench"


class Exorcist:
    """exorcist: tasks in two tables of SQLAlchemy, by itself in a file of SQLite.

    Parameters
    ----------
    name : str
        For the table.
    engine : Engine
        The database.
    waiting : int
        How many tasks wait at the beginning.
    """

    def __init__(self, name: str, engine: sqlalchemy.Engine, waiting: int) -> None:
        self.name = name
        self._tasks = TaskStatusDB(engine)
        self._numbers = itertools.count()
        self._claimed = ""
        values = {"status": TaskStatus.AVAILABLE.value, "tries": 0, "max_tries": 3, "task_type": ""}
        for start in range(0, waiting, CHUNK):
            rows = [{"taskid": self._next(), **values} for _ in range(min(CHUNK, waiting - start))]
            with engine.begin() as connection:
                connection.execute(sqlalchemy.insert(self._tasks.tasks_table), rows)

    def _next(self) -> str:
        return f"task-{next(self._numbers)}"

    def submit(self, count: int) -> float:
        """Add a network of tasks without edges."""
        network = networkx.DiGraph()
        network.add_nodes_from([self._next() for _ in range(count)])
        return clocked(lambda: self._tasks.add_task_network(network, 3))

    def claim(self) -> float:
        """Check a task out."""
        start = time.perf_counter()
        task = self._tasks.check_out_task()
        seconds = time.perf_counter() - start
        if task is None:
            raise BenchError(f"{self.name} had nothing left to claim")
        self._claimed = task
        return seconds

    def settle(self) -> float:
        """Set the task to completed."""
        return clocked(lambda: self._tasks.mark_task_completed(self._claimed, success=True))


class Asynchronous:
    """A queue with asynchronous calls, and a loop of its own in this thread."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Return what a call returns."""

        async def waited() -> T:
            return await awaitable

        return self.runner.run(waited())

    def clock(self, call: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """Return what a call returns, and its seconds; starting the loop does not count."""

        async def clocked_call() -> tuple[T, float]:
            start = time.perf_counter()
            answer = await call()
            return answer, time.perf_counter() - start

        return self.runner.run(clocked_call())


class PgQueuer(Asynchronous):
    """pgqueuer: jobs in a table; a finished job moves to a table of its log.

    Parameters
    ----------
    url : str
        An empty database.
    waiting : int
        How many jobs wait at the beginning.
    """

    name = "pgqueuer"

    def __init__(self, url: str, waiting: int) -> None:
        super().__init__()
        self._connection = self.wait(psycopg.AsyncConnection.connect(_dsn(url), autocommit=True))
        self._queries = Queries(PsycopgDriver(self._connection))
        self._entrypoints = {NAME: EntrypointExecutionParameter(concurrency_limit=0)}
        self._manager = uuid4()
        self._claimed: Any = None
        self.wait(self._queries.install())
        for start in range(0, waiting, CHUNK):
            self.submit(min(CHUNK, waiting - start))

    def submit(self, count: int) -> float:
        """Create jobs with one call."""
        arguments = [NAME] * count, [b"x"] * count, [0] * count
        return self.clock(lambda: self._queries.enqueue(*arguments))[1]

    def claim(self) -> float:
        """Claim a job."""
        jobs, seconds = self.clock(
            lambda: self._queries.dequeue(
                1, self._entrypoints, self._manager, None, timedelta(seconds=30)
            )
        )
        if not jobs:
            raise BenchError(f"{self.name} had nothing left to claim")
        [self._claimed] = jobs
        return seconds

    def settle(self) -> float:
        """Put the job into the log."""
        entry = [(self._claimed, "successful", None)]
        return self.clock(lambda: self._queries.log_jobs(entry))[1]

    def close(self) -> None:
        """Close its connection."""
        self.wait(self._connection.close())
        self.runner.close()


class Procrastinate(Asynchronous):
    """procrastinate: jobs in a table, with their events in another.

    Parameters
    ----------
    url : str
        An empty database.
    waiting : int
        How many jobs wait at the beginning.
    """

    name = "procrastinate"

    def __init__(self, url: str, waiting: int) -> None:
        super().__init__()
        connector = procrastinate.PsycopgConnector(conninfo=_dsn(url), min_size=1, max_size=1)
        self._app = procrastinate.App(connector=connector)
        self.wait(self._app.open_async())
        self.wait(self._app.schema_manager.apply_schema_async())
        self._worker = self.wait(self._app.job_manager.register_worker())
        self._claimed: Any = None
        for start in range(0, waiting, CHUNK):
            self.submit(min(CHUNK, waiting - start))

    def submit(self, count: int) -> float:
        """Create jobs with one call."""
        job = Job(queue=NAME, lock=None, queueing_lock=None, task_name=NAME)
        jobs = [job] * count
        return self.clock(lambda: self._app.job_manager.batch_defer_jobs_async(jobs))[1]

    def claim(self) -> float:
        """Claim a job."""
        job, seconds = self.clock(
            lambda: self._app.job_manager.fetch_job(queues=[NAME], worker_id=self._worker)
        )
        if job is None:
            raise BenchError(f"{self.name} had nothing left to claim")
        self._claimed = job
        return seconds

    def settle(self) -> float:
        """Set the status of the job."""
        finish = self._app.job_manager.finish_job
        return self.clock(lambda: finish(self._claimed, Status.SUCCEEDED, delete_job=False))[1]

    def close(self) -> None:
        """Close its pool of connections."""
        self.wait(self._app.close_async())
        self.runner.close()


@contextmanager
def pgqueuer_queue(url: str, waiting: int) -> Iterator[PgQueuer]:
    """Yield pgqueuer on an empty database."""
    queue = PgQueuer(url, waiting)
    try:
        _settle_down(url)
        yield queue
    finally:
        queue.close()


@contextmanager
def procrastinate_queue(url: str, waiting: int) -> Iterator[Procrastinate]:
    """Yield procrastinate on an empty database."""
    queue = Procrastinate(url, waiting)
    try:
        _settle_down(url)
        yield queue
    finally:
        queue.close()


@contextmanager
def exorcist_queue(url: str, waiting: int) -> Iterator[Exorcist]:
    """Yield exorcist on an empty database."""
    engine = sqlalchemy.create_engine(database_url(url))
    try:
        queue = Exorcist("exorcist", engine, waiting)
        _settle_down(url)
        yield queue
    finally:
        engine.dispose()


@contextmanager
def exorcist_file(directory: Path, waiting: int, durable: bool) -> Iterator[Exorcist]:
    """Yield exorcist as its documentation uses it, on a file of SQLite."""
    engine = sqlalchemy.create_engine(f"sqlite:///{directory / 'tasks.sqlite'}")

    def set_durability(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")

    sqlalchemy.event.listen(engine, "connect", set_durability)
    try:
        yield Exorcist("exorcist, SQLite", engine, waiting)
    finally:
        engine.dispose()


def _dsn(url: str) -> str:
    return database_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _settle_down(url: str) -> None:
    with connect(url) as connection:
        settle_down(connection)
