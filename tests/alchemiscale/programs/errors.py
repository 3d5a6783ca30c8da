"""Errors of the store, as alchemiscale's server sees them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from alchemistore.alchemiscale import install

install()

from alchemiscale.models import Scope, ScopedKey
from alchemiscale.security.models import CredentialedUserIdentity
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.models import ComputeServiceID
from alchemiscale.storage.statestore import Neo4JStoreError, get_n4js
from starlette.exceptions import HTTPException

from alchemistore import AlchemistoreError, StoreUnavailableError

MISSING = ScopedKey.from_str(f"AlchemicalNetwork-{'0' * 32}-org-campaign-project")
SERVICE = ComputeServiceID.new_from_name("service")


def store_at(url: str) -> Any:
    return get_n4js(Neo4jStoreSettings(NEO4J_URL=url, NEO4J_USER="", NEO4J_PASS=""))


def error_of(call: Any, *arguments: Any, **named: Any) -> Exception:
    try:
        call(*arguments, **named)
    except (KeyError, TypeError, ValueError, AlchemistoreError) as error:
        return error
    raise AssertionError("no error")


store = store_at(os.environ["URL"])
for error in (
    error_of(store.get_gufe, MISSING),
    error_of(store.get_keyed_chain, scoped_key=MISSING),
    error_of(store.get_credentialed_entity, "nobody", CredentialedUserIdentity),
):
    assert type(error) is KeyError
    # The text that clients are sent.
    assert str(error) == "'No such object in database'"
    assert "No such object in database: " in str(error.__cause__)

# A service that is not registered gets no tasks, and no error.
hub = ScopedKey.from_str(f"TaskHub-{'0' * 32}-org-campaign-project")
assert store.claim_taskhub_tasks(taskhub=hub, compute_service_id=SERVICE, count=2) == [None] * 2
assert not store.compute_service_can_claim(SERVICE, datetime.now(UTC), 3)
assert store.heartbeat_computeservice(SERVICE, None) == SERVICE
assert store.deregister_computeservice(SERVICE) == SERVICE

# A user is told of a quota, and no task is created.
transformation = ScopedKey.from_str(os.environ["TRANSFORMATION"])
store.store.set_quota(str(transformation.scope), waiting_per_transformation=2)
error = error_of(store.create_tasks, [transformation] * 3, [None] * 3, creator="somebody")
assert type(error) is ValueError
assert "quota" in str(error)
assert store.get_transformation_tasks(transformation) == []
# The strategist goes on with fewer.
one, two, none = store.create_tasks([transformation] * 3)
assert None not in (one, two)
assert none is None
assert type(error_of(store.create_task, transformation)) is ValueError

with store.transaction() as tx:
    assert store.get_compute_manager_id(name="manager", tx=tx) is None
    error = error_of(store.clear_errored_computemanager, None, tx=tx)
    assert isinstance(error, ValueError | TypeError)
with store.transaction(ignore_exceptions=True) as tx:
    raise RuntimeError

assert store.check() is None
assert issubclass(Neo4JStoreError, AlchemistoreError)
store.close()
assert store._store_check()

# A client repeats a request that is answered with "service unavailable".
nowhere = store_at("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
assert not nowhere._store_check()


def open_transaction() -> None:
    with nowhere.transaction():
        pass


for error in (
    error_of(nowhere.get_scope_status, Scope()),
    error_of(nowhere.heartbeat_computeservice, SERVICE, None),
    error_of(open_transaction),
):
    assert isinstance(error, HTTPException)
    assert isinstance(error, StoreUnavailableError)
    assert error.status_code == 503
    assert error.detail == str(error.__cause__)
