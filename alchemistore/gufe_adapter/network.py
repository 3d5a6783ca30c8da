"""What is inside a network, read from documents without building objects."""

from __future__ import annotations

from typing import Any, NamedTuple

from alchemistore.gufe_adapter.encoding import REFERENCE, Document, parse_key
from alchemistore.models.keys import GufeKey
from alchemistore.models.text import is_text


class NetworkContent(NamedTuple):
    """A network.

    Attributes
    ----------
    key : GufeKey
        Key of the network.
    name : str or None
        Its name.
    edges : tuple of GufeKey
        Its transformations.
    nodes : tuple of GufeKey
        Its chemical systems; gufe puts both end states of every edge among them.
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
        Key of the transformation.
    name : str or None
        Its name.
    protocol : str
        Class name of its protocol.
    systems : tuple of (str, GufeKey)
        ``("A", key), ("B", key)``, or ``("system", key)`` for a NonTransformation.
    """

    key: GufeKey
    name: str | None
    protocol: str
    systems: tuple[tuple[str, GufeKey], ...]


class Node(NamedTuple):
    """A chemical system.

    Attributes
    ----------
    key : GufeKey
        Key of the system.
    name : str or None
        Its name.
    """

    key: GufeKey
    name: str | None


def network_content(document: Document) -> NetworkContent:
    """Read the members of a network; a :class:`ValueError` for a document that is not a network's."""
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
    """Read a transformation.

    Returns
    -------
    Edge or None
        ``None`` for a document that is not a transformation's.

    Raises
    ------
    ValueError
        For a Transformation that transforms a system into itself, which is what NonTransformation is for.
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
            " use a NonTransformation for what does not transform"
        )
    protocol = _reference(document.key, content["protocol"])
    return Edge(document.key, _name(document), protocol.qualname, systems)


def node_content(document: Document) -> Node | None:
    """Read a chemical system; ``None`` for a document that is not one's."""
    return Node(document.key, _name(document)) if "components" in document.content else None


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
            f"{document.key}: the name {text!r:.200} contains NUL or half of a surrogate pair; choose another name"
        )
    return text
