import time, random
from alchemistore import StateStore
from tests.builders import *
def test_x(store, scope, database):
    s=StateStore(database, generator=random.Random(7))
    t=time.perf_counter(); 
    a=campaign(s,scope,tasks=2000); print('campaign',time.perf_counter()-t)
    register(s,'a')
    t=time.perf_counter()
    with s.transaction() as tx:
        for i in range(500): tx.set_task_priority(a.tasks[4*i:4*i+4], i+1)
    print('prio',time.perf_counter()-t)
    for _ in range(3):
        t=time.perf_counter(); g=s.claim_taskhub_tasks(a.hub,'a',2000); print('claim2000',time.perf_counter()-t, g[-1])
        t=time.perf_counter(); s.set_task_waiting(a.tasks); print('waiting',time.perf_counter()-t)
    t=time.perf_counter()
    for _ in range(200): g=s.claim_taskhub_tasks(a.hub,'a',4)
    print('claim4x200',time.perf_counter()-t)
    t=time.perf_counter()
    with s.transaction() as tx:
        for _ in range(200): g=tx.claim_taskhub_tasks(a.hub,'a',4)
    print('claim4x200 one tx',time.perf_counter()-t)
    t=time.perf_counter()
    for i in range(200): s.set_task_waiting(a.tasks[4*i:4*i+4])
    print('waitx200',time.perf_counter()-t)
    t=time.perf_counter()
    s.set_task_weights({k: [1,.5,.25,.1][i%4] for i,k in enumerate(a.tasks)},a.hub)
    print('w',time.perf_counter()-t)
    s.close()
