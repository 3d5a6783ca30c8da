"""Free texts in a form that PostgreSQL can store, and the lengths of other texts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from alchemistore import (
    ComputeServiceRegistration,
    CredentialedUserIdentity,
    InvalidScopeError,
    ProtocolDAGResultRef,
    S3ObjectStore,
    Scope,
    ScopedKey,
)
from alchemistore.gufe_adapter.document import parse_key
from alchemistore.models.keys import GUFE_KEY_MAX, SCOPE_MAX, parse_gufe_key
from alchemistore.models.result import LOCATION_MAX
from alchemistore.models.text import IDENTIFIER_MAX, escape, is_text, unescape
from alchemistore.objectstore.bucket import LONGEST, LONGEST_PREFIX
from alchemistore.objectstore.locations import FILE, location_of

HEX = "0" * 32
# Any text, often with the characters that matter here.
TEXTS = st.text(st.characters() | st.sampled_from("\0\x1a\ud800\udfff0a"), max_size=30)


@given(TEXTS)
@settings(max_examples=500, deadline=None)
def test_escaped_text_can_be_stored_and_restored(text: str) -> None:
    stored = escape(text)
    assert is_text(stored)
    assert unescape(stored) == text


@given(st.text(max_size=30).filter(lambda text: is_text(text) and "\x1a" not in text))
@settings(deadline=None)
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert escape(text) == text


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_different_texts_are_stored_differently(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) is (one == other)


def test_missing_text_stays_missing() -> None:
    assert escape(None) is None
    assert unescape(None) is None


@pytest.mark.parametrize(
    "bad", ["a\0b", "\ud800", "x" * (IDENTIFIER_MAX + 1), "ü" * IDENTIFIER_MAX]
)
def test_identifier_that_cannot_be_stored_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        ComputeServiceRegistration.from_now(bad)
    with pytest.raises(ValueError, match="identifier"):
        CredentialedUserIdentity(identifier=bad, hashed_key="hash")


def test_longest_identifier_is_accepted() -> None:
    longest = "x" * IDENTIFIER_MAX
    assert ComputeServiceRegistration.from_now(longest).identifier == longest


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "x" * (LOCATION_MAX + 1)])
def test_location_that_cannot_be_stored_is_refused(bad: str) -> None:
    fields: dict[str, Any] = {"obj_key": f"A-{HEX}", "scope": "a-b-c", "ok": True}
    assert ProtocolDAGResultRef(location="x" * LOCATION_MAX, **fields).ok
    with pytest.raises(ValueError, match="location"):
        ProtocolDAGResultRef(location=bad, **fields)


def test_scope_that_is_too_long_is_refused() -> None:
    longest = Scope("x" * (SCOPE_MAX - 4), "b", "c")
    assert longest.require_storable() == longest
    too_long = Scope(f"{longest.org}x", "b", "c")
    with pytest.raises(InvalidScopeError, match="at most 300"):
        too_long.require_storable()
    with pytest.raises(ValueError, match="at most 300"):
        CredentialedUserIdentity(identifier="a", hashed_key="hash", scopes=[str(too_long)])


@pytest.mark.parametrize("parse", [parse_key, parse_gufe_key])
def test_class_name_that_is_too_long_is_refused(parse: Any) -> None:
    longest = f"{'C' * (GUFE_KEY_MAX - 33)}-{HEX}"
    assert parse(longest) == longest
    with pytest.raises(ValueError, match="at most 200"):
        parse(f"C{longest}")


def test_name_of_any_result_is_short_enough_for_s3() -> None:
    key = parse_gufe_key(f"{'C' * (GUFE_KEY_MAX - 33)}-{HEX}")
    of = ScopedKey(gufe_key=key, org="x" * (SCOPE_MAX - 4), campaign="b", project="c")
    for ok in (True, False):
        location = location_of(of, key, ok)
        assert location.endswith(FILE)
        assert LONGEST_PREFIX + len(location) <= LONGEST


def test_prefix_that_is_too_long_for_s3_is_refused() -> None:
    import boto3

    with pytest.raises(ValueError, match="prefix"):
        S3ObjectStore(boto3.session.Session(), "bucket", "p" * LONGEST_PREFIX)
