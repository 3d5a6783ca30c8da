"""`alchemistore identity`: who may log in, and which scopes they may use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from alchemistore.cli.options import open_store, url_option

if TYPE_CHECKING:
    from alchemistore.models import CredentialedComputeIdentity, CredentialedUserIdentity, Scope


def type_option(function: click.decorators.FC) -> click.decorators.FC:
    """Give a command the option that names the type of identity."""
    return click.option(
        "--identity-type",
        "-t",
        type=click.Choice(["user", "compute"], case_sensitive=False),
        default="user",
        show_default=True,
        help="The same identifier may stand for a user and for a compute identity.",
    )(function)


def identity_options(function: click.decorators.FC) -> click.decorators.FC:
    """Give a command the options that name the database and an identity."""
    named = click.option(
        "--identifier", "-i", required=True, help="The name under which it logs in."
    )(function)
    return url_option(type_option(named))


scope_option = click.option(
    "--scope",
    "-s",
    "scopes",
    multiple=True,
    required=True,
    help="org-campaign-project, '*' for what is open; may be given several times. All of them are applied, or none.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")


def _class(identity_type: str) -> type[CredentialedUserIdentity | CredentialedComputeIdentity]:
    from alchemistore.models import CredentialedComputeIdentity, CredentialedUserIdentity

    return CredentialedUserIdentity if identity_type == "user" else CredentialedComputeIdentity


def _parsed(scopes: Iterable[str]) -> list[Scope]:
    from alchemistore.models import Scope

    return [Scope.from_str(scope) for scope in scopes]


def _show(items: list[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(items, indent=2))
    else:
        for item in items:
            click.echo(item)


def _read_key(key: str | None, from_stdin: bool) -> str:
    if key is not None and from_stdin:
        raise click.UsageError("Give the key by --key or by --key-stdin, not both.")
    if key is not None:
        return key
    if from_stdin:
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    try:
        answer: str = click.prompt("Key", hide_input=True, confirmation_prompt=True)
    except click.Abort:
        click.echo("\nNothing was changed: no key was given.", err=True)
        sys.exit(2)
    return answer


@click.group()
def identity() -> None:
    """Users and compute identities, and the scopes they may use."""


@identity.command()
@identity_options
@click.option(
    "--key",
    "-k",
    help="The key. Other users of the machine can read it here: better be asked for it, or use --key-stdin.",
)
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input.")
def add(url: str, identity_type: str, identifier: str, key: str | None, key_stdin: bool) -> None:
    """Add an identity, or give one that is there a new key; its scopes stay.

    The key is asked for, unless --key or --key-stdin says otherwise.
    """
    from alchemistore.operations.key_hashing import hash_key

    entity = _class(identity_type)(
        identifier=identifier, hashed_key=hash_key(_read_key(key, key_stdin))
    )
    with open_store(url).transaction() as tx:
        tx.create_credentialed_entity(entity)


@identity.command("list")
@url_option
@type_option
@json_option
def list_(url: str, identity_type: str, as_json: bool) -> None:
    """List the identifiers, one per line."""
    with open_store(url).transaction() as tx:
        _show(tx.list_credentialed_entities(_class(identity_type)), as_json)


@identity.command()
@identity_options
def remove(url: str, identity_type: str, identifier: str) -> None:
    """Remove an identity, with its scopes."""
    with open_store(url).transaction() as tx:
        tx.remove_credentialed_identity(identifier, _class(identity_type))


@identity.command()
@identity_options
@scope_option
def add_scope(url: str, identity_type: str, identifier: str, scopes: tuple[str, ...]) -> None:
    """Let an identity use scopes."""
    parsed = _parsed(scopes)
    with open_store(url).transaction() as tx:
        for scope in parsed:
            tx.add_scope(identifier, _class(identity_type), scope)


@identity.command()
@identity_options
@json_option
def list_scope(url: str, identity_type: str, identifier: str, as_json: bool) -> None:
    """List the scopes an identity may use, one per line, in the order in which they were granted."""
    with open_store(url).transaction() as tx:
        _show(tx.get_credentialed_entity(identifier, _class(identity_type)).scopes, as_json)


@identity.command()
@identity_options
@scope_option
def remove_scope(url: str, identity_type: str, identifier: str, scopes: tuple[str, ...]) -> None:
    """Take scopes from an identity: exactly these, not those within them."""
    parsed = _parsed(scopes)
    with open_store(url).transaction() as tx:
        for scope in parsed:
            tx.remove_scope(identifier, _class(identity_type), scope)


@identity.command()
@identity_options
def disable(url: str, identity_type: str, identifier: str) -> None:
    """Refuse the key of an identity until it is enabled again."""
    with open_store(url).transaction() as tx:
        tx.set_disabled(identifier, _class(identity_type))


@identity.command()
@identity_options
def enable(url: str, identity_type: str, identifier: str) -> None:
    """Accept the key of an identity again."""
    with open_store(url).transaction() as tx:
        tx.set_disabled(identifier, _class(identity_type), False)
