"""Names of networks are patterns, as the client of alchemiscale promises."""

from __future__ import annotations

import os

from alchemistore.alchemiscale import install

install()

from alchemiscale.models import Scope, ScopedKey
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.statestore import get_n4js

store = get_n4js(Neo4jStoreSettings(NEO4J_URL=os.environ["URL"], NEO4J_USER="", NEO4J_PASS=""))
network = ScopedKey.from_str(os.environ["NETWORK"])
for named in ("star", "st.*", "moon|star", "(?i)STAR", None):
    assert store.query_networks(name=named, scope=network.scope, state="active") == [network], named
for named in ("sta", "STAR", "moon.*"):
    assert store.query_networks(name=named, scope=Scope(), state=None) == [], named
assert store.query_networks(state="active|inactive") == [network]
assert store.query_networks(key="AlchemicalNetwork-.*", state="inactive|active") == [network]
assert store.query_networks(state="deleted") == []
store.close()
