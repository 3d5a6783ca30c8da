"""Files that are added: networks, and results that become complete tasks."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import gufe
import pytest
from sqlalchemy import event, text

from alchemistore import (
    ProtocolDAGResultRef,
    S3ObjectStore,
    Scope,
    ScopedKey,
    StateStore,
    TaskStatusEnum,
    add_file,
    gufe_adapter,
)
from alchemistore.errors import DocumentConflictError, KeyDriftWarning
from alchemistore.settings import S3ObjectStoreSettings
from tests.support.databases import all_rows
from tests.support.files import archive, chain, nested, quickrun, run
from tests.support.gufe_classes import Ball, Effort, PushProtocol, network, system, transformation


@pytest.fixture
def s3_settings(moto: S3ObjectStoreSettings) -> S3ObjectStoreSettings:
    """One server is enough: the object store is tested elsewhere."""
    return moto


def edge_of(net: gufe.AlchemicalNetwork) -> gufe.Transformation:
    """Return the transformation from a to b."""
    return next(edge for edge in net.edges if edge.name == "a to b")


@pytest.mark.parametrize("form", [chain, nested, lambda obj: obj])
def test_network_is_added_once(form: Any, store: StateStore, scope: Scope) -> None:
    added = add_file(store, form(network()), scope)
    assert added.network == store.create_network(network(), scope)
    assert added.tasks == ()
    before = all_rows(store)
    assert add_file(store, form(network()), str(scope)) == added
    assert all_rows(store) == before


def test_transformation_is_added_as_a_network(store: StateStore, scope: Scope) -> None:
    added = add_file(store, nested(transformation()), scope)
    assert added.network is not None
    [edge] = store.get_network_transformations(added.network)
    assert edge.gufe_key == transformation().key
    assert store.query_networks(name="a to b") == [added.network]


def renamed(text: str) -> str:
    """Return a chain in which a transformation has another name under the same key."""
    return text.replace('"name": "a to b"', '"name": "changed"')


def test_changed_network_is_refused(store: StateStore, scope: Scope) -> None:
    add_file(store, chain(network()), scope)
    before = all_rows(store)
    with pytest.raises(DocumentConflictError, match=r'name is "a to b" .* "changed" in the new'):
        add_file(store, renamed(chain(network())), scope)
    assert all_rows(store) == before


def test_changed_transformation_is_added_under_the_computed_key(
    store: StateStore, scope: Scope
) -> None:
    add_file(store, chain(transformation()), scope)
    with pytest.warns(KeyDriftWarning, match=f"{transformation().key} is now"):
        added = add_file(store, renamed(chain(transformation())), scope)
    assert added.network is not None
    [edge] = store.get_network_transformations(added.network)
    assert edge.gufe_key != transformation().key
    assert store.get_gufe(edge).name == "changed"


def test_results_in_an_archive_become_complete_tasks_once(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    net = network()
    edge = edge_of(net)
    results = [run(edge, tmp_path) for _ in range(2)]
    source = archive(net, {str(edge.key): results})
    # Their tasks never wait.
    store.set_quota(scope, waiting_per_transformation=0)
    added = add_file(store, source, scope, object_store=s3os, creator="me")
    assert added.num_new_tasks == len(added.tasks) == 2
    assert store.get_task_status(added.tasks) == [TaskStatusEnum.complete] * 2
    stored = [
        s3os.pull_protocoldagresult(location=store.get_gufe(ref).location)
        for task in added.tasks
        for ref in store.get_task_results(task)
    ]
    assert {one.key for one in stored} == {one.key for one in results}
    assert {store.get_gufe(task).creator for task in added.tasks} == {"me"}
    before = all_rows(store)
    again = add_file(store, source, scope, object_store=s3os)
    assert (again.network, again.tasks, again.num_new_tasks) == (added.network, added.tasks, 0)
    assert all_rows(store) == before
    assert store.problems() == []


def test_failure_becomes_a_task_in_error(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    edge = transformation("fail")
    of = f"{edge.key}-{scope}"
    add_file(store, edge, scope)
    failure = run(edge, tmp_path)
    [task] = add_file(store, failure, scope, transformation=of, object_store=s3os).tasks
    assert store.get_task_status([task]) == [TaskStatusEnum.error]
    assert len(store.get_task_failures(task)) == 1
    assert add_file(store, failure, scope, transformation=of).num_new_tasks == 0


def test_quickrun_result_needs_its_transformation(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    edge = transformation()
    of = f"{edge.key}-{scope}"
    source = quickrun(edge, run(edge, tmp_path))
    before = all_rows(store)
    with pytest.raises(ValueError, match="--transformation KEY"):
        add_file(store, source, scope, object_store=s3os)
    with pytest.raises(KeyError, match="No such object"):
        add_file(store, source, scope, transformation=of, object_store=s3os)
    assert all_rows(store) == before
    add_file(store, chain(edge), scope)
    added = add_file(store, source, scope, transformation=of, object_store=s3os)
    assert store.get_task_status(added.tasks) == [TaskStatusEnum.complete]
    assert store.get_transformation_results(of)
    assert add_file(store, source, scope, transformation=of, object_store=s3os).num_new_tasks == 0


def test_result_without_its_transformation_is_refused(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, other_scope: Scope, tmp_path: Path
) -> None:
    edge = transformation()
    result = run(edge, tmp_path)
    before = all_rows(store)
    with pytest.raises(KeyError, match="add its network first"):
        add_file(store, result, scope, transformation=f"{edge.key}-{scope}", object_store=s3os)
    with pytest.raises(ValueError, match="not in the scope"):
        add_file(store, result, scope, transformation=f"{edge.key}-{other_scope}")
    with pytest.raises(ValueError, match="not the key of"):
        add_file(store, result, scope, transformation=f"{result.key}-{scope}")
    with pytest.raises(ValueError, match="leave out the transformation"):
        add_file(store, network(), scope, transformation=f"{edge.key}-{scope}")
    with pytest.raises(ValueError, match="not specific"):
        add_file(store, network(), "org-*-*")
    assert all_rows(store) == before


def test_end_state_that_is_no_chemical_system_is_stored(store: StateStore, scope: Scope) -> None:
    protocol = PushProtocol(Effort())
    ball = Ball("solvent")
    edge = gufe.Transformation(system("a"), ball, protocol, name="odd")
    net = gufe.AlchemicalNetwork([edge])
    for source in (net, chain(net)):
        stored = add_file(store, source, scope).network
        assert stored is not None
        assert {key.gufe_key for key in store.get_network_chemicalsystems(stored)} == {
            system("a").key,
            ball.key,
        }
        [of] = store.get_network_transformations(stored)
        ends = store.get_transformation_chemicalsystems(of)
        assert {key.gufe_key for key in ends} == {system("a").key, ball.key}
    assert store.problems() == []


def test_network_as_a_node_is_refused(store: StateStore, scope: Scope) -> None:
    pairs = json.loads(chain(network()))
    pairs[-1][1]["nodes"] = [*pairs[-1][1]["nodes"], *pairs[-1][1]["edges"]]
    before = all_rows(store)
    with pytest.raises(ValueError, match="nodes chemical systems"):
        add_file(store, pairs, scope)
    assert all_rows(store) == before


def test_network_without_a_name_is_found_by_an_empty_name(store: StateStore, scope: Scope) -> None:
    unnamed: list[ScopedKey] = []
    for name in (None, "", "named"):
        key = store.create_network(network(name), scope)
        unnamed += [] if name else [key]
    assert {*store.query_networks(name="")} == {*unnamed}
    assert len(store.query_networks()) == 3


def test_result_is_pulled_as_bytes(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    of = ScopedKey.from_str(f"{transformation().key}-{scope}")
    ref = s3os.push_protocoldagresult(run(transformation(), tmp_path), of)
    data = s3os.pull_protocoldagresult(location=ref.location, return_as="bytes")
    assert data == s3os.pull_protocoldagresult(location=ref.location, return_as="json").encode()
    assert json.loads(data)[-1][0] == ref.obj_key


def test_concurrent_imports_of_a_result_create_one_task(store: StateStore, scope: Scope) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from alchemistore.operations.imports import ComputedResult, import_results
    from tests.support.results import ref

    add_file(store, transformation(), scope)
    of, one = ScopedKey.from_str(f"{transformation().key}-{scope}"), ref(scope)
    computed = [ComputedResult(of, one.obj_key, None, one)]
    with ThreadPoolExecutor(4) as pool:
        tasks = list(
            pool.map(
                lambda _: store.run(
                    lambda tx, again: import_results(tx, scope, computed), readonly=False
                ),
                range(8),
            )
        )
    assert len({str(task) for (task,) in tasks}) == 1
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tasks")) == 1


def chained(net: gufe.AlchemicalNetwork, where: Path, number: int) -> tuple[str, list[Any]]:
    """Return an archive with results, each of which continues the one before, and the results."""
    edge = edge_of(net)
    results = [run(edge, where) for _ in range(number)]
    pairs = json.loads(archive(net, {str(edge.key): results[::-1]}))
    contents = dict(map(tuple, pairs))
    for before, after in pairwise(results):
        # gufe 0.4 does not write it, so it cannot build the result either.
        contents[str(after.key)]["extends_key"] = str(before.key)
    return json.dumps(pairs), results


def test_number_of_statements_does_not_grow_with_the_results(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    add_file(store, network(), scope)
    sent: dict[tuple[int, bool], list[str]] = {}

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent[case].append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    for number in (2, 20):
        source, _ = chained(network(name=f"with {number} results"), tmp_path, number)
        for again in (False, True):
            case = (number, again)
            sent[case] = []
            added = add_file(store, source, scope, object_store=s3os)
            assert len(added.tasks) == number
            assert added.num_new_tasks == (0 if again else number)
    assert sent[2, False] == sent[20, False]
    assert sent[2, True] == sent[20, True]
    assert store.problems() == []


def test_chain_of_results_becomes_a_chain_of_tasks(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    net = network()
    source, (first, second, third) = chained(net, tmp_path, 3)
    alone = archive(net, {str(edge_of(net).key): [first]})
    add_file(store, alone, scope, object_store=s3os)
    added = add_file(store, source, scope, object_store=s3os)
    assert added.num_new_tasks == 2
    tasks = {result_key(store, task): task for task in added.tasks}
    extends = {key: store.get_gufe(task).extends for key, task in tasks.items()}
    assert extends == {
        first.key: None,
        second.key: str(tasks[first.key]),
        third.key: str(tasks[second.key]),
    }


def result_key(store: StateStore, task: ScopedKey) -> Any:
    """Return the key of the only result of a task."""
    (result,) = store.get_task_results(task)
    return store.get_gufe(result).obj_key


def test_result_that_extends_a_deleted_task_is_refused(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    net = network()
    source, results = chained(net, tmp_path, 2)
    alone = archive(net, {str(edge_of(net).key): results[:1]})
    added = add_file(store, alone, scope, object_store=s3os)
    store.set_task_deleted(added.tasks)
    before = all_rows(store)
    with pytest.raises(ValueError, match=r"Cannot extend .* deleted"):
        add_file(store, source, scope, object_store=s3os)
    assert all_rows(store) == before


def test_failed_result_among_others_becomes_a_task_in_error(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    failing = transformation("fail")
    net = gufe.AlchemicalNetwork([failing, transformation()], name="both")
    results = {str(edge.key): [run(edge, tmp_path)] for edge in (failing, transformation())}
    added = add_file(store, archive(net, results), scope, object_store=s3os)
    statuses = dict(zip(added.tasks, store.get_task_status(added.tasks), strict=True))
    assert sorted(map(str, statuses.values())) == ["complete", "error"]
    for history in store.get_task_history(added.tasks):
        assert history is not None
        created, change = history.changes
        assert created.status == "waiting"
        assert change.status == statuses[history.task]
        assert (change.reason is None) == (change.status == "complete")
    assert store.problems() == []


def renamed_result(source: str, key: Any) -> str:
    """Return a chain in which a result has another name under the same key."""
    pairs = json.loads(source)
    dict(map(tuple, pairs))[str(key)]["name"] = "changed"
    return json.dumps(pairs)


def test_changed_result_under_its_old_key_is_refused(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    edge = transformation()
    of = f"{edge.key}-{scope}"
    add_file(store, edge, scope)
    # It is in memory while the file is read.
    result = run(edge, tmp_path)
    changed = renamed_result(chain(result), result.key)
    before = all_rows(store)
    for written_by in (None, f"gufe {gufe_adapter.gufe_version()}"):
        with pytest.raises(ValueError, match=f"{result.key} was changed, or another version"):
            add_file(
                store,
                changed,
                scope,
                transformation=of,
                object_store=s3os,
                written_by=written_by,
            )
    assert all_rows(store) == before
    assert list(s3os.iter_contents()) == []
    with pytest.warns(KeyDriftWarning, match=f"{result.key} is now"):
        added = add_file(
            store,
            changed,
            scope,
            transformation=of,
            object_store=s3os,
            written_by="gufe 99.9",
        )
    assert result_key(store, added.tasks[0]) == result.key


def test_changed_result_in_an_archive_is_refused_unless_it_names_another_version(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    net = network()
    good, bad = (run(edge_of(net), tmp_path) for _ in range(2))
    source = archive(net, {str(edge_of(net).key): [good, bad]})
    changed = renamed_result(source, bad.key)
    own = changed.replace('"version_gufe": "1.9.0"', f'"version_gufe": "{gufe.__version__}"')
    before = all_rows(store)
    with pytest.raises(ValueError, match=f"{bad.key} was changed"):
        add_file(store, own, scope, object_store=s3os)
    assert all_rows(store) == before
    other = changed.replace('"version_gufe": "1.9.0"', '"version_gufe": "99.9"')
    with pytest.warns(KeyDriftWarning, match=f"{bad.key} is now"):
        assert add_file(store, other, scope, object_store=s3os).num_new_tasks == 2


def test_result_with_the_fields_of_another_version_is_stored_with_a_warning(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    edge = transformation()
    add_file(store, edge, scope)
    result = run(edge, tmp_path)
    pairs = json.loads(chain(result))
    del pairs[-1][1]["name"]
    with pytest.warns(KeyDriftWarning, match=f"{result.key} is now"):
        add_file(
            store,
            json.dumps(pairs),
            scope,
            transformation=f"{edge.key}-{scope}",
            object_store=s3os,
        )


@pytest.mark.filterwarnings("error::alchemistore.errors.KeyDriftWarning")
def test_result_that_cannot_be_built_here_is_stored_as_it_is(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    edge = transformation()
    add_file(store, edge, scope)
    source = chain(run(edge, tmp_path)).replace("tests.support.gufe_classes", "not_installed")
    [task] = add_file(
        store, source, scope, transformation=f"{edge.key}-{scope}", object_store=s3os
    ).tasks
    [result] = store.get_task_results(task)
    stored = s3os.pull_protocoldagresult(location=store.get_gufe(result).location, return_as="json")
    assert json.loads(stored)[-1] == json.loads(source)[-1]


def test_result_of_a_unit_is_refused_by_the_name_of_its_class(
    store: StateStore, s3os: S3ObjectStore, scope: Scope, tmp_path: Path
) -> None:
    net = network()
    edge = edge_of(net)
    of = f"{edge.key}-{scope}"
    result = run(edge, tmp_path)
    unit = result.protocol_unit_results[0]
    name = "ProtocolUnitResult"
    for form in (unit, chain(unit), nested(unit)):
        with pytest.raises(ValueError, match=f"{name}, which cannot be added: it is a part of"):
            add_file(store, form, scope, transformation=of, object_store=s3os)
    with pytest.raises(TypeError, match=f"got {name}"):
        s3os.push_protocoldagresult(unit, of)
    for form in (chain(unit), nested(unit)):
        with pytest.raises(ValueError, match=f"it is a {name}, not a ProtocolDAGResult"):
            s3os.push_protocoldagresult(form.encode(), of)
    with pytest.raises(ValueError, match=f"is a {name}, not a ProtocolDAGResult"):
        add_file(store, archive(net, {str(edge.key): [unit]}), scope, object_store=s3os)
    with pytest.raises(ValueError, match=f"the key of a {name}, a part of a result"):
        ProtocolDAGResultRef(obj_key=unit.key, scope=scope, ok=True)
    assert list(s3os.iter_contents()) == []
