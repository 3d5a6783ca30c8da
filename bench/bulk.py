"""One call for 100,000 tasks, against bare SQL and against the call without a queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause

from alchemistore import ScopedKey, StateStore
from alchemistore.database.keys import parameters
from alchemistore.models.clock import now
from alchemistore.operations import actions, tasks
from alchemistore.operations.task_sets import LOCK_TASKS
from bench.run import Run
from bench.seeding import scope_id, seed, task_keys
from bench.servers import connect, opened
from bench.timing import Contestant, Measure, Target, alternate, clocked, compare

PRIORITY, WEIGHT = 3, 0.25


@dataclass(frozen=True)
class Case:
    """A call that changes many tasks.

    Attributes
    ----------
    name : str
        The call.
    seeded : str
        Which of the seeded databases it starts from.
    call : callable
        The call itself, of a store, the keys and the hub.
    bare : bytes
        SQL that changes as many rows; its parameters are scope, hub and tokens.
    """

    name: str
    seeded: str
    call: Callable[[StateStore, list[ScopedKey], ScopedKey], object]
    bare: bytes


CASES = (
    Case(
        "action_tasks",
        "free",
        lambda store, keys, hub: store.action_tasks(keys, hub),
        b"INSERT INTO actions (scope_id, taskhub, task, weight, created_at)"
        b" SELECT %(scope)s, %(hub)s, unnest(%(tokens)s), 0.5, now()",
    ),
    Case(
        "set_task_status (error to waiting)",
        "in error",
        lambda store, keys, hub: store.set_task_status(keys, "waiting"),
        b"UPDATE tasks SET status = 'waiting', status_changed_at = now()"
        b" WHERE scope_id = %(scope)s AND token = ANY(%(tokens)s)",
    ),
    Case(
        "set_task_status (waiting to invalid)",
        "queued",
        lambda store, keys, hub: store.set_task_status(keys, "invalid"),
        b"UPDATE tasks SET status = 'invalid', status_changed_at = now()"
        b" WHERE scope_id = %(scope)s AND token = ANY(%(tokens)s)",
    ),
    Case(
        "set_task_priority",
        "queued",
        lambda store, keys, hub: store.set_task_priority(keys, PRIORITY),
        b"UPDATE tasks SET priority = 3 WHERE scope_id = %(scope)s AND token = ANY(%(tokens)s)",
    ),
    Case(
        "set_task_weights",
        "queued",
        lambda store, keys, hub: store.set_task_weights(keys, hub, WEIGHT),
        b"UPDATE actions SET weight = 0.25"
        b" WHERE scope_id = %(scope)s AND taskhub = %(hub)s AND task = ANY(%(tokens)s)",
    ),
    Case(
        "cancel_tasks",
        "queued",
        lambda store, keys, hub: store.cancel_tasks(keys, hub),
        b"DELETE FROM actions"
        b" WHERE scope_id = %(scope)s AND taskhub = %(hub)s AND task = ANY(%(tokens)s)",
    ),
)
SEEDED: dict[str, dict[str, Any]] = {
    "free": {"actioned": False},
    "queued": {},
    "in error": {"statuses": ["error"]},
}

# The statements of a call between locking the tasks and bringing the queue up to date.
WITHOUT_QUEUE: dict[str, tuple[TextClause, dict[str, Any]]] = {
    "action_tasks": (actions.ADD_ACTIONS, {"now": now()}),
    "set_task_priority": (tasks.SET_PRIORITY, {"priority": PRIORITY}),
    "set_task_weights": (actions.SET_ACTION_WEIGHTS, {"weights": WEIGHT}),
}


class Field:
    """Seeded databases, from which each turn of each contestant gets a fresh copy."""

    def __init__(self, run: Run, stack: ExitStack, seeded: Sequence[str]) -> None:
        self.run = run
        self.count = run.size(100_000, 2_000)
        self.templates: dict[str, tuple[str, ScopedKey, list[ScopedKey], int]] = {}
        with run.step(f"seed {self.count:,} tasks", self.count * len(seeded)) as advance:
            for name in seeded:
                url = stack.enter_context(run.server.database())
                with opened(url) as store, connect(url) as connection:
                    hub = seed(store, url, self.count, advance=advance, **SEEDED[name])[0]
                    self.templates[name] = url, hub, task_keys(connection), scope_id(connection)

    def by_call(self, case: Case) -> Contestant:
        """Return a contestant that makes the call."""
        template, hub, keys, _ = self.templates[case.seeded]

        def turn() -> float:
            with self.run.server.database(template) as url, opened(url) as store:
                store.get_task_status(keys[:1])
                return clocked(lambda: case.call(store, keys, hub))

        return turn

    def by_sql(self, case: Case) -> Contestant:
        """Return a contestant that sends one statement of bare SQL with the same keys."""
        template, hub, keys, scope = self.templates[case.seeded]
        tokens = [key.token for key in keys]

        def turn() -> float:
            with self.run.server.database(template) as url, connect(url) as connection:
                connection.execute("SELECT count(*) FROM scopes")
                values = {"scope": scope, "hub": hub.token, "tokens": tokens}
                return clocked(lambda: connection.execute(case.bare, values, prepare=False))

        return turn

    def without_queue(self, case: Case) -> Contestant:
        """Return a contestant with the call's statements except the queue: lock, change, commit."""
        template, hub, keys, scope = self.templates[case.seeded]
        statement, more = WITHOUT_QUEUE[case.name]
        tokens: list[UUID | None] = [key.token for key in keys]
        values = {**parameters(hub), "scope_ids": [scope] * len(tokens), "tokens": tokens, **more}
        if "weights" in values:
            values["weights"] = [values["weights"]] * len(tokens)

        def turn() -> float:
            with self.run.server.database(template) as url, opened(url) as store:
                store.get_task_status(keys[:1])

                def change() -> None:
                    with store.engine.begin() as connection:
                        connection.execute(LOCK_TASKS["tasks"], values)
                        connection.execute(statement, values).fetchall()

                return clocked(change)

        return turn


