"""One claim against queue depth, a bare UPDATE and a naive statement."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.dialects.postgresql.asyncpg import dialect as numbered

from alchemistore import ScopedKey, StateStore
from alchemistore.operations.claims import claim_statement
from alchemistore.operations.requests import NO_REQUEST
from bench.run import Run
from bench.seeding import SCOPE, register, scope_id, seed, task_keys
from bench.servers import connect, opened
from bench.timing import BenchError, Contestant, Measure, Target, alternate, clocked, compare

SERVICE = "bench-service"
# Statements are prepared after some executions, and get their general plan after some more.
WARMUP = 20
SHALLOW = 1_000

BARE = b"UPDATE tasks SET reason = NULL WHERE scope_id = %s AND token = %s"
NAIVE = b"""
    WITH picked AS (
        SELECT t.scope_id, t.token
        FROM actions AS a JOIN tasks AS t ON t.scope_id = a.scope_id AND t.token = a.task
        WHERE a.scope_id = %s AND a.taskhub = %s AND a.weight > 0 AND t.status = 'waiting'
        ORDER BY t.priority, -ln(random()) / a.weight LIMIT 1
        FOR NO KEY UPDATE OF t SKIP LOCKED
    )
    UPDATE tasks AS t SET status = 'running', status_changed_at = now(), attempts = t.attempts + 1
    FROM picked WHERE t.scope_id = picked.scope_id AND t.token = picked.token
    RETURNING t.scope_id, t.token
"""
UNDO = b"""
    UPDATE tasks SET status = 'waiting', attempts = attempts - 1 WHERE scope_id = %s AND token = %s
