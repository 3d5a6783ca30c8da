"""Files in the forms that gufe and openfe write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gufe
from gufe.tokenization import JSON_HANDLER

from alchemistore import gufe_adapter
from tests.support.gufe_classes import keyed_chain_of

ARCHIVE = "AlchemicalArchive-" + "a" * 32


def run(edge: gufe.Transformation, where: Path, extends: Any = None) -> Any:
    """Return the result of a transformation."""
    dag = gufe_adapter.create_dag(edge, extends=extends)
    return gufe_adapter.execute_dag(dag, shared_basedir=where, scratch_basedir=where)


def nested(obj: Any) -> str:
    """Return an object as a nested dict."""
    return json.dumps(obj.to_dict(), cls=JSON_HANDLER.encoder)


def chain(obj: Any) -> str:
    """Return an object as a keyed chain."""
    return json.dumps(keyed_chain_of(obj))


def archive(network: gufe.AlchemicalNetwork, results: dict[str, list[Any]]) -> str:
    """Return the chain of an archive, which gufe 0.4 does not have."""
    pairs: dict[str, Any] = {}
    for part in (network, *(one for found in results.values() for one in found)):
        pairs |= dict(keyed_chain_of(part))
    content = {
        "network": {":gufe-key:": str(network.key)},
        "transformation_results": [
            [{":gufe-key:": edge}, [{":gufe-key:": str(one.key)} for one in found]]
            for edge, found in results.items()
        ],
        "metadata": {},
        "version_gufe": "1.9.0",
        "__qualname__": "AlchemicalArchive",
        "__module__": "gufe.archival",
        ":version:": 1,
    }
    return json.dumps([*map(list, pairs.items()), [ARCHIVE, content]])


def quickrun(edge: gufe.Transformation, result: Any, shallow: bool = True) -> str:
    """Return the file that ``openfe quickrun`` writes."""
    gathered = [one.to_dict() for one in result.protocol_unit_results]
    return json.dumps(
        {
            "estimate": 1.0,
            "uncertainty": 0.1,
            "protocol_result": {"data": {"repeat": gathered}, "__qualname__": "PushResult"},
            "unit_results": {
                str(one.key): one.to_keyed_dict() if shallow else one.to_dict()
                for one in result.protocol_unit_results
            },
        },
        cls=JSON_HANDLER.encoder,
    )
