"""Many claimers at once: processes, each with its own connection."""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from urllib.parse import quote

import psycopg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from alchemistore import ScopedKey, StateStore
from alchemistore.database.engine import database_url as parse_url
from alchemistore.settings import Settings
from bench.run import Run
from bench.seeding import add_tasks, register, seed, settle_down
from bench.servers import connect, opened
from bench.timing import BenchError, Measure, Target, compare

WARMUP = 12
PATIENCE = 300.0
LOCK_NOT_AVAILABLE = "55P03"
WAIT = "5ms"
# For a superuser, PostgreSQL logs the lock shortly before the wait times out.
TELL = " -c log_lock_waits=on -c deadlock_timeout=4ms -c client_min_messages=log"
LOCK = re.compile(r"(?<=still waiting for )\w+ on \w+ of \w+|(?<=still waiting for )\w+ on \w+")

_barrier: Barrier | None = None


@dataclass(frozen=True)
class Job:
    """The work of one claimer: claims for `seconds`, or `quota` claims, then all others."""

    url: str
    hub: str
    service: str
    seconds: float = 0
    quota: int = 0


@dataclass
class Outcome:
    """The claimed tasks, the claims that came back short, and those that waited for locks."""

    claimed: int = 0
    short: int = 0
    waits: int = 0
    locks: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)


