"""`install` before anything of alchemiscale is imported."""

from __future__ import annotations

import sys

from alchemistore.alchemiscale import install

install()
assert "alchemiscale" not in sys.modules

import alchemiscale.base.api as base
import alchemiscale.compute.api
import alchemiscale.interface.api
import alchemiscale.storage.statestore as statestore
import alchemiscale.strategist.service as strategist
from alchemiscale.storage.statestore import AlchemiscaleStateStore, Neo4jStore, Neo4JStoreError

from alchemistore import StateStoreError, store
from alchemistore.alchemiscale import statestore as substitute

assert statestore is substitute
assert alchemiscale.storage.statestore is substitute
assert base.get_n4js is strategist.get_n4js is substitute.get_n4js
assert Neo4jStore is substitute.Neo4jStore
assert Neo4JStoreError is StateStoreError
assert AlchemiscaleStateStore is store.AlchemiscaleStateStore
assert not {"neo4j", "py2neo"} & sys.modules.keys()

install()
assert alchemiscale.storage.statestore is substitute
assert len([finder for finder in sys.meta_path if type(finder).__name__ == "_Finder"]) == 1
