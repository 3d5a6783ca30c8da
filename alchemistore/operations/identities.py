"""Identities: who may log in, with which key, and which scopes they may use."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, text

from alchemistore.errors import MissingObjectError
from alchemistore.models import (
    CredentialedComputeIdentity,
    CredentialedEntity,
    CredentialedUserIdentity,
    Scope,
)
from alchemistore.models.clock import now
from alchemistore.operations.key_hashing import DUMMY_HASH, verify_key

TYPES = {CredentialedUserIdentity: "user", CredentialedComputeIdentity: "compute"}

# Of an identity that is there already, what was not given stays as it is.
PUT = text("""
    INSERT INTO identities AS i (type, identifier, hashed_key, expires_at, disabled, email, full_name, created_at)
    VALUES (:type, :identifier, :hashed_key, :expires, :disabled, :email, :full_name, :now)
    ON CONFLICT (type, identifier) DO UPDATE SET
        hashed_key = excluded.hashed_key,
        expires_at = CASE WHEN 'expires' = ANY(CAST(:given AS text[])) THEN excluded.expires_at ELSE i.expires_at END,
        disabled = CASE WHEN 'disabled' = ANY(CAST(:given AS text[])) THEN excluded.disabled ELSE i.disabled END,
        email = CASE WHEN 'email' = ANY(CAST(:given AS text[])) THEN excluded.email ELSE i.email END,
        full_name = CASE WHEN 'full_name' = ANY(CAST(:given AS text[])) THEN excluded.full_name ELSE i.full_name END
    RETURNING id
""")
CLEAR_SCOPES = text("DELETE FROM identity_scopes WHERE identity_id = :id")
ADD_SCOPES = text("""
    INSERT INTO identity_scopes (identity_id, scope)
    SELECT :id, scope FROM unnest(CAST(:scopes AS text[])) WITH ORDINALITY AS x (scope, place) ORDER BY place
    ON CONFLICT DO NOTHING
""")
REMOVE_SCOPE = text("DELETE FROM identity_scopes WHERE identity_id = :id AND scope = :scope")
READ = text("""
    SELECT i.identifier, i.hashed_key, i.expires_at AS expires, i.disabled, i.email, i.full_name,
        ARRAY(SELECT s.scope FROM identity_scopes AS s WHERE s.identity_id = i.id ORDER BY s.position) AS scopes
    FROM identities AS i WHERE i.type = :type AND i.identifier = :identifier
""")
LIST = text("SELECT identifier FROM identities WHERE type = :type ORDER BY identifier")
REMOVE = text("DELETE FROM identities WHERE type = :type AND identifier = :identifier RETURNING id")
DISABLE = text(
    "UPDATE identities SET disabled = :disabled WHERE type = :type AND identifier = :identifier RETURNING id"
)
# Scopes of one identity are granted and taken one after the other, which also gives them their order.
LOCK = text(
    "SELECT id FROM identities WHERE type = :type AND identifier = :identifier FOR NO KEY UPDATE"
)


def _named(identifier: str, cls: type[CredentialedEntity]) -> dict[str, Any]:
    return {"type": _type(cls), "identifier": identifier if _is_storable(identifier) else None}


def _type(cls: type[CredentialedEntity]) -> str:
    for known, name in TYPES.items():
        if isinstance(cls, type) and issubclass(cls, known):
            return name
    raise ValueError(
        f"expected CredentialedUserIdentity or CredentialedComputeIdentity, not {cls!r}"
    )


def _is_storable(identifier: str) -> bool:
    # PostgreSQL has no text with NUL or half a surrogate pair, so nobody has such an identifier.
    return not any(
        character == "\0" or "\ud800" <= character <= "\udfff" for character in identifier
    )


def _missing(identifier: str, cls: type[CredentialedEntity]) -> MissingObjectError:
    return MissingObjectError(f"{_type(cls)} identity {identifier!r}")


def _locked(tx: Connection, identifier: str, cls: type[CredentialedEntity]) -> int:
    found: int | None = tx.scalar(LOCK, _named(identifier, cls))
    if found is None:
        raise _missing(identifier, cls)
    return found


def _scope(scope: Scope | str) -> str:
    return str(Scope.from_str(str(scope)))


def create_credentialed_entity(tx: Connection, entity: CredentialedEntity) -> None:
    """Store an identity, or change the one of this class and identifier.

    Parameters
    ----------
    entity : CredentialedUserIdentity or CredentialedComputeIdentity
        The identity. Of one that is there already only those fields are changed that were given when `entity` was made, be it as
        ``None``; scopes, too, stay unless they were given, and then take the place of those granted before.

    Raises
    ------
    ValueError
        If it is something else.
    """
    values = {
        "full_name": None,
        **dict(entity),
        "type": _type(type(entity)),
        "given": list(entity.model_fields_set),
    }
    identity = tx.scalar(PUT, {**values, "now": now()})
    if "scopes" in entity.model_fields_set:
        tx.execute(CLEAR_SCOPES, {"id": identity})
        tx.execute(ADD_SCOPES, {"id": identity, "scopes": entity.scopes})


def get_credentialed_entity(tx: Connection, identifier: str, cls: type[CredentialedEntity]) -> Any:
    """Give an identity.

    Parameters
    ----------
    identifier : str
        Its identifier.
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
    return cls.model_validate(dict(row._mapping))


