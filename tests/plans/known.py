"""Guards that do not hold yet: with these statistics the planner may take a plan that touches more than it has to.

The answers are right in every case; what is lost is time, on a server that has not analyzed its tables. Each entry is a piece of work.
"""

# Test and call, with the statistics under which it was last seen.
KNOWN: dict[tuple[str, str], set[str]] = {
    ("test_a_claim_walks_the_head_of_the_queue", "one of a rare protocol"): {"never", "stale"},
    ("test_a_claim_walks_the_head_of_the_queue", "a hundred"): {"never", "stale"},
    ("test_a_claim_walks_the_head_of_the_queue", "a hundred of two protocols"): {"never", "stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "action_tasks"): {"stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "set_task_weights"): {"generic", "never", "stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "get_task_weights"): {"never"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "set_task_priority"): {"generic", "never", "stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "set_task_waiting"): {"fresh", "generic", "stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "set_task_error"): {"fresh", "generic", "stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "set_task_complete"): {"fresh", "generic", "stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "set_task_complete again"): {"generic", "never", "stale"},
    ("test_a_bulk_call_about_many_tasks_reads_nothing_twice", "expire_registrations"): {"stale"},
    ("test_a_call_about_one_object_touches_little", "query_tasks by key"): {"generic"},
    ("test_a_call_about_one_object_touches_little", "query_tasks, a page"): {"fresh", "generic", "never", "stale"},
    ("test_a_call_about_one_object_touches_little", "query_tasks, a later page"): {"fresh", "generic", "never", "stale"},
    ("test_a_call_about_one_object_touches_little", "deregister"): {"generic", "stale"},
}
