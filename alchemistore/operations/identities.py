"""Identities of users and compute services: their keys and the scopes they may use."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import parse_scope
from alchemistore.errors import MissingObjectError
from alchemistore.models import (
    CredentialedComputeIdentity,
    CredentialedEntity,
    CredentialedUserIdentity,
    Scope,
)
from alchemistore.models.clock import now
from alchemistore.models.text import is_text
from alchemistore.operations.key_hashing import DUMMY_HASH, verify_key

E = TypeVar("E", bound=CredentialedEntity)

TYPES = {CredentialedUserIdentity: "user", CredentialedComputeIdentity: "compute"}

# For an identity that exists, the fields that were not given stay unchanged.
PUT_IDENTITY = text("""
    INSERT INTO identities AS i (
        type, identifier, hashed_key, expires_at, disabled, email, full_name, created_at
    )
    VALUES (:type, :identifier, :hashed_key, :expires, :disabled, :email, :full_name, :now)
    ON CONFLICT (type, identifier) DO UPDATE SET
        hashed_key = excluded.hashed_key,
        expires_at = CASE
            WHEN 'expires' = ANY(CAST(:given AS text[])) THEN excluded.expires_at ELSE i.expires_at
        END,
        disabled = CASE
            WHEN 'disabled' = ANY(CAST(:given AS text[])) THEN excluded.disabled ELSE i.disabled
        END,
        email = CASE
            WHEN 'email' = ANY(CAST(:given AS text[])) THEN excluded.email ELSE i.email
        END,
        full_name = CASE
            WHEN 'full_name' = ANY(CAST(:given AS text[])) THEN excluded.full_name ELSE i.full_name
        END
    RETURNING id
""")
CLEAR_IDENTITY_SCOPES = text("DELETE FROM identity_scopes WHERE identity_id = :id")
GRANT_SCOPES = text("""
    INSERT INTO identity_scopes (identity_id, scope)
    SELECT :id, scope FROM unnest(CAST(:scopes AS text[])) WITH ORDINALITY AS x (scope, place)
    ORDER BY place
    ON CONFLICT DO NOTHING
""")
REVOKE_SCOPE = text("DELETE FROM identity_scopes WHERE identity_id = :id AND scope = :scope")
READ_IDENTITY = text("""
    SELECT i.identifier, i.hashed_key, i.expires_at AS expires, i.disabled, i.email, i.full_name,
        ARRAY(
            SELECT s.scope FROM identity_scopes AS s WHERE s.identity_id = i.id ORDER BY s.position
        ) AS scopes
    FROM identities AS i WHERE i.type = :type AND i.identifier = :identifier
""")
LIST_IDENTITIES = text("SELECT identifier FROM identities WHERE type = :type ORDER BY identifier")
REMOVE_IDENTITY = text(
    "DELETE FROM identities WHERE type = :type AND identifier = :identifier RETURNING id"
)
SET_DISABLED = text("""
    UPDATE identities SET disabled = :disabled WHERE type = :type AND identifier = :identifier
    RETURNING id
