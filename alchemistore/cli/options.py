"""The database and object store of a command, from its options and the environment."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from alchemistore.objectstore import S3ObjectStore
    from alchemistore.store import StateStore


def url_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add the option for the database."""
    return click.option(
        "--url",
        envvar="ALCHEMISTORE_DATABASE_URL",
        show_envvar=True,
        required=True,
        help="postgresql://user:password@host:port/database, or embedded:///directory. Set the"
        " variable rather than the option: other users of the machine can see the option.",
    )(function)


_FROM_INPUT = "alchemistore.keys_from_input"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age_option(
    name: str, default: str | None, text: str, required: bool = False
) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """Return a decorator that adds an option for a time span, passed as a timedelta.

    Parameters
    ----------
    name : str
        The option, such as ``--lease``.
    default : str or None
        The default, such as ``30m``; the function gets ``None`` without one.
    text : str
        The help text.
    required : bool, default False
        Whether the option must be given.
    """
    return click.option(
        name,
        required=required,
        metavar="AGE",
        default=default,
        show_default=default is not None,
        callback=_parse_age,
        help=text,
    )


def _parse_age(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> timedelta | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhdw])", value)
    if not found:
        raise click.BadParameter(
            f"{value!r} is not an age: expected a number and a unit, e.g. 90m, 12h, 7d or 2w"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def scope_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add the option for a scope."""
    return click.option(
        "--scope",
        "-s",
        help="Only in this scope: org-campaign-project, with '*' for any.",
    )(function)


def _expand(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[str]:
    expanded: list[str] = []
    for value in values:
        if value == "-":
            context.meta[_FROM_INPUT] = True
        expanded += sys.stdin.read().split() if value == "-" else [value]
    return list(dict.fromkeys(expanded))


def read_from_input() -> bool:
    """Check whether keys were to be read from standard input, even if there were none."""
    return _FROM_INPUT in click.get_current_context().meta


def keys_argument(
    metavar: str, required: bool = True
) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """Return a decorator that adds an argument for keys; '-' stands for those on standard input."""
    return click.argument(
        "keys", nargs=-1, required=required, metavar=metavar, callback=_expand, type=str
    )


def author_options(function: click.decorators.FC) -> click.decorators.FC:
    """Add the options for what the history of a task says about a change."""
    reason = click.option("--reason", help="Why, for the history of the tasks.")
    actor = click.option(
        "--actor",
        default=login_name,
        show_default="your login name",
        help="By whom, for the history of the tasks.",
    )
    return reason(actor(function))


def login_name() -> str:
    """Return the name of the user who runs the command, or the number of one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def open_store(url: str) -> StateStore:
    """Return the state store at a URL. It is closed when the command ends."""
    from alchemistore.store import StateStore

    store = StateStore(url)
    click.get_current_context().call_on_close(store.close)
    return store


def object_store() -> S3ObjectStore:
    """Return the object store of the environment."""
    from alchemistore.objectstore import get_s3os
    from alchemistore.settings import get_s3_settings

    return get_s3os(get_s3_settings())
