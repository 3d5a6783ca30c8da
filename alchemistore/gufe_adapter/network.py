"""Read the members of a network from documents, without building objects."""

from __future__ import annotations

from typing import Any, NamedTuple

from alchemistore.gufe_adapter.document import REFERENCE, Document, parse_key
from alchemistore.models.keys import GufeKey
from alchemistore.models.text import is_text


class NetworkContent(NamedTuple):
    """The members of a network.

    Attributes
    ----------
    key : GufeKey
        The key of the network.
    name : str or None
        The name of the network.
    edges : tuple of GufeKey
        The keys of its transformations.
    nodes : tuple of GufeKey
        The keys of its chemical systems; gufe includes both end states of every edge.
    """

    key: GufeKey
    name: str | None
    edges: tuple[GufeKey, ...]
    nodes: tuple[GufeKey, ...]


class Edge(NamedTuple):
    """A transformation.

    Attributes
    ----------
    key : GufeKey
        The key of the transformation.
    name : str or None
        The name of the transformation.
    protocol : str
        The class name of the protocol.
    systems : tuple of (str, GufeKey)
        ``("A", key), ("B", key)``, or ``("system", key)`` for a NonTransformation.
    """

    key: GufeKey
    name: str | None
    protocol: str
    systems: tuple[tuple[str, GufeKey], ...]


class Node(NamedTuple):
    """A chemical system, or another object that is an end state.

    Attributes
    ----------
    key : GufeKey
        Its key.
    name : str or None
        Its name.
    """

    key: GufeKey
    name: str | None


def network_content(document: Document) -> NetworkContent:
    """Return the members of a network.

    Raises
    ------
    ValueError
        If the document is not that of a network.
    """
    content = document.content
    edges, nodes = content.get("edges"), content.get("nodes")
    if not isinstance(edges, list) or not isinstance(nodes, list):
        raise ValueError(
            f"{document.key} is not an AlchemicalNetwork: it has no lists of edges and nodes"
        )
    return NetworkContent(
        document.key,
        _name(document),
        _references(document.key, edges),
        _references(document.key, nodes),
    )


def edge_content(document: Document) -> Edge | None:
    """Return the content of a transformation.

    Returns
    -------
    Edge or None
        ``None`` if the document is not that of a transformation.

    Raises
    ------
    ValueError
        If both states of a ``Transformation`` are the same system.
    """
    content = document.content
    if "protocol" not in content:
        return None
    if "stateA" in content and "stateB" in content:
        roles = {"A": "stateA", "B": "stateB"}
    elif "system" in content:
        roles = {"system": "system"}
    else:
        return None
    systems = tuple((role, _reference(document.key, content[name])) for role, name in roles.items())
    if len(systems) == 2 and systems[0][1] == systems[1][1]:
        raise ValueError(
            f"{document.key} uses the same `ChemicalSystem` for both states, {systems[0][1]};"
            " use a `NonTransformation` instead"
        )
    protocol = _reference(document.key, content["protocol"])
    return Edge(document.key, _name(document), protocol.qualname, systems)


def node_content(document: Document) -> Node | None:
    """Return the content of an end state.

    gufe takes any object for an end state, and a published network has components there.

    Returns
    -------
    Node or None
        ``None`` if the document is that of a transformation or a network.
    """
    content = document.content
    if "components" in content:
        return Node(document.key, _name(document))
    if "protocol" in content or "edges" in content:
        return None
    name = content.get("name")
    return Node(document.key, name if isinstance(name, str) and is_text(name) else None)


def _references(key: GufeKey, values: list[Any]) -> tuple[GufeKey, ...]:
    return tuple(dict.fromkeys(_reference(key, value) for value in values))


def _reference(key: GufeKey, value: Any) -> GufeKey:
    if not isinstance(value, dict) or REFERENCE not in value:
        raise ValueError(f"{key}: expected a reference to a gufe object, got {value!r:.200}")
    return parse_key(value[REFERENCE])


def _name(document: Document) -> str | None:
    name = document.content.get("name")
    if name is None:
        return None
    if not isinstance(name, (str, int, float)):
        raise ValueError(f"{document.key}: a name must be text, not {type(name).__name__}")
    text = str(name)
    if not is_text(text):
        raise ValueError(
            f"{document.key}: the name {text!r:.200} contains NUL or half of a surrogate pair;"
            " choose another name"
        )
    return text
