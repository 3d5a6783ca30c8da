"""Fragments of SQL that several subjects share: scopes and paging."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, text

from alchemistore.database.keys import parse_key
from alchemistore.models import ScopedKey

# The tenant of a key, as a subquery: for statements about one object.
SCOPE_ID = (
    "(SELECT id FROM scopes WHERE org = :org AND campaign = :campaign AND project = :project)"
)

# A filter by a scope with open components.
IN_SCOPE = """
    (CAST(:org AS text) IS NULL OR s.org = :org)
    AND (CAST(:campaign AS text) IS NULL OR s.campaign = :campaign)
    AND (CAST(:project AS text) IS NULL OR s.project = :project)
"""


@lru_cache
def listing(rows: str, *conditions: str) -> TextClause:
    """Give the statement that lists rows, scope by scope and in each in the order of their tokens, a page at a time.

    Parameters
    ----------
    rows : str
        The select of the rows, as far as its WHERE, from a table that is called ``o`` there; among its columns are kind and token.
    *conditions : str
        On ``o``, and for `AFTER` on the scope ``s``.

    Returns
    -------
    TextClause
        With the parameters of the conditions, of `scope_parameters` and of `page`.
    """
    same = "(s.org, s.campaign, s.project) = (:after_org, :after_campaign, :after_project)"
    later = "(s.org, s.campaign, s.project) >= (:after_org, :after_campaign, :after_project)"
    paged = AFTER in conditions
    return text(f"""
        SELECT o.*, s.org, s.campaign, s.project
        FROM (
            SELECT s.*, {same if paged else "false"} AS same FROM scopes AS s
            WHERE {IN_SCOPE} AND {later if paged else "true"}
            ORDER BY s.org, s.campaign, s.project
        ) AS s
        CROSS JOIN LATERAL (
            {rows} WHERE {" AND ".join(("o.scope_id = s.id", *conditions))} ORDER BY o.token LIMIT :limit
        ) AS o
        ORDER BY s.org, s.campaign, s.project, o.token
        LIMIT :limit
    """)


# Where the page before ended, in a form that an index serves.
AFTER = """
    o.token >= CASE WHEN s.same THEN CAST(:after_token AS uuid) ELSE '00000000-0000-0000-0000-000000000000' END
    AND (NOT s.same OR o.token <> :after_token)
"""


def page(limit: int | None, after: ScopedKey | str | None) -> tuple[dict[str, Any], list[str]]:
    """Give the parameters and the conditions of a page: at most `limit` keys that come after a key."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be 0 or more, not {limit}")
    if after is None:
        return {"limit": limit}, []
    last = parse_key(after)
    return {
        "limit": limit,
        "after_org": last.org,
        "after_campaign": last.campaign,
        "after_project": last.project,
        "after_token": last.token,
    }, [AFTER]
