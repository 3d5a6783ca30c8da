"""Tokens of gufe keys: only texts of the form that gufe makes have one."""

from __future__ import annotations

from uuid import UUID

import pytest

from alchemistore.database.keys import gufe_token

TOKEN = "0123456789abcdef0123456789abcdef"


def test_token_of_a_gufe_key_is_a_uuid() -> None:
    assert gufe_token(f"Transformation-{TOKEN}") == UUID(hex=TOKEN)


@pytest.mark.parametrize(
    "token",
    [
        "",
        TOKEN[:-1],
        TOKEN + "0",
        f"{{{TOKEN}}}",
        f"urn:uuid:{TOKEN}",
        str(UUID(hex=TOKEN)),
        TOKEN.upper(),
        f"0_{TOKEN[2:]}",
        "g" * 32,
    ],
)
def test_text_of_another_form_has_no_token(token: str) -> None:
    assert gufe_token(f"Transformation-{token}") is None
