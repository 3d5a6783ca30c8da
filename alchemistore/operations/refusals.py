"""Refusals: why a bulk call did not accept a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import NO_OBJECT, Keys, parameters
from alchemistore.database.sql import SCOPE_ID
from alchemistore.models import RefusalReason, ScopedKey
from alchemistore.operations.task_sets import TASKS

# The reason for each refused task, by the text of its key.
Refusals: TypeAlias = dict[str, RefusalReason]

STATES_OF_TASKS = text(f"""
    SELECT x.scope_id, x.task, t.status, EXISTS (
        SELECT FROM taskhubs AS h JOIN network_transformations AS n
            ON n.scope_id = h.scope_id AND n.network = h.network
        WHERE h.scope_id = {SCOPE_ID} AND h.token = :token
            AND n.scope_id = t.scope_id AND n.transformation = t.transformation
    ) AS in_network, EXISTS (
        SELECT FROM actions AS a
        WHERE a.scope_id = {SCOPE_ID} AND a.taskhub = :token
            AND a.scope_id = t.scope_id AND a.task = t.token
    ) AS on_hub
    FROM ({TASKS}) AS x LEFT JOIN tasks AS t ON t.scope_id = x.scope_id AND t.token = x.task
""")


def explain(
    tx: Connection,
    refusals: Refusals,
    keys: Keys,
    refused: Iterable[tuple[int, UUID]],
    reason: Callable[[Row[Any]], RefusalReason],
    hub: ScopedKey | None = None,
) -> None:
    """Fill a dictionary with the reasons why tasks were refused.

    Parameters
    ----------
    tx : Connection
        The open transaction, in which the tasks are locked.
    refusals : dict
        The dictionary to fill; it is cleared first.
    keys : Keys
        The tasks of the call.
    refused : iterable of (int, UUID)
        Scope id and token of the refused tasks.
    reason : callable
        Takes the state of a task that exists, and returns why it was refused.
    hub : ScopedKey, optional
        The hub of the call.
    """
    pairs = list(refused)
    values = {
        "scope_ids": [scope_id for scope_id, _ in pairs],
        "tokens": [token for _, token in pairs],
        **(NO_OBJECT if hub is None else parameters(hub)),
    }
    found = {
        (row.scope_id, row.task): RefusalReason.missing if row.status is None else reason(row)
        for row in (tx.execute(STATES_OF_TASKS, values) if pairs else ())
    }
    refusals.clear()
    for requested, key, why in zip(keys.requested, keys.parsed, keys.align(found), strict=True):
        answer = RefusalReason.missing if key is None else why
        if answer is not None:
            refusals[str(requested)] = answer


def explain_missing_hub(refusals: Refusals, keys: Keys) -> None:
    """Fill a dictionary for a call whose hub does not exist."""
    refusals.clear()
    refusals.update({str(requested): RefusalReason.no_hub for requested in keys.requested})
