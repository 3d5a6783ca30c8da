"""A store that parent and forked child use, both at once."""

from __future__ import annotations

import os
import traceback

from alchemistore.alchemiscale import install

install()

from alchemiscale.models import Scope
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.models import ComputeServiceID, ComputeServiceRegistration
from alchemiscale.storage.statestore import get_n4js

store = get_n4js(Neo4jStoreSettings(NEO4J_URL=os.environ["URL"], NEO4J_USER="", NEO4J_PASS=""))
assert store.query_networks() == []


def register(name: str) -> None:
    for _ in range(20):
        service = ComputeServiceID.new_from_name(name)
        assert (
            store.register_computeservice(ComputeServiceRegistration.from_now(service)) == service
        )
        assert type(service) is ComputeServiceID
        assert store.get_scope_status(Scope()) == {}


child = os.fork()
if child == 0:
    code = 1
    try:
        register("child")
        code = 0
    finally:
        traceback.print_exc()
        os._exit(code)
register("parent")
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