def _read(tx: Connection, identifier: str, cls: type[CredentialedEntity]) -> Row[Any] | None:
    return tx.execute(READ, _named(identifier, cls)).first()


def list_credentialed_entities(tx: Connection, cls: type[CredentialedEntity]) -> list[str]:
    """Give the identifiers of all identities of a class, in order.

    Parameters
    ----------
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    """
    return list(tx.scalars(LIST, {"type": _type(cls)}))


def remove_credentialed_identity(
    tx: Connection, identifier: str, cls: type[CredentialedEntity]
) -> None:
    """Remove an identity, with its scopes.

    Parameters
    ----------
    identifier : str
        Its identifier.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.

    Raises
    ------
    KeyError
        If there is no such identity.
    """
    if tx.scalar(REMOVE, _named(identifier, cls)) is None:
        raise _missing(identifier, cls)


def set_disabled(
    tx: Connection, identifier: str, cls: type[CredentialedEntity], disabled: bool = True
) -> None:
    """Refuse the key of an identity, or accept it again.

    Parameters
    ----------
    identifier : str
        Its identifier.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    disabled : bool, default True
        Whether it is refused.

    Raises
    ------
    KeyError
        If there is no such identity.
    """
    if tx.scalar(DISABLE, {**_named(identifier, cls), "disabled": disabled}) is None:
        raise _missing(identifier, cls)


def add_scope(
    tx: Connection, identifier: str, cls: type[CredentialedEntity], scope: Scope | str
) -> None:
    """Let an identity use a scope; one that it may use already stays in its place.

    Parameters
    ----------
    identifier : str
        Its identifier.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    scope : Scope or str
        The scope; open components match anything.

    Raises
    ------
    KeyError
        If there is no such identity.
    ValueError
        If it is not a scope.
    """
    granted = _scope(scope)
    tx.execute(ADD_SCOPES, {"id": _locked(tx, identifier, cls), "scopes": [granted]})


def list_scopes(tx: Connection, identifier: str, cls: type[CredentialedEntity]) -> list[Scope]:
    """Give the scopes that an identity may use, in the order in which they were granted.

    Parameters
    ----------
    identifier : str
        Its identifier.
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
    """Take a scope from an identity: this one exactly, not those within it; nothing happens if it was not granted.

    Parameters
    ----------
    identifier : str
        Its identifier.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.
    scope : Scope or str
        The scope.

    Raises
    ------
    KeyError
        If there is no such identity.
    ValueError
        If it is not a scope.
    """
    taken = _scope(scope)
    tx.execute(REMOVE_SCOPE, {"id": _locked(tx, identifier, cls), "scope": taken})


def authenticate(tx: Connection, identifier: str, key: str, cls: type[CredentialedEntity]) -> Any:
    """Give the identity whose identifier and key these are, if it may log in now.

    Parameters
    ----------
    identifier : str
        Its identifier.
    key : str
        What it was hashed from.
    cls : type
        CredentialedUserIdentity or CredentialedComputeIdentity.

    Returns
    -------
    CredentialedUserIdentity or CredentialedComputeIdentity or None
        ``None`` if the identity is unknown, the key wrong, or the identity disabled or expired: after the same time, and without
        saying which.
    """
    row = _read(tx, identifier, cls)
    right = verify_key(key, DUMMY_HASH if row is None else row.hashed_key)
    if (
        row is None
        or not right
        or row.disabled
        or (row.expires is not None and row.expires <= now())
    ):
        return None
    return cls.model_validate(dict(row._mapping))
