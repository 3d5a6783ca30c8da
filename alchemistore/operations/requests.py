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
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, text

from alchemistore.database.transaction import FreshRequest
from alchemistore.models import ComputeServiceID, ScopedKey
from alchemistore.models.clock import now

P = ParamSpec("P")
R = TypeVar("R")

KEPT = timedelta(days=7)

RECALL_REQUEST = text(
    "SELECT call, arguments, answer FROM requests WHERE request = CAST(:request AS uuid)"
)
REMEMBER_REQUEST = text("""
    INSERT INTO requests (request, call, arguments, answer, made_at)
    VALUES (CAST(:request AS uuid), :call, CAST(:arguments AS uuid), :answer, :now)
""")
FORGET_REQUESTS = text("DELETE FROM requests WHERE made_at < :before")


def once(
    *, idempotent: bool = False, **described: Callable[[Any], Any]
) -> Callable[[Callable[Concatenate[Connection, P], R]], Callable[Concatenate[Connection, P], R]]:
    """Return a decorator for operations that take a ``request``.

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
            request = cast("UUID | None", kwargs.get("request"))
            fresh = isinstance(request, FreshRequest)
            if request is None or (fresh and idempotent):
                return operation(tx, *args, **kwargs)
            identifier = parse_request(request)
            bound = signature.bind(tx, *args, **kwargs)
            bound.apply_defaults()
            given = {
                name: described.get(name, _plain)(value)
                for name, value in list(bound.arguments.items())[1:]
                if name != "request"
            }
            digest = digest_of(operation.__name__, given)
            if not fresh:
                known = recall(tx, identifier, operation.__name__, digest)
                if known is not None:
                    return cast(R, _decoded(known))
            answer = operation(tx, *args, **kwargs)
            remember(tx, identifier, operation.__name__, digest, _encoded(answer))
            return answer

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


def recall(tx: Connection, request: UUID, call: str, digest: UUID) -> str | None:
    """Return the stored answer of a request; ``None`` if it is not known.

    Raises
    ------
    ValueError
        If the identifier was used for another call or with other arguments.
    """
    row = tx.execute(RECALL_REQUEST, {"request": request}).first()
    if row is None:
        return None
    if (row.call, row.arguments) != (call, digest):
        raise ValueError(
            f"the request identifier {request} was used for {row.call} with other arguments: use a"
            " new identifier for each request"
        )
    return cast(str, row.answer)


def remember(tx: Connection, request: UUID, call: str, digest: UUID, answer: str) -> None:
    """Keep the answer of a request."""
    values = {"request": request, "call": call, "arguments": digest, "answer": answer}
    tx.execute(REMEMBER_REQUEST, {**values, "now": now()})


def forget_requests(tx: Connection) -> None:
    """Remove requests that are older than :data:`KEPT`."""
    tx.execute(FORGET_REQUESTS, {"before": now() - KEPT})


def _plain(value: Any) -> Any:
    """Return a value as JSON, such that equal arguments look alike."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, ScopedKey | UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, Iterable):
        return [_plain(one) for one in value]
    return str(value)


# The kinds of answers, by the letter in front of their text.
_KEY, _SERVICE = "k", "s"


def _encoded(answer: Any) -> str:
    return json.dumps(_encoded_part(answer))


def _encoded_part(answer: Any) -> Any:
    if answer is None:
        return None
    if isinstance(answer, ScopedKey):
        return _KEY + str(answer)
    if isinstance(answer, ComputeServiceID):
        return _SERVICE + str(answer)
    if isinstance(answer, list):
        return [_encoded_part(one) for one in answer]
    raise TypeError(f"an answer of type {type(answer).__name__} cannot be kept")


def _decoded(text: str) -> Any:
    return _decoded_part(json.loads(text))


def _decoded_part(part: Any) -> Any:
    if isinstance(part, list):
        return [_decoded_part(one) for one in part]
    if part is None:
        return None
    kind, value = part[0], part[1:]
    return ScopedKey.from_str(value) if kind == _KEY else ComputeServiceID(value)
