"""What the statements of several subjects share: keys in and out, scopes, answers in the order asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from alchemistore.errors import MissingObjectError
from alchemistore.models import GufeKey, Scope, ScopedKey

T = TypeVar("T")

# The tenant of a key, as a subquery: for statements about one object.
SCOPE_ID = "(SELECT id FROM scopes WHERE org = :org AND campaign = :campaign AND project = :project)"

# A filter by a scope with open components.
IN_SCOPE = """
    (CAST(:org AS text) IS NULL OR s.org = :org)
    AND (CAST(:campaign AS text) IS NULL OR s.campaign = :campaign)
    AND (CAST(:project AS text) IS NULL OR s.project = :project)
"""

SCOPE_IDS = text("""
    SELECT s.org, s.campaign, s.project, s.id
    FROM scopes AS s
    JOIN unnest(CAST(:orgs AS text[]), CAST(:campaigns AS text[]), CAST(:projects AS text[]))
        AS wanted (org, campaign, project) USING (org, campaign, project)
""")


def parse_key(key: ScopedKey | str, kind: str | Sequence[str] | None = None) -> ScopedKey:
    """Give the key as a :class:`ScopedKey`.

    Parameters
    ----------
    key : ScopedKey or str
        What the caller gave.
    kind : str or sequence of str, optional
        The class it must be a key of.

    Raises
    ------
    ValueError
        If it is no key at all, or the key of another kind of object.
    """
    if isinstance(key, str):
        key = ScopedKey.from_str(key)
    elif not isinstance(key, ScopedKey):
        raise ValueError(f"expected a ScopedKey or its text, not {type(key).__name__}")
    kinds = (kind,) if isinstance(kind, str) else kind
    if kinds is not None and key.qualname not in kinds:
        raise ValueError(f"{key} is not the key of a {' or '.join(kinds)}")
    return key


def parameters(key: ScopedKey) -> dict[str, Any]:
    """Give what a statement about one object needs: the scope and the token."""
    return {"org": key.org, "campaign": key.campaign, "project": key.project, "token": key.token}


def parse_scope(scope: Scope | str) -> Scope:
    """Give the scope as a :class:`Scope`; what is none is a :class:`ValueError`."""
    if isinstance(scope, str):
        return Scope.from_str(scope)
    if not isinstance(scope, Scope):
        raise ValueError(f"expected a Scope or its text, not {type(scope).__name__}")
    return scope


def is_text(value: str) -> bool:
    """Tell whether PostgreSQL can hold a text; it has none with NUL or half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def scope_parameters(scope: Scope | str | None) -> dict[str, str | None]:
    """Give the parameters of `IN_SCOPE`; no scope means all of them."""
    org, campaign, project = (Scope() if scope is None else parse_scope(scope)).to_tuple()
    return {"org": org, "campaign": campaign, "project": project}


@dataclass(frozen=True, slots=True)
class Keys:
    """A list of keys as a bulk statement takes it, and the way back to the list.

    Attributes
    ----------
    asked : list
        What was asked for.
    given : list of ScopedKey or None
        One per element asked for; ``None`` where it is no key of the right kind in a scope that exists.
    positions : list of int
        One per element asked for: its position among the distinct keys, or -1.
    distinct : list of ScopedKey
        The distinct keys.
    scope_ids, tokens : list
        What these are found by.
    """

    asked: list[ScopedKey | str | None]
    given: list[ScopedKey | None]
    positions: list[int]
    distinct: list[ScopedKey]
    scope_ids: list[int]
    tokens: list[UUID]

    @property
    def parameters(self) -> dict[str, Any]:
        """What `unnest(:scope_ids, :tokens)` takes."""
        return {"scope_ids": self.scope_ids, "tokens": self.tokens}

    def _pairs(self) -> Iterator[tuple[int, UUID]]:
        return zip(self.scope_ids, self.tokens, strict=True)

    def found(self) -> Iterator[tuple[ScopedKey, tuple[int, UUID]]]:
        """Give the distinct keys, each with what it is found by."""
        return zip(self.distinct, self._pairs(), strict=True)

    def __bool__(self) -> bool:
        return bool(self.tokens)

    def answer(self, found: Mapping[tuple[int, UUID], T]) -> list[T | None]:
        """Give what was found, one element per element asked for, in the order asked."""
        values = [*map(found.get, self._pairs()), None]
        return [values[position] for position in self.positions]

    def keep(self, accepted: Callable[[tuple[int, UUID]], bool], once: bool = False) -> list[ScopedKey | None]:
        """Give the keys that were accepted, ``None`` for the others; with `once`, a repeated key only the first time."""
        fine = [*map(accepted, self._pairs()), False]
        answer: list[ScopedKey | None] = []
        for key, position in zip(self.given, self.positions, strict=True):
            answer.append(key if fine[position] else None)
            if once:
                fine[position] = False
        return answer


