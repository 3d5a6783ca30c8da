"""Forty threads that share one store, as the thread pool of a server does."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

from alchemistore.alchemiscale import install

install()

from alchemiscale.models import ScopedKey
from alchemiscale.settings import Neo4jStoreSettings
from alchemiscale.storage.models import ComputeServiceID, ComputeServiceRegistration
from alchemiscale.storage.statestore import get_n4js

THREADS = 40
store = get_n4js(Neo4jStoreSettings(NEO4J_URL=os.environ["URL"], NEO4J_USER="", NEO4J_PASS=""))
hub = ScopedKey.from_str(os.environ["HUB"])
barrier = Barrier(THREADS)


def claim(number: int) -> list[ScopedKey]:
    service = ComputeServiceID.new_from_name(f"thread{number}")
    store.register_computeservice(ComputeServiceRegistration.from_now(service))
    barrier.wait()
    claimed = []
    for _ in range(3):
        claimed += store.claim_taskhub_tasks(hub, service, count=1)
    assert store.heartbeat_computeservice(service, datetime.now(UTC)) == service
    return claimed


with ThreadPoolExecutor(THREADS) as pool:
    answers = [task for tasks in pool.map(claim, range(THREADS)) for task in tasks]
tasks = [task for task in answers if task is not None]
assert all(type(task) is ScopedKey for task in tasks)
assert len(tasks) == len(set(tasks)) == int(os.environ["TASKS"])
