"""The calls that commands make on the database, without the rest of the store: gufe is slow to import, and may not be there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alchemistore.cli.options import make_engine
from alchemistore.operations import identities, repair
from alchemistore.transaction import Transactional, reads, writes


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


@contextmanager
def transaction_on(url: str) -> Iterator[Calls]:
    """Run a command's calls in one transaction."""
    with Calls(make_engine(url)).transaction() as tx:
        yield tx
