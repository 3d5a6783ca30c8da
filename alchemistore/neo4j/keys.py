"""Keys of objects in the scope in which they are stored."""

from __future__ import annotations

from uuid import UUID

from alchemistore.models import Scope, ScopedKey


def key_in(scope: Scope, kind: str, token: UUID) -> ScopedKey:
    """Return the key of an object in a scope."""
    return ScopedKey.from_parts(kind, token, *(str(part) for part in scope.to_tuple()))
