"""The families of metrics, with their labels and meanings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kind of a family: a value, a number that only grows, or a distribution."""

    gauge = "gauge"
    counter = "counter"
    histogram = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics of one name.

    Attributes
    ----------
    name : str
        The name, without the suffixes of counters and histograms.
    kind : Kind
    text : str
        The meaning.
    labels : tuple of str, default ()
        The names of the labels.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()


class Sample:
    """The value of one metric.

    Parameters
    ----------
    family : str
        Name of its family.
    labels : tuple of str
        The values of the labels, in the order of the family.
    *numbers : float
        The value. For a histogram, the number of observations in each interval between `BOUNDS`,
        and then the sum of all observations.
    """

    def __init__(self, family: str, labels: tuple[str, ...], *numbers: float) -> None:
        self.family, self.labels = family, labels
        self.numbers = tuple(map(float, numbers))


PREFIX = "alchemistore_"
PLACE = ("org", "campaign", "project")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
# Bounds of durations of attempts, in seconds.
BOUNDS = (10.0, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY)

_GIVEN = (
    Family("build_info", Kind.gauge, "1, with the version of alchemistore", ("version",)),
    Family("collection_up", Kind.gauge, "1 if this part was read, 0 if that failed", ("part",)),
    Family("collection_seconds", Kind.gauge, "Time that reading this part took", ("part",)),
    Family(
        "collection_timestamp_seconds",
        Kind.gauge,
        "Time at which this part was last read",
        ("part",),
    ),
    Family("collection_failures", Kind.counter, "Failures to read this part", ("part",)),
    Family("tasks", Kind.gauge, "Tasks by status", (*PLACE, "status")),
    Family(
        "poisoned_tasks",
        Kind.gauge,
        "Tasks that are not complete after five or more attempts",
        PLACE,
    ),
    Family("claims", Kind.counter, "Claims of tasks", PLACE),
    Family("ended_attempts", Kind.counter, "Ends of attempts by outcome", (*PLACE, "outcome")),
    Family(
        "attempt_duration_seconds",
        Kind.histogram,
        "Time from claim to end of attempts that ended, by outcome",
        ("outcome",),
    ),
    Family("claimable_tasks", Kind.gauge, "Tasks that claims can choose: the queue", PLACE),
    Family(
        "oldest_claimable_seconds",
        Kind.gauge,
        "Time for which the oldest claimable task has been waiting",
        PLACE,
    ),
    Family("oldest_running_seconds", Kind.gauge, "Time since the oldest claim that is held", PLACE),
    Family(
        "compute_services", Kind.gauge, "Registered services: alive, silent, expired", ("state",)
    ),
    Family("compute_managers", Kind.gauge, "Registered compute managers by status", ("status",)),
    Family("maintenance_running", Kind.gauge, "1 if a process of 'alchemistore maintain' works"),
    Family("schema_current", Kind.gauge, "1 if the schema fits this version, else 0"),
    Family("database_latency_seconds", Kind.gauge, "Time of a round trip to the database"),
    Family("database_standby", Kind.gauge, "1 if the server that was asked is a standby"),
    Family("database_size_bytes", Kind.gauge, "Size of the database on disk"),
    Family("database_connections", Kind.gauge, "Connections of clients to the server"),
    Family("database_connections_max", Kind.gauge, "Connections that the server allows"),
    Family(
        "database_oldest_transaction_seconds",
        Kind.gauge,
        "Age of the oldest open transaction of another session",
    ),
    Family(
        "database_transaction_ids_used",
        Kind.gauge,
        "Transactions since the oldest unfrozen one; the server stops at about 2.1 billion",
    ),
    Family("table_rows", Kind.gauge, "Estimated rows of a table: live, dead", ("table", "state")),
    Family(
        "object_store_latency_seconds",
        Kind.gauge,
        "Time to list, write, read and delete two small objects",
    ),
)
FAMILIES = {family.name: family for family in _GIVEN}


def exposed(family: Family) -> tuple[str, ...]:
    """Return the names under which the metrics of a family are exposed."""
    name = PREFIX + family.name
    if family.kind is Kind.counter:
        return (f"{name}_total",)
    if family.kind is Kind.histogram:
        return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
    return (name,)
