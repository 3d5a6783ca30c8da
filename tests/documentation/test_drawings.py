"""The drawings are those that their scripts draw."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DRAWINGS = Path(__file__).parents[2] / "docs" / "drawings"
SCRIPT = runpy.run_path(str(DRAWINGS / "draw.py"))


@pytest.mark.parametrize("name", SCRIPT["DRAWINGS"])
def test_drawing_is_up_to_date(name: str) -> None:
    """`python docs/drawings/draw.py` draws it again."""
    assert (DRAWINGS / f"{name}.svg").read_text() == SCRIPT["DRAWINGS"][name]().svg()


def test_every_drawing_is_shown() -> None:
    concepts = (DRAWINGS.parent / "concepts.md").read_text()
    assert [name for name in SCRIPT["DRAWINGS"] if f"drawings/{name}.svg" not in concepts] == []
