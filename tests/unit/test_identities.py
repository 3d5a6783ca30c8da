"""Fields of identities."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from alchemistore import (
    CredentialedComputeIdentity,
    CredentialedEntity,
    CredentialedUserIdentity,
    Scope,
)

CLASSES = [CredentialedUserIdentity, CredentialedComputeIdentity]
HASH = "$2b$12$secret"


@pytest.mark.parametrize("cls", CLASSES)
def test_identity_has_default_values(cls: type[CredentialedEntity]) -> None:
    made = cls(identifier="bill", hashed_key=HASH)
    assert (made.expires, made.disabled, made.scopes, made.email) == (None, False, [], None)
    assert getattr(made, "full_name", None) is None


def test_only_a_user_has_a_full_name() -> None:
    assert "full_name" not in CredentialedComputeIdentity.model_fields
    assert (
        CredentialedUserIdentity(
            identifier="bill", hashed_key=HASH, full_name="Bill S. Preston"
        ).full_name
        == "Bill S. Preston"
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_hash_is_not_shown(cls: type[CredentialedEntity]) -> None:
    made = cls(identifier="bill", hashed_key=HASH)
    assert HASH not in repr(made)
    assert HASH not in str(made)
    with pytest.raises(ValidationError) as refused:
        cls(identifier="", hashed_key=HASH, scopes=["nonsense"])
    assert HASH not in str(refused.value)


def test_scopes_are_kept_as_text_in_the_order_given() -> None:
    made = CredentialedUserIdentity.model_validate(
        {
            "identifier": "bill",
            "hashed_key": HASH,
            "scopes": [Scope("b"), "a-b-c", "*-*-*", Scope("b")],
        }
    )
    assert made.scopes == ["b-*-*", "a-b-c", "*-*-*", "b-*-*"]


@pytest.mark.parametrize(
    "scope", ["", "a", "a-b", "a-b-c-d", "*-*-c", "a-b-ü", "1-b-c", None, 1, ["a-b-c"]]
)
def test_malformed_scope_is_refused(scope: object) -> None:
    with pytest.raises(ValueError, match="scope"):
        CredentialedUserIdentity.model_validate(
            {"identifier": "bill", "hashed_key": HASH, "scopes": ["a-b-c", scope]}
        )


@pytest.mark.parametrize("identifier", ["", "a\0b", "\ud800", None, 7])
def test_unstorable_identifier_is_refused(identifier: object) -> None:
    with pytest.raises(ValueError, match="identifier"):
        CredentialedUserIdentity.model_validate({"identifier": identifier, "hashed_key": HASH})


@pytest.mark.parametrize("field", ["hashed_key", "email", "full_name"])
def test_text_with_nul_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        CredentialedUserIdentity.model_validate(
            {"identifier": "bill", "hashed_key": HASH, field: "a\0b"}
        )


def test_naive_time_is_utc() -> None:
    made = CredentialedUserIdentity(
        identifier="bill", hashed_key=HASH, expires=datetime(2030, 1, 1)
    )
    assert made.expires == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("missing", ["identifier", "hashed_key"])
def test_missing_required_field_is_refused(missing: str) -> None:
    given = {"identifier": "bill", "hashed_key": HASH}
    del given[missing]
    with pytest.raises(ValueError, match=missing):
        CredentialedComputeIdentity.model_validate(given)


def test_identity_cannot_be_changed() -> None:
    made = CredentialedUserIdentity(identifier="bill", hashed_key=HASH)
    with pytest.raises(ValueError, match="frozen"):
        made.disabled = True
