"""gufe objects and documents: the only door to gufe.

An object is stored as one document, in which other objects stand as references by key. Documents are opaque bytes; the key
under which one is stored is its identity and is never computed again, because keys drift between releases of gufe.
"""

from alchemistore.chemistry.codec import dumps, loads, plain
from alchemistore.chemistry.decoding import decode
from alchemistore.chemistry.documents import Document, alive, encode, is_gufe, is_network, key_of
from alchemistore.chemistry.installed import (
    create_dag,
    execute_dag,
    gather,
    gufe_version,
    result_ok,
    writer,
)
from alchemistore.chemistry.network import Edge, NetworkContent, Node, edge_content, network_content, node_content
from alchemistore.chemistry.results import result_from_json, result_to_dict, result_to_json
from alchemistore.chemistry.screen import read_chain

__all__ = [
    "Document",
    "Edge",
    "NetworkContent",
    "Node",
    "alive",
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
    "key_of",
    "loads",
    "network_content",
    "node_content",
    "plain",
    "read_chain",
    "result_from_json",
    "result_ok",
    "result_to_dict",
    "result_to_json",
    "writer",
]
