"""Help texts, and the packages that the command line imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete, get_completion_class

from alchemistore import __version__
from alchemistore.cli import main
from tests.cli.conftest import Run


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands())
CHECKOUT = Path(__file__).parents[2]
IDENTITY = {
    *("add", "list", "show", "remove", "add-scope", "list-scope", "remove-scope"),
    *("disable", "enable", "expire"),
}


def test_all_commands_are_listed() -> None:
    assert {path[1] for path in ALL if path[:1] == ("identity",) and len(path) > 1} == IDENTITY
    assert {path[1] for path in ALL if path[:1] == ("database",) and len(path) > 1} == {
        "init",
        "upgrade",
        "check",
        "grant",
        "lost-claims",
        "reset",
    }


# Why these have no such option.
WITHOUT_QUIET = {("demo",): "it prints its verdict, which is what it is for"}
WITHOUT_JSON = {("demo",): "it writes a report and a plot for people"}
# Their options and help are alchemiscale's.
PASSED_ON = ("serve", "alchemiscale")


def test_exceptions_are_commands() -> None:
    assert {*WITHOUT_QUIET, *WITHOUT_JSON} <= {*ALL}


def test_commands_have_examples_json_and_quiet() -> None:
    count = 0
    for path in ALL:
        command: click.Command = main
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        if isinstance(command, click.Group) or path[0] in PASSED_ON:
            continue
        count += 1
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--quiet" in options or path in WITHOUT_QUIET, path
        assert "--json" in options or path in WITHOUT_JSON, path
        example = f"alchemistore {' '.join(path)}"
        assert example in (command.help or ""), path
    assert count > 40


@pytest.mark.parametrize("path", ALL, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_every_command_is_printed(run: Run, path: tuple[str, ...], option: str) -> None:
    done = run(*path, option)
    assert done.exit_code == 0
    usage, _, description = done.stdout.partition("\n\n")
    assert usage.startswith("Usage: ")
    assert description.strip()[0].isupper()
    assert done.stderr == ""


def test_lists_of_commands_fit_on_a_terminal() -> None:
    for path in ALL:
        command: click.Command = main
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        if isinstance(command, click.Group):
            # 80 columns without margins, indentation, and the column of the names.
            room = 80 - 2 - 2 - max(map(len, command.commands)) - 2 - 2
            for name, one in command.commands.items():
                assert len(one.get_short_help_str(1000)) <= room, (path, name)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path}: {parameter.name}"


@pytest.mark.parametrize("path", [path for path in ALL if len(path) == 1], ids=" ".join)
def test_group_without_a_command_prints_its_help(run: Run, path: tuple[str, ...]) -> None:
    if not isinstance(main.commands[path[0]], click.Group):
        return
    done = run(*path)
    assert done.exit_code == 2
    assert "Commands:" in done.output


def test_version_is_printed(run: Run) -> None:
    assert run("--version").stdout == f"alchemistore, version {__version__}\n"


def completions(*words: str) -> set[str]:
    """Return what a shell offers after these words; the last one is incomplete."""
    complete = ShellComplete(main, {}, "alchemistore", "_ALCHEMISTORE_COMPLETE")
    return {one.value for one in complete.get_completions([*words[:-1]], words[-1])}


def test_shell_completes_commands_options_and_choices() -> None:
    assert completions("net") == {"network"}
    assert completions("task", "set-") == {"set-status", "set-priority"}
    assert completions("network", "plot", "--res") == {"--results"}
    assert completions("task", "list", "--status", "") == {
        *("waiting", "running", "complete", "error", "invalid", "deleted")
    }
    assert "--json" in completions("status", "--")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_documented_completion_prints_a_script(shell: str) -> None:
    pages = "".join(page.read_text() for page in (CHECKOUT / "docs").rglob("*.md"))
    assert "_ALCHEMISTORE_COMPLETE=bash_source" in pages
    assert f"{shell}_source" in pages
    found = get_completion_class(shell)
    assert found is not None
    complete = found(main, {}, "alchemistore", "_ALCHEMISTORE_COMPLETE")
    assert f"_ALCHEMISTORE_COMPLETE={shell}_complete" in complete.source_template % (
        complete.source_vars()
    )


# Runs commands in one process, and prints the modules that are imported after each.
PROGRAM = """
import json, sys
from contextlib import redirect_stdout, suppress
from alchemistore.cli import main
for arguments in json.loads(sys.argv[1]):
    with redirect_stdout(sys.stderr), suppress(SystemExit):
        main(arguments)
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_after(commands: list[list[str]]) -> Iterator[tuple[list[str], set[str]]]:
    """Yield each command with the packages that are imported after it and those before it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
    )
    for command, line in zip(commands, done.stdout.splitlines(), strict=True):
        yield command, set(json.loads(line))


def test_starting_imports_no_heavy_package() -> None:
    heavy = {
        "alembic",
        "bcrypt",
        "boto3",
        "botocore",
        "gufe",
        "numpy",
        "psycopg",
        "rdkit",
        "rich",
        "sqlalchemy",
    }
    commands = [
        [],
        ["--help"],
        ["identity", "add", "--help"],
        ["database", "check", "--help"],
        ["status", "--help"],
        ["doctor", "--help"],
    ]
    for command, loaded in loaded_after(commands):
        assert "click" in loaded
        assert not loaded & heavy, command


def test_commands_on_the_database_import_neither_gufe_nor_boto3(pooled_database: str) -> None:
    commands = [
        ["identity", "list"],
        ["database", "check"],
        ["database", "check", "--repair"],
        ["status"],
        ["doctor", "--no-objects"],
        ["maintain", "--once"],
        ["task", "list"],
        ["network", "list"],
        ["hub", "list"],
        ["service", "list"],
    ]
    on_database = [[*command, "--url", pooled_database] for command in commands]
    for command, loaded in loaded_after(on_database):
        assert "sqlalchemy" in loaded, command
        assert not loaded & {"boto3", "botocore", "gufe", "rdkit"}, command
