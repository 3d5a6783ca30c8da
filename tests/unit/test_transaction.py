"""One transaction per call: commit, rollback and errors."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, text

from alchemistore import StateStore
from alchemistore.errors import SchemaError, StateStoreError
from alchemistore.operations import tasks
from tests.support.toy_store import Notes, add

# one transaction per call


def test_call_is_committed(notes: Notes) -> None:
    assert notes.add(1) == 1
    assert notes.numbers() == [1]


def test_failed_call_changes_nothing(notes: Notes) -> None:
    def act(tx: Connection) -> None:
        add(tx, 1)
        raise ArithmeticError("no luck")

    with pytest.raises(ArithmeticError, match="no luck"):
        notes.write(act)
    assert notes.numbers() == []


def test_calls_in_a_transaction_are_committed_together(notes: Notes) -> None:
    with notes.transaction() as tx:
        tx.add(1)
        assert tx.numbers() == [1]
        assert notes.numbers() == []
        tx.add(2)
    assert notes.numbers() == [1, 2]


def test_calls_in_a_transaction_are_rolled_back_together(notes: Notes) -> None:
    with pytest.raises(ArithmeticError), notes.transaction() as tx:
        tx.add(1)
        raise ArithmeticError
    assert notes.numbers() == []


def test_call_joins_a_transaction_it_is_given(notes: Notes) -> None:
    with pytest.raises(ArithmeticError), notes.transaction() as tx:
        # The keyword `tx` is hidden from type checkers.
        calls: Any = notes
        calls.add(1, tx=tx)
        assert calls.numbers(tx=tx) == [1]
        raise ArithmeticError
    assert notes.numbers() == []


def test_nested_transaction_is_a_savepoint(notes: Notes) -> None:
    with notes.transaction() as tx:
        tx.add(1)
        with pytest.raises(ArithmeticError), tx.transaction() as inner:
            inner.add(2)
            assert inner.numbers() == [1, 2]
            raise ArithmeticError
        with tx.transaction() as inner:
            inner.add(3)
        assert tx.numbers() == [1, 3]
    assert notes.numbers() == [1, 3]


def test_refused_call_in_a_savepoint_leaves_the_rest_usable(notes: Notes) -> None:
    with notes.transaction() as tx:
        tx.add(1)
        with pytest.raises(StateStoreError), tx.transaction() as inner:
            inner.add(1)
        tx.add(2)
    assert notes.numbers() == [1, 2]


def test_bound_store_is_a_store_of_the_same_kind(pooled_database: str) -> None:
    store = StateStore(pooled_database)
    with store.transaction() as tx:
        assert type(tx) is StateStore
        assert tx.query_tasks() == []
    store.close()


def test_transaction_with_a_swallowed_refusal_is_an_error_and_not_a_silent_rollback(
    notes: Notes,
) -> None:
    def swallow() -> None:
        with notes.transaction() as tx:
            tx.add(1)
            with suppress(StateStoreError):
                tx.add(1)

    with pytest.raises(StateStoreError, match="nothing was changed"):
        swallow()
    assert notes.numbers() == []
    notes.add(1)


@pytest.mark.parametrize("finished", [False, True], ids=["failed", "finished"])
def test_unusable_transaction_says_so(notes: Notes, finished: bool) -> None:
    with suppress(StateStoreError), notes.transaction() as tx:
        tx.add(1)
        if not finished:
            with suppress(StateStoreError):
                tx.add(1)
            with pytest.raises(StateStoreError, match="leave its 'with' block"):
                tx.numbers()
            with pytest.raises(StateStoreError, match="leave its 'with' block"), tx.transaction():
                pass
    with pytest.raises(StateStoreError, match="leave its 'with' block"):
        tx.numbers()
    with pytest.raises(StateStoreError, match="leave its 'with' block"), tx.transaction():
        pass


def test_keyword_for_a_transaction_takes_a_transaction_only(notes: Notes) -> None:
    calls: Any = notes
    with pytest.raises(TypeError, match=r"store\.transaction\(\)"):
        calls.add(1, tx="transaction")


# read-only


def test_read_only_transaction_inside_another_refuses_writes_and_the_outer_can_write_afterwards(
    notes: Notes,
) -> None:
    with notes.transaction() as tx:
        with tx.transaction(readonly=True) as inner:
            assert inner.numbers() == []
        tx.add(1)
        with (
            pytest.raises(StateStoreError, match="read-only"),
            tx.transaction(readonly=True) as inner,
        ):
            inner.add(2)
        tx.add(3)
    assert notes.numbers() == [1, 3]


def test_read_only_transaction_refuses_to_write(notes: Notes) -> None:
    with pytest.raises(StateStoreError, match="read-only"), notes.transaction(readonly=True) as tx:
        assert tx.numbers() == []
        tx.add(1)
    assert notes.numbers() == []


def test_call_that_reads_cannot_write(notes: Notes) -> None:
    with pytest.raises(StateStoreError, match="read-only"):
        notes.read(lambda tx: add(tx, 1))
    assert notes.numbers() == []


def test_connection_of_a_read_only_transaction_can_write_again(notes: Notes) -> None:
    for number in range(3):
        with notes.transaction(readonly=True) as tx:
            tx.numbers()
        notes.add(number)
    assert notes.numbers() == [0, 1, 2]


# exceptions


def test_ignored_exception_rolls_back_and_is_suppressed(notes: Notes) -> None:
    with notes.transaction(ignore_exceptions=True) as tx:
        tx.add(1)
        raise ArithmeticError
    with notes.transaction(ignore_exceptions=True) as tx:
        tx.add(2)
        tx.add(2)
    assert notes.numbers() == []


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupt_rolls_back_and_is_raised_again(
    notes: Notes, interrupt: type[BaseException], ignore: bool
) -> None:
    with pytest.raises(interrupt), notes.transaction(ignore_exceptions=ignore) as tx:
        tx.add(1)
        raise interrupt
    assert notes.numbers() == []
    notes.add(1)


# what the database refuses


def test_missing_table_is_an_error_that_names_the_command(notes: Notes) -> None:
    with pytest.raises(SchemaError, match=r"no_such.*alchemistore database upgrade"):
        notes.read(lambda tx: tx.execute(text("SELECT * FROM no_such")))


def test_untranslated_constraint_is_named(notes: Notes) -> None:
    notes.add(1)
    with pytest.raises(StateStoreError, match="notes_pkey"):
        notes.add(1)


def test_other_errors_of_the_database_are_translated_too(notes: Notes) -> None:
    with pytest.raises(ValueError, match="division by zero"):
        notes.read(lambda tx: tx.execute(text("SELECT 1 / 0")))


# names, docstrings, signatures


def test_call_keeps_name_docstring_and_parameters(notes: Notes) -> None:
    call: Any = notes.add
    assert call.__name__ == "add"
    assert call.__doc__ == "Add a note."
    assert str(inspect.signature(call)) == "(number: 'int', note: 'str' = '') -> 'int'"


def test_class_attribute_keeps_name_docstring_and_parameters() -> None:
    call: Any = StateStore.create_task
    assert call.__name__ == "create_task"
    assert call.__doc__ == tasks.create_task.__doc__
    assert list(inspect.signature(call).parameters) == [
        "self",
        "transformation",
        "extends",
        "creator",
        "request",
    ]
