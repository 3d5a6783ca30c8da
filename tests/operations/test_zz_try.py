import time
from sqlalchemy import event, text
from alchemistore import *
from tests.builders import campaign
def test_a(store, scope):
    made=campaign(store,scope,tasks=30000)
    def timed(what, f):
        sent=[]
        def note(c,cur,s,v,ctx,many): sent.append(s)
        event.listen(store._engine,"before_cursor_execute",note)
        t=time.time(); r=f(); print(what, round(time.time()-t,2), len(sent), r if isinstance(r,dict) else "")
        event.remove(store._engine,"before_cursor_execute",note)
    timed("sound",store.repair_queue)
    with store._engine.begin() as c: c.execute(text("delete from queue"))
    timed("empty",store.repair_queue)
    with store._engine.begin() as c: c.execute(text("update queue set weight=0.1"))
    timed("all wrong",store.repair_queue)
    one=store.create_task(made.transformations[0])
    store.create_task(made.transformations[0],extends=one)
    timed("delete 2",lambda: store.delete_task(one,force=True))
    one=store.create_task(made.transformations[0])
    store.create_tasks([made.transformations[0]]*5000,extends=[one]*5000)
    timed("delete 5001",lambda: store.delete_task(one,force=True))
