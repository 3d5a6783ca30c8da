"""SQL fragments that several subjects share: scopes and pages."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import TextualSelect, column, text

from alchemistore.database.arguments import integer
from alchemistore.database.keys import parse_key
from alchemistore.models import ScopedKey

# The scope id of a key, as a subquery, for statements about one object.
SCOPE_ID = (
    "(SELECT id FROM scopes WHERE org = :org AND campaign = :campaign AND project = :project)"
)

# Rows of `scopes AS s` that are in a scope; a component that is NULL matches anything.
IN_SCOPE = """
    (CAST(:org AS text) IS NULL OR s.org = :org)
    AND (CAST(:campaign AS text) IS NULL OR s.campaign = :campaign)
    AND (CAST(:project AS text) IS NULL OR s.project = :project)
"""


@lru_cache
def listing(
    rows: str,
    *conditions: str,
    columns: tuple[str, ...] = ("kind", "token"),
    by_kind: bool = False,
) -> TextualSelect:
    """Return a statement that lists a page of rows, sorted by scope and gufe key.

    Parameters
    ----------
    rows : str
        A SELECT without WHERE from a table with the alias ``o``, with columns kind and token.
    *conditions : str
        Conditions on ``o``. That of `page` also refers to the scope ``s``.
    columns : tuple of str, default ("kind", "token")
        The columns of `rows`. SQLAlchemy then describes the result once, not each time.
    by_kind : bool, default False
        Whether the rows are of several kinds, so that the token alone does not order them.

    Returns
    -------
    TextualSelect
        The statement. It takes the parameters of the conditions, of `scope_parameters` and of
        `page`.
    """
    return text(_page(rows, conditions, by_kind)).columns(
        *map(column, (*columns, "org", "campaign", "project"))
    )


@lru_cache
def listing_of_keys(rows: str, *conditions: str, by_kind: bool = False) -> TextualSelect:
    """Return a statement that lists a page of keys, with one row for each scope and kind.

    The driver takes longer to read a row than to read a key in a text, and the keys are faster to
    make from that.

    Parameters
    ----------
    rows : str
        A SELECT without WHERE from a table with the alias ``o``, with columns kind and token.
    *conditions : str
        Conditions, as in `listing`.
    by_kind : bool, default False
        Whether the rows are of several kinds.

    Returns
    -------
    TextualSelect
        The statement, for `keys.listed_keys`. It takes the parameters of `listing`.
    """
    return text(f"""
        SELECT kind, {all_tokens("token")} AS tokens, org, campaign, project
        FROM ({_page(rows, conditions, by_kind)}) AS page
        GROUP BY org, campaign, project, kind
        ORDER BY org, campaign, project, kind
    """).columns(*map(column, ("kind", "tokens", "org", "campaign", "project")))


def all_tokens(name: str) -> str:
    """Return an aggregate of all tokens in a column, in their order, for `keys.scoped_tokens`."""
    return f"encode(string_agg(uuid_send({name}), CAST('' AS bytea) ORDER BY {name}), 'hex')"


def _page(rows: str, conditions: tuple[str, ...], by_kind: bool) -> str:
    same = "(s.org, s.campaign, s.project) = (:after_org, :after_campaign, :after_project)"
    later = "(s.org, s.campaign, s.project) >= (:after_org, :after_campaign, :after_project)"
    paged = AFTER in conditions or AFTER_OF_ITS_KIND in conditions
    order = "o.kind, o.token" if by_kind else "o.token"
    return f"""
        SELECT o.*, s.org, s.campaign, s.project
        FROM (
            SELECT s.*, {same if paged else "false"} AS same FROM scopes AS s
            WHERE {IN_SCOPE} AND {later if paged else "true"}
            ORDER BY s.org, s.campaign, s.project
        ) AS s
        CROSS JOIN LATERAL (
            {rows}
            WHERE {" AND ".join(("o.scope_id = s.id", *conditions))}
            ORDER BY {order}
            LIMIT :limit
        ) AS o
        ORDER BY s.org, s.campaign, s.project, {order}
        LIMIT :limit
    """


# Rows after the last key of the previous page, as a condition that can use an index.
AFTER = """
    o.token >= CASE
        WHEN s.same THEN CAST(:after_token AS uuid) ELSE '00000000-0000-0000-0000-000000000000'
    END
    AND (NOT s.same OR o.token <> :after_token)
"""
# The same for rows of several kinds.
AFTER_OF_ITS_KIND = """
    (o.kind, o.token) > (
        CASE WHEN s.same THEN CAST(:after_kind AS text) ELSE '' END,
        CASE
            WHEN s.same THEN CAST(:after_token AS uuid)
            ELSE '00000000-0000-0000-0000-000000000000'
        END
    )
"""


def check_limit(limit: int | None) -> int | None:
    """Return the largest number of rows to list; ``None`` means all.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is negative.
    """
    if limit is not None and (limit := integer(limit, "limit")) < 0:
        raise ValueError(f"limit must be 0 or more, not {limit}")
    return limit


def page(
    limit: int | None, after: ScopedKey | str | None, *, by_kind: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters and conditions of a page: at most `limit` keys after a key."""
    limit = check_limit(limit)
    if after is None:
        return {"limit": limit}, []
    last = parse_key(after)
    return {
        "limit": limit,
        "after_org": last.org,
        "after_campaign": last.campaign,
        "after_project": last.project,
        "after_kind": last.qualname,
        "after_token": last.token,
    }, [AFTER_OF_ITS_KIND if by_kind else AFTER]
