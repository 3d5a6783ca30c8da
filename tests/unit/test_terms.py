"""Parts of the statements that begin a transaction."""

from __future__ import annotations

import pytest

from alchemistore.database.terms import quoted


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [("alchemistore", '"alchemistore"'), ("A b", '"A b"'), ('a"b', '"a""b"'), ('"', '""""')],
)
def test_quotes_in_an_identifier_are_doubled(identifier: str, expected: str) -> None:
    assert quoted(identifier) == expected
