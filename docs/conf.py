"""Settings of Sphinx; `make docs` builds the documentation."""

from __future__ import annotations

import logging
import re
import sys
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

CHECKOUT = Path(__file__).resolve().parents[1]
STORE = CHECKOUT / "alchemistore" / "store.py"
CALL = re.compile(r"^    (?:def )?([a-z]\w*)(?: = |\()", re.MULTILINE)
sys.path.insert(0, str(CHECKOUT))

import alchemistore  # noqa: E402  (the package of this checkout)

# Alembic reports each part of itself.
logging.getLogger("alembic").setLevel(logging.WARNING)

project = "alchemistore"
author = "The alchemistore developers"
copyright = author  # noqa: A001  (the name that Sphinx reads)
release = version = alchemistore.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

html_theme = "furo"
html_title = f"alchemistore {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_theme_options = {
    "source_repository": "https://github.com/alchemistore/alchemistore",
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {"color-brand-primary": "#1f5f8b", "color-brand-content": "#1f5f8b"},
    "dark_css_variables": {"color-brand-primary": "#7cc0ee", "color-brand-content": "#7cc0ee"},
}
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist", "tasklist"]
myst_heading_anchors = 4

# Options of commands begin with two hyphens.
smartquotes = False
nitpicky = True
# `name` in a docstring is a call, a class, or a parameter.
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config, model_post_init"}
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = {
    "optional", "default", "of", "or", "to", "and", "with", "a", "pair", "iterable", "sequence",
    "mapping", "callable", "collection", "text", "all", "by", "one", "if", "any", "file",
}  # fmt: skip
# Prompts are not part of what is copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


def _find_reference(
    app: Sphinx, environment: BuildEnvironment, node: Any, content: nodes.Element
) -> nodes.Node | None:
    """Find a public name of this package wherever it is used, and ignore all other names.

    Other names are parameters, modules, and types of Python itself or of other packages. They have
    no target, so that the build needs no network.
    """
    target = node["reftarget"]
    if target.startswith("python:"):
        return nodes.literal(text=target.removeprefix("python:"))
    if node["reftype"] not in ("obj", "class", "func", "exc", "mod"):
        return None
    name = target.removeprefix("alchemistore.")
    if hasattr(alchemistore.StateStore, name):
        name = f"StateStore.{name}"
    if name.partition(".")[0] not in alchemistore.__all__:
        return content
    python = environment.domains.python_domain
    where = (environment, node["refdoc"], app.builder, "obj", f"alchemistore.{name}")
    found: nodes.Node | None = python.resolve_xref(*where, node, content)
    return found


def _mark_up_help(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Convert the help of a command, which is plain text, to reStructuredText."""
    marked = []
    for line in lines:
        # sphinx-click begins lines that click does not wrap like this; these are examples.
        if not line.startswith("| "):
            marked.append(re.sub(r"([*`|_])", r"\\\1", line))
        elif line.startswith("|  "):
            marked.append(f"    {line[2:].strip()}")
        else:
            marked += [f"{line[2:]}:", ""]
    lines[:] = marked


def _mark_up_options(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Escape what would be markup in the help of options."""
    lines[:] = [
        line
        if re.match(r"\s*(\.\.|:|\*\*Required\*\*$)", line)
        else re.sub(r"((?<!\*)\*(?!\*)|[`|]|_(?=\W))", r"\\\1", line)
        for line in lines
    ]


def _list_calls(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace each `<!-- calls: subject -->` by the calls below this heading in store.py."""
    found = re.split(r"^    # (.*)\n", STORE.read_text(), flags=re.MULTILINE)
    subjects = dict(zip(found[1::2], found[2::2], strict=True))

    def listed(subject: re.Match[str]) -> str:
        calls = re.findall(
            r"^    (?:def )?([a-z]\w*)(?: = |\()", subjects[subject[1]], re.MULTILINE
        )
        lines = [f".. automethod:: alchemistore.StateStore.{call}" for call in calls]
        return "\n".join(["```{eval-rst}", *lines, "```"])

    source[0] = re.sub(r"<!-- calls: ([\w ]+) -->", listed, source[0])


def _list_names(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace each `<!-- names: module -->` by the public classes of this module."""

    def described(public: str) -> str:
        found = getattr(alchemistore, public)
        if not isinstance(found, type):
            return f".. autofunction:: alchemistore.{public}"
        options = ["members"]
        if issubclass(found, Enum):
            options.append("undoc-members")
        kind = "class"
        if issubclass(found, Exception):
            kind = "exception"
            options.append("show-inheritance")
        return "\n".join(
            [f".. auto{kind}:: alchemistore.{public}", *(f"   :{one}:" for one in options)]
        )

    def listed(module: re.Match[str]) -> str:
        home = import_module(module[1])
        names = [one for one in alchemistore.__all__ if hasattr(home, one)]
        return "\n".join(["```{eval-rst}", *map(described, names), "```"])

    source[0] = re.sub(r"<!-- names: ([\w.]+) -->", listed, source[0])


def _include(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace each `<!-- document: NAME -->` by this document of the checkout."""
    source[0] = re.sub(
        r"<!-- document: (\w+\.md) -->",
        lambda found: (CHECKOUT / found[1]).read_text().replace("](docs/", "](/"),
        source[0],
    )


def _list_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace each `<!-- pages: pattern -->` by a list of pages that only the sidebar shows."""
    source[0] = re.sub(
        r"<!-- pages: (\S+) -->",
        r"```{toctree}\n:hidden:\n:glob:\n\n\1\n```",
        source[0],
    )


def _link_to_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace links to documents of the checkout by links to the pages that include them."""
    source[0] = re.sub(
        r"\]\((?:\.\./)*(CONTRIBUTING|SECURITY|STYLE|CHANGELOG)\.md(#[^)]*)?\)",
        lambda found: f"](/project/{found[1].lower()}.md{found[2] or ''})",
        source[0],
    )


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("missing-reference", _find_reference)
    for part in ("description", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _mark_up_help)
    app.connect("sphinx-click-process-options", _mark_up_options)
    for prepare in (_include, _link_to_page, _list_pages, _list_calls, _list_names):
        app.connect("source-read", prepare)
