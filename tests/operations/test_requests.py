"""Calls with an identifier are carried out once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from alchemistore import OutcomeUnknownError, Scope, StateStore
from alchemistore.database.transaction import MAX_ATTEMPTS
from alchemistore.models import clock
from alchemistore.operations.requests import KEPT, plain
from tests.support.campaigns import Campaign, star
from tests.support.databases import rolled_back
from tests.support.history import attempts, statuses
from tests.support.requests import (
    CALLS,
    Moment,
    campaign_with_services,
    connection_lost,
    difference,
    effect,
    rows,
)

CLAIMS = ["claim_taskhub_tasks", "claim_tasks"]


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Eight tasks on a hub; the service `b` has claimed the last, `a` is idle."""
    return campaign_with_services(store, scope)


def remembered(store: StateStore) -> list[UUID]:
    with store.engine.connect() as connection:
        return list(connection.scalars(text("SELECT request FROM requests ORDER BY made_at")))


def forget(store: StateStore) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM requests"))


@pytest.mark.parametrize("name", CALLS)
def test_repeated_request_returns_the_first_answer_and_changes_nothing(
    store: StateStore, made: Campaign, name: str
) -> None:
    request, call = uuid4(), CALLS[name]
    expected, before = effect(store, call, made), rows(store)
    first = call(store, made, request)
    assert difference(before, rows(store)) == expected
    assert expected
    after = rows(store)
    for _ in range(2):
        again = call(store, made, request)
        assert (again, type(again)) == (first, type(first))
    assert rows(store) == after


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_is_recalled_after_its_tasks_are_deleted(
    store: StateStore, made: Campaign, name: str
) -> None:
    request = uuid4()
    first = CALLS[name](store, made, request)
    assert None not in first
    for task in first:
        store.delete_task(task, force=True)
    store.deregister_computeservice("a")
    assert CALLS[name](store, made, request) == first


def test_recalled_claim_is_in_the_order_drawn_and_padded(store: StateStore, made: Campaign) -> None:
    store.set_task_priority(made.tasks[3:4], 2)
    request = uuid4()
    first = store.claim_taskhub_tasks(made.hub, "a", 9, request=request)
    assert first[0] == made.tasks[3]
    assert first[7:] == [None, None]
    assert store.claim_taskhub_tasks(made.hub, "a", 9, request=request) == first


def test_identifier_may_be_a_text(store: StateStore, made: Campaign) -> None:
    request: Any = "01890a5d-ac96-774b-bcce-b302099a8057"
    first = store.create_task(made.transformations[0], request=request)
    assert store.create_task(made.transformations[0], request=UUID(request)) == first
    wrong: Any
    for wrong in ("no uuid", 5):
        with pytest.raises(ValueError, match="must be a UUID"):
            store.create_task(made.transformations[0], request=wrong)


def test_equal_arguments_in_another_form_are_the_same_request(
    store: StateStore, made: Campaign
) -> None:
    scope, names = made.hub.scope, ["PushProtocol", "NoProtocol"]
    request = uuid4()
    first = store.claim_tasks([scope], "a", 1, names, request=request)
    assert store.claim_tasks(iter([str(scope)]), "a", 1, names[::-1], request=request) == first
    request = uuid4()
    network = store.create_network(star(1, "n"), scope, request=request)
    assert store.create_network(star(1, "n"), str(scope), request=request) == network


@pytest.mark.parametrize("name", CALLS)
def test_identifier_of_another_request_is_refused(
    store: StateStore, made: Campaign, name: str
) -> None:
    request = uuid4()
    store.create_tasks(made.transformations[:1], request=request)
    before = rows(store)
    with pytest.raises(ValueError, match=f"{request} was used for create_tasks"):
        CALLS[name](store, made, request)
    assert rows(store) == before


def test_other_arguments_under_one_identifier_are_refused(
    store: StateStore, made: Campaign
) -> None:
    request = uuid4()
    assert None not in store.claim_taskhub_tasks(made.hub, "a", 2, request=request)
    before = rows(store)
    for arguments in (
        (made.hub, "b", 2),
        (made.hub, "a", 3),
        (made.hub, "a", 2, ["PushProtocol"]),
        (None, "a", 2),
    ):
        with pytest.raises(ValueError, match="with other arguments: use a new identifier"):
            store.claim_taskhub_tasks(*arguments, request=request)
    assert rows(store) == before


@pytest.mark.parametrize("name", CLAIMS)
def test_empty_claim_is_not_remembered(store: StateStore, made: Campaign, name: str) -> None:
    request = uuid4()
    store.cancel_tasks(made.tasks, made.hub)
    forget(store)
    assert CALLS[name](store, made, request) == [None] * 3
    assert CALLS[name](store, made, None) == [None] * 3
    assert remembered(store) == []
    store.action_tasks(made.tasks, made.hub)
    first = CALLS[name](store, made, request)
    assert None not in first
    assert CALLS[name](store, made, request) == first


