"""Keyed chains and documents of stored objects."""

from __future__ import annotations

import json
from typing import Any

import gufe
import pytest
from gufe.tokenization import JSON_HANDLER
from sqlalchemy import text

from alchemistore import DamagedDocumentError, Scope, StateStore, StateStoreError, gufe_adapter
from tests.support.campaigns import ZERO, campaign
from tests.support.gufe_classes import keyed_chain_of, network, system


def plain(chain: Any) -> Any:
    """Return a chain as it is after a journey through gufe's encoder."""
    return json.loads(json.dumps(chain, cls=JSON_HANDLER.encoder))


def test_keyed_chain_holds_what_gufe_writes(store: StateStore, scope: Scope) -> None:
    stored = store.create_network(network(), scope)
    chain = store.get_keyed_chain(stored)
    assert dict(plain(chain)) == dict(plain(keyed_chain_of(network())))
    assert plain(chain) == [list(pair) for pair in chain]
    assert chain[-1][0] == stored.gufe_key
    seen: set[str] = set()
    for key, content in chain:
        assert {*gufe_adapter.references(content)} <= seen
        assert key not in seen
        seen.add(key)
    assert store.get_keyed_chain(str(stored)) == chain


def test_keyed_chain_is_stored_again_as_it_was(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    first = store.create_network(network(), scope)
    chain = store.get_keyed_chain(first)
    second = store.create_network(json.loads(json.dumps(chain)), other_scope)
    assert second.gufe_key == first.gufe_key
    assert store.get_keyed_chain(second) == chain
    assert store.get_document(second) == store.get_document(first)


def test_document_is_the_stored_text_of_one_object(store: StateStore, scope: Scope) -> None:
    stored = store.create_network(network(), scope)
    for document in gufe_adapter.encode(network()):
        key = f"{document.key}-{stored.scope}"
        assert store.get_document(key) == document.text
        assert store.get_keyed_chain(key)[-1] == (document.key, json.loads(document.text))


def test_text_that_looks_like_a_reference_is_none(store: StateStore, scope: Scope) -> None:
    odd = ['":gufe-key:": "A-1"', '\\":gufe-key:":"A-1"', ":gufe-key:", '{":gufe-key:":"A-1"}']
    stored = store.create_network(
        gufe.AlchemicalNetwork(network().edges, name=" ".join(odd)), scope
    )
    chain = dict(store.get_keyed_chain(stored))
    assert chain[stored.gufe_key]["name"] == " ".join(odd)
    assert {*chain} == {
        stored.gufe_key,
        *(one for content in chain.values() for one in gufe_adapter.references(content)),
    }


@pytest.mark.parametrize("what", ["missing", "a circle"])
def test_chain_with_a_missing_object_or_a_circle_is_damaged(
    own_store: StateStore, scope: Scope, what: str
) -> None:
    stored = own_store.create_network(network(), scope)
    part = own_store.get_network_chemicalsystems(stored)[0]
    with own_store.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        if what == "missing":
            connection.execute(
                text("DELETE FROM gufe_objects WHERE token = :token"), {"token": part.token}
            )
        else:
            document = json.dumps({"x": {":gufe-key:": str(stored.gufe_key)}}).encode()
            connection.execute(
                text("""
                    UPDATE gufe_objects SET document = :document, children = ARRAY[:child]
                    WHERE token = :token
                """),
                {"token": part.token, "document": b"\0" + document, "child": stored.token},
            )
    with pytest.raises(DamagedDocumentError, match="refers to"):
        own_store.get_keyed_chain(stored)
    with own_store.engine.begin() as connection:
        # The invariants hold again.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("TRUNCATE scopes CASCADE"))


def test_missing_object_and_records_are_refused(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    for call in (store.get_keyed_chain, store.get_document):
        for missing in (f"A-{ZERO}-{scope}", f"{system('b').key}-{scope}", f"A-1-{scope}"):
            with pytest.raises(KeyError, match="No such object in database"):
                call(missing)
        for record in (made.tasks[0], made.hub):
            with pytest.raises(ValueError, match="not a gufe object"):
                call(record)
        with pytest.raises(ValueError, match="not a scoped key"):
            call("no key")


def test_damaged_document_is_named(own_store: StateStore, scope: Scope) -> None:
    stored = own_store.create_network(network(), scope)
    with own_store.engine.connect() as connection:
        connection.execute(
            text("UPDATE gufe_objects SET document = '\\x07' WHERE token = :token"),
            {"token": stored.token},
        )
        connection.commit()
    for call in (own_store.get_keyed_chain, own_store.get_document):
        with pytest.raises(StateStoreError, match=str(stored.gufe_key)):
            call(stored)
