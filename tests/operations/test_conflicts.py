"""Documents that differ from those stored under their keys."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gufe
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY
from sqlalchemy import text

from alchemistore import (
    ComputeServiceRegistration,
    Scope,
    ScopedKey,
    StateStore,
    gufe_adapter,
)
from alchemistore.errors import (
    DocumentConflictError,
    DocumentConflictWarning,
    DocumentNotBuildableError,
)
from alchemistore.operations.conflicts import first_difference
from tests.support import gufe_classes
from tests.support.databases import row_counts
from tests.support.gufe_classes import Holder, keyed_chain_of

Chain = list[list[Any]]


@pytest.fixture(autouse=True)
def nothing_in_memory() -> Iterator[None]:
    """Objects of other tests are not used instead of documents."""
    TOKENIZABLE_REGISTRY.clear()
    yield
    TOKENIZABLE_REGISTRY.clear()


@pytest.fixture
def chain() -> Chain:
    """The chain of a network."""
    return keyed_chain_of(gufe_classes.network())


def of_kind(chain: Chain, kind: str) -> list[Any]:
    """Return the first pair of a class."""
    return next(pair for pair in chain if pair[0].startswith(f"{kind}-"))


def changed(chain: Chain, kind: str, **fields: Any) -> Chain:
    """Return the chain with another content under the same keys; ``edges`` is their number."""
    other = copy.deepcopy(chain)
    content = of_kind(other, kind)[1]
    if "edges" in fields:
        edges, number = content["edges"], fields["edges"]
        fields |= {"edges": edges[:number], "but": edges[number:]}
    content.update(fields)
    return other


def conflicts(store: StateStore) -> list[Any]:
    with store.engine.connect() as connection:
        return list(
            connection.execute(text("SELECT * FROM alchemistore.document_conflicts ORDER BY id"))
        )


def document(store: StateStore, key: str) -> Any:
    """Return the stored document of an object."""
    with store.engine.connect() as connection:
        data = connection.scalar(
            text("SELECT document FROM alchemistore.gufe_objects WHERE token = :token"),
            {"token": key[-32:]},
        )
    return gufe_adapter.plain(data)


@pytest.mark.parametrize(
    ("kind", "fields", "difference"),
    [
        ("Ball", {"mass": 2.0}, "mass is 1.0 in the stored document, 2.0 in the new one"),
        ("ChemicalSystem", {"name": "other"}, 'name is ".*" in the stored document, "other" in'),
        ("Transformation", {"name": "other"}, "name is .* in the stored document"),
        ("AlchemicalNetwork", {"name": "other"}, 'name is "net" in the stored document'),
        ("AlchemicalNetwork", {"edges": 2}, "only the new document has but"),
        ("Effort", {"extra": 1}, "only the new document has extra"),
    ],
)
def test_changed_document_under_a_stored_key_is_refused(
    store: StateStore, scope: Scope, chain: Chain, kind: str, fields: Any, difference: str
) -> None:
    store.create_network(chain, scope)
    before = row_counts(store)
    forged = changed(chain, kind, **fields)
    with pytest.raises(DocumentConflictError, match=difference) as refused:
        store.create_network(forged, scope)
    assert of_kind(chain, kind)[0] in str(refused.value)
    assert "The key of the stored document is right" in str(refused.value)
    assert row_counts(store) == before
    assert document(store, of_kind(chain, kind)[0]) == of_kind(chain, kind)[1]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Ball", {"mass": 2.0}),
        ("Ball", {"__module__": "not_installed_anywhere"}),
        ("Ball", {"surprise": 1}),
        ("ChemicalSystem", {"name": "forged"}),
        ("Transformation", {"name": "forged"}),
        ("AlchemicalNetwork", {"name": "forged", "edges": 2}),
    ],
)
def test_right_document_takes_the_place_of_a_forged_one(
    store: StateStore,
    scope: Scope,
    chain: Chain,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    fields: Any,
) -> None:
    forged = changed(chain, kind, **fields)
    network = store.create_network(forged, scope)
    key, right = of_kind(chain, kind)
    with caplog.at_level(logging.ERROR):
        assert store.create_network(chain, scope) == network
    assert f"{key} was stored with a content that does not have this key" in caplog.text
    assert document(store, key) == right
    (kept,) = conflicts(store)
    assert (f"{kept.kind}-{kept.token.hex}", kept.replaced) == (key, True)
    assert gufe_adapter.plain(kept.document) == of_kind(forged, kind)[1]
    assert gufe_adapter.plain(kept.other_document) == right
    again = store.get_gufe(network)
    assert again.key == network.gufe_key
    assert {one.gufe_key for one in store.get_network_transformations(network)} == {
        edge.key for edge in again.edges
    }
    assert {one.gufe_key for one in store.get_network_chemicalsystems(network)} == {
        node.key for node in again.nodes
    }
    for query in (
        store.query_networks,
        store.query_transformations,
        store.query_chemicalsystems,
    ):
        assert query(name="forged") == []
    assert list(store.problems()) == []
    assert store.create_network(chain, scope) == network
    assert len(conflicts(store)) == 1


def claimable(store: StateStore, hub: ScopedKey, protocol: str) -> int:
    """Count the tasks on a hub that a service for one protocol gets."""
    with store.transaction() as tx:
        tx.register_computeservice(ComputeServiceRegistration.from_now("a"))
        found = tx.claim_taskhub_tasks(hub, "a", count=100, protocols=[protocol])
        tx.deregister_computeservice("a")
    return len([task for task in found if task is not None])


def test_tasks_leave_the_hub_of_a_network_that_never_had_their_transformation(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    # The forged network holds an edge that the genuine one does not have.
    more = keyed_chain_of(
        gufe.AlchemicalNetwork(
            [*gufe_classes.network().edges, gufe_classes.transformation("fail")], name="net"
        )
    )
    more[-1][0] = chain[-1][0]
    network = store.create_network(more, scope)
    hub = store.create_taskhub(network)
    edges = store.get_network_transformations(network)
    tasks = store.create_tasks([edge for edge in edges for _ in range(2)])
    assert store.action_tasks(tasks, hub) == tasks
    store.register_computeservice(ComputeServiceRegistration.from_now("b"))
    held = store.claim_taskhub_tasks(hub, "b", count=3)
    store.create_network(chain, scope)
    left = store.get_network_transformations(network)
    assert len(left) == len(edges) - 1
    kept = {
        task
        for task, edge in zip(tasks, [e for e in edges for _ in range(2)], strict=True)
        if edge in left
    }
    assert set(store.get_taskhub_tasks(hub)) == kept
    assert store.get_task_status(held) == ["running"] * 3
    assert set(store.get_taskhub_unclaimed_tasks(hub)) == kept - set(held)
    assert store.problems() == []
    # The claims go on.
    assert store.deregister_computeservice("b") == "b"
    assert store.problems() == []


def test_tasks_of_a_replaced_transformation_are_claimed_by_its_protocol(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    forged = copy.deepcopy(chain)
    other = keyed_chain_of(gufe_classes.OtherProtocol(gufe_classes.Effort()))
    edge = next(pair for pair in forged if pair[1].get("name") == "a to b")
    edge[1]["protocol"] = {":gufe-key:": other[-1][0]}
    forged[:0] = [pair for pair in other if pair[0] not in dict(map(tuple, forged))]
    network = store.create_network(forged, scope)
    hub = store.create_taskhub(network)
    tasks = store.create_tasks(store.get_network_transformations(network) * 2)
    store.action_tasks(tasks, hub)
    assert claimable(store, hub, "OtherProtocol") == 2
    store.create_network(chain, scope)
    assert claimable(store, hub, "OtherProtocol") == 0
    assert claimable(store, hub, "PushProtocol") == len(tasks)
    assert store.problems() == []


def test_end_states_of_a_replaced_transformation_are_corrected_in_every_network(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    forged = copy.deepcopy(chain)
    edge = next(pair for pair in forged if pair[1].get("name") == "a to b")
    ends = [edge[1][side] for side in ("stateA", "stateB")]
    wrong = next(
        pair[0]
        for pair in forged
        if pair[0].startswith("ChemicalSystem") and {":gufe-key:": pair[0]} not in ends
    )
    edge[1]["stateA"] = {":gufe-key:": wrong}
    alone = [pair for pair in forged if pair[0] in reachable(forged, edge[0])]
    content = {"nodes": [], "edges": [{":gufe-key:": edge[0]}], "name": "alone"}
    token = "AlchemicalNetwork-" + "a" * 32
    alone.append([token, {**chain[-1][1], **content}])
    small = store.create_network(alone, scope)
    assert f"{wrong}-{scope}" in map(str, store.get_network_chemicalsystems(small))
    large = store.create_network(chain, scope)
    for network in (small, large):
        found = {str(one.gufe_key) for one in store.get_network_chemicalsystems(network)}
        assert {end[":gufe-key:"] for end in ends} <= found
    assert [str(one.gufe_key) for one in store.get_network_chemicalsystems(small)] == sorted(
        end[":gufe-key:"] for end in ends
    )
    assert store.problems() == []


def reachable(chain: Chain, root: str) -> set[str]:
    """Return the keys of an object and everything that it refers to."""
    contents = dict(map(tuple, chain))
    found, stack = set(), [root]
    while stack:
        key = stack.pop()
        found.add(key)
        stack.extend(gufe_adapter.references(contents[key]))
    return found


def test_parts_and_parents_are_replaced_together(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    forged = changed(changed(chain, "Ball", mass=2.0), "ChemicalSystem", name="forged")
    network = store.create_network(forged, scope)
    store.create_network(chain, scope)
    assert {row.kind for row in conflicts(store)} == {"Ball", "ChemicalSystem"}
    assert store.get_gufe(network).key == network.gufe_key


def test_unchanged_documents_are_stored_once_in_any_form(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    network = store.create_network(chain, scope)
    before = row_counts(store)
    reordered = [
        [key, dict(sorted(content.items(), reverse=True))] for key, content in chain[:-1][::-1]
    ]
    assert store.create_network([*reordered, chain[-1]], scope) == network
    assert store.create_network(gufe_classes.network(), scope) == network
    assert row_counts(store) == before


def _uninstall(chain: Chain) -> Chain:
    """Return the chain as if its own classes were in a package that is not installed."""
    return [
        [
            key,
            {
                **content,
                "__module__": content["__module__"].replace("tests.support", "not_installed"),
            },
        ]
        for key, content in chain
    ]


def test_changed_document_of_unknown_classes_is_refused_unless_another_version_wrote_it(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    first = _uninstall(chain)
    network = store.create_network(first, scope, written_by="gufe 1.9.0, rdkit 1")
    other = changed(first, "Ball", mass=2.0)
    key = of_kind(first, "Ball")[0]
    for written_by in (None, "gufe 1.9.0", "rdkit 1, gufe 1.9.0"):
        with pytest.raises(
            DocumentConflictError, match=f"{key}.*written by gufe 1.9.0, rdkit 1;.*written_by="
        ):
            store.create_network(other, scope, written_by=written_by)
    assert conflicts(store) == []
    with pytest.warns(DocumentConflictWarning, match=f"{key} is stored with another content"):
        assert store.create_network(other, scope, written_by="gufe 1.12.0") == network
    assert document(store, key) == of_kind(first, "Ball")[1]
    (kept,) = conflicts(store)
    assert (kept.replaced, kept.writer, kept.other_writer) == (
        False,
        "gufe 1.9.0, rdkit 1",
        "gufe 1.12.0",
    )


@pytest.mark.parametrize("written_by", ["", " ", "gufe \0"])
def test_writer_that_is_no_text_is_refused(
    store: StateStore, scope: Scope, chain: Chain, written_by: str
) -> None:
    with pytest.raises(ValueError, match="written_by"):
        store.create_network(chain, scope, written_by=written_by)


class Defaulted(Holder):
    """Leaves a value out of its key if it is the default."""

    def __init__(self, content: Any = None, extra: int = 1) -> None:
        super().__init__(content)
        self.extra = extra

    def _gufe_tokenize(self) -> str:
        return Holder(["defaulted", self.content])._gufe_tokenize()  # type: ignore[no-any-return]

    def _to_dict(self) -> dict[str, Any]:
        return {"content": self.content, "extra": self.extra}


def _with_defaulted() -> Chain:
    network = gufe.AlchemicalNetwork(
        [], nodes=[gufe.ChemicalSystem({"a": gufe_classes.Ball("a")}, name="a")]
    )
    chain = keyed_chain_of(network)
    part = keyed_chain_of(Defaulted("x"))[0]
    chain[-1][1]["strategy"] = {":gufe-key:": part[0]}
    return [part, *chain]


def test_first_of_two_right_documents_stays_with_a_warning(store: StateStore, scope: Scope) -> None:
    chain = _with_defaulted()
    network = store.create_network(chain, scope)
    other = changed(chain, "Defaulted", extra=2)
    with pytest.warns(DocumentConflictWarning, match="extra is 1 in the stored document, 2 in"):
        assert store.create_network(other, scope) == network
    with pytest.warns(DocumentConflictWarning, match=r"mass is 1\.0 in the stored document, 1 in"):
        store.create_network(changed(chain, "Ball", mass=1), scope)
    assert document(store, chain[0][0])["extra"] == 1
    assert [row.replaced for row in conflicts(store)] == [False, False]


def test_verified_chain_has_the_keys_that_gufe_computes(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    before = row_counts(store)
    with pytest.raises(ValueError, match=r"Ball-.* and 4 more keys .*first should be Ball-"):
        store.create_network(changed(chain, "Ball", mass=2.0), scope, verify=True)
    with pytest.raises(DocumentNotBuildableError, match="'not_installed' is not installed"):
        store.create_network(_uninstall(chain), scope, verify=True)
    assert row_counts(store) == before
    network = store.create_network(chain, scope, verify=True)
    assert network.gufe_key == chain[-1][0]


def test_chain_is_stored_under_new_keys_on_request(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    first = store.create_network(chain, scope)
    other = changed(chain, "Ball", mass=2.0)
    network = store.create_network(other, scope, rekey=True, verify=True)
    assert network != first
    TOKENIZABLE_REGISTRY.clear()
    built = store.get_gufe(network)
    assert built.key == network.gufe_key
    assert len(built.edges) == 3
    assert store.get_gufe(first).key == first.gufe_key
    assert conflicts(store) == []
    assert store.create_network(built, scope) == network


def test_part_of_a_chain_is_verified_with_stored_parts(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    store.create_network(chain, scope)
    root = copy.deepcopy(chain[-1:])
    root[0][1]["name"] = "another"
    network = store.create_network(root, scope, rekey=True)
    assert store.get_gufe(network).name == "another"
    root[0][0] = str(network.gufe_key)
    assert store.create_network(root, scope, verify=True) == network


@pytest.mark.parametrize("victim", ["Ball", "ChemicalSystem", "Transformation", "Effort"])
def test_network_with_the_token_of_another_object_of_the_chain_is_refused(
    store: StateStore, scope: Scope, chain: Chain, victim: str
) -> None:
    token = of_kind(chain, victim)[0][-32:]
    forged = [*chain[:-1], [f"AlchemicalNetwork-{token}", chain[-1][1]]]
    before = row_counts(store)
    with pytest.raises(DocumentConflictError, match=f"has the token of {victim}-{token}"):
        store.create_network(forged, scope)
    assert row_counts(store) == before


def test_network_with_the_token_of_a_stored_object_is_refused(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    store.create_network(chain, scope)
    before = row_counts(store)
    for key, _ in chain[:-1]:
        empty = keyed_chain_of(gufe.AlchemicalNetwork([], name="empty"))[0][1]
        with pytest.raises(DocumentConflictError, match=f"has the token of {key}"):
            store.create_network([[f"AlchemicalNetwork-{key[-32:]}", empty]], scope)
    assert row_counts(store) == before


def test_damaged_stored_document_is_replaced_by_the_right_one(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    network = store.create_network(chain, scope)
    key, right = of_kind(chain, "Ball")
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE alchemistore.gufe_objects SET document = 'x' WHERE token = :token"),
            {"token": key[-32:]},
        )
    assert store.create_network(chain, scope) == network
    assert document(store, key) == right


@pytest.mark.parametrize(
    ("stored", "new", "difference"),
    [
        ({"a": 1, "b": [1.0, float("nan")]}, {"b": [1.0, float("nan")], "a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, r"a.b[1] is 2 in the stored document, 3 in"),
        ({"a": 1}, {"a": 1.0}, "a is 1 in the stored document, 1.0 in the new one"),
        ({"a": 1}, {"a": True}, "a is 1 in the stored document, true in the new one"),
        ({"a": 0.0}, {"a": -0.0}, "a is 0.0 in the stored document, -0.0 in the new one"),
        ({"a": 1}, {}, "only the stored document has a"),
        ({"\0\ud800": 1}, {}, r"only the stored document has \x00\ud800"),
        ([1], [1, 2], "the document has 1 items in the stored document, 2 in the new one"),
        ({"a": []}, {"a": {}}, "a is [] in the stored document, {} in the new one"),
        (None, {}, "the document is null in the stored document"),
    ],
)
def test_first_difference_of_documents_is_named(
    stored: Any, new: Any, difference: str | None
) -> None:
    found = first_difference(stored, new)
    assert found == difference or (difference is not None and str(found).startswith(difference))


# Networks that other objects hold


def _holding(inner: Chain) -> Chain:
    """Return the chain of a network of which another one is a part."""
    outer = keyed_chain_of(gufe.AlchemicalNetwork([], name="outer"))
    outer[-1][1]["part"] = {":gufe-key:": inner[-1][0]}
    return [*inner, *outer]


def test_document_of_a_deleted_network_that_another_object_holds_stays(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    network = store.create_network(chain, scope)
    holder = store.create_network(_holding(chain), scope)
    hub = store.create_taskhub(network)
    assert store.delete_network(network) == network
    assert store.query_networks() == [holder]
    assert not store.check_existence(hub)
    assert document(store, network.gufe_key) == chain[-1][1]
    assert list(store.problems()) == []
    # It can be created again, as a chain and as an object, and is deleted with its last holder.
    forms: list[Callable[[], Any]] = [lambda: chain, gufe_classes.network]
    for form in forms:
        assert store.create_network(form(), scope) == network
        assert len(store.get_network_transformations(network)) == 3
        store.delete_network(network)
    store.create_network(chain, scope)
    store.delete_network(holder)
    store.delete_network(network)
    assert not store.check_existence(network)
    assert list(store.problems()) == []


def test_document_of_a_deleted_network_that_is_a_strategy_stays(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    network = store.create_network(chain, scope)
    other = store.create_network(gufe.AlchemicalNetwork([], name="other"), scope)
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE alchemistore.networks SET strategy = :strategy WHERE token = :token"),
            {"strategy": network.token, "token": other.token},
        )
    store.delete_network(network)
    assert document(store, network.gufe_key) == chain[-1][1]
    store.set_network_strategy(other, None)
    assert not store.check_existence(network)


def test_object_that_cannot_be_built_is_named_by_every_call(
    store: StateStore, scope: Scope, chain: Chain
) -> None:
    network = store.create_network(_uninstall(chain), scope)
    edge = store.get_network_transformations(network)[0]
    task = store.create_task(edge)
    for call in (
        lambda: store.get_gufe(network),
        lambda: store.query_networks(return_gufe=True),
        lambda: store.get_task_transformation(task),
    ):
        with pytest.raises(DocumentNotBuildableError) as refused:
            call()
        message = str(refused.value)
        assert "not_installed.gufe_classes" in message
        assert "nothing is lost: get_keyed_chain" in message
