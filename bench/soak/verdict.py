"""The verdict on a load: what its journals say against what the database and the bucket hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from sqlalchemy import text

from alchemistore import AlchemistoreError, S3ObjectStore, ScopedKey
from alchemistore.objectstore.packing import unpack
from bench.soak.load import Load
from bench.soak.worker import content

READERS = 8
SHOWN = 5

ATTEMPTS = text("SELECT task, attempt, service, outcome FROM attempts")
RESULTS = text("""
    SELECT l.task, r.token, r.ok, r.location, EXISTS (
        SELECT FROM tracebacks AS b WHERE b.scope_id = r.scope_id AND b.result = r.token
    ) AS traced
    FROM task_results AS l
    JOIN results AS r ON r.scope_id = l.scope_id AND r.token = l.result
""")
STATUSES = text("SELECT token, status FROM tasks")


def claimed_twice(events: Sequence[Mapping[str, Any]], load: Load) -> list[str]:
    """Return the claims that two services had at the same time, or one without an attempt."""
    attempts = load.rows(ATTEMPTS)
    outcomes = {(str(row.task), row.attempt): row.outcome for row in attempts}
    recorded = Counter((str(row.task), row.service) for row in attempts)
    answered = Counter((_token(one), one["service"]) for one in events if one["kind"] == "claimed")
    found = [
        f"{task}: {service} was given it {times} times, in {recorded[task, service]} attempts"
        for (task, service), times in answered.items()
        if times > recorded[task, service]
    ]
    held: dict[str, list[tuple[float, float, str, int]]] = defaultdict(list)
    since: dict[tuple[str, str], float] = {}
    settling: dict[tuple[str, str], float] = {}
    for one in sorted(events, key=lambda one: float(one["at"])):
        if one["kind"] not in ("claimed", "settling", "settled"):
            continue
        key = _token(one), one["service"]
        if one["kind"] == "claimed":
            since[key] = one["at"]
        elif one["kind"] == "settling":
            settling[key] = one["at"]
        elif outcomes.get((key[0], one["attempt"])) in ("complete", "error"):
            # The attempt ended with this call, so the service held the claim until then.
            held[key[0]].append((since[key], settling[key], key[1], one["attempt"]))
    for task, intervals in held.items():
        intervals.sort()
        for (_, end, first, number), (start, _, second, other) in pairwise(intervals):
            if start < end or number == other:
                found.append(f"{task}: {first} and {second} held it, attempts {number} and {other}")
    return found


def claims_lost(events: Iterable[Mapping[str, Any]], load: Load) -> list[str]:
    """Return the claims of services that never learned of them, although they were not killed."""
    answered = Counter((_token(one), one["service"]) for one in events if one["kind"] == "claimed")
    recorded = Counter((str(row.task), row.service) for row in load.rows(ATTEMPTS))
    return [
        f"{task}: {service} was given it {answered[task, service]} times, in {times} attempts"
        for (task, service), times in recorded.items()
        if times > answered[task, service] and load.survived(service)
    ]


def results_lost(
    events: Iterable[Mapping[str, Any]], load: Load, objects: S3ObjectStore | None
) -> list[str]:
    """Return the results that were accepted, or made a task complete, and are not there."""
    statuses = {str(row.token): row.status for row in load.rows(STATUSES)}
    results = load.rows(RESULTS)
    known = {(str(row.task), row.token.hex): row for row in results}
    succeeded = {str(row.task) for row in results if row.ok}
    found = [
        f"{task} is complete, but has no successful result"
        for task, status in statuses.items()
        if status == "complete" and task not in succeeded
    ]
    for one in events:
        if one["kind"] != "settled":
            continue
        task = _token(one)
        row = known.get((task, one["result"].rpartition("-")[2]))
        if row is None:
            found.append(f"{task}: {one['result']} of {one['service']} was settled, but is missing")
        elif not one["ok"] and not row.traced:
            found.append(f"{task}: the tracebacks of {one['result']} are missing")
        if one["ok"] and statuses[task] != "complete":
            found.append(f"{task} was settled with a success, but is {statuses[task]}")
    if objects is not None:
        with ThreadPoolExecutor(READERS) as pool:
            readable = pool.map(lambda row: _is_readable(objects, row.location), results)
            found += [
                f"{row.task}: the object at {row.location} is missing or damaged"
                for row, there in zip(results, readable, strict=True)
                if not there
            ]
    return found


def errors(events: Iterable[Mapping[str, Any]]) -> tuple[dict[str, int], list[str]]:
    """Return how often workers and maintainer saw each error, and the most frequent texts."""
    seen = [one for one in events if one["kind"] == "error"]
    kinds = Counter(f"{one['call']}: {one['error']}" for one in seen)
    texts = Counter(f"{one['error']}: {one['text']}" for one in seen)
    return dict(kinds.most_common()), [
        f"{times} x {message}" for message, times in texts.most_common(SHOWN)
    ]


def crashes(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the errors that ended workers."""
    return [
        one["text"] if one["kind"] == "crash" else f"{one['worker']} ended with {one['code']}"
        for one in events
        if one["kind"] in ("crash", "ended")
    ]


def _token(event: Mapping[str, Any]) -> str:
    return str(ScopedKey.from_str(event["task"]).token)


def _is_readable(objects: S3ObjectStore, location: str) -> bool:
    try:
        data = objects.bucket_prefix.get(location)
        return unpack(data, location).encode() == content(location)
    except (AlchemistoreError, KeyError):
        return False
