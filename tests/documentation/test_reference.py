"""The reference lists every call, every public name and every command."""

from __future__ import annotations

import re
from pathlib import Path

import alchemistore
from alchemistore.cli import main

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
PAGES = "\n".join(file.read_text() for file in sorted((DOCS / "reference").rglob("*.md")))


def test_every_subject_of_the_store_has_a_list_of_calls() -> None:
    source = (CHECKOUT / "alchemistore/store.py").read_text()
    subjects = re.findall(r"^    # (.*)", source, re.MULTILINE)
    assert "task hubs" in subjects
    assert sorted(re.findall(r"<!-- calls: (.*) -->", PAGES)) == sorted(subjects)


def test_every_public_name_is_described() -> None:
    named = set(re.findall(r"auto(?:class|function):: alchemistore\.(\w+)", PAGES))
    for module in re.findall(r"<!-- names: (.*) -->", PAGES):
        named |= {
            name
            for name in alchemistore.__all__
            if getattr(alchemistore, name).__module__.startswith(module)
        }
    assert set(alchemistore.__all__) - named == set()


def test_every_page_is_in_a_table_of_contents() -> None:
    pages = {file.relative_to(DOCS) for file in DOCS.rglob("*.md")} - {Path("index.md")}
    listed = set()
    for file in DOCS.rglob("*.md"):
        text, home = file.read_text(), file.parent.relative_to(DOCS)
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {home / f"{entry}.md" for entry in entries}
        for pattern in re.findall(r"<!-- pages: (\S+) -->", text):
            listed |= {one.relative_to(DOCS) for one in file.parent.glob(f"{pattern}.md")}
    assert pages == listed


def test_every_command_is_described() -> None:
    described = re.findall(r":prog: alchemistore ([\w-]+)", PAGES)
    assert sorted(described) == sorted(main.commands)
