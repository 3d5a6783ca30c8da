"""The documentation names files and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from alchemistore.cli import main

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob(".github/*.md")]
)
# The changelog names modules that have moved.
CURRENT = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
PATH = re.compile(r"`((?:alchemistore|bench|docs|examples|migrations|tests)/[\w/.]*)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
TARGET = re.compile(r"(?:^|`|&& )make ([a-z][a-z0-9-]*)", re.MULTILINE)
# Those in blocks of code are run, or at least parsed.
COMMAND = re.compile(r"`alchemistore ([a-z][a-z-]*(?: [a-z][a-z0-9-]*)?)")

TARGETS = set(re.findall(r"^([a-z0-9-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))


def _name(document: Path) -> str:
    return str(document.relative_to(CHECKOUT))


def _command_exists(words: list[str]) -> bool:
    command: click.Command | None = main
    for word in words:
        if not isinstance(command, click.Group):
            return True
        command = command.commands.get(word)
    return command is not None


@pytest.mark.parametrize("document", CURRENT, ids=_name)
def test_document_names_existing_files(document: Path) -> None:
    text = document.read_text()
    named = [CHECKOUT / name for name in PATH.findall(text)]
    linked = [document.parent / name for name in LINK.findall(text)]
    assert [str(path) for path in [*named, *linked] if not path.exists()] == []


@pytest.mark.parametrize("document", CURRENT, ids=_name)
def test_document_names_existing_commands(document: Path) -> None:
    named = COMMAND.findall(document.read_text())
    assert [words for words in named if not _command_exists(words.split())] == []


@pytest.mark.parametrize("document", CURRENT, ids=_name)
def test_document_names_existing_make_targets(document: Path) -> None:
    assert set(TARGET.findall(document.read_text())) <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_document_has_no_long_line(document: Path) -> None:
    assert [line for line in document.read_text().splitlines() if len(line) > 100] == []


def test_patterns_find_files_links_and_commands() -> None:
    text = "`alchemistore local start` x\n`alchemistore database check` `tests/cli/` [a](docs/b.md)"
    assert PATH.findall(text) == ["tests/cli/"]
    assert LINK.findall(text) == ["docs/b.md"]
    assert COMMAND.findall(text) == ["local start", "database check"]
    assert TARGET.findall("make test T=x\n`make bench-claims` && make lint") == [
        "test",
        "bench-claims",
        "lint",
    ]
    assert {"test", "demo-clean"} <= TARGETS
    assert "nonsense" not in TARGETS
    assert _command_exists(["database", "check"])
    assert not _command_exists(["database", "nonsense"])
