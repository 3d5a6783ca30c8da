import time
from collections import defaultdict

import psutil
from sqlalchemy import text

from alchemistore import StateStore
from tests.builders import *


def run(store, scope, single, lanes=100):
    a = campaign(store, scope, name=f"n{single}{lanes}")
    acc = defaultdict(lambda: [0.0, 0.0, 0])

    def m(name, pid, f, *args):
        p = psutil.Process(pid)
        c = p.cpu_times()
        t = time.process_time()
        r = f(*args)
        d = p.cpu_times()
        x = acc[name]
        x[0] += d.user + d.system - c.user - c.system
        x[1] += time.process_time() - t
        x[2] += 1
        return r

    tr = [sorted(store.create_tasks(a.transformations[:1] * 10)) for _ in range(lanes)]
    for i, t in enumerate(tr):
        store.set_task_priority(t, i + 1)
    al = [t for x in tr for t in x]
    store.action_tasks([t for x in tr for t in x[:8]], a.hub)

    def body(tx):
        pid = (
            tx._connection.scalar(text("select pg_backend_pid()"))
            if tx._connection
            else tx._engine.connect().__enter__().scalar(text("select pg_backend_pid()"))
        )
        for x in tr:
            m("claim6", pid, tx.claim_taskhub_tasks, a.hub, "a", 6)
            m("action", pid, tx.action_tasks, x[8:], a.hub)
            m("weights", pid, tx.set_task_weights, x[8:], a.hub, 0.25)
            m("claim4", pid, tx.claim_taskhub_tasks, a.hub, "a", 4)
            m("wait", pid, tx.set_task_waiting, x[:2])
            m("claim2", pid, tx.claim_taskhub_tasks, a.hub, "a", 2)

    if single:
        with store.transaction() as tx:
            body(tx)
    else:
        body(store)
    print(single, lanes, {k: f"{v[0] / v[2] * 1000:.1f}ms pg, {v[1] / v[2] * 1000:.1f} py" for k, v in acc.items()})


def test_x(store, scope, database):
    from alchemistore.settings import Settings

    s = StateStore(Settings(database_url=database, pool_size=1))
    register(s, "a")
    run(s, scope, True, 100)
    run(s, scope, True, 300)
    run(s, scope, False, 100)
    run(s, scope, False, 300)
    with s._engine.begin() as c:
        c.execute(text("analyze"))
    run(s, scope, True, 100)
    s.close()
