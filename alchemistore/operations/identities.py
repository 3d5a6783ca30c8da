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
from alchemistore.operations.key_hashing import (
    DUMMY_HASH,
    ROUNDS_PATTERN,
    rounds_of,
    spend_rounds,
    verify_key,
)

E = TypeVar("E", bound=CredentialedEntity)

# About four seconds on a present processor.
MAX_ROUNDS = 16

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
LIST_SCOPES = text("""
    SELECT s.scope FROM identities AS i JOIN identity_scopes AS s ON s.identity_id = i.id
    WHERE i.type = :type AND i.identifier = :identifier ORDER BY s.position
""")
LIST_IDENTITIES = text("SELECT identifier FROM identities WHERE type = :type ORDER BY identifier")
REMOVE_IDENTITY = text(
    "DELETE FROM identities WHERE type = :type AND identifier = :identifier RETURNING id"
)
SET_DISABLED = text("""
    UPDATE identities SET disabled = :disabled WHERE type = :type AND identifier = :identifier
    RETURNING id
""")
# The highest cost of the hashes of a class. Costs above the limit are left out, so that one hash
# does not slow down all logins.
HIGHEST_ROUNDS = text("""
    SELECT max(rounds) FROM (
        SELECT CAST(substring(hashed_key FROM CAST(:pattern AS text)) AS integer) AS rounds
        FROM identities WHERE type = :type
    ) AS x
    WHERE rounds BETWEEN 4 AND :limit
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
    return [Scope.from_str(scope) for scope in tx.scalars(LIST_SCOPES, _named(identifier, cls))]


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


def read_for_login(
    tx: Connection, identifier: str, cls: type[CredentialedEntity]
) -> tuple[Row[Any] | None, int]:
    """Return an identity, if there is one, and the highest cost of a hash of this class."""
    row = _read(tx, identifier, cls)
    values = {"type": _type(cls), "pattern": ROUNDS_PATTERN, "limit": MAX_ROUNDS}
    rounds = tx.scalar(HIGHEST_ROUNDS, values)
    return row, int(DUMMY_HASH[4:6]) if rounds is None else rounds


def verify_login(row: Row[Any] | None, rounds: int, key: str, cls: type[E]) -> E | None:
    """Return the identity if the key is correct and it may log in now. This takes long.

    All refusals do the same amount of work, whatever the cost of the hash of the identity is.

    Parameters
    ----------
    row : Row or None
        The identity.
    rounds : int
        The highest cost of a hash, as the logarithm of the work.
    key : str
        The key.
    cls : type
        The class of the identity.
    """
    done = None if row is None else rounds_of(row.hashed_key)
    if row is not None and done is not None and verify_key(key, row.hashed_key):
        expired = row.expires is not None and row.expires <= now()
        if not (row.disabled or expired):
            return _identity(row, cls)
    spend_rounds(done, rounds)
    return None