""")
# One transaction at a time changes the scopes of an identity, which also defines their order.
LOCK_IDENTITY = text(
    "SELECT id FROM identities WHERE type = :type AND identifier = :identifier FOR NO KEY UPDATE"
)


def _named(identifier: str, cls: type[CredentialedEntity]) -> dict[str, Any]:
    return {"type": _type(cls), "identifier": identifier if is_text(identifier) else None}


def _type(cls: type[CredentialedEntity]) -> str:
    for known, name in TYPES.items():
        if isinstance(cls, type) and issubclass(cls, known):
            return name
    raise ValueError(
        f"expected CredentialedUserIdentity or CredentialedComputeIdentity, not {cls!r}"
    )


def _missing(identifier: str, cls: type[CredentialedEntity]) -> MissingObjectError:
    return MissingObjectError(f"{_type(cls)} identity {identifier!r}")


def _locked(tx: Connection, identifier: str, cls: type[CredentialedEntity]) -> int:
    found: int | None = tx.scalar(LOCK_IDENTITY, _named(identifier, cls))
    if found is None:
        raise _missing(identifier, cls)
    return found


def create_credentialed_entity(tx: Connection, entity: CredentialedEntity) -> None:
    """Create an identity, or change the one with this class and identifier.

    Parameters
    ----------
    entity : CredentialedUserIdentity or CredentialedComputeIdentity
        The identity. If it exists, only the fields that were given to the constructor of `entity`
        change, including those given as ``None``. Scopes that were given replace the granted ones.

    Raises
    ------
    ValueError
        If `entity` is something else.
    """
    values = {
        "full_name": None,
        **dict(entity),
        "type": _type(type(entity)),
        "given": list(entity.model_fields_set),
    }
    identity = tx.scalar(PUT_IDENTITY, {**values, "now": now()})
    if "scopes" in entity.model_fields_set:
        tx.execute(CLEAR_IDENTITY_SCOPES, {"id": identity})
        tx.execute(GRANT_SCOPES, {"id": identity, "scopes": entity.scopes})


def get_credentialed_entity(tx: Connection, identifier: str, cls: type[E]) -> E:
    """Return an identity.

    Parameters
    ----------
    identifier : str
        Identifier of the identity.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.

    Returns
    -------
    CredentialedUserIdentity or CredentialedComputeIdentity
        With its scopes in the order in which they were granted.

    Raises
    ------
    KeyError
        If there is no such identity.
    """
    row = _read(tx, identifier, cls)
    if row is None:
        raise _missing(identifier, cls)
    return _identity(row, cls)


def _read(tx: Connection, identifier: str, cls: type[CredentialedEntity]) -> Row[Any] | None:
    return tx.execute(READ_IDENTITY, _named(identifier, cls)).first()


def _identity(row: Row[Any], cls: type[E]) -> E:
    return cls.model_validate(row, from_attributes=True)


def list_credentialed_entities(tx: Connection, cls: type[CredentialedEntity]) -> list[str]:
    """Return the identifiers of all identities of a class, in order.

    Parameters
    ----------
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    """
    return list(tx.scalars(LIST_IDENTITIES, {"type": _type(cls)}))


def remove_credentialed_identity(
    tx: Connection, identifier: str, cls: type[CredentialedEntity]
) -> None:
    """Remove an identity and its scopes.

    Parameters
    ----------
    identifier : str
        Identifier of the identity.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.

    Raises
    ------
    KeyError
        If there is no such identity.
    """
    if tx.scalar(REMOVE_IDENTITY, _named(identifier, cls)) is None:
        raise _missing(identifier, cls)


def set_disabled(
    tx: Connection, identifier: str, cls: type[CredentialedEntity], disabled: bool = True
) -> None:
    """Disable or enable an identity; the key of a disabled identity is refused.

    Parameters
    ----------
    identifier : str
        Identifier of the identity.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    disabled : bool, default True
        Whether to disable it; ``False`` enables it.

    Raises
    ------
    KeyError
        If there is no such identity.
    """
    if tx.scalar(SET_DISABLED, {**_named(identifier, cls), "disabled": disabled}) is None:
        raise _missing(identifier, cls)


def add_scope(
    tx: Connection, identifier: str, cls: type[CredentialedEntity], scope: Scope | str
) -> None:
    """Grant a scope to an identity; a scope that is granted already keeps its position.

    Parameters
    ----------
    identifier : str
        Identifier of the identity.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    scope : Scope or str
        The scope; open components match anything.

    Raises
    ------
    KeyError
        If there is no such identity.
    ValueError
        If `scope` is not a scope.
    """
    granted = str(parse_scope(scope).require_storable())
    tx.execute(GRANT_SCOPES, {"id": _locked(tx, identifier, cls), "scopes": [granted]})


def list_scopes(tx: Connection, identifier: str, cls: type[CredentialedEntity]) -> list[Scope]:
    """Return the scopes that an identity may use, in the order in which they were granted.

    Parameters
    ----------
    identifier : str
        Identifier of the identity.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.

    Returns
    -------
    list of Scope
        Empty if there is no such identity.
    """
    row = _read(tx, identifier, cls)
    return [] if row is None else [Scope.from_str(scope) for scope in row.scopes]


def remove_scope(
    tx: Connection, identifier: str, cls: type[CredentialedEntity], scope: Scope | str
) -> None:
    """Revoke exactly this scope of an identity, not the scopes within it.

    Nothing happens if the scope was not granted.

    Parameters
    ----------
    identifier : str
        Identifier of the identity.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    scope : Scope or str
        The scope.

    Raises
    ------
    KeyError
        If there is no such identity.
    ValueError
        If `scope` is not a scope.
    """
    revoked = str(parse_scope(scope))
    tx.execute(REVOKE_SCOPE, {"id": _locked(tx, identifier, cls), "scope": revoked})


def authenticate(tx: Connection, identifier: str, key: str, cls: type[E]) -> E | None:
    """Return the identity with this identifier and key, if it may log in now.

    Parameters
    ----------
    identifier : str
        Identifier of the identity.
    key : str
        The key, not its hash.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.

    Returns
    -------
    CredentialedUserIdentity or CredentialedComputeIdentity or None
        ``None`` if the identity is unknown, disabled or expired, or the key is wrong. All of these
        take the same time, so that the caller cannot tell them apart.
    """
    row = _read(tx, identifier, cls)
    # A key is verified in any case, so that unknown identifiers take as long as known ones.
    verified = verify_key(key, DUMMY_HASH if row is None else row.hashed_key)
    if row is None or not verified or row.disabled:
        return None
    if row.expires is not None and row.expires <= now():
        return None
    return _identity(row, cls)
