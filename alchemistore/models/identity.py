"""Users and compute identities, which log in with a key and have access to scopes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.keys import Scope
from alchemistore.models.text import IDENTIFIER_MAX, check_length, is_text


def _storable(text: str) -> str:
    if not is_text(text):
        raise ValueError("text with NUL or a lone surrogate cannot be stored")
    return text


def _scope(value: Any) -> str:
    return str(Scope.from_str(str(value)).require_storable())


def _identifier(text: str) -> str:
    return check_length("identifier", text, IDENTIFIER_MAX)


StoredText = Annotated[str, AfterValidator(_storable)]
ScopeText = Annotated[str, BeforeValidator(_scope)]


class CredentialedEntity(BaseModel):
    """An identity that logs in with a key.

    Parameters
    ----------
    identifier : str
        Unique among identities of the same class; at most 2,000 bytes.
    hashed_key : str
        Hash of the key, from :func:`alchemistore.operations.key_hashing.hash_key`. Not shown by
        `repr`.
    expires : datetime, optional
        Time from which the key is refused; a naive time is taken as UTC.
    disabled : bool, default False
        Whether the key is refused.
    scopes : list of Scope or str, default empty
        Scopes that the identity has access to, kept as text. Open components match anything.
    email : str, optional
    """

    # The input may hold a secret, so errors do not repeat it.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    identifier: Annotated[str, AfterValidator(_identifier)] = Field(min_length=1)
    hashed_key: StoredText = Field(repr=False)
    expires: UTCDatetime | None = None
    disabled: bool = False
    scopes: list[ScopeText] = []
    email: StoredText | None = None


class CredentialedUserIdentity(CredentialedEntity):
    """A user.

    Parameters
    ----------
    full_name : str, optional
        Further parameters as in :class:`CredentialedEntity`.
    """

    full_name: StoredText | None = None


class CredentialedComputeIdentity(CredentialedEntity):
    """An identity that compute services log in with."""
