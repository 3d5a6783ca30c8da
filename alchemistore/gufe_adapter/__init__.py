"""Convert gufe objects to documents and back. Only this package imports gufe.

One document holds one object and refers to other objects by key. Documents are opaque bytes. The
key under which a document is stored is its identity. The key is never recomputed, because the keys
that gufe computes can change between its releases.
"""

from typing import TYPE_CHECKING, Any

from alchemistore.gufe_adapter.require import required

if TYPE_CHECKING:
    from alchemistore.gufe_adapter.attempt import (
        WrittenResult,
        create_stored_dag,
        execute_stored_dag,
    )
    from alchemistore.gufe_adapter.codec import dumps, loads, plain, unpack
    from alchemistore.gufe_adapter.decoding import (
        decode,
        rebuild,
        verify_documents,
    )
    from alchemistore.gufe_adapter.document import Document, key_of_result, references
    from alchemistore.gufe_adapter.encoding import (
        cached,
        encode,
        is_gufe,
        is_network,
        is_result,
        key_of,
    )
    from alchemistore.gufe_adapter.files import (
        FileContent,
        FileResult,
        is_keyed_chain,
        read_file,
        read_object,
        result_of,
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
    from alchemistore.gufe_adapter.quickrun import result_of_quickrun
    from alchemistore.gufe_adapter.restore import Restored, restore_documents
    from alchemistore.gufe_adapter.results import result_from_json, result_to_dict, result_to_json
    from alchemistore.gufe_adapter.version import (
        create_dag,
        execute_dag,
        gather,
        gufe_version,
        result_ok,
    )
    from alchemistore.gufe_adapter.writer import is_other_version, writer_versions

# The module of each name. Modules are imported on first use, because importing gufe is slow.
_MODULES = {
    "Document": "document",
    "Edge": "network",
    "FileContent": "files",
    "FileResult": "files",
    "NetworkContent": "network",
    "Node": "network",
    "Restored": "restore",
    "WrittenResult": "attempt",
    "cached": "encoding",
    "create_dag": "version",
    "create_stored_dag": "attempt",
    "decode": "decoding",
    "dumps": "codec",
    "edge_content": "network",
    "encode": "encoding",
    "execute_dag": "version",
    "execute_stored_dag": "attempt",
    "gather": "version",
    "gufe_version": "version",
    "is_gufe": "encoding",
    "is_keyed_chain": "files",
    "is_network": "encoding",
    "is_other_version": "writer",
    "is_result": "encoding",
    "key_of": "encoding",
    "key_of_result": "document",
    "loads": "codec",
    "network_content": "network",
    "node_content": "network",
    "plain": "codec",
    "plain_documents": "document",
    "read_chain": "keyed_chain",
    "read_file": "files",
    "read_object": "files",
    "rebuild": "decoding",
    "references": "document",
    "restore_documents": "restore",
    "result_from_json": "results",
    "result_of": "files",
    "result_of_quickrun": "quickrun",
    "result_ok": "version",
    "result_to_dict": "results",
    "result_to_json": "results",
    "unpack": "codec",
    "verify_documents": "decoding",
    "writer_versions": "writer",
}

__all__ = [
    "Document",
    "Edge",
    "FileContent",
    "FileResult",
    "NetworkContent",
    "Node",
    "Restored",
    "WrittenResult",
    "cached",
    "create_dag",
    "create_stored_dag",
    "decode",
    "dumps",
    "edge_content",
    "encode",
    "execute_dag",
    "execute_stored_dag",
    "gather",
    "gufe_version",
    "is_gufe",
    "is_keyed_chain",
    "is_network",
    "is_other_version",
    "is_result",
    "key_of",
    "key_of_result",
    "loads",
    "network_content",
    "node_content",
    "plain",
    "plain_documents",
    "read_chain",
    "read_file",
    "read_object",
    "rebuild",
    "references",
    "restore_documents",
    "result_from_json",
    "result_of",
    "result_of_quickrun",
    "result_ok",
    "result_to_dict",
    "result_to_json",
    "unpack",
    "verify_documents",
    "writer_versions",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(required(f"{__name__}.{_MODULES[name]}"), name)
