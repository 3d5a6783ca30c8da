"""The database and object store of a command, from its options and the environment."""

from __future__ import annotations

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
