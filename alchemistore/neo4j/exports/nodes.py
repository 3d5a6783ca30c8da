"""Nodes and relationships as alchemiscale 0.8's own store writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row

from alchemistore import gufe_adapter
from alchemistore.database.keys import gufe_token
from alchemistore.models.text import unescape
from alchemistore.neo4j.documents import REFERENCE
from alchemistore.neo4j.report import PartReport

MODELS = "alchemiscale.storage.models"
INTEGERS = range(-(2**63), 2**63)

Links = dict[str, dict[str, Any]]


class GraphScope:
    """A scope, with the nodes and relationships in it.

    Parameters
    ----------
    scope_id : int
        Id of the scope in the store.
    parts : tuple of str
        Organisation, campaign and project.
    """

    def __init__(self, scope_id: int, parts: tuple[str, str, str]) -> None:
        self.id = scope_id
        self._text = "-".join(parts)
        self.properties = dict(zip(("_org", "_campaign", "_project"), parts, strict=True))

    def __str__(self) -> str:
        return self._text

    def key(self, kind: str, token: UUID) -> str:
        """Return a scoped key."""
        return f"{kind}-{token.hex}-{self}"

    def pattern(self, taskhub: UUID, pattern: str) -> UUID:
        """Return the token of a restart pattern, which the original computes like this."""
        hashed = (unescape(pattern) + self.key("TaskHub", taskhub)).encode(errors="surrogatepass")
        return UUID(hex=hashlib.md5(hashed, usedforsecurity=False).hexdigest())

    def node(
        self, kind: str, token: UUID, *, module: str | None = MODELS, **properties: Any
    ) -> dict[str, Any]:
        """Return the properties of a node; a module is that of an object of the original."""
        own = (
            {}
            if module is None
            else {"__module__": module, "__qualname__": kind, ":version:": 1, "_json_props": []}
        )
        return {
            **own,
            **properties,
            **self.properties,
            "_gufe_key": f"{kind}-{token.hex}",
            "_scoped_key": self.key(kind, token),
        }

    def link(
        self,
        start: tuple[str, UUID],
        end: tuple[str, UUID],
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return a relationship; by default, its properties are the parts of the scope."""
        return {
            "start": self.key(*start),
            "end": self.key(*end),
            "properties": self.properties if properties is None else properties,
        }


class Converted(NamedTuple):
    """An object: kind and token, its properties, and the keys that it refers to, with places."""

    kind: str
    token: UUID
    properties: dict[str, Any]
    links: Links


def converted(
    page: Sequence[Row[Any]], scope: GraphScope, report: PartReport
) -> Iterator[Converted]:
    """Yield a page of objects, and report the references that a graph does not hold."""
    keys = [f"{row.kind}-{row.token.hex}" for row in page]
    contents = gufe_adapter.plain_documents(keys, [row.document for row in page])
    for row, found in zip(page, contents, strict=True):
        properties, links, lost = convert(found)
        key = scope.key(row.kind, row.token)
        if lost:
            report.find(key, f"it refers twice to {', '.join(lost)}; a graph holds one of them")
        hidden = {*row.children} - {gufe_token(one) for one in links}
        if hidden:
            report.find(
                key,
                f"it refers to {len(hidden)} objects from within other values; the graph does not"
                " say that it depends on them",
            )
        yield Converted(row.kind, row.token, properties, links)


def convert(found: dict[str, Any]) -> tuple[dict[str, Any], Links, list[str]]:
    """Return the properties of an object in a graph, its dependencies, and those that are lost.

    Values that Neo4j does not have are JSON. There is one dependency between two objects.

    Parameters
    ----------
    found : dict
        The document of the object.
    """
    properties: dict[str, Any] = {}
    as_json: list[str] = []
    places: list[tuple[str, dict[str, Any]]] = []
    for name, value in found.items():
        if _is_reference(value):
            places.append((value[REFERENCE], {"attribute": name}))
        elif isinstance(value, dict) and value and all(map(_is_reference, value.values())):
            places += [
                (one[REFERENCE], {"attribute": name, "key": key}) for key, one in value.items()
            ]
        elif isinstance(value, list) and value and all(map(_is_reference, value)):
            places += [
                (one[REFERENCE], {"attribute": name, "index": index})
                for index, one in enumerate(value)
            ]
        elif _is_native(value):
            properties[name] = value
        else:
            properties[name] = json.dumps(value, sort_keys=True)
            as_json.append(name)
    links = dict(places)
    lost = [key for key, place in places if links[key] is not place]
    return {**properties, "_json_props": as_json}, links, lost


def _is_reference(value: object) -> bool:
    return isinstance(value, dict) and REFERENCE in value


def _is_native(value: Any) -> bool:
    """Check whether Neo4j has this value; None is left out by it."""
    if isinstance(value, list):
        kinds = {type(one) for one in value}
        return len(kinds) == 1 and kinds <= {int, float, str} and all(map(_is_native, value))
    if type(value) is int:
        return value in INTEGERS
    return value is None or isinstance(value, bool | float | str)


def in_utc(moment: datetime | None) -> datetime | None:
    """Return a time in UTC."""
    return None if moment is None else moment.astimezone(UTC)


def iso(moment: datetime | None) -> str | None:
    """Return a time in UTC as text."""
    return None if moment is None else moment.astimezone(UTC).isoformat()
