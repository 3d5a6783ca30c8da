"""Iteration over the answers of calls that return pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Items of a call.
PAGE = 1000


def iterate(query: Callable[P, Sequence[T]], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
    """Iterate over the answer of a query, page by page, in little memory.

    Each page is a call of its own that continues after the last key of the previous one, so an item
    that is there all the time appears once, whatever others do meanwhile.

    Parameters
    ----------
    query : callable
        A call with the parameters ``limit`` and ``after``, such as ``store.query_tasks``.
    *args, **kwargs
        The arguments of the call. ``limit`` is the largest number of items in all.

    Yields
    ------
    ScopedKey, ComputeServiceDetails or ComputeManagerDetails
        What the call returns.

    Raises
    ------
    TypeError
        If the call has no pages, or returns something else than a list.
    ValueError
        If the call does not accept its arguments.

    Examples
    --------
    >>> for task in iterate(store.query_tasks, status="error"):  # doctest: +SKIP
    ...     print(task)
    """
    options: dict[str, Any] = dict(kwargs)
    left = options.pop("limit", None)
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        page: Any = query(*args, **{**options, "limit": size})
        if not isinstance(page, list):
            raise TypeError(f"only lists have pages, not {type(page).__name__}: use keys")
        yield from page
        if len(page) < size:
            return
        options["after"] = _key(page[-1])
        left = None if left is None else left - size


def _key(item: Any) -> Any:
    registration = getattr(item, "registration", None)
    if registration is None:
        return item
    # Services and managers are listed with their details.
    return registration.identifier if hasattr(registration, "identifier") else registration.name
