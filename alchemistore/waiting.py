"""Waiting for work: a notification is the hint, looking again is the contract."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

from alchemistore.engine import listener
from alchemistore.models import Scope, ScopedKey
from alchemistore.operations.claims import has_work
from alchemistore.operations.queue import CHANNEL
from alchemistore.transaction import Transactional, translated

# Seconds between two looks; drawn anew each time, so that many waiting services do not look at once.
BETWEEN_LOOKS = (2.0, 6.0)


def wait_for_tasks(
    store: Transactional,
    scopes: Iterable[Scope | str] | None = None,
    taskhubs: Iterable[ScopedKey | str] | None = None,
    timeout: float = 60.0,
    protocols: Iterable[str] | None = None,
    exclude: Iterable[Scope | str] | None = None,
) -> bool:
    """Wait until there may be something to claim.

    Parameters
    ----------
    store : StateStore
        The store.
    scopes : iterable of Scope or str, optional
        Where to look; default everywhere.
    taskhubs : iterable of ScopedKey or str, optional
        Look at these hubs only.
    timeout : float, default 60
        Seconds after which to give up.
    protocols : iterable of str, optional
        Class names of protocols: wait for tasks of transformations that use one of them. Default: any.
    exclude : iterable of Scope or str, optional
        Scopes to leave out.

    Returns
    -------
    bool
        Whether something was there; somebody else may be quicker to claim it.

    Notes
    -----
    Work that appears is usually noticed at once, by a notification. These are sent at most once a second by each process and do not
    pass through PgBouncer in transaction mode; then it is noticed within a few seconds, by looking again.
    """
    where = [Scope()] if scopes is None else list(scopes)
    hubs = None if taskhubs is None else list(taskhubs)
    names = None if protocols is None else list(protocols)
    without = None if exclude is None else list(exclude)
    end = time.monotonic() + timeout

    def look() -> bool:
        return store._run(lambda tx: has_work(tx, where, names, without, hubs), readonly=True)

    if look():
        return True
    if timeout <= 0:
        return False
    # A connection of its own, outside the pool: it waits, and holds nothing while it does.
    with translated(), listener(store._engine) as connection:
        connection.execute(f"LISTEN {CHANNEL}".encode())
        # What came between the first look and LISTEN was not notified.
        while not look():
            left = end - time.monotonic()
            if left <= 0:
                return False
            for _ in connection.notifies(timeout=min(left, random.uniform(*BETWEEN_LOOKS)), stop_after=1):  # noqa: S311  (jitter)
                pass
        return True