def test_refused_call_is_not_remembered(store: StateStore, made: Campaign) -> None:
    forget(store)
    request = uuid4()
    for joined in (False, True):
        with store.transaction() if joined else rolled_back(store) as tx:
            target = tx if joined else store
            with pytest.raises(KeyError, match="nobody"):
                target.claim_taskhub_tasks(made.hub, "nobody", request=request)
            with pytest.raises(ValueError, match="it is running"):
                target.delete_task(made.tasks[7], request=request)
    assert remembered(store) == []
    task = store.create_task(made.transformations[0], request=request)
    assert store.create_task(made.transformations[0], request=request) == task


@pytest.mark.parametrize("name", CALLS)
def test_call_in_a_transaction_is_remembered_only_under_a_given_identifier(
    store: StateStore, made: Campaign, name: str
) -> None:
    forget(store)
    request = uuid4()
    with rolled_back(store) as tx:
        CALLS[name](tx, made, None)
        assert rows(tx)["requests"] == 0
    with rolled_back(store) as tx:
        first = CALLS[name](tx, made, request)
        assert CALLS[name](tx, made, request) == first
        assert rows(tx)["requests"] == 1
    assert remembered(store) == []
    with store.transaction() as tx:
        first = CALLS[name](tx, made, request)
    assert CALLS[name](store, made, request) == first


def test_maintenance_forgets_requests_after_a_week(
    store: StateStore, made: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(store)
    old, new = uuid4(), uuid4()
    long_ago = clock.now() - KEPT - timedelta(minutes=1)
    with monkeypatch.context() as patch:
        patch.setattr("alchemistore.operations.requests.now", lambda: long_ago)
        store.create_task(made.transformations[0], request=old)
    store.create_task(made.transformations[0], request=new)
    store.maintain_queue()
    assert remembered(store) == [new]


# lost connections


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("moment", get_args(Moment))
@pytest.mark.parametrize("name", CALLS)
def test_call_is_carried_out_once_if_its_connection_is_lost(
    store: StateStore,
    made: Campaign,
    pooled_database: str,
    name: str,
    moment: Moment,
    given: bool,
) -> None:
    call, request = CALLS[name], uuid4() if given else None
    expected, before = effect(store, call, made), rows(store)
    with connection_lost(store, pooled_database, moment) as lost:
        first = call(store, made, request)
    assert len(lost) == 1
    assert difference(before, rows(store)) == expected
    if given:
        assert call(store, made, request) == first
    if name in CLAIMS:
        # No attempt runs that nobody knows of.
        assert None not in first
        assert store.get_service_tasks("a") == sorted(first)
        assert statuses(store, first) == ["running"] * 3
        assert [len(attempts(store, task)) for task in made.tasks] == [
            int(task in first or task == made.tasks[7]) for task in made.tasks
        ]


@pytest.mark.parametrize("moment", ["before COMMIT", "after COMMIT"])
def test_outcome_of_a_call_without_identifier_is_unknown(
    store: StateStore, made: Campaign, pooled_database: str, moment: Moment
) -> None:
    with (
        connection_lost(store, pooled_database, moment) as lost,
        pytest.raises(OutcomeUnknownError, match="it is unknown whether the changes were made"),
    ):
        store.set_tasks(made.transformations[0], count=9)
    assert len(lost) == 1
    found = len(store.get_transformation_tasks(made.transformations[0]))
    assert found == (9 if moment == "after COMMIT" else 3)


@pytest.mark.parametrize("moment", ["before COMMIT", "after COMMIT"])
def test_unknown_outcome_of_a_claim_is_asked_for_until_the_database_is_back(
    store: StateStore,
    made: Campaign,
    pooled_database: str,
    run_sql: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    moment: Moment,
) -> None:
    database, outage = store.engine.url.database, 3 * MAX_ATTEMPTS
    pauses: list[int] = []

    def allow_connections(allow: bool) -> None:
        run_sql(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS {allow}")

    def pause(attempt: int) -> None:
        pauses.append(attempt)
        if len(pauses) in (1, outage):
            allow_connections(len(pauses) == outage)

    monkeypatch.setattr("alchemistore.database.transaction.pause", pause)
    try:
        with connection_lost(store, pooled_database, moment) as lost:
            claimed = store.claim_taskhub_tasks(made.hub, "a", 3)
    finally:
        allow_connections(True)
    assert (len(lost), len(pauses)) == (1, outage)
    assert None not in claimed
    assert set(store.get_service_tasks("a")) == set(claimed)


def test_arguments_in_a_set_are_the_same_request_in_any_order() -> None:
    words = {f"Protocol{number}" for number in range(50)}
    assert plain(words) == plain(frozenset(words)) == sorted(words)