def against_sql(run: Run) -> list[Measure]:
    """Measure the bulk calls against bare SQL."""
    measures = []
    rounds = run.size(7, 1)
    note = (
        "every turn on a fresh copy of the same database;"
        " bare SQL is one committed statement with the same keys"
    )
    with ExitStack() as stack:
        field = Field(run, stack, list(SEEDED))
        with run.step("bulk calls and bare SQL", len(CASES) * (rounds + 1)) as advance:
            for case in CASES:
                found = alternate(
                    {"call": field.by_call(case), "bare SQL": field.by_sql(case)},
                    rounds,
                    warmup=run.size(1, 0),
                    advance=lambda: advance(1),
                )
                name = f"{case.name}, {field.count:,} tasks, against bare SQL"
                measures.append(compare(name, found, target=Target(3), unit="ms", note=note))
                note = ""
    return measures


def against_no_queue(run: Run) -> list[Measure]:
    """Measure the bulk calls against their own statements without the queue."""
    measures = []
    rounds = run.size(7, 1)
    note = (
        "the reference locks the tasks and runs the call's own statement with ready parameters,"
        " and does not change the queue"
    )
    with ExitStack() as stack:
        field = Field(run, stack, ["free", "queued"])
        chosen = [case for case in CASES if case.name in WITHOUT_QUEUE]
        with run.step("bulk calls with and without queue", len(chosen) * (rounds + 1)) as advance:
            for case in chosen:
                found = alternate(
                    {"with queue": field.by_call(case), "without": field.without_queue(case)},
                    rounds,
                    warmup=run.size(1, 0),
                    advance=lambda: advance(1),
                )
                name = f"bulk {case.name}, {field.count:,} tasks, against without a queue"
                measures.append(compare(name, found, target=Target(3), unit="ms", note=note))
                note = ""
    return measures
