"""The calls that commands make on the database, without the rest of the store: gufe is slow to import, and may not be there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import SecretStr

from alchemistore.engine import make_engine
from alchemistore.operations import identities, repair
from alchemistore.settings import Settings
from alchemistore.transaction import Transactional, reads, writes

if TYPE_CHECKING:
    from sqlalchemy import Engine


@contextmanager
def engine_for(url: str) -> Iterator[Engine]:
    """Give an engine for the length of a command."""
    engine = make_engine(Settings(database_url=SecretStr(url)))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def transaction_on(url: str) -> Iterator[Calls]:
    """Run a command's calls in one transaction."""
    with engine_for(url) as engine, Calls(engine).transaction() as tx:
        yield tx


class Calls(Transactional):
    """Some calls of the state store, under their names."""

    repair_queue = writes(repair.repair_queue)
    create_credentialed_entity = writes(identities.create_credentialed_entity)
    get_credentialed_entity = reads(identities.get_credentialed_entity)
    list_credentialed_entities = reads(identities.list_credentialed_entities)
    remove_credentialed_identity = writes(identities.remove_credentialed_identity)
    set_disabled = writes(identities.set_disabled)
    add_scope = writes(identities.add_scope)
    remove_scope = writes(identities.remove_scope)
