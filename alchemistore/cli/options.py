"""The servers that commands work on, by option and by environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from alchemistore.objectstore import S3ObjectStore
    from alchemistore.store import StateStore


def url_option(function: click.decorators.FC) -> click.decorators.FC:
    """Give a command the option that names the database."""
    return click.option(
        "--url",
        envvar="ALCHEMISTORE_DATABASE_URL",
        show_envvar=True,
        required=True,
        help="postgresql://user:password@host:port/database, or embedded:///directory. Better in the environment, where"
        " other users of the machine cannot read the password.",
    )(function)


def open_store(url: str) -> StateStore:
    """Return the state store at a URL, for the length of the command."""
    from alchemistore.store import StateStore

    store = StateStore(url)
    click.get_current_context().call_on_close(store.close)
    return store


def object_store() -> S3ObjectStore:
    """Give the object store that the environment names."""
    from alchemistore.objectstore import get_s3os
    from alchemistore.settings import get_s3_settings

    return get_s3os(get_s3_settings())
