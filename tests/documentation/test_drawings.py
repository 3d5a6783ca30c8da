"""The drawings are those that their scripts draw, and the screens are shown."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
DRAWINGS = DOCS / "drawings"
SCRIPT = runpy.run_path(str(DRAWINGS / "draw.py"))


@pytest.mark.parametrize("name", SCRIPT["DRAWINGS"])
def test_drawing_is_up_to_date(name: str) -> None:
    """`python docs/drawings/draw.py` draws it again."""
    assert (DRAWINGS / f"{name}.svg").read_text() == SCRIPT["DRAWINGS"][name]().svg()


def test_every_picture_is_shown_and_exists() -> None:
    text = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    shown = re.findall(r"!\[[^\]]+\]\(drawings/([\w.-]+)\)", text)
    kept = [file.name for file in DRAWINGS.iterdir() if file.suffix in (".svg", ".png")]
    assert {*shown} == {*kept}
