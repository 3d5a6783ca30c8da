"""Requests: calls that carry an identifier are carried out once, however often they are asked.

A table keeps the identifier, a digest of the arguments, and the answer. The row is written in the
transaction of the call, so it exists if and only if the call was carried out. Rows are kept for
:data:`KEPT` at least.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, text

from alchemistore.database.transaction import FreshRequest, savepoint
from alchemistore.models import ComputeManagerID, ComputeServiceID, Scope, ScopedKey
from alchemistore.models.clock import now

P = ParamSpec("P")
R = TypeVar("R")

KEPT = timedelta(days=7)

RECALL_REQUEST = text("""
    SELECT call, arguments, answer FROM requests WHERE request = CAST(:request AS uuid)
""")
# Waits for a transaction that carries out the same request.
RESERVE_REQUEST = text("""
    INSERT INTO requests (request, call, arguments, answer, made_at)
    VALUES (CAST(:request AS uuid), :call, CAST(:arguments AS uuid), 'null', :now)
    ON CONFLICT DO NOTHING
    RETURNING request
""")
# The row to replace, if there is one, was reserved by this transaction.
REPLACE_RESERVED = """
    ON CONFLICT (request) DO UPDATE SET answer = excluded.answer
"""
REMEMBER_REQUEST = text(f"""
    INSERT INTO requests (request, call, arguments, answer, made_at)
    VALUES (CAST(:request AS uuid), :call, CAST(:arguments AS uuid), :answer, :now)
    {REPLACE_RESERVED}
""")
FORGET_REQUESTS = text("DELETE FROM requests WHERE made_at < :before")

# The parameters of a statement that remembers an answer, for a call without an identifier.
NO_REQUEST: Mapping[str, Any] = {"request": None, "call": None, "arguments": None}


@dataclass(frozen=True, slots=True)
class Request:
    """A call under an identifier.

    Attributes
    ----------
    identifier : UUID
        The identifier.
    call : str
        The name of the call.
    arguments : UUID
        A digest of the call and its arguments.
    is_fresh : bool
        Whether the store has just made the identifier, so that the request cannot be known.
    """

    identifier: UUID
    call: str
    arguments: UUID
    is_fresh: bool

    @classmethod
    def of(
        cls, request: UUID | str | None, call: str, arguments: Mapping[str, Any]
    ) -> Request | None:
        """Return the request of a call; ``None`` without an identifier.

        Raises
        ------
        ValueError
            If the identifier is not a UUID.
        """
        if request is None:
            return None
        identifier = parse_request(request)
        plain = UUID(int=identifier.int)
        return cls(plain, call, digest_of(call, arguments), isinstance(request, FreshRequest))

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of statements about the request."""
        return {"request": self.identifier, "call": self.call, "arguments": self.arguments}


def carry_out(
    tx: Connection,
    request: Request,
    act: Callable[[], R],
    keeps: Callable[[R], bool] = lambda _: True,
) -> R:
    """Return the first answer to a request; without one, act.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    request : Request
        The request.
    act : callable
        Carries out the call, remembers the answer and returns it.
    keeps : callable, optional
        Takes the answer; whether it is remembered. If not, `act` must not have changed anything.

    Raises
    ------
    ValueError
        If the identifier was used for another call or with other arguments.
    """
    if request.is_fresh:
        return act()
    # Nothing is remembered if the call raises an error, even if the transaction goes on.
    with savepoint(tx) as undo:
        if tx.scalar(RESERVE_REQUEST, {**request.parameters, "now": now()}) is None:
            return cast(R, _recall(tx, request))
        answer = act()
        if not keeps(answer):
            undo()
        return answer


def _recall(tx: Connection, request: Request) -> Any:
    row = tx.execute(RECALL_REQUEST, {"request": request.identifier}).one()
    if (row.call, row.arguments) != (request.call, request.arguments):
        raise ValueError(
            f"the request identifier {request.identifier} was used for {row.call} with other"
            " arguments: use a new identifier for each request"
        )
    return _decoded(row.answer)


def remember(tx: Connection, request: Request, answer: Any) -> None:
    """Keep the answer to a request."""
    values = {**request.parameters, "answer": _encoded(answer), "now": now()}
    tx.execute(REMEMBER_REQUEST, values)


