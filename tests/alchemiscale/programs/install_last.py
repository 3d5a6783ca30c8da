"""`install` after everything of alchemiscale has been imported, and a store has been made."""

from __future__ import annotations

import importlib
import os

import alchemiscale.base.api as base
import alchemiscale.compute.api as compute
import alchemiscale.interface.api as interface
import alchemiscale.strategist.service as strategist
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage import statestore
from alchemiscale.storage.statestore import Neo4jStore, get_n4js as imported_as

from alchemistore.alchemiscale import install

theirs = [statestore]
worker = strategist.execute_strategy_worker
settings = Neo4jStoreSettings(
    NEO4J_URL=os.environ["URL"].replace("postgresql", "bolt", 1).partition("?")[0],
    NEO4J_USER="neo4j",
    NEO4J_PASS="password",
    NEO4J_DBNAME="neo4j",
)
base.get_n4js_depends(settings)
assert base.get_n4js_depends.cache_info().currsize == 1

install()
substitute = importlib.import_module("alchemistore.alchemiscale.statestore")
assert importlib.import_module("alchemiscale.storage.statestore") is substitute
assert importlib.import_module("alchemiscale.storage").statestore is substitute
# The names of this module, too; the variable in the list is none.
assert statestore is substitute
assert theirs[0] is not substitute
assert Neo4jStore is substitute.Neo4jStore
assert imported_as is substitute.get_n4js
assert base.get_n4js is strategist.get_n4js is substitute.get_n4js
assert base.Neo4jStore is compute.Neo4jStore is interface.Neo4jStore is substitute.Neo4jStore
assert strategist.execute_strategy_worker is not worker
# The stores that were made before are forgotten.
assert base.get_n4js_depends.cache_info().currsize == 0

install()
assert importlib.import_module("alchemiscale.storage.statestore") is substitute
