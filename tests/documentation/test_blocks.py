"""Every block of code in the documentation is run, or says why it is not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.documentation.conftest import CHECKOUT, DOCUMENTS, Block, Reader, blocks, parse

# Blocks in these languages are run; others are data, or output.
RUN = ("python", "shell")
LANGUAGES = {*RUN, "dockerfile", "ini", "json", "sql", "text", "toml", "yaml"}
# Directives of Sphinx.
DIRECTIVE = re.compile(r"\{[\w-]+\}")
# The reasons why a block is not run. A test that does the same is named instead, if there is one.
REASONS = {
    "changes this machine",
    "needs Docker",
    "needs another machine",
    "needs Java and Maven",
    "needs alchemiscale",
    "runs until it is stopped",
    "takes minutes",
    "works on a checkout",
}


def runnable(document: Path) -> list[Block]:
    return [one for one in blocks(document) if one.language in RUN and one.reason is None]


PAGES = [document for document in DOCUMENTS if runnable(document)]


@pytest.mark.parametrize("document", PAGES, ids=lambda one: str(one.relative_to(CHECKOUT)))
def test_blocks_of_a_document_run(document: Path, reader: Reader) -> None:
    for block in runnable(document):
        reader.run(block)


def test_every_block_has_a_known_language() -> None:
    unknown = [
        str(block)
        for document in DOCUMENTS
        for block in blocks(document)
        if block.language not in LANGUAGES and not DIRECTIVE.fullmatch(block.language)
    ]
    assert unknown == []


def test_every_block_that_is_not_run_says_why() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.reason is not None and block.reason not in REASONS:
                test = re.fullmatch(r"(tests/\S+\.py) does the same", block.reason)
                assert test, f"{block}: {block.reason}"
                assert (CHECKOUT / test[1]).exists(), f"{block}: {block.reason}"


def test_commands_in_blocks_that_are_not_run_exist() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.language == "shell" and block.reason is not None:
                code = block.code.replace("\\\n", "")
                for line in re.findall(r"(?:^|[|&] )alchemistore ([^|&\n]*)", code, re.M):
                    parse(shlex.split(line, comments=True))


def test_no_block_is_indented() -> None:
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert re.findall(r"\n\n    .*", text) == [], document


def test_wrong_block_fails(reader: Reader) -> None:
    def block(language: str, code: str) -> Block:
        return Block(CHECKOUT / "README.md", 1, language, code, None)

    reader.run(block("shell", "alchemistore task list -q | alchemistore task history -"))
    reader.run(block("python", "print(1 + 1)  # 2"))
    for wrong in (
        block("shell", "alchemistore task list --nonsense"),
        block("shell", "alchemistore task list | nonsense"),
        block("shell", "false"),
        block("python", "print(1 + 1)  # 3"),
    ):
        with pytest.raises(AssertionError):
            reader.run(wrong)
