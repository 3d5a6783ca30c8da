from alchemistore import Scope, StateStore
from tests.builders import campaign, chain, register


def test_campaign(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=5)
    register(store, "a")
    line = chain(store, made.transformations[0], 3)
    store.action_tasks(line, made.hub)
    got = store.claim_taskhub_tasks(made.hub, "a", count=10)
    assert len([g for g in got if g]) == 6
