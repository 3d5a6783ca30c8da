"""Pairs of calls in open transactions, compared with the same calls one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Generic, NamedTuple, Protocol, TypeVar

from alchemistore import QuotaError, StateStore
from tests.support.concurrency import Running

A = TypeVar("A")
Act = Callable[[StateStore, A], object]
# What calls raise that come too late. An error of the database, such as a deadlock, is none of
# them.
REFUSALS = (KeyError, QuotaError, ValueError)


class Stage(Protocol[A]):
    """A source of arenas: rows of their own, on which one pair of calls is made."""

    def arena(self, *names: str) -> AbstractContextManager[A]:
        """Return the start for the calls of these names."""

    def outcome(self, arena: A) -> object:
        """Return the final state, without keys and times."""


class Outcome(NamedTuple):
    """The answers of two calls, and the state after both."""

    first: object
    second: object
    state: object


def answer(act: Act[A], store: StateStore, arena: A) -> object:
    """Return the answer of a call, or the name of its error."""
    try:
        return act(store, arena)
    except REFUSALS as error:
        return type(error).__name__


class Pairs(Generic[A]):
    """The pairs of some calls.

    Parameters
    ----------
    store : StateStore
        The store.
    stage : Stage
        Where the calls are made.
    acts : mapping of str to callable
        The calls, which take the store and the arena. Their answers must not contain keys or times.
    passing : mapping of str to object, optional
        The calls that pass over locked rows, and their answer if they do.
    early : collection of str, optional
        The calls that decide by what they read before they waited, as if they had come first.
    """

    def __init__(
        self,
        store: StateStore,
        stage: Stage[A],
        acts: Mapping[str, Act[A]],
        passing: Mapping[str, object] | None = None,
        early: Collection[str] = (),
    ) -> None:
        self.store, self.stage, self.acts = store, stage, acts
        self.passing, self.early = passing or {}, early
        self._in_turn = cache(self._make_in_turn)

    def require_serial_orders(self, one: str, others: Iterable[str]) -> None:
        """Make a call and each of the others at once, in both orders.

        The answers and the final state must be those of the calls one after the other: in the order
        in which they were made if the second waited and is not an early one, otherwise in any
        order.
        """
        for other in others:
            for pair in dict.fromkeys([(one, other), (other, one)]):
                self._require_serial_order(*pair)

    def _require_serial_order(self, first: str, second: str) -> None:
        with self.stage.arena(first, second) as arena:
            with self.store.transaction() as tx:
                ours = answer(self.acts[first], tx, arena)
                other = Running(partial(self._in_a_transaction, self.acts[second], arena))
                waited = other.waits_for(tx)
                assert not (waited and second in self.passing), (first, second)
            theirs = other.result()
            found = Outcome(ours, theirs, self.stage.outcome(arena))
        expected = [self._in_turn(first, second)]
        if not waited or second in self.early:
            later, earlier, state = self._in_turn(second, first)
            expected.append(Outcome(earlier, later, state))
        if second in self.passing:
            alone, _, state = self._in_turn(first, None)
            expected.append(Outcome(alone, self.passing[second], state))
        assert found in expected, (first, second, waited, found, expected)

    def _in_a_transaction(self, act: Act[A], arena: A) -> object:
        """Return the answer of a call in a transaction of its own, or the name of its error."""
        try:
            with self.store.transaction() as tx:
                return act(tx, arena)
        except REFUSALS as error:
            return type(error).__name__

    def _make_in_turn(self, first: str, second: str | None) -> Outcome:
        with self.stage.arena(first, second or first) as arena:
            ours = answer(self.acts[first], self.store, arena)
            theirs = None if second is None else answer(self.acts[second], self.store, arena)
            return Outcome(ours, theirs, self.stage.outcome(arena))
