"""`alchemistore identity`: users and compute identities, and their scopes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.exit_codes import CommandError
from alchemistore.cli.options import open_store, url_option
from alchemistore.cli.output import (
    ERRORS_ONLY,
    KEYS_ONLY,
    Output,
    busy,
    confirm,
    output_options,
    printable,
    yes_option,
)

if TYPE_CHECKING:
    from alchemistore.models import CredentialedComputeIdentity, CredentialedUserIdentity, Scope


def type_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add the option for the type of identity."""
    return click.option(
        "--identity-type",
        "-t",
        type=click.Choice(["user", "compute"], case_sensitive=False),
        default="user",
        show_default=True,
        help="Type of the identity. Identifiers are unique within a type.",
    )(function)


def identity_options(function: click.decorators.FC) -> click.decorators.FC:
    """Add the options for the database and an identity."""
    named = click.option("--identifier", "-i", required=True, help="Identifier of the identity.")(
        function
    )
    return url_option(type_option(named))


scope_option = click.option(
    "--scope",
    "-s",
    "scopes",
    multiple=True,
    required=True,
    help="org-campaign-project, with '*' for any. Repeat it for several: all or none are applied.",
)


def _class(identity_type: str) -> type[CredentialedUserIdentity | CredentialedComputeIdentity]:
    from alchemistore.models import CredentialedComputeIdentity, CredentialedUserIdentity

    return CredentialedUserIdentity if identity_type == "user" else CredentialedComputeIdentity


def _parsed(scopes: Iterable[str]) -> list[Scope]:
    from alchemistore.models import Scope

    return [Scope.from_str(scope) for scope in scopes]


def _read_key(key: str | None, from_stdin: bool) -> str:
    if key is not None and from_stdin:
        raise click.UsageError("--key and --key-stdin cannot be used together")
    if key is not None:
        return key
    if from_stdin:
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    try:
        answer: str = click.prompt("Key", hide_input=True, confirmation_prompt=True)
    except click.Abort:
        click.echo(err=True)
        raise CommandError("no key was entered, so nothing was changed") from None
    return answer


@click.group()
def identity() -> None:
    """Manage users and compute identities, and their scopes."""


@identity.command()
@identity_options
@click.option(
    "--key",
    "-k",
    help="The key. Other users of the machine can see it here; the prompt or --key-stdin is safer.",
)
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input.")
@output_options(ERRORS_ONLY)
def add(
    out: Output,
    url: str,
    identity_type: str,
    identifier: str,
    key: str | None,
    key_stdin: bool,
) -> None:
    """Add an identity, or change the key of an existing one.

    The scopes of an existing identity are kept. Without --key or --key-stdin, the command prompts
    for the key.

    \b
    Examples:
      alchemistore identity add -i alice
      alchemistore identity add -t compute -i cluster --key-stdin < key
    """
    from alchemistore.operations.key_hashing import hash_key

    entity = _class(identity_type)(
        identifier=identifier, hashed_key=hash_key(_read_key(key, key_stdin))
    )
    with open_store(url).transaction() as tx:
        tx.create_credentialed_entity(entity)
    _done(out, "Set the key of", identity_type, identifier)


def _done(out: Output, did: str, identity_type: str, identifier: str, **fields: Any) -> None:
    """Print what was done to an identity."""
    out.json({"identifier": identifier, "identity_type": identity_type, **fields})
    out.say(f"{did} the {identity_type} identity {printable(identifier)}.")


@identity.command("list", short_help="List identities with their scopes and expiry.")
@url_option
@type_option
@output_options(KEYS_ONLY)
def list_(out: Output, url: str, identity_type: str) -> None:
    """List identities with their scopes, expiry, and whether they are disabled.

    \b
    Example:
      alchemistore identity list -t compute --json
    """
    store, cls = open_store(url), _class(identity_type)
    rows: list[dict[str, Any]] = []
    with busy("Reading identities"), store.transaction() as tx:
        for identifier in tx.list_credentialed_entities(cls):
            if out.quiet:
                rows.append({"identifier": identifier})
            else:
                rows.append(_fields(tx.get_credentialed_entity(identifier, cls)))
    out.table(rows, "identifier", "disabled", "expires", "scopes")


def _fields(found: CredentialedUserIdentity | CredentialedComputeIdentity) -> dict[str, Any]:
    """Return the fields of an identity, without the hash of its key."""
    fields = dict(found)
    del fields["hashed_key"]
    return fields


@identity.command(short_help="Show an identity: scopes, expiry and contact.")
@identity_options
@output_options(KEYS_ONLY)
def show(out: Output, url: str, identity_type: str, identifier: str) -> None:
    """Show an identity: scopes, expiry, whether it is disabled, and contact. Keys are not shown.

    \b
    Example:
      alchemistore identity show -i alice
    """
    cls = _class(identity_type)
    out.record(_fields(open_store(url).get_credentialed_entity(identifier, cls)))


