"""The description of the tables that the package contains."""

from __future__ import annotations

from alchemistore.maintenance.schema_diff import DESCRIPTION
from tests.schema.describe import described, rendered


def test_description_equals_what_the_server_reports(empty_database: str) -> None:
    assert DESCRIPTION.read_text(encoding="utf-8") == rendered(described(empty_database)), (
        "run `make catalog`"
    )