def once(
    *, idempotent: bool = False, **described: Callable[[Any], Any]
) -> Callable[[Callable[Concatenate[Connection, P], R]], Callable[Concatenate[Connection, P], R]]:
    """Return a decorator for operations that take a ``request`` by keyword.

    A call whose identifier is known returns the first answer, whatever has become of it since.

    Parameters
    ----------
    idempotent : bool, default False
        The operation may be repeated anyway, so identifiers made by the store are not kept.
    **described : callable
        For arguments by name: return what identifies a value.
    """

    def decorate(
        operation: Callable[Concatenate[Connection, P], R],
    ) -> Callable[Concatenate[Connection, P], R]:
        signature = inspect.signature(operation)

        @functools.wraps(operation)
        def run(tx: Connection, *args: P.args, **kwargs: P.kwargs) -> R:
            given = cast("UUID | str | None", kwargs.get("request"))
            if given is None or (idempotent and isinstance(given, FreshRequest)):
                return operation(tx, *args, **kwargs)
            bound = signature.bind(tx, *args, **kwargs)
            bound.apply_defaults()
            arguments = {
                name: described.get(name, plain)(value)
                for name, value in list(bound.arguments.items())[1:]
                if name != "request"
            }
            request = cast(Request, Request.of(given, operation.__name__, arguments))

            def act() -> R:
                answer = operation(tx, *args, **kwargs)
                remember(tx, request, answer)
                return answer

            return carry_out(tx, request, act)

        return cast(Callable[Concatenate[Connection, P], R], run)

    return decorate


def parse_request(request: UUID | str) -> UUID:
    """Return a request identifier.

    Raises
    ------
    ValueError
        If it is not a UUID.
    """
    if isinstance(request, UUID):
        return request
    try:
        return UUID(request)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"request must be a UUID, not {request!r}") from None


def digest_of(call: str, arguments: Mapping[str, Any]) -> UUID:
    """Return a digest of a call and its arguments."""
    content = json.dumps([call, arguments], sort_keys=True)
    return UUID(hex=hashlib.md5(content.encode(), usedforsecurity=False).hexdigest())


def forget_requests(tx: Connection) -> None:
    """Remove requests that are older than :data:`KEPT`."""
    tx.execute(FORGET_REQUESTS, {"before": now() - KEPT})


def plain(value: Any) -> Any:
    """Return a value as JSON, such that equal arguments look alike."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, ScopedKey | Scope | UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Set):
        return sorted(map(str, value))
    if isinstance(value, Iterable):
        return [plain(one) for one in value]
    return str(value)


# The kinds of answers, by the letter in front of their text. Claims write the same format in SQL.
_KEY, _SERVICE, _MANAGER = "k", "s", "m"
# The only name in the JSON object of an answer that is a tuple.
_TUPLE = "tuple"


def _encoded(answer: Any) -> str:
    return json.dumps(_encoded_part(answer))


def _encoded_part(answer: Any) -> Any:
    if answer is None:
        return None
    if isinstance(answer, ScopedKey):
        return _KEY + str(answer)
    if isinstance(answer, ComputeServiceID):
        return _SERVICE + str(answer)
    if isinstance(answer, tuple):
        return {_TUPLE: [_encoded_part(one) for one in answer]}
    if isinstance(answer, ComputeManagerID):
        return _MANAGER + str(answer)
    if isinstance(answer, list):
        return [_encoded_part(one) for one in answer]
    raise TypeError(f"an answer of type {type(answer).__name__} cannot be kept")


def _decoded(text: str) -> Any:
    return _decoded_part(json.loads(text))


def _decoded_part(part: Any) -> Any:
    if isinstance(part, dict):
        return tuple(_decoded_part(one) for one in part[_TUPLE])
    if isinstance(part, list):
        return [_decoded_part(one) for one in part]
    if part is None:
        return None
    kind, value = part[0], part[1:]
    kinds: dict[str, Callable[[str], Any]] = {
        _KEY: ScopedKey.from_str,
        _SERVICE: ComputeServiceID,
        _MANAGER: ComputeManagerID,
    }
    return kinds[kind](value)
