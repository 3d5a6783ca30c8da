"""Users and compute identities: who may log in, and what they may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.keys import Scope
from alchemistore.models.text import is_text


def _storable(value: str) -> str:
    if not is_text(value):
        raise ValueError("PostgreSQL cannot store text with NUL")
    return value


StoredText = Annotated[str, AfterValidator(_storable)]
ScopeText = Annotated[str, BeforeValidator(lambda scope: str(Scope.from_str(str(scope))))]


class CredentialedEntity(BaseModel):
    """Somebody who has a key.

    Parameters
    ----------
    identifier : str
        Unique among identities of the same class.
    hashed_key : str
        The hash of the key, as :func:`alchemistore.operations.key_hashing.hash_key` makes it; never shown.
    expires : datetime, optional
        From when on the key is refused; naive means UTC.
    disabled : bool, default False
        Whether the key is refused.
    scopes : list of Scope or str, default empty
        What may be used; open components match anything. Kept as text.
    email : str, optional
    """

    # What was given may be a secret: errors do not repeat it.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    identifier: StoredText = Field(min_length=1)
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
        Besides what every :class:`CredentialedEntity` has.
    """

    full_name: StoredText | None = None


class CredentialedComputeIdentity(CredentialedEntity):
    """What compute services log in as."""