def _enter(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _work(job: Job) -> Outcome:
    assert _barrier is not None
    outcome = Outcome()
    notices: list[str] = []
    store = StateStore(Settings(database_url=job.url, pool_size=1))  # type: ignore[arg-type]  # pydantic makes a secret of it

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        # Read at once: afterwards it is gone.
        notices.append(diagnostic.message_primary or "")

    event.listen(store.engine, "connect", lambda connection, _: connection.add_notice_handler(note))
    for _ in range(WARMUP):
        _claim(store, job, outcome)
    if job.quota == 0:
        # The warm-up counts only where waits are counted.
        outcome = Outcome()
    _barrier.wait(PATIENCE)
    deadline = time.monotonic() + job.seconds
    while time.monotonic() < deadline or outcome.claimed + outcome.short < job.quota:
        _claim(store, job, outcome)
    _barrier.wait(PATIENCE)
    if job.quota:
        drained = Outcome()
        while not drained.short:
            _claim(store, job, drained)
        outcome.claimed += drained.claimed
        outcome.waits += drained.waits
        outcome.tasks += drained.tasks
    store.close()
    # Keep the kind of lock only, without process, transaction and page numbers.
    outcome.locks = [found[0] for notice in notices if (found := LOCK.search(notice))]
    return outcome


def _claim(store: StateStore, job: Job, outcome: Outcome) -> None:
    try:
        got = store.claim_taskhub_tasks(job.hub, job.service)[0]
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        outcome.waits += 1
        return
    if got is None:
        outcome.short += 1
    else:
        outcome.claimed += 1
        outcome.tasks.append(str(got))


def send(jobs: Sequence[Job]) -> list[Outcome]:
    """Run all claimers at once and return their outcomes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.contention"])
    barrier = context.Barrier(len(jobs))
    with ProcessPoolExecutor(
        len(jobs), mp_context=context, initializer=_enter, initargs=(barrier,)
    ) as pool:
        outcomes = list(pool.map(_work, jobs))
    counted = Counter(task for outcome in outcomes for task in outcome.tasks)
    if counted and max(counted.values()) > 1:
        raise BenchError(
            "tasks were claimed twice:"
            f" {[task for task, times in counted.items() if times > 1][:5]}"
        )
    return outcomes


def throughput(run: Run) -> list[Measure]:
    """Measure 16 claimers on one hub against one, and against 16 on hubs of their own."""
    rounds, seconds = run.size(7, 1), run.size(30, 5) / 10
    crowd = run.size(16, 4)
    services = [f"bench-{i}" for i in range(crowd)]
    with run.server.database() as url, opened(url) as store:
        # More than any machine of this size claims in the time.
        plenty = round(run.size(12_000, 3_000) * (seconds + 1))
        with run.step("seed hubs", plenty * 3) as advance:
            # The hubs of their own hold together what the one hub holds.
            busy, *own = seed(store, url, plenty // crowd, hubs=1 + crowd, advance=advance)
            register(store, *services)
        together, alone, apart = f"{crowd} on one hub", "one claimer", f"{crowd} on {crowd} hubs"
        one = [Job(url, str(busy), services[0], seconds)]
        many = [Job(url, str(busy), service, seconds) for service in services]
        spread = [
            Job(url, str(hub), service, seconds) for hub, service in zip(own, services, strict=True)
        ]
        contests = {together: (many, busy), alone: (one, busy), apart: (spread, None)}
        found: dict[str, list[float]] = {name: [] for name in contests}
        with run.step("claimers", (rounds + 1) * len(contests)) as advance:
            for turn in range(rounds + 1):
                for name, (jobs, hub) in contests.items():
                    _refill(url, [hub] if hub else own, plenty if hub else plenty // crowd)
                    outcomes = send(jobs)
                    if any(outcome.short for outcome in outcomes):
                        raise BenchError(
                            "a hub had nothing left to claim;"
                            " the machine is faster than this benchmark expects"
                        )
                    if turn:
                        found[name].append(sum(outcome.claimed for outcome in outcomes) / seconds)
                    advance(1)
    note = (
        f"processes, claims of one, {seconds:g} s each, {rounds} rounds in turn;"
        f" median {statistics.median(found[together]):,.0f} tasks/s"
    )
    return [
        compare(
            f"{crowd} claimers on one hub against one claimer",
            found,
            alone,
            target=Target(1.5, at_least=True),
            unit="tasks/s",
            note=note,
        ),
        compare(
            f"{crowd} claimers on one hub against {crowd} on {crowd} hubs",
            found,
            apart,
            target=Target(0.8, at_least=True),
            unit="tasks/s",
        ),
    ]


def _refill(url: str, hubs: Sequence[ScopedKey], wanted: int) -> None:
    with connect(url) as connection:
        for hub in hubs:
            row = connection.execute(
                "SELECT count(*) FROM queue WHERE taskhub = %s", [hub.token]
            ).fetchone()
            assert row is not None
            if row[0] < wanted:
                add_tasks(connection, [hub], wanted - row[0])
        settle_down(connection)


def waits(run: Run) -> list[Measure]:
    """Count claims that waited for a lock or came back short, by 64 claimers on two shared hubs."""
    crowd, quota = run.size(64, 8), run.size(300, 15)
    # There is always work for everybody until the quotas are done.
    slack = crowd * 8
    total = (quota + WARMUP) * crowd + slack
    services = [f"bench-{i}" for i in range(crowd)]
    with run.server.database() as url, opened(url) as store:
        with run.step("seed two hubs that share all tasks", total) as advance:
            hubs = seed(store, url, total, hubs=2, shared=True, advance=advance)
            register(store, *services)
        impatient = _impatient(url)
        with run.step(f"{crowd} claimers", 1) as advance:
            outcomes = send(
                [
                    Job(impatient, str(hubs[i % 2]), service, quota=quota)
                    for i, service in enumerate(services)
                ]
            )
            advance(1)
        with connect(url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM tasks WHERE status = 'waiting'"
            ).fetchone()
        assert row is not None
        left = int(row[0])
        broken = [problem for problem in store.problems() if run.quick]
    if broken:
        raise BenchError(f"the claims left the database unsound: {broken[:3]}")
    waited = sum(outcome.waits for outcome in outcomes)
    locks = Counter(lock for outcome in outcomes for lock in outcome.locks)
    short = sum(outcome.short for outcome in outcomes)
    claimed = sum(outcome.claimed for outcome in outcomes)
    kinds = "".join(f" {lock}: {times} times." for lock, times in locks.most_common())
    return [
        Measure(
            f"claims that waited > 5 ms for a lock or came back short, {crowd} claimers, two hubs",
            waited + short + left,
            form="count",
            target=Target(0),
            note=f"of {claimed:,} claims {waited} waited, {short} came back short while work was"
            f" left, and {left} tasks were left at the end. The claimers run with lock_timeout ="
            f" {WAIT}: PostgreSQL ends each claim that waits longer for a lock, and those are"
            f" counted.{kinds}",
        )
    ]


def _impatient(url: str) -> str:
    parsed = parse_url(url)
    with connect(parsed) as connection:
        superuser = connection.execute(
            "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone() == (True,)
    given, logging = parsed.query.get("options", ""), TELL if superuser else ""
    options = f"{given} -c lock_timeout={WAIT}{logging}".strip()
    base = parsed.difference_update_query(["options"]).render_as_string(hide_password=False)
    # As libpq reads it: a space is %20, and a plus is a plus.
    return f"{base}{'&' if '?' in base else '?'}options={quote(options)}"
