"""The queue: what is claimable now, in the order of an exponential race.

Drawing without replacement with weights w is giving each task a key ``Exp(1) / w`` and taking the smallest keys first (P. S. Efraimidis
and P. G. Spirakis, Information Processing Letters 97, 181, 2006). The key is drawn when a task becomes claimable, so a claim walks
the head of an index. A task that comes later must not overtake: by the memorylessness of the exponential its key is
``clock + Exp(1) / w``, the clock being the largest key handed out so far in that hub at that priority, read from the attempts. Every
change of weight or priority draws afresh. With concurrent claimers the clock may be as old as the claims not yet committed.

`queue` is a cache of the truth in `tasks`, `extends` and `actions`; :func:`refresh` is the only thing that writes it besides the
claim. It is called, by whatever changed a status, a priority, a weight or an action, as a statement of its own after the tasks
concerned were locked: then it sees all that was committed before.

The order of locks, kept by everything that touches tasks, actions and claims
-----------------------------------------------------------------------------
1. registrations of compute services, by identifier;
2. tasks, in the order of their keys (with them everything that hangs on a task: its actions, claim, attempts and results);
3. lanes, then queue rows.

A claim goes the other way, queue rows before tasks, and therefore asks for each lock with SKIP LOCKED: it waits for nobody, so it is
part of no deadlock. Hubs, networks and transformations are never updated on these paths.
"""
