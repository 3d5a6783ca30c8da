"""Arguments of calls that do not fit the types of their parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints


def misfit(
    operation: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return a sentence about the first argument of the wrong type, or ``None``.

    Only the type itself is checked, not what a list or mapping contains.

    Parameters
    ----------
    operation : callable
        The operation ``name(tx, ...)``, or a method.
    args, kwargs : sequence and mapping
        The arguments that follow the first one.
    """
    signature, hints = inspect.signature(operation), get_type_hints(operation)
    for name, value in signature.bind_partial(None, *args, **kwargs).arguments.items():
        if name not in ("self", "tx") and not _fits(value, hints.get(name, Any)):
            expected = signature.parameters[name].annotation
            return f"{name} must be of type {expected}, not {type(value).__name__}"
    return None


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, origin or hint)
