"""Render statements as SQL files that psql can run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import TextClause, TextualSelect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from alchemistore.models import TaskStatusEnum
from alchemistore.operations import claims, results, settlement
from alchemistore.operations.queue import lanes, refresh
from alchemistore.operations.statuses import SET_STATUS, TRANSITIONS
from alchemistore.operations.task_sets import LOCK_TASKS

FOLDER = Path(__file__).parent
SAMPLE = r"\ir sample.sql"

# Keys of rows in sample.sql.
HUB = "'40000000-0000-0000-0000-000000000001'"
WAITING = "'50000000-0000-7000-8000-000000000001'"
CLAIMED = "'50000000-0000-7000-8000-000000000003'"

# The type of each parameter, and a sample value that fits the rows of sample.sql.
PARAMETERS = {
    "actor": ("text", "NULL"),
    "arguments": ("uuid", "'90000000-0000-0000-0000-000000000001'"),
    "attempt": ("integer", "1"),
    "call": ("text", "'claim_tasks'"),
    "campaign": ("text", "'campaign'"),
    "campaigns_in": ("text[]", "ARRAY[NULL]"),
    "campaigns_out": ("text[]", "ARRAY['other campaign']"),
    "change": ("uuid", "'60000000-0000-7000-8000-000000000001'"),
    "creator": ("text", "NULL"),
    "datetime_created": ("timestamptz", "'2026-01-02 03:04:05+00'"),
    "location": ("text", "NULL"),
    "notify": ("boolean", "true"),
    "now": ("timestamptz", "'2026-01-02 03:04:05+00'"),
    "obj_key": ("text", "'ProtocolDAGResult-1'"),
    "ok": ("boolean", "true"),
    "org": ("text", "'org'"),
    "orgs_in": ("text[]", "ARRAY['org']"),
    "orgs_out": ("text[]", "ARRAY[NULL]"),
    "outcome": ("text", "'complete'"),
    "packages": ("text", '\'{"gufe": "1.0"}\''),
    "priority": ("bigint", "3"),
    "project": ("text", "'project'"),
    "projects_in": ("text[]", "ARRAY[NULL]"),
    "projects_out": ("text[]", "ARRAY[NULL]"),
    "protocols": ("text[]", "ARRAY['ToyProtocol']"),
    "reason": ("text", "NULL"),
    "request": ("uuid", "'90000000-0000-7000-8000-000000000001'"),
    "result": ("uuid", "'70000000-0000-0000-0000-000000000001'"),
    "scope": ("text", "'org-campaign-project'"),
    "scope_id": ("bigint", "1000"),
    "scope_ids": ("bigint[]", "ARRAY[1000, 1000]"),
    "seed": ("bigint", "42"),
    "service": ("text", "'service'"),
    "settles": ("boolean", "true"),
    "sources": ("text[]", "ARRAY['waiting', 'running']"),
    "status": ("text", "'running'"),
    "task": ("uuid", CLAIMED),
    "token": ("uuid", CLAIMED),
    "tokens": ("uuid[]", f"ARRAY[uuid {WAITING}, {CLAIMED}]"),
}


@dataclass(frozen=True)
class Sample:
    """A statement to render, with its title and sample values that differ from `PARAMETERS`."""

    title: str
    statement: TextClause | TextualSelect | TextualSelect
    values: dict[str, str]


def _claim(filtered: bool, hubs: str) -> TextualSelect:
    return claims.claim_statement(1, filtered, hubs)


def _samples() -> Iterator[tuple[str, Sample]]:
    one, several = claims.ONE_HUB, claims.HUBS_OF_SCOPES
    hub = {"token": HUB}
    yield "claim_hub_any", Sample("Claim from one hub, any protocol", _claim(False, one), hub)
    yield "claim_hub_some", Sample("Claim from one hub, some protocols", _claim(True, one), hub)
    yield (
        "claim_scopes_any",
        Sample("Claim from the hubs of scopes, any protocol", _claim(False, several), {}),
    )
    yield (
        "claim_scopes_some",
        Sample("Claim from the hubs of scopes, some protocols", _claim(True, several), {}),
    )
    for reach, statement in LOCK_TASKS.items():
        yield f"lock_{reach}", Sample(f"Lock tasks, reach {reach!r}", statement, {})
    for reach, statement in refresh.REFRESH_QUEUE.items():
        yield f"refresh_{reach}", Sample(f"Refresh the queue, reach {reach!r}", statement, {})
    for reach, statement in refresh.LEAVE_QUEUE.items():
        yield f"leave_{reach}", Sample(f"Leave the queue, reach {reach!r}", statement, {})
    yield "leave_hub", Sample("Leave the queue of a hub", refresh.LEAVE_HUB, {"token": HUB})
    yield "set_priority", Sample("Set the priority in the queue", refresh.SET_PRIORITY_IN_QUEUE, {})
    for status, statement in SET_STATUS.items():
        yield f"set_{status.value}", _set_status(status, statement)
    yield "raise_floors", Sample("Raise the floors of lanes", lanes.RAISE_FLOORS, {})
    yield "close_lanes_lock", Sample("Close empty lanes, 1: lock", lanes.CLOSE_LANES[0], {})
    yield "close_lanes", Sample("Close empty lanes, 2: delete", lanes.CLOSE_LANES[1], {})
    settle = "Settle a task"
    yield "settle_lock", Sample(f"{settle}, 1: lock", settlement.LOCK_TASK_AND_CHILDREN, {})
    yield (
        "settle_attempt",
        Sample(f"{settle}, 2: find the attempt", settlement.FIND_ATTEMPT_OF_SENDER, {}),
    )
    yield "settle_result", Sample(f"{settle}, 3: add the result", results.ADD_RESULT, {})
    yield (
        "settle_environment",
        Sample(
            f"{settle}, 4: add the environment",
            settlement.ADD_ENVIRONMENT,
            {"token": "'80000000-0000-0000-0000-000000000001'"},
        ),
    )


def _set_status(status: TaskStatusEnum, statement: TextClause | TextualSelect) -> Sample:
    transition = TRANSITIONS[status]
    sources = ", ".join(f"'{source}'" for source in transition.sources)
    values = {
        "status": f"'{status.value}'",
        "sources": f"ARRAY[{sources}]",
        "outcome": f"'{transition.outcome}'",
    }
    return Sample(f"Set tasks to {status.value}", statement, values)


def compiled(statement: TextClause | TextualSelect) -> tuple[str, list[str]]:
    """Return the text of a statement with numbered parameters, and their names in order."""
    dialect: Callable[..., PGDialect_psycopg] = PGDialect_psycopg
    result = statement.compile(dialect=dialect(paramstyle="numeric_dollar"))
    names = dict.fromkeys(result.positiontup or ())
    return str(result), list(names)


def _without_quotes(line: str) -> str:
    """Return a line without its comment and string literals, to count parentheses in."""
    return re.sub(r"--.*|'[^']*'", "", line)


def indented(statement: str) -> str:
    """Return a statement without blank lines, indented by the depth of its parentheses.

    Lines that continue a condition are indented once more.
    """
    depth, lines = 0, []
    for line in filter(None, map(str.strip, statement.splitlines())):
        code = _without_quotes(line)
        closing = len(code) - len(code.lstrip(")"))
        continued = bool(re.match(r"(AND|OR|ON(?! CONFLICT)) ", line))
        lines.append("    " * (depth - closing + continued) + line)
        depth += code.count("(") - code.count(")")
    return "\n".join(lines)


def render(name: str, sample: Sample) -> str:
    """Return the SQL file of a statement."""
    body, names = compiled(sample.statement)
    parameters = [PARAMETERS[parameter] for parameter in names]
    lines = [f"-- {sample.title}.", "-- Rendered by `make statements`; do not edit."]
    lines += [
        f"-- ${number}: {parameter} ({PARAMETERS[parameter][0]})"
        for number, parameter in enumerate(names, 1)
    ]
    lines += ["BEGIN;", "SET LOCAL search_path TO alchemistore, pg_temp;", SAMPLE]
    if body.startswith("LOCK"):
        # PREPARE takes queries only.
        lines += [f"{body};"]
    else:
        types = ",\n    ".join(kind for kind, _ in parameters)
        values = ",\n    ".join(sample.values.get(each, PARAMETERS[each][1]) for each in names)
        lines += [f"PREPARE {name} (\n    {types}\n) AS" if names else f"PREPARE {name} AS"]
        lines += [f"{indented(body)};"]
        lines += [f"EXECUTE {name} (\n    {values}\n);" if names else f"EXECUTE {name};"]
        lines += [f"DEALLOCATE {name};"]
    return "\n".join([*lines, "ROLLBACK;", ""])


SAMPLES = dict(_samples())


def files() -> dict[Path, str]:
    """Return the content of each rendered file."""
    return {FOLDER / f"{name}.sql": render(name, sample) for name, sample in SAMPLES.items()}
