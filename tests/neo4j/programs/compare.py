"""Compare the documents of the store with those that gufe writes of the objects of `fill.py`.

The objects are made again. They have attributes that the graph drops, such as names that are None.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gufe.tokenization import JSON_HANDLER, KeyedChain

from alchemistore import StateStore
from tests.neo4j.programs.fill import ONE, TWO, networks, strategy


def plain(content: Any) -> Any:
    """A document as plain JSON."""
    return json.loads(json.dumps(content, cls=JSON_HANDLER.encoder))


store = StateStore()
large, small = networks()
compared = 0
for obj, scope in ((large, ONE), (small, ONE), (small, TWO), (strategy(), ONE), (strategy(), TWO)):
    stored = {
        str(key): plain(content) for key, content in store.get_keyed_chain(f"{obj.key}-{scope}")
    }
    written = {str(key): plain(content) for key, content in KeyedChain.from_gufe(obj)}
    assert stored == written, obj.key
    compared += len(stored)
sys.stdout.write(f"{compared} documents are equal")
