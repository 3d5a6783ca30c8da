"""A claim clears the reason of the status that the task had before."""

from __future__ import annotations

from alchemistore import Scope, StateStore
from tests.support.campaigns import campaign, register


def test_claimed_task_has_no_reason_of_its_earlier_status(store: StateStore, scope: Scope) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=1)
    assert store.set_task_status(made.tasks, "running") == made.tasks
    assert store.set_task_status(made.tasks, "waiting", reason="once more") == made.tasks
    [before] = store.get_task_details(made.tasks)
    assert store.claim_taskhub_tasks(made.hub, "a") == made.tasks
    [after] = store.get_task_details(made.tasks)
    assert before is not None
    assert after is not None
    assert (before.reason, after.reason) == ("once more", None)
