"""Convert gufe objects to documents and back. Only this package imports gufe.

One document holds one object and refers to other objects by key. Documents are opaque bytes. The
key under which a document is stored is its identity. The key is never recomputed, because the keys
that gufe computes can change between its releases.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from alchemistore.errors import GufeNotInstalledError

if TYPE_CHECKING:
    from alchemistore.gufe_adapter.codec import dumps, loads, plain
    from alchemistore.gufe_adapter.decoding import decode, rebuild, verify_documents
    from alchemistore.gufe_adapter.encoding import (
        Document,
        cached,
        encode,
        is_gufe,
        is_network,
        is_result,
        key_of,
    )
    from alchemistore.gufe_adapter.keyed_chain import read_chain
    from alchemistore.gufe_adapter.network import (
        Edge,
        NetworkContent,
        Node,
        edge_content,
        network_content,
        node_content,
    )
    from alchemistore.gufe_adapter.results import (
        key_of_result,
        result_from_json,
        result_to_dict,
        result_to_json,
    )
    from alchemistore.gufe_adapter.version import (
        create_dag,
        execute_dag,
        gather,
        gufe_version,
        result_ok,
        writer_versions,
    )

# The module of each name. Modules are imported on first use, because importing gufe is slow.
_MODULES = {
    "Document": "encoding",
    "Edge": "network",
    "NetworkContent": "network",
    "Node": "network",
    "cached": "encoding",
    "create_dag": "version",
    "decode": "decoding",
    "dumps": "codec",
    "edge_content": "network",
    "encode": "encoding",
    "execute_dag": "version",
    "gather": "version",
    "gufe_version": "version",
    "is_gufe": "encoding",
    "is_network": "encoding",
    "is_result": "encoding",
    "key_of": "encoding",
    "key_of_result": "results",
    "loads": "codec",
    "network_content": "network",
    "node_content": "network",
    "plain": "codec",
    "read_chain": "keyed_chain",
    "rebuild": "decoding",
    "result_from_json": "results",
    "result_ok": "version",
    "result_to_dict": "results",
    "result_to_json": "results",
    "verify_documents": "decoding",
    "writer_versions": "version",
}

__all__ = [
    "Document",
    "Edge",
    "NetworkContent",
    "Node",
    "cached",
    "create_dag",
    "decode",
    "dumps",
    "edge_content",
    "encode",
    "execute_dag",
    "gather",
    "gufe_version",
    "is_gufe",
    "is_network",
    "is_result",
    "key_of",
    "key_of_result",
    "loads",
    "network_content",
    "node_content",
    "plain",
    "read_chain",
    "rebuild",
    "result_from_json",
    "result_ok",
    "result_to_dict",
    "result_to_json",
    "verify_documents",
    "writer_versions",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "alchemistore":
            raise
        raise GufeNotInstalledError(error.name) from error
    return getattr(module, name)