def parse_keys(tx: Connection, keys: Iterable[ScopedKey | str | None], kind: str | Sequence[str] = "Task") -> Keys:
    """Read a list of keys; what is no key of the right kind becomes ``None``, never an error.

    Parameters
    ----------
    tx : Connection
        The open transaction; the scopes are looked up in it.
    keys : iterable of ScopedKey, str or None
        In any order, with repetitions.
    kind : str or sequence of str, default "Task"
        The class or classes the keys must be of.

    Raises
    ------
    TypeError
        If a single key was given where a list is expected.
    """
    if isinstance(keys, str | ScopedKey):
        raise TypeError(f"expected a list of keys, not the single key {keys}")
    kinds = (kind,) if isinstance(kind, str) else tuple(kind)
    asked = list(keys)
    given = [_lenient(key, kinds) for key in asked]
    ids = scope_ids(tx, {(key.org, key.campaign, key.project) for key in given if key is not None})
    read = Keys(asked, given, [], [], [], [])
    known: dict[tuple[int | None, str], int] = {}
    for index, key in enumerate(given):
        position = -1
        if key is not None:
            scope_id = ids.get((key.org, key.campaign, key.project))
            position = known.get((scope_id, key.gufe_key), -1)
            if position < 0 and scope_id is not None and (token := key.token) is not None:
                position = known[scope_id, key.gufe_key] = len(read.tokens)
                read.distinct.append(key)
                read.scope_ids.append(scope_id)
                read.tokens.append(token)
            if position < 0:
                given[index] = None
        read.positions.append(position)
    return read


def parse_one_or_many(
    tx: Connection, keys: ScopedKey | str | Iterable[ScopedKey | str | None], kind: str, strict: bool = False
) -> tuple[bool, Keys]:
    """Read a single key or a list of keys.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    keys : ScopedKey or str, or iterable of them
        What the caller gave.
    kind : str
        The class the keys must be of.
    strict : bool, default False
        Whether a single key of another kind is an error.

    Returns
    -------
    bool, Keys
        Whether it was a single one, and the list.
    """
    if isinstance(keys, str | ScopedKey):
        return True, parse_keys(tx, [parse_key(keys, kind if strict else None)], kind)
    return False, parse_keys(tx, keys, kind)


def token_of(key: ScopedKey | None) -> UUID | None:
    """Give the token of a key, if there is one."""
    return None if key is None else key.token


def _lenient(key: ScopedKey | str | None, kinds: tuple[str, ...]) -> ScopedKey | None:
    if isinstance(key, str):
        try:
            key = ScopedKey.from_str(key)
        except ValueError:
            return None
    return key if isinstance(key, ScopedKey) and key.qualname in kinds else None


def scope_ids(tx: Connection, scopes: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    """Give the ids of the scopes that exist."""
    wanted = list(scopes)
    if not wanted:
        return {}
    orgs, campaigns, projects = (list(part) for part in zip(*wanted, strict=True))
    rows = tx.execute(SCOPE_IDS, {"orgs": orgs, "campaigns": campaigns, "projects": projects})
    return {(row.org, row.campaign, row.project): row.id for row in rows}


def scoped(key: ScopedKey, kind: str, token: UUID) -> ScopedKey:
    """Give the key of another object in the scope of a key."""
    return ScopedKey.from_parts(kind, token, key.org, key.campaign, key.project)


def keys_of(rows: Iterable[Row[Any]]) -> list[ScopedKey]:
    """Give the keys of rows that have the columns kind, token, org, campaign and project."""
    return [ScopedKey.from_parts(row.kind, row.token, row.org, row.campaign, row.project) for row in rows]


def one_or_missing(tx: Connection, statement: TextClause, key: ScopedKey, **more: Any) -> Row[Any]:
    """Run a statement about one object.

    Raises
    ------
    KeyError
        If it finds nothing.
    """
    row = tx.execute(statement, {**parameters(key), **more}).first()
    if row is None:
        raise MissingObjectError(key)
    return row


def gufe_token(key: str) -> UUID | None:
    """Give the token of a gufe key; ``None`` for a text that is none."""
    text_key = GufeKey(key)
    try:
        return UUID(hex=text_key.token) if len(text_key.token) == 32 else None
    except ValueError:
        return None


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
