"""Arguments of calls: second names, numbers of any type, and values of the wrong type."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints


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
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real)
    return isinstance(value, origin or hint)


def integer(value: int, what: str) -> int:
    """Return an integer as an ``int``; it may be one of NumPy.

    Parameters
    ----------
    value : int
        The value.
    what : str
        Its meaning, for the message.

    Raises
    ------
    TypeError
        If it is not an integer. A bool is none.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{what} must be an integer, not {value!r}")


def also_named(**others: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for operations some of whose parameters have a second name.

    A call that takes one object or several is also known with the plural for its parameter. The
    second names are optional parameters, by keyword only; ``None`` means that they are not given.

    Parameters
    ----------
    **others : str
        The name of the parameter, by its second name.
    """

    def decorate(operation: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(operation)
        positions = list(signature.parameters)

        @functools.wraps(operation)
        def run(*args: Any, **kwargs: Any) -> Any:
            for other, name in others.items():
                value = kwargs.pop(other, None)
                if value is None:
                    continue
                if name in kwargs or positions.index(name) < len(args):
                    raise TypeError(f"{name} and {other} are the same; give one of them")
                kwargs[name] = value
            return operation(*args, **kwargs)

        added = [
            signature.parameters[name].replace(
                name=other, kind=inspect.Parameter.KEYWORD_ONLY, default=None
            )
            for other, name in others.items()
        ]
        public = cast(Any, run)
        public.__signature__ = signature.replace(
            parameters=[*signature.parameters.values(), *added]
        )
        run.__annotations__ = {
            **operation.__annotations__,
            **{other: operation.__annotations__[name] for other, name in others.items()},
        }
        return run

    return decorate
