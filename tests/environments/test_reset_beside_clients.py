"""`reset` while clients work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event, text

from alchemistore import StateStore
from alchemistore.database.engine import database_url
from alchemistore.tables import metadata
from tests.support.concurrency import Running


def test_reset_that_deadlocks_with_a_client_is_tried_again(
    database: str, run_sql: Callable[[str], None]
) -> None:
    # PostgreSQL looks for a deadlock once, so long after a session begins to wait.
    run_sql(f"ALTER DATABASE {database_url(database).database} SET deadlock_timeout TO '2s'")
    first, last = (metadata.sorted_tables[place].name for place in (-1, 0))
    started = []

    def note(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if "pg_advisory_xact_lock" in statement:
            started.append(statement)

    with closing(StateStore(database)) as client, closing(StateStore(database)) as store:
        event.listen(store.engine, "before_cursor_execute", note)
        with client.transaction() as tx:
            assert tx.connection is not None
            # The reset is to notice the deadlock, not this client.
            tx.connection.execute(text("SET LOCAL deadlock_timeout TO '60s'"))
            tx.connection.execute(text(f"LOCK TABLE {last} IN ACCESS SHARE MODE"))
            reset = Running(store.reset)
            assert reset.waits_for(tx)
            tx.connection.execute(text(f"LOCK TABLE {first} IN ACCESS SHARE MODE"))
        reset.result()
        assert len(started) == 2
        with pytest.raises(Exception, match="database init"):
            store.check()
