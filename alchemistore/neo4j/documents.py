"""Documents of gufe objects from their nodes and dependencies in a graph.

The original's graph does not keep all of an object: it drops attributes that are ``None`` or an
empty dict, and has one dependency between two objects even if one refers to the other twice. The
key tells whether something is missing, because it is a hash of the content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from alchemistore import gufe_adapter
from alchemistore.errors import GufeNotInstalledError
from alchemistore.models import GufeKey
from alchemistore.neo4j.records import GraphLink, GraphObject

# Properties that the original adds to a node.
ADDED = frozenset({"_gufe_key", "_scoped_key", "_org", "_campaign", "_project", "_json_props"})
REFERENCE = ":gufe-key:"


class GraphDocuments(NamedTuple):
    """A gufe object with all parts, as it will be stored.

    Attributes
    ----------
    chain : list of (str, dict)
        The keyed chain, children first.
    kept : dict of GufeKey to str
        The objects that are stored as the graph has them, and why.
    completed : dict of GufeKey to str
        The objects that had lost values, and which values their keys have confirmed.
    """

    chain: list[tuple[str, Any]]
    kept: dict[GufeKey, str]
    completed: dict[GufeKey, str]


def documents(objects: Iterable[GraphObject], root: str) -> GraphDocuments:
    """Return an object with everything it depends on, as gufe would write it.

    Parameters
    ----------
    objects : iterable of GraphObject
        The objects, in any order.
    root : str
        The gufe key of the object.

    Raises
    ------
    ValueError
        If the nodes do not make up the object. The message says why.
    """
    contents = {one.key: content(one) for one in objects}
    if root not in contents:
        raise ValueError(f"{root} is not in the graph")
    order = [key for key in contents if key != root] + [root]
    found = gufe_adapter.read_chain([(key, contents[key]) for key in order])
    try:
        restored = gufe_adapter.restore_documents(found)
    except GufeNotInstalledError:
        reason = "gufe is not installed, so its key was not computed"
        return GraphDocuments(
            [(str(one.key), json.loads(one.text)) for one in found],
            {one.key: reason for one in found},
            {},
        )
    return GraphDocuments(
        [(str(one.key), json.loads(one.text)) for one in restored.documents],
        restored.kept,
        restored.completed,
    )


def content(one: GraphObject) -> dict[str, Any]:
    """Return the document of an object as far as the graph has it."""
    found = {name: value for name, value in sorted(one.properties.items()) if name not in ADDED}
    for name in one.properties.get("_json_props") or ():
        found[name] = json.loads(found[name])
    for attribute in sorted({link.attribute for link in one.links}):
        found[attribute] = _linked([link for link in one.links if link.attribute == attribute])
    return found


def _linked(links: list[GraphLink]) -> Any:
    """Return the value of an attribute that holds other objects."""
    if any(link.name is not None for link in links):
        return {link.name: {REFERENCE: link.key} for link in sorted(links, key=_name)}
    if any(link.index is not None for link in links):
        return [{REFERENCE: link.key} for link in sorted(links, key=_index)]
    return {REFERENCE: links[-1].key}


def _name(link: GraphLink) -> str:
    return link.name or ""


def _index(link: GraphLink) -> int:
    return -1 if link.index is None else link.index
