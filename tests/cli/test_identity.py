"""`alchemistore identity`: effects, output and exit codes."""

from __future__ import annotations

import json

import bcrypt
import pytest

from alchemistore import (
    CredentialedComputeIdentity,
    CredentialedEntity,
    CredentialedUserIdentity,
    Scope,
    StateStore,
)
from tests.cli.conftest import Run

CLASSES: dict[str, type[CredentialedEntity]] = {
    "user": CredentialedUserIdentity,
    "compute": CredentialedComputeIdentity,
}
TYPES = pytest.mark.parametrize("kind", list(CLASSES))


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take a millisecond."""
    original = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda: original(rounds=4))


@pytest.fixture
def commands(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs commands of this group on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments, typed=None: run("identity", *arguments, typed=typed)


def add(commands: Run, identifier: str, kind: str = "user", key: str = "key") -> None:
    done = commands("add", "-t", kind, "-i", identifier, "-k", key)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Set the key of the {kind} identity ")


@TYPES
def test_changing_commands_have_output_for_people_and_for_programs(
    commands: Run, kind: str
) -> None:
    one = ("-t", kind, "-i", "bill")
    changes: tuple[tuple[tuple[str, ...], str, dict[str, object]], ...] = (
        (("add", *one, "-k", "key"), "Set the key of", {}),
        (("add-scope", *one, "-s", "a-*-*"), "Granted the scopes to", {"scopes": ["a-*-*"]}),
        (("remove-scope", *one, "-s", "a-*-*"), "Revoked the scopes of", {"scopes": ["a-*-*"]}),
        (("disable", *one), "Disabled", {"disabled": True}),
        (("enable", *one), "Enabled", {"disabled": False}),
    )
    for arguments, did, fields in changes:
        assert commands(*arguments).stdout == f"{did} the {kind} identity bill.\n"
        expected = {"identifier": "bill", "identity_type": kind, **fields}
        assert json.loads(commands(*arguments, "--json").stdout) == expected
        assert commands(*arguments, "-q").output == ""
    removed = commands("remove", *one, "--yes", "--json").stdout
    assert json.loads(removed) == {"identifier": "bill", "identity_type": kind}


@TYPES
def test_add_makes_an_identity_that_may_log_in(commands: Run, store: StateStore, kind: str) -> None:
    add(commands, "bill", kind)
    found = store.authenticate("bill", "key", CLASSES[kind])
    assert found is not None
    assert (found.identifier, found.scopes, found.disabled, found.expires) == (
        "bill",
        [],
        False,
        None,
    )
    assert store.authenticate("bill", "other", CLASSES[kind]) is None


def test_type_is_user_by_default_and_may_be_written_in_any_case(
    commands: Run, store: StateStore
) -> None:
    assert commands("add", "-i", "bill", "-k", "key").exit_code == 0
    assert (
        commands(
            "add", "--identity-type", "COMPUTE", "--identifier", "ted", "--key", "key"
        ).exit_code
        == 0
    )
    assert store.list_credentialed_entities(CredentialedUserIdentity) == ["bill"]
    assert store.list_credentialed_entities(CredentialedComputeIdentity) == ["ted"]


def test_add_again_changes_the_key_and_keeps_the_rest(commands: Run, store: StateStore) -> None:
    add(commands, "bill", key="old")
    commands("add-scope", "-i", "bill", "-s", "a-b-c")
    commands("disable", "-i", "bill")
    add(commands, "bill", key="new")
    assert store.authenticate("bill", "new", CredentialedUserIdentity) is None
    commands("enable", "-i", "bill")
    found = store.authenticate("bill", "new", CredentialedUserIdentity)
    assert found is not None
    assert found.scopes == ["a-b-c"]


@pytest.mark.parametrize("typed", ["key\n", "key\r\n", "key"])
def test_key_is_read_from_standard_input(commands: Run, store: StateStore, typed: str) -> None:
    assert commands("add", "-i", "bill", "--key-stdin", typed=typed).exit_code == 0
    assert store.authenticate("bill", "key", CredentialedUserIdentity)


def test_key_is_prompted_twice_and_not_shown(commands: Run, store: StateStore) -> None:
    done = commands("add", "-i", "bill", typed="s3cret\ns3cret\n")
    assert done.exit_code == 0
    assert "s3cret" not in done.output
    assert store.authenticate("bill", "s3cret", CredentialedUserIdentity)


def test_mistyped_key_is_prompted_again(commands: Run, store: StateStore) -> None:
    done = commands("add", "-i", "bill", typed="one\ntwo\nthree\nthree\n")
    assert done.exit_code == 0
    assert "do not match" in done.output
    assert store.authenticate("bill", "three", CredentialedUserIdentity)


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (["--key-stdin"], "", "empty"),
        (["--key-stdin"], "\n", "empty"),
        (["-k", ""], None, "empty"),
        (["-k", "s3cret", "--key-stdin"], "s3cret", "cannot be used together"),
        ([], "", "nothing was changed"),
        ([], "one\n", "nothing was changed"),
    ],
)
def test_without_a_key_nothing_is_added(
    commands: Run, store: StateStore, arguments: list[str], typed: str | None, said: str
) -> None:
    done = commands("add", "-i", "bill", *arguments, typed=typed)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "s3cret" not in done.output
    assert store.list_credentialed_entities(CredentialedUserIdentity) == []


@pytest.mark.parametrize("identifier", ["", "a\0b"], ids=ascii)
def test_identifier_that_cannot_be_stored_is_refused_without_showing_the_key(
    commands: Run, identifier: str
) -> None:
    done = commands("add", "-i", identifier, "-k", "s3cret")
    assert done.exit_code == 2
    assert "identifier" in done.stderr
    assert "s3cret" not in done.output
    assert "$2b$" not in done.output


@TYPES
def test_list_prints_one_identifier_per_line_in_order(commands: Run, kind: str) -> None:
    for name in ("ted", "bill", "o'neil 🧪"):
        add(commands, name, kind)
    assert commands("list", "-t", kind, "-q").stdout == "bill\no'neil 🧪\nted\n"
    lines = commands("list", "-t", kind, "--json").stdout.splitlines()
    assert [json.loads(line)["identifier"] for line in lines] == ["bill", "o'neil 🧪", "ted"]
    other = "compute" if kind == "user" else "user"
    assert commands("list", "-t", other).stdout == ""
    assert commands("list", "-t", other, "--json").stdout == ""


@TYPES
def test_list_and_show_have_scopes_and_expiry_but_no_key(
    commands: Run, store: StateStore, kind: str
) -> None:
    add(commands, "bill", kind)
    commands("add-scope", "-t", kind, "-i", "bill", "-s", "a-b-c", "-s", "d-*-*")
    commands("expire", "-t", kind, "-i", "bill", "--at", "2030-01-02")
    commands("disable", "-t", kind, "-i", "bill")
    title, row = commands("list", "-t", kind).stdout.splitlines()
    assert title.split() == ["IDENTIFIER", "DISABLED", "EXPIRES", "SCOPES"]
    assert row.split() == ["bill", "yes", "2030-01-02", "00:00:00", "a-b-c,", "d-*-*"]
    for command in (["list"], ["show", "-i", "bill"]):
        [found] = commands(*command, "-t", kind, "--json").stdout.splitlines()
        assert "$2b$" not in found
        fields = json.loads(found)
        assert (fields["identifier"], fields["disabled"]) == ("bill", True)
        assert fields["scopes"] == ["a-b-c", "d-*-*"]
        assert fields["expires"] == "2030-01-02T00:00:00+00:00"
        assert "hashed_key" not in fields
    shown = commands("show", "-t", kind, "-i", "bill").stdout
    assert "$2b$" not in shown
    assert "a-b-c, d-*-*" in shown


def test_expire_changes_nothing_but_the_expiry(commands: Run, store: StateStore) -> None:
    add(commands, "bill")
    commands("add-scope", "-i", "bill", "-s", "a-b-c")
    assert commands("expire", "-i", "bill", "--at", "2020-01-01 12:00:00").exit_code == 0
    assert store.authenticate("bill", "key", CredentialedUserIdentity) is None
    assert commands("expire", "-i", "bill", "--never").stdout == "It does not expire.\n"
    found = store.authenticate("bill", "key", CredentialedUserIdentity)
    assert found is not None
    assert (found.scopes, found.expires, found.disabled) == (["a-b-c"], None, False)
    for options in ([], ["--never", "--at", "2030-01-01"], ["--at", "soon"]):
        assert commands("expire", "-i", "bill", *options).exit_code == 2


@TYPES
def test_remove_deletes_an_identity(commands: Run, store: StateStore, kind: str) -> None:
    add(commands, "bill", kind)
    assert commands("remove", "-t", kind, "-i", "bill", "--yes").exit_code == 0
    with pytest.raises(KeyError):
        store.get_credentialed_entity("bill", CLASSES[kind])


def test_remove_asks_first(commands: Run, store: StateStore) -> None:
    add(commands, "bill")
    for typed in ("n\n", ""):
        done = commands("remove", "-i", "bill", typed=typed)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "nothing was changed" in done.stderr
    assert store.list_credentialed_entities(CredentialedUserIdentity) == ["bill"]
    assert commands("remove", "-i", "bill", typed="y\n").exit_code == 0
    assert store.list_credentialed_entities(CredentialedUserIdentity) == []


@TYPES
def test_scopes_are_added_listed_and_removed(commands: Run, store: StateStore, kind: str) -> None:
    add(commands, "bill", kind)
    one = ("-t", kind, "-i", "bill")
    assert (
        commands("add-scope", *one, "-s", "z-*-*", "--scope", "a-b-*", "-s", "a-b-c").exit_code == 0
    )
    assert store.list_scopes("bill", CLASSES[kind]) == [
        Scope("z"),
        Scope("a", "b"),
        Scope("a", "b", "c"),
    ]
    assert commands("list-scope", *one).stdout == "z-*-*\na-b-*\na-b-c\n"
    lines = commands("list-scope", *one, "--json").stdout.splitlines()
    assert [json.loads(line)["scope"] for line in lines] == ["z-*-*", "a-b-*", "a-b-c"]
    assert (
        commands(
            "remove-scope", *one, "-s", "z-*-*", "-s", "a-b-*", "-s", "never-given-it"
        ).exit_code
        == 0
    )
    assert commands("list-scope", *one).stdout == "a-b-c\n"


@pytest.mark.parametrize("command", ["add-scope", "remove-scope"])
def test_one_malformed_scope_prevents_all_changes(
    commands: Run, store: StateStore, command: str
) -> None:
    add(commands, "bill")
    store.add_scope("bill", CredentialedUserIdentity, "a-b-c")
    for position in range(3):
        scopes = ["a-b-c", "d-e-f"]
        scopes.insert(position, "a-*-c")
        done = commands(
            command, "-i", "bill", *(part for scope in scopes for part in ("-s", scope))
        )
        assert done.exit_code == 2
        assert done.stderr.startswith("Error:")
        assert done.stderr.count("\n") == 1
        assert store.list_scopes("bill", CredentialedUserIdentity) == [Scope("a", "b", "c")]


@pytest.mark.parametrize("command", ["add-scope", "remove-scope"])
def test_scopes_are_parsed_before_the_database_is_used(run: Run, command: str) -> None:
    nowhere = "postgresql://somebody@127.0.0.1:1/nothing"
    done = run("identity", command, "--url", nowhere, "-i", "bill", "-s", "a-b-c", "-s", "nonsense")
    assert done.exit_code == 2
    assert "'nonsense' is not a scope" in done.stderr


def test_scopes_are_applied_in_one_transaction(
    commands: Run, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(commands, "bill")
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE identity_scopes ADD CONSTRAINT refused CHECK (scope <> 'd-e-f')"
        )
    try:
        done = commands("add-scope", "-i", "bill", "-s", "a-b-c", "-s", "d-e-f")
        assert done.exit_code == 2
        assert store.list_scopes("bill", CredentialedUserIdentity) == []
    finally:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE identity_scopes DROP CONSTRAINT refused")


@TYPES
def test_disable_and_enable_change_whether_an_identity_may_log_in(
    commands: Run, store: StateStore, kind: str
) -> None:
    add(commands, "bill", kind)
    assert commands("disable", "-t", kind, "-i", "bill").exit_code == 0
    assert store.authenticate("bill", "key", CLASSES[kind]) is None
    assert commands("enable", "-t", kind, "-i", "bill").exit_code == 0
    assert store.authenticate("bill", "key", CLASSES[kind])


@pytest.mark.parametrize(
    "command",
    [
        ["remove", "--yes"],
        ["add-scope", "-s", "a-b-c"],
        ["remove-scope", "-s", "a-b-c"],
        ["list-scope"],
        ["disable"],
        ["enable"],
        ["show"],
        ["expire", "--never"],
    ],
    ids=lambda command: command[0],
)
def test_unknown_identity_is_an_error_of_one_line(commands: Run, command: list[str]) -> None:
    add(commands, "bill", "compute")
    done = commands(*command, "-i", "bill")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: No such object in database: user identity 'bill'\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "-t", "robot"],
        ["add"],
        ["add-scope", "-i", "bill"],
        ["remove-scope", "-i", "bill"],
        ["remove"],
        ["add_scope", "-i", "bill", "-s", "a-b-c"],
    ],
)
def test_wrong_command_line_is_explained(commands: Run, arguments: list[str]) -> None:
    done = commands(*arguments)
    assert done.exit_code == 2
    assert "Usage:" in done.stderr


def test_without_a_database_the_option_and_the_variable_are_named(run: Run) -> None:
    done = run("identity", "list")
    assert done.exit_code == 2
    assert "--url" in done.stderr
    assert "ALCHEMISTORE_DATABASE_URL" in done.stderr


def test_without_a_schema_the_command_that_makes_it_is_named(run: Run, empty_database: str) -> None:
    done = run("identity", "list", "--url", empty_database)
    assert done.exit_code == 2
    assert "alchemistore database" in done.stderr
