"""Records of the contents of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alchemistore.models import ScopedKey


@dataclass(frozen=True, slots=True)
class GraphHub:
    """A task hub: its key and weight."""

    key: str
    weight: float


@dataclass(frozen=True, slots=True)
class GraphStrategy:
    """The strategy of a network, and the fields of its state."""

    key: ScopedKey
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GraphNetwork:
    """A network with its hubs, the states of its marks, its strategies and transformations.

    The store has at most one hub, mark and strategy; a graph may have none or several.
    """

    key: ScopedKey
    name: str | None
    hubs: tuple[GraphHub, ...]
    states: tuple[str, ...]
    strategies: tuple[GraphStrategy, ...]
    edges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphRoot:
    """A gufe object that no other object depends on.

    `used` says whether it is the strategy of a network, `run` whether tasks perform it.
    """

    key: ScopedKey
    used: bool
    run: bool


@dataclass(frozen=True, slots=True)
class GraphLink:
    """A dependency of a gufe object, in an attribute, at a name of a dict or a place of a list."""

    key: str
    attribute: str
    name: str | None
    index: int | None


@dataclass(frozen=True, slots=True)
class GraphObject:
    """A gufe object: its key, the properties of its node, and its dependencies."""

    key: str
    properties: Mapping[str, Any]
    links: tuple[GraphLink, ...]


@dataclass(frozen=True, slots=True)
class GraphClaim:
    """A claim of a service."""

    service: str
    claimed: datetime | None


@dataclass(frozen=True, slots=True)
class GraphAction:
    """A place of a task on a hub."""

    hub: ScopedKey
    weight: float


@dataclass(frozen=True, slots=True)
class GraphCounter:
    """How often a restart pattern of a hub has restarted a task."""

    hub: str
    pattern: str
    retries: int


@dataclass(frozen=True, slots=True)
class GraphTask:
    """A task with its parents, claims, actions, counters and the keys of its results."""

    key: ScopedKey
    transformation: str
    status: str
    priority: int
    creator: str | None
    created: datetime | None
    parents: tuple[ScopedKey, ...]
    claims: tuple[GraphClaim, ...]
    actions: tuple[GraphAction, ...]
    counters: tuple[GraphCounter, ...]
    results: tuple[ScopedKey, ...]


@dataclass(frozen=True, slots=True)
class GraphResult:
    """A reference to a result in the object store."""

    key: ScopedKey
    obj_key: str
    location: str | None
    scope: str
    ok: bool
    created: datetime | None
    creator: str | None


@dataclass(frozen=True, slots=True)
class GraphTracebacks:
    """Tracebacks of a failure."""

    result: ScopedKey
    tracebacks: tuple[str, ...]
    sources: tuple[str, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphPattern:
    """A restart pattern of a hub."""

    hub: ScopedKey
    pattern: str
    max_retries: int


@dataclass(frozen=True, slots=True)
class GraphStray:
    """A node without the relationship that gives it a meaning, and what is missing."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class GraphService:
    """A registered compute service."""

    identifier: str
    registered: datetime
    heartbeat: datetime
    failures: tuple[datetime, ...]
    manager: str | None


@dataclass(frozen=True, slots=True)
class GraphManager:
    """A registered compute manager."""

    name: str
    uuid: str
    registered: datetime
    status: str
    detail: str | None
    saturation: float | None
    updated: datetime


@dataclass(frozen=True, slots=True)
class GraphIdentity:
    """A user or compute identity with its hashed key and scopes."""

    type: str
    identifier: str
    hashed_key: str
    expires: datetime | None
    disabled: bool
    email: str | None
    full_name: str | None
    scopes: tuple[str, ...]