"""


def depth(run: Run) -> list[Measure]:
    """Measure one claim at a million waiting tasks, with --deep at five million too."""
    measures = _at(run, run.size(1_000_000, 10_000), Target(1.5), details=True)
    if run.deep:
        measures += _at(run, 5_000_000, Target(2), details=False)
    return measures


def depths(run: Run) -> list[Measure]:
    """Measure one claim at growing depths, with --deep up to a million waiting tasks."""
    sizes = [run.size(10_000, 2_000), run.size(100_000, 4_000)]
    return [
        measure
        for size in [*sizes, 1_000_000][: 3 if run.deep else 2]
        for measure in _at(run, size, Target(1.5), details=False)
    ]


def _at(run: Run, waiting: int, target: Target, details: bool) -> list[Measure]:
    rounds = run.size(500, 50)
    with (
        run.server.database() as deep,
        run.server.database() as shallow,
        opened(deep) as store,
        opened(shallow) as other,
    ):
        with run.step(f"seed {waiting:,} tasks", waiting) as advance:
            hubs = seed(store, deep, waiting, advance=advance)
            # As many are claimed as make it a thousand on average.
            few = seed(other, shallow, SHALLOW + (rounds + WARMUP) // 2)
        for one in (store, other):
            register(one, SERVICE)
        with connect(deep) as connection:
            bare = bare_update(connection)
            with run.step(f"claim 1 of {waiting:,}", rounds + WARMUP) as advance:
                found = alternate(
                    {
                        _waiting(waiting): claim(store, hubs[0]),
                        _waiting(SHALLOW): claim(other, few[0]),
                        "bare UPDATE": bare,
                    },
                    rounds,
                    warmup=WARMUP,
                    advance=lambda: advance(1),
                )
            depth_note = (
                "each in a database of its own on the same server, one claim of each in turn"
            )
            measures = [
                compare(
                    f"claim 1: {_waiting(waiting)} against {_waiting(SHALLOW)} waiting",
                    found,
                    target=target,
                    unit="ms",
                    note=depth_note,
                )
            ]
            if details:
                note = "one row of the same table by its key, psycopg in autocommit, prepared"
                name = f"claim 1 of {_waiting(waiting)} against a bare durable UPDATE of one row"
                measures.append(
                    compare(name, found, "bare UPDATE", target=Target(3), unit="ms", note=note)
                )
                measures.append(share(run, store, connection, hubs[0]))
    return measures


def naive(run: Run) -> list[Measure]:
    """Measure the stored race against a statement that sorts the hub."""
    waiting, rounds = run.size(100_000, 2_000), run.size(30, 3)
    with run.server.database() as url, opened(url) as store, connect(url) as connection:
        with run.step(f"seed {waiting:,} tasks", waiting) as advance:
            hubs = seed(store, url, waiting, advance=advance)
        register(store, SERVICE)
        place = scope_id(connection), hubs[0].token

        def sorting() -> float:
            taken: list[tuple[Any, ...]] = []
            seconds = clocked(lambda: taken.extend(connection.execute(NAIVE, place).fetchall()))
            connection.execute(UNDO, taken[0])
            return seconds

        with run.step("stored race and naive claims", rounds + WARMUP) as advance:
            found = alternate(
                {"naive": sorting, "stored race": claim(store, hubs[0])},
                rounds,
                warmup=WARMUP,
                advance=lambda: advance(1),
            )
    note = (
        "how many times faster than ORDER BY priority, -ln(random()) / weight"
        " FOR UPDATE SKIP LOCKED, which only sets the status"
    )
    return [
        compare(
            f"claim 1 at {_waiting(waiting)}: naive against stored race",
            found,
            target=Target(100, at_least=True),
            unit="ms",
            note=note,
        )
    ]


def claim(store: StateStore, hub: ScopedKey, calls: int = 1) -> Contestant:
    """Return a contestant that claims `calls` tasks one by one; its time is that of one claim."""

    def claims() -> float:
        start = time.perf_counter()
        got = [store.claim_taskhub_tasks(hub, SERVICE)[0] for _ in range(calls)]
        seconds = time.perf_counter() - start
        if None in got:
            raise BenchError(f"{hub} had nothing left to claim")
        return seconds / calls

    return claims


def bare_update(connection: psycopg.Connection[Any]) -> Contestant:
    """Return a contestant that updates one random row of `tasks`."""
    place, keys = scope_id(connection), task_keys(connection)
    tokens = [key.token for key in random.sample(keys, min(len(keys), 5_000))]
    return lambda: clocked(lambda: connection.execute(BARE, [place, random.choice(tokens)]))


def share(
    run: Run, store: StateStore, connection: psycopg.Connection[Any], hub: ScopedKey
) -> Measure:
    """Measure the share of Python and driver, against the statement in a loop in the server."""
    calls, rounds = 20, run.size(50, 5)
    compiled = claim_statement(1, False).compile(dialect=numbered())  # type: ignore[no-untyped-call]  # SQLAlchemy leaves dialects untyped
    names = compiled.positiontup or []
    org, campaign, project = SCOPE.to_tuple()
    values: dict[str, Any] = {
        "service": SERVICE,
        "org": org,
        "campaign": campaign,
        "project": project,
        "token": hub.token,
    }
    values |= {"now": datetime.now(UTC), **NO_REQUEST}
    connection.execute(f"PREPARE bench_claim AS {compiled}".encode())
    arguments = (
        sql.SQL(", ").join(sql.Literal(values[name]) for name in names).as_string(connection)
    )
    quoted = sql.Literal(f"EXECUTE bench_claim ({arguments})").as_string(connection)
    loop = f"BEGIN FOR i IN 1..{calls} LOOP EXECUTE {quoted}; COMMIT; END LOOP; END"
    block = f"DO {sql.Literal(loop).as_string(connection)}".encode()
    driver = connection.cursor()
    statement = str(claim_statement(1, False).compile(dialect=store.engine.dialect)).encode()

    def by_driver() -> None:
        for _ in range(calls):
            with connection.transaction():
                driver.execute(statement, values).fetchall()

    contestants: dict[str, Contestant] = {
        "call": claim(store, hub, calls),
        "psycopg alone": lambda: clocked(by_driver) / calls,
        "in the server": lambda: clocked(lambda: connection.execute(block, prepare=False)) / calls,
    }
    with run.step("where the time of a claim goes", rounds + 2) as advance:
        found = alternate(contestants, rounds, warmup=2, advance=lambda: advance(1))
    ratio = compare("", found, "in the server")
    alone = compare("", {"a": found["psycopg alone"], "b": found["in the server"]})
    call, inside, middle = ratio.sides[0][1], ratio.sides[1][1], alone.sides[0][1]
    return Measure(
        "Python and driver share of one claim call",
        1 - inside / call,
        form="share",
        sides=ratio.sides,
        unit="ms",
        target=Target(0.5),
        note="server time is that of the same prepared statement with its commit in a PL/pgSQL"
        " loop;"
        f" psycopg alone (BEGIN, claim, COMMIT) takes {middle * 1e3:.2f} ms, so SQLAlchemy and this"
        f" package take {(call - middle) / call:.0%} and the driver and three round trips"
        f" {(middle - inside) / call:.0%}",
    )


def _waiting(count: int) -> str:
    return f"{count // 1_000_000} M" if count >= 1_000_000 else f"{count // 1_000} k"
