"""The queue: the tasks that can be claimed now, in the order of an exponential race.

=========  =========================================================================================
term       meaning
=========  =========================================================================================
race       Sort key of a task in a hub's queue at its priority; the smallest is claimed first.
draw       Choosing a race at random: ``clock + Exp(1) / weight``. In a claim from several hubs,
           also the position of a hub in the random order of the hubs.
clock      Largest race claimed so far in a lane, read from the attempts; 0 at the start. New draws
           are added to it.
lane       The part of a hub's queue with one priority and one protocol, or with one priority and
           any protocol (protocol ``''``). Every queue row belongs to one lane of each kind.
floor      Lower bound of the races in a lane. A claim starts reading the index there and skips the
           dead entries of tasks claimed before.
candidate  A clock noted in a lane, which becomes its floor once no running transaction can add a
           smaller race.
=========  =========================================================================================

Drawing without replacement with weights w is equivalent to giving each task a key ``Exp(1) / w``
and taking the smallest keys first (P. S. Efraimidis and P. G. Spirakis, Information Processing
Letters 97, 181, 2006). The key is drawn when a task becomes claimable, so a claim only reads the
head of an index. A task that is added later must not overtake: the exponential distribution has no
memory, so its key is ``clock + Exp(1) / w``. Every change of a weight or priority draws a new race.
With concurrent claims, the clock does not include the claims that are not yet committed.

The table `queue` is a cache of `tasks`, `extends` and `actions`. Only claims, repairs and
:func:`~alchemistore.operations.queue.refresh.refresh` write it. An operation that changes a status,
priority, weight or action first locks the tasks and afterwards calls `refresh`, which is a separate
statement and so sees everything that was committed before the locks were granted.

Order of locks
--------------
Everything that touches tasks, actions and claims acquires locks in this order:

1. registrations of compute managers, by name, then of compute services, by identifier;
2. hubs whose restart patterns change, and, if they have a quota, hubs to which tasks are added and
   transformations of which tasks are created;
3. restart patterns, by key;
4. tasks, by key; a lock on a task covers its actions, counters of restarts, claim, attempts and
   results;
5. lanes, then queue rows.

Which patterns to lock depends on the hubs that the tasks are on. If these have changed by the time
when the tasks are locked, the call goes back to a savepoint, which releases its locks, and starts
again.

A claim locks queue rows before tasks. It uses SKIP LOCKED for each of them, so it never waits and
cannot be part of a deadlock. These operations never update hubs, networks or transformations.

Calls about networks and hubs acquire their locks before all of these: networks, by key, then hubs,
marks and states of strategies, by key of the network.
"""