@identity.command()
@identity_options
@click.option(
    "--at",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]),
    help="The time, in UTC, from which the key is refused.",
)
@click.option("--never", is_flag=True, help="The key does not expire.")
@output_options(ERRORS_ONLY)
def expire(
    out: Output, url: str, identity_type: str, identifier: str, at: datetime | None, never: bool
) -> None:
    """Set the time from which the key of an identity is refused.

    \b
    Examples:
      alchemistore identity expire -i alice --at 2027-01-01
      alchemistore identity expire -i alice --never
    """
    if (at is None) != never:
        raise click.UsageError("use either --at or --never")
    cls = _class(identity_type)
    with open_store(url).transaction() as tx:
        found = tx.get_credentialed_entity(identifier, cls)
        # Other fields are not given, so that they stay unchanged.
        tx.create_credentialed_entity(
            cls(identifier=identifier, hashed_key=found.hashed_key, expires=at)
        )
        now = tx.get_credentialed_entity(identifier, cls)
    out.json({"identifier": identifier, "expires": now.expires})
    out.say("It does not expire." if now.expires is None else f"It expires at {now.expires}.")


@identity.command()
@identity_options
@yes_option
@output_options(ERRORS_ONLY)
def remove(out: Output, url: str, identity_type: str, identifier: str, yes: bool) -> None:
    """Remove an identity and its scopes.

    \b
    Example:
      alchemistore identity remove -i alice
    """
    confirm(f"Remove the {identity_type} identity {printable(identifier)}, and its scopes?", yes)
    with open_store(url).transaction() as tx:
        tx.remove_credentialed_identity(identifier, _class(identity_type))
    _done(out, "Removed", identity_type, identifier)


@identity.command()
@identity_options
@scope_option
@output_options(ERRORS_ONLY)
def add_scope(
    out: Output, url: str, identity_type: str, identifier: str, scopes: tuple[str, ...]
) -> None:
    """Grant scopes to an identity.

    \b
    Example:
      alchemistore identity add-scope -i alice -s 'my_org-*-*' -s other_org-campaign-project
    """
    parsed = _parsed(scopes)
    with open_store(url).transaction() as tx:
        for scope in parsed:
            tx.add_scope(identifier, _class(identity_type), scope)
    _done(out, "Granted the scopes to", identity_type, identifier, scopes=list(map(str, parsed)))


@identity.command(short_help="List the scopes of an identity, one per line.")
@identity_options
@output_options(KEYS_ONLY)
def list_scope(out: Output, url: str, identity_type: str, identifier: str) -> None:
    """List the scopes of an identity, one per line, in the order in which they were granted.

    \b
    Example:
      alchemistore identity list-scope -i alice
    """
    for scope in open_store(url).get_credentialed_entity(identifier, _class(identity_type)).scopes:
        if out.as_json:
            out.json({"scope": scope})
        else:
            click.echo(scope)


@identity.command()
@identity_options
@scope_option
@output_options(ERRORS_ONLY)
def remove_scope(
    out: Output, url: str, identity_type: str, identifier: str, scopes: tuple[str, ...]
) -> None:
    """Revoke scopes of an identity. Narrower scopes are not revoked with a wider one.

    \b
    Example:
      alchemistore identity remove-scope -i alice -s 'my_org-*-*'
    """
    parsed = _parsed(scopes)
    with open_store(url).transaction() as tx:
        for scope in parsed:
            tx.remove_scope(identifier, _class(identity_type), scope)
    _done(out, "Revoked the scopes of", identity_type, identifier, scopes=list(map(str, parsed)))


@identity.command(short_help="Disable an identity until it is enabled again.")
@identity_options
@output_options(ERRORS_ONLY)
def disable(out: Output, url: str, identity_type: str, identifier: str) -> None:
    """Disable an identity: its key is refused until it is enabled again.

    \b
    Example:
      alchemistore identity disable -i alice
    """
    with open_store(url).transaction() as tx:
        tx.set_disabled(identifier, _class(identity_type))
    _done(out, "Disabled", identity_type, identifier, disabled=True)


@identity.command()
@identity_options
@output_options(ERRORS_ONLY)
def enable(out: Output, url: str, identity_type: str, identifier: str) -> None:
    """Enable an identity that was disabled.

    \b
    Example:
      alchemistore identity enable -i alice
    """
    with open_store(url).transaction() as tx:
        tx.set_disabled(identifier, _class(identity_type), False)
    _done(out, "Enabled", identity_type, identifier, disabled=False)
