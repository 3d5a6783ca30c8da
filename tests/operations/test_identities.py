"""Identities: creation, changes, scopes and authentication."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Barrier, Event
from typing import Any

import bcrypt
import pytest
from sqlalchemy import text

from alchemistore import (
    CredentialedComputeIdentity,
    CredentialedEntity,
    CredentialedUserIdentity,
    Scope,
    StateStore,
)
from alchemistore.operations.key_hashing import DUMMY_HASH, hash_key
from alchemistore.settings import Settings
from tests.support.campaigns import campaign, register
from tests.support.concurrency import Running

Identity = type[CredentialedUserIdentity] | type[CredentialedComputeIdentity]
CLASSES: list[Identity] = [CredentialedUserIdentity, CredentialedComputeIdentity]
SCOPES = [Scope("z"), Scope("a", "b"), Scope(), Scope("a", "b", "c"), Scope("a")]
IDENTIFIERS = [
    'it\'s "quoted" `twice`',
    "'; DROP TABLE identities; --",
    "back\\slash %s :identifier {}",
    "emoji 🧪👩‍🔬",
    " spaces \t\n",
    "%",
    "x" * 1000,
    "Bill",
    "bill",
]
PAST, FUTURE = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))


@pytest.fixture
def store(shared_store: StateStore) -> StateStore:
    """One store for all tests here: each takes an identifier of its own."""
    return shared_store


@pytest.fixture
def alone(pooled_database: str) -> Iterator[StateStore]:
    """A store without identities of other tests, with one connection in its pool, and one over."""
    store = StateStore(Settings.from_url(pooled_database).model_copy(update={"pool_size": 1}))
    yield store
    store.close()


@pytest.fixture
def who() -> str:
    """An identifier that is new."""
    return f"somebody {uuid.uuid4().hex}"


@pytest.fixture(params=CLASSES, ids=["user", "compute"])
def cls(request: pytest.FixtureRequest) -> Identity:
    """Both classes of identities."""
    found: Identity = request.param
    return found


def other(cls: Identity) -> Identity:
    return CLASSES[1] if cls is CLASSES[0] else CLASSES[0]


def put(store: StateStore, cls: Identity, identifier: str, **fields: Any) -> CredentialedEntity:
    entity = cls.model_validate({"identifier": identifier, "hashed_key": "hash", **fields})
    store.create_credentialed_entity(entity)
    return entity


# Creating and changing


def test_created_identity_is_returned(store: StateStore, cls: Identity, who: str) -> None:
    entity = put(store, cls, who, expires=FUTURE, disabled=True, scopes=SCOPES, email="a@b.c")
    found = store.get_credentialed_entity(who, cls)
    assert type(found) is cls
    assert found == entity
    assert found.scopes == [str(scope) for scope in SCOPES]


def test_created_identity_with_defaults_is_returned(
    store: StateStore, cls: Identity, who: str
) -> None:
    entity = put(store, cls, who)
    assert store.get_credentialed_entity(who, cls) == entity
    assert store.list_scopes(who, cls) == []


def test_user_has_a_full_name(store: StateStore, who: str) -> None:
    put(store, CredentialedUserIdentity, who, full_name='Ted "Theodore" Logan')
    assert (
        store.get_credentialed_entity(who, CredentialedUserIdentity).full_name
        == 'Ted "Theodore" Logan'
    )


def test_scope_given_twice_is_granted_once_at_its_first_place(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who, scopes=["b-*-*", "a-*-*", "b-*-*"])
    assert store.get_credentialed_entity(who, cls).scopes == ["b-*-*", "a-*-*"]


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_identifier_is_stored_unchanged(store: StateStore, cls: Identity, identifier: str) -> None:
    put(store, cls, identifier, scopes=["a-b-c"])
    assert store.get_credentialed_entity(identifier, cls).identifier == identifier
    store.add_scope(identifier, cls, "a-*-*")
    store.remove_scope(identifier, cls, "a-b-c")
    assert store.list_scopes(identifier, cls) == [Scope("a")]
    assert identifier in store.list_credentialed_entities(cls)
    store.remove_credentialed_identity(identifier, cls)
    assert identifier not in store.list_credentialed_entities(cls)


def test_creating_again_changes_the_key_and_keeps_omitted_fields(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who, expires=FUTURE, disabled=True, scopes=SCOPES, email="a@b.c")
    put(store, cls, who, hashed_key="new")
    found = store.get_credentialed_entity(who, cls)
    assert found.hashed_key == "new"
    assert (found.expires, found.disabled, found.email) == (FUTURE, True, "a@b.c")
    assert store.list_scopes(who, cls) == SCOPES


def test_creating_again_clears_fields_given_as_none(store: StateStore, who: str) -> None:
    cls = CredentialedUserIdentity
    put(store, cls, who, expires=FUTURE, disabled=True, scopes=SCOPES, email="a@b.c", full_name="A")
    put(store, cls, who, expires=None, disabled=False, scopes=[], email=None, full_name=None)
    assert store.get_credentialed_entity(who, cls) == cls(identifier=who, hashed_key="hash")


@pytest.mark.parametrize(
    ("field", "value"),
    [("expires", PAST), ("disabled", True), ("email", "b@c.d"), ("full_name", "B")],
)
def test_creating_again_changes_given_fields_only(
    store: StateStore, who: str, field: str, value: object
) -> None:
    cls = CredentialedUserIdentity
    first = put(store, cls, who, expires=FUTURE, scopes=SCOPES, email="a@b.c", full_name="A")
    put(store, cls, who, **{field: value})
    assert store.get_credentialed_entity(who, cls) == first.model_copy(update={field: value})


def test_given_scopes_replace_the_old_ones(store: StateStore, cls: Identity, who: str) -> None:
    put(store, cls, who, scopes=["a-*-*", "b-*-*", "c-*-*"])
    put(store, cls, who, scopes=["c-*-*", "d-*-*", "a-*-*"])
    assert store.list_scopes(who, cls) == [Scope("c"), Scope("d"), Scope("a")]


def test_same_identifier_in_both_classes_is_two_identities(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who, hashed_key="one", scopes=["a-*-*"])
    put(store, other(cls), who, hashed_key="two", scopes=["b-*-*"])
    store.add_scope(who, cls, "c-*-*")
    store.set_disabled(who, cls)
    found = store.get_credentialed_entity(who, other(cls))
    assert (found.hashed_key, found.scopes, found.disabled) == ("two", ["b-*-*"], False)
    store.remove_credentialed_identity(who, cls)
    assert store.get_credentialed_entity(who, other(cls)) == found


def test_list_is_in_the_order_of_identifiers(store: StateStore, cls: Identity) -> None:
    names = [f"list {name}" for name in ("b", "ä", "a", "B", "~", "a b")]
    for name in names:
        put(store, cls, name)
    found = store.list_credentialed_entities(cls)
    assert found == sorted(found)
    assert set(names) <= set(found)
    assert not set(names) & {
        name for name in store.list_credentialed_entities(other(cls)) if name not in names
    }


def test_remove_deletes_the_scopes(store: StateStore, cls: Identity, who: str) -> None:
    put(store, cls, who, scopes=SCOPES)
    store.remove_credentialed_identity(who, cls)
    with pytest.raises(KeyError, match="No such object in database"):
        store.get_credentialed_entity(who, cls)
    put(store, cls, who)
    assert store.list_scopes(who, cls) == []


def test_disable_and_enable_change_whether_an_identity_may_log_in(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who)
    store.set_disabled(who, cls)
    assert store.get_credentialed_entity(who, cls).disabled
    store.set_disabled(who, cls, False)
    assert not store.get_credentialed_entity(who, cls).disabled


# What is missing or wrong

CALLS: dict[str, Callable[[StateStore, str, Any], object]] = {
    "get": lambda store, identifier, cls: store.get_credentialed_entity(identifier, cls),
    "remove": lambda store, identifier, cls: store.remove_credentialed_identity(identifier, cls),
    "add_scope": lambda store, identifier, cls: store.add_scope(identifier, cls, "a-b-c"),
    "remove_scope": lambda store, identifier, cls: store.remove_scope(identifier, cls, "a-b-c"),
    "disable": lambda store, identifier, cls: store.set_disabled(identifier, cls),
    "enable": lambda store, identifier, cls: store.set_disabled(identifier, cls, False),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("identifier", ["nobody", "", "a\0b", "\ud800", "x' OR true --"], ids=ascii)
def test_missing_identity_is_a_key_error(
    store: StateStore,
    cls: Identity,
    identifier: str,
    call: Callable[[StateStore, str, Any], object],
) -> None:
    with pytest.raises(KeyError, match="No such object in database"):
        call(store, identifier, cls)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_identity_of_the_other_class_is_a_missing_one(
    store: StateStore, cls: Identity, who: str, call: Callable[[StateStore, str, Any], object]
) -> None:
    put(store, other(cls), who, scopes=["a-b-c"])
    with pytest.raises(KeyError):
        call(store, who, cls)


@pytest.mark.parametrize("identifier", ["nobody", "", "a\0b", "\ud800"], ids=ascii)
def test_missing_identity_has_no_scopes(store: StateStore, cls: Identity, identifier: str) -> None:
    assert store.list_scopes(identifier, cls) == []


@pytest.mark.parametrize(
    "call", [*CALLS.values(), lambda store, _, cls: store.list_credentialed_entities(cls)]
)
@pytest.mark.parametrize("wrong", [CredentialedEntity, dict, "user", None], ids=str)
def test_other_class_is_a_value_error(
    store: StateStore, wrong: Any, call: Callable[[StateStore, str, Any], object]
) -> None:
    with pytest.raises(
        ValueError, match="expected CredentialedUserIdentity or CredentialedComputeIdentity"
    ):
        call(store, "nobody", wrong)


def test_entity_of_another_class_is_a_value_error(store: StateStore) -> None:
    with pytest.raises(ValueError, match="expected CredentialedUserIdentity"):
        store.create_credentialed_entity(CredentialedEntity(identifier="a", hashed_key="b"))


def test_subclass_has_the_type_of_its_base_class(store: StateStore, who: str) -> None:
    class Admin(CredentialedUserIdentity):
        pass

    store.create_credentialed_entity(Admin(identifier=who, hashed_key="hash"))
    assert type(store.get_credentialed_entity(who, Admin)) is Admin
    assert (
        type(store.get_credentialed_entity(who, CredentialedUserIdentity))
        is CredentialedUserIdentity
    )


# Scopes


def test_scopes_are_listed_in_the_order_of_granting(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who)
    for scope in SCOPES:
        store.add_scope(who, cls, scope)
    with store.engine.begin() as connection:
        # The table now has the first of them last.
        for old, new in ((str(SCOPES[0]), "moved"), ("moved", str(SCOPES[0]))):
            connection.execute(
                text("UPDATE identity_scopes SET scope = :new WHERE scope = :old"),
                {"old": old, "new": new},
            )
    assert store.list_scopes(who, cls) == SCOPES
    store.remove_scope(who, cls, SCOPES[1])
    store.add_scope(who, cls, str(SCOPES[1]))
    assert store.list_scopes(who, cls) == [SCOPES[0], *SCOPES[2:], SCOPES[1]]


def test_adding_a_scope_twice_changes_nothing(store: StateStore, cls: Identity, who: str) -> None:
    put(store, cls, who, scopes=["a-*-*", "b-*-*"])
    store.add_scope(who, cls, Scope("a"))
    assert store.list_scopes(who, cls) == [Scope("a"), Scope("b")]


def test_scope_within_one_that_was_granted_is_granted_too(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who)
    for scope in (Scope("a"), Scope("a", "b", "c")):
        store.add_scope(who, cls, scope)
    assert store.list_scopes(who, cls) == [Scope("a"), Scope("a", "b", "c")]


@pytest.mark.parametrize("times", [1, 2])
def test_remove_scope_removes_exactly_this_scope(
    store: StateStore, cls: Identity, who: str, times: int
) -> None:
    put(store, cls, who, scopes=["a-*-*", "a-b-*", "a-b-c"])
    for _ in range(times):
        store.remove_scope(who, cls, Scope("a", "b"))
    assert store.list_scopes(who, cls) == [Scope("a"), Scope("a", "b", "c")]


@pytest.mark.parametrize("scope", ["", "a-b", "a-*-c", "a-b-c; --", "a-b-c\0", None])
def test_malformed_scope_is_a_value_error_and_changes_nothing(
    store: StateStore, cls: Identity, who: str, scope: Any
) -> None:
    put(store, cls, who, scopes=["a-b-c"])
    for call in (store.add_scope, store.remove_scope):
        with pytest.raises(ValueError, match=r"[Ss]cope|component"):
            call(who, cls, scope)
    assert store.list_scopes(who, cls) == [Scope("a", "b", "c")]


def test_concurrently_granted_scopes_are_all_kept(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who)
    wanted = [Scope("a", "b", f"c{i % 20}") for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda scope: store.add_scope(who, cls, scope), wanted))
    found = store.list_scopes(who, cls)
    assert sorted(found) == sorted(set(wanted))


def test_scopes_granted_concurrently_in_any_order_do_not_deadlock(
    store: StateStore, cls: Identity, who: str
) -> None:
    put(store, cls, who)
    scopes = [Scope("a", "b", f"c{i}") for i in range(5)]

    def grant(order: list[Scope]) -> None:
        with store.transaction() as tx:
            for scope in order:
                tx.add_scope(who, cls, scope)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(grant, [scopes, scopes[::-1]] * 10))
    assert sorted(store.list_scopes(who, cls)) == scopes


def test_concurrent_creation_of_an_identity_creates_one(
    store: StateStore, cls: Identity, who: str
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda i: put(
                    store, cls, who, hashed_key=f"hash {i}", scopes=[f"a-b-c{i}", "z-*-*"]
                ),
                range(16),
            )
        )
    number = store.get_credentialed_entity(who, cls).hashed_key.removeprefix("hash ")
    assert store.list_scopes(who, cls) == [Scope("a", "b", f"c{number}"), Scope("z")]


# Logging in


@pytest.mark.usefixtures("cheap_hashes")
@pytest.mark.parametrize("key", ["key", "🔑", "x" * 72, "x" * 200, "a\0b", "it's"], ids=ascii)
def test_correct_key_returns_the_identity(
    store: StateStore, cls: Identity, who: str, key: str
) -> None:
    entity = put(store, cls, who, hashed_key=hash_key(key), scopes=SCOPES, expires=FUTURE)
    assert store.authenticate(who, key, cls) == entity
    assert type(store.authenticate(who, key, cls)) is cls


@pytest.mark.usefixtures("cheap_hashes")
@pytest.mark.parametrize(
    "fields",
    [{"disabled": True}, {"expires": PAST}, {"hashed_key": "no hash"}, {"hashed_key": DUMMY_HASH}],
)
def test_correct_key_of_a_disabled_identity_is_refused(
    store: StateStore, cls: Identity, who: str, fields: dict[str, Any]
) -> None:
    put(store, cls, who, **{"hashed_key": hash_key("key"), **fields})
    assert store.authenticate(who, "key", cls) is None


@pytest.mark.usefixtures("cheap_hashes")
@pytest.mark.parametrize("key", ["", "Key", "key ", "key\0", "key\0key", "\0", "\ud800", "x" * 100])
def test_wrong_key_is_refused(store: StateStore, cls: Identity, who: str, key: str) -> None:
    put(store, cls, who, hashed_key=hash_key("key"))
    assert store.authenticate(who, key, cls) is None


@pytest.mark.usefixtures("cheap_hashes")
@pytest.mark.parametrize("identifier", ["nobody", "", "a\0b", "\ud800", "x' OR true --"], ids=ascii)
def test_unknown_identifier_is_refused(store: StateStore, cls: Identity, identifier: str) -> None:
    assert store.authenticate(identifier, "key", cls) is None


@pytest.mark.usefixtures("cheap_hashes")
def test_key_is_valid_for_one_class_only(store: StateStore, cls: Identity, who: str) -> None:
    put(store, cls, who, hashed_key=hash_key("key"))
    assert store.authenticate(who, "key", other(cls)) is None


@pytest.mark.usefixtures("cheap_hashes")
def test_identity_enabled_again_may_log_in(store: StateStore, cls: Identity, who: str) -> None:
    put(store, cls, who, hashed_key=hash_key("key"), disabled=True)
    store.set_disabled(who, cls, False)
    assert store.authenticate(who, "key", cls) is not None


@pytest.mark.parametrize("highest", [12, 14])
def test_every_refusal_does_the_same_work(
    alone: StateStore, cls: Identity, who: str, highest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(rounds: int) -> str:
        return f"$2b${rounds:02}$" + "a" * 21 + "." + "a" * 31

    reduced = f"$bcrypt-sha256$v=2,t=2b,r=5${'a' * 21}.${'a' * 31}"
    hashes = [hashed(4), hashed(11), hashed(highest), reduced, "no hash", hashed(0)]
    hashes.append(reduced.replace("r=5", "r=99"))
    names = [f"{who} {number}" for number in range(len(hashes))]
    for name, one in zip(names, hashes, strict=True):
        put(alone, cls, name, hashed_key=one)
        put(alone, cls, f"{name}, disabled", hashed_key=one, disabled=True)
        put(alone, cls, f"{name}, expired", hashed_key=one, expires=PAST)
    # Another class is not concerned, nor is a cost that would stop all logins.
    put(alone, other(cls), who, hashed_key=hashed(15))
    put(alone, cls, "too expensive", hashed_key=hashed(17))
    work = []

    def checkpw(key: bytes, stored: bytes) -> bool:
        work.append(2 ** int(stored[4:6]))
        return key == b"key"

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    refused = [(name, "wrong") for name in [*names, "nobody", "a\0b", ""]]
    refused += [(names[1], "wrong" * 30), (names[1], "wr\0ng"), ("nobody", "wrong" * 30)]
    refused += [(f"{name}, {why}", "key") for name in names for why in ("disabled", "expired")]
    for name, key in refused:
        work.clear()
        assert alone.authenticate(name, key, cls) is None
        assert sum(work) == 2**highest
    assert alone.authenticate(names[1], "key", cls) is not None


@pytest.mark.usefixtures("cheap_hashes")
def test_first_login_without_any_identity_is_refused_slowly(
    alone: StateStore, cls: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[bytes] = []

    def checkpw(key: bytes, stored: bytes) -> bool:
        verified.append(stored[:7])
        return True

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    assert alone.authenticate("nobody", "key", cls) is None
    assert verified == [b"$2b$04$"]


@pytest.mark.usefixtures("cheap_hashes")
def test_no_connection_is_held_while_a_key_is_verified(
    alone: StateStore, scope: Scope, cls: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = campaign(alone, scope, tasks=1)
    register(alone, "a")
    put(alone, cls, "bill", hashed_key=hash_key("key"))
    names = ["bill", "bill", "nobody", "nobody"]
    everybody, go_on = Barrier(len(names) + 1), Event()
    original = bcrypt.checkpw

    def checkpw(key: bytes, stored: bytes) -> bool:
        if not go_on.is_set():
            everybody.wait(60)
            assert go_on.wait(60)
        return original(key, stored)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    running = [Running(partial(alone.authenticate, name, "wrong", cls)) for name in names]
    everybody.wait(60)
    try:
        assert alone.claim_taskhub_tasks(made.hub, "a") == made.tasks
    finally:
        go_on.set()
    assert [one.result() for one in running] == [None] * len(names)
