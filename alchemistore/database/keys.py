"""Keys and scopes as arguments: parsing, bulk parameters, and answers in input order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from alchemistore.errors import MissingObjectError
from alchemistore.models import GufeKey, Scope, ScopedKey
from alchemistore.models.keys import TOKEN_LENGTH

T = TypeVar("T")

_TOKEN = re.compile("[0-9a-f]{32}")

SCOPE_IDS = text("""
    SELECT s.org, s.campaign, s.project, s.id
    FROM scopes AS s
    JOIN unnest(CAST(:orgs AS text[]), CAST(:campaigns AS text[]), CAST(:projects AS text[]))
        AS wanted (org, campaign, project) USING (org, campaign, project)
""")

# The id of one scope. PostgreSQL would plan the statement for a list again in each call.
FIND_SCOPE = text(
    "SELECT id FROM scopes WHERE org = :org AND campaign = :campaign AND project = :project"
)


def parse_key(key: ScopedKey | str, kind: str | Sequence[str] | None = None) -> ScopedKey:
    """Return a key as a :class:`ScopedKey`.

    Parameters
    ----------
    key : ScopedKey or str
        The key or its text.
    kind : str or sequence of str, optional
        The allowed class or classes; default any.

    Raises
    ------
    ValueError
        If it is not a key, or the key of another kind of object.
    """
    if isinstance(key, str):
        key = ScopedKey.from_str(key)
    elif not isinstance(key, ScopedKey):
        raise ValueError(f"expected a ScopedKey or its text, not {type(key).__name__}")
    kinds = (kind,) if isinstance(kind, str) else kind
    if kinds is not None and key.qualname not in kinds:
        raise ValueError(f"{key} is not the key of a {' or '.join(kinds)}")
    return key


def parse_network(network: ScopedKey | str) -> ScopedKey:
    """Return the key of a network.

    Raises
    ------
    ValueError
        If it is not a key, or the key of another kind of object.
    """
    return _require_network(parse_key(network))


def _require_network(key: ScopedKey) -> ScopedKey:
    if key.qualname != "AlchemicalNetwork":
        raise ValueError(
            f"`network` ScopedKey does not correspond to an `AlchemicalNetwork`: {key}"
        )
    return key


def parse_hub(taskhub: ScopedKey | str | None) -> ScopedKey | None:
    """Return the key of a task hub; ``None``, which is like a missing hub, stays ``None``.

    Raises
    ------
    ValueError
        If it is not a key, or the key of another kind of object.
    """
    if taskhub is None:
        return None
    key = parse_key(taskhub)
    if key.qualname != "TaskHub":
        raise ValueError(
            f"{key} is not the key of a TaskHub; get_taskhub returns that of a network"
        )
    return key


def parameters(key: ScopedKey) -> dict[str, Any]:
    """Return the parameters of a statement about one object: scope and token."""
    return {"org": key.org, "campaign": key.campaign, "project": key.project, "token": key.token}


# The parameters of a statement about an object that does not exist.
NO_OBJECT: Mapping[str, Any] = {"org": None, "campaign": None, "project": None, "token": None}


def parse_scope(scope: Scope | str) -> Scope:
    """Return a scope as a :class:`Scope`.

    Raises
    ------
    ValueError
        If it is not a scope.
    """
    if isinstance(scope, str):
        return Scope.from_str(scope)
    if not isinstance(scope, Scope):
        raise ValueError(f"expected a Scope or its text, not {type(scope).__name__}")
    return scope


def scope_parameters(scope: Scope | str | None) -> dict[str, str | None]:
    """Return the parameters of `sql.IN_SCOPE`. Without a scope, all scopes match."""
    org, campaign, project = (Scope() if scope is None else parse_scope(scope)).to_tuple()
    return {"org": org, "campaign": campaign, "project": project}


@dataclass(frozen=True)
class Keys:
    """A list of keys: the parameters of a bulk statement, and answers in input order.

    Attributes
    ----------
    requested : list
        The keys as the caller passed them.
    parsed : list of ScopedKey or None
        One per requested key; ``None`` if it is not a key of the right kind in an existing scope.
    index : list of int
        One per requested key: its index among the distinct keys, or -1.
    distinct : list of ScopedKey
        The distinct keys.
    scope_ids : list of int
        The scope id of each distinct key; 0 if the statements look it up.
    scope : tuple of str, optional
        The scope of all keys, if the statements look up its id.
    """

    requested: list[ScopedKey | str | None]
    parsed: list[ScopedKey | None]
    index: list[int]
    distinct: list[ScopedKey]
    scope_ids: list[int]
    scope: tuple[str, str, str] | None = None

    @cached_property
    def tokens(self) -> list[UUID]:
        """The token of each distinct key."""
        return [UUID(hex=key.gufe_key[-TOKEN_LENGTH:]) for key in self.distinct]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The parameters of `unnest(:scope_ids, :tokens)`.

        If the statements look up the scope, there is its name instead of the ids; see
        `task_sets.form`.
        """
        tokens = uuids(key.gufe_key for key in self.distinct)
        if self.scope is not None:
            names = ("keys_org", "keys_campaign", "keys_project")
            return {**dict(zip(names, self.scope, strict=True)), "tokens": tokens}
        return {"scope_ids": array(self.scope_ids), "tokens": tokens}

    def pair(self, scope_id: int, token: UUID) -> tuple[int, UUID]:
        """Return the scope id and token of an answer as `pairs` has them."""
        return (0 if self.scope is not None else scope_id), token

    def pairs(self) -> Iterator[tuple[int, UUID]]:
        """Return the scope id and token of each distinct key."""
        return zip(self.scope_ids, self.tokens, strict=True)

    def items(self) -> Iterator[tuple[ScopedKey, tuple[int, UUID]]]:
        """Return each distinct key with its scope id and token."""
        return zip(self.distinct, self.pairs(), strict=True)

    def __bool__(self) -> bool:
        return bool(self.distinct)

    def align(self, found: Mapping[tuple[int, UUID], T]) -> list[T | None]:
        """Return the values found by scope id and token, one per requested key, in that order."""
        return self.align_values(list(map(found.get, self.pairs())))

    def align_values(self, values: Sequence[T]) -> list[T | None]:
        """Return values given per distinct key, one per requested key, in that order."""
        padded = [*values, None]
        return [padded[index] for index in self.index]

    def align_keys(
        self, refused: Set[tuple[int, UUID]], once: bool = False
    ) -> list[ScopedKey | None]:
        """Return the keys, ``None`` for those that are refused.

        Parameters
        ----------
        refused : set of (int, UUID)
            The scope ids and tokens of these.
        once : bool, default False
            Return a repeated key only at its first position.
        """
        if not refused and (not once or len(self.distinct) == len(self.requested)):
            return list(self.parsed)
        fine = [*(pair not in refused for pair in self.pairs()), False]
        answer: list[ScopedKey | None] = []
        for key, index in zip(self.parsed, self.index, strict=True):
            answer.append(key if fine[index] else None)
            if once:
                fine[index] = False
        return answer


def array(values: Iterable[int | str]) -> str:
    """Return integers or texts without special characters as an array of PostgreSQL.

    psycopg takes much longer to write a list, once for each statement.
    """
    return "{" + ",".join(map(str, values)) + "}"


def uuids(keys: Iterable[GufeKey]) -> str:
    """Return the tokens of keys as an array of PostgreSQL."""
    return array([key[-TOKEN_LENGTH:] for key in keys])


def parse_keys(
    tx: Connection,
    keys: Iterable[ScopedKey | str | None],
    kind: str | Sequence[str] = "Task",
    *,
    later: bool = False,
) -> Keys:
    """Parse a list of keys. Anything that is not a key of the right kind becomes ``None``.

    Parameters
    ----------
    tx : Connection
        The open transaction, to look up scopes.
    keys : iterable of ScopedKey, str or None
        The keys, in any order; repetitions are allowed.
    kind : str or sequence of str, default "Task"
        The class or classes of the keys.
    later : bool, default False
        If all keys are in one scope, leave its look-up to the statements, which saves a round trip.
        Keys in a scope that does not exist are then like missing objects.

    Raises
    ------
    TypeError
        If a single key is passed instead of a list.
    """
    if isinstance(keys, str | ScopedKey):
        raise TypeError(f"expected a list of keys, not the single key {keys}")
    kinds = (kind,) if isinstance(kind, str) else tuple(kind)
    requested = list(keys)
    parsed = [_parsed(key) for key in requested]
    scopes = {(key.org, key.campaign, key.project) for key in parsed if key is not None}
    scope = next(iter(scopes)) if later and len(scopes) == 1 else None
    ids = scope_ids(tx, scopes) if scope is None else {scope: 0}
    read = Keys(requested, parsed, [], [], [], scope)
    known: dict[tuple[int | None, str], int] = {}
    for place, key in enumerate(parsed):
        index = -1
        if key is not None:
            identity = ids.get((key.org, key.campaign, key.project)), key.gufe_key
            found = known.get(identity)
            if found is not None:
                index = found
            elif identity[0] is not None and _is_of_kind(key.gufe_key, kinds):
                index = known[identity] = len(read.distinct)
                read.distinct.append(key)
                read.scope_ids.append(identity[0])
            else:
                parsed[place] = None
        read.index.append(index)
    return read


def _is_of_kind(key: GufeKey, kinds: tuple[str, ...]) -> bool:
    name, _, token = key.partition("-")
    return name in kinds and _TOKEN.fullmatch(token) is not None


def parse_one_or_many(
    tx: Connection,
    keys: ScopedKey | str | Iterable[ScopedKey | str | None],
    kind: str,
    *,
    later: bool = False,
) -> tuple[bool, Keys]:
    """Parse a single key or a list of keys.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    keys : ScopedKey or str, or iterable of them
        The key or keys.
    kind : str
        The class of the keys.
    later : bool, default False
        As in `parse_keys`.

    Returns
    -------
    bool, Keys
        Whether a single key was passed, and the list.
    """
    if isinstance(keys, str | ScopedKey):
        return True, parse_keys(tx, [parse_key(keys)], kind, later=later)
    return False, parse_keys(tx, keys, kind, later=later)


def parse_networks(
    tx: Connection, networks: ScopedKey | str | Iterable[ScopedKey | str | None]
) -> tuple[bool, Keys]:
    """Parse the key of a network, or a list of them.

    Returns
    -------
    bool, Keys
        Whether a single key was passed, and the list. In a list, anything that is not a key is
        like a missing network.

    Raises
    ------
    ValueError
        If one of them is the key of another kind of object, or a single one is not a key.
    """
    single = isinstance(networks, str | ScopedKey)
    given = [parse_network(networks)] if isinstance(networks, str | ScopedKey) else list(networks)
    for network in given:
        key = _parsed(network)
        if key is not None:
            _require_network(key)
    return single, parse_keys(tx, given, "AlchemicalNetwork")


def token_of(key: ScopedKey | None) -> UUID | None:
    """Return the token of a key, or ``None`` without a key."""
    return None if key is None else key.token


def _parsed(key: ScopedKey | str | None) -> ScopedKey | None:
    if isinstance(key, str):
        try:
            return ScopedKey.from_str(key)
        except ValueError:
            return None
    return key if isinstance(key, ScopedKey) else None


def scope_ids(
    tx: Connection, scopes: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], int]:
    """Return the ids of the scopes that exist."""
    wanted = list(scopes)
    if not wanted:
        return {}
    if len(wanted) == 1:
        org, campaign, project = wanted[0]
        values = {"org": org, "campaign": campaign, "project": project}
        scope_id = tx.scalar(FIND_SCOPE, values)
        return {} if scope_id is None else {wanted[0]: scope_id}
    orgs, campaigns, projects = (list(part) for part in zip(*wanted, strict=True))
    rows = tx.execute(SCOPE_IDS, {"orgs": orgs, "campaigns": campaigns, "projects": projects})
    return {(row.org, row.campaign, row.project): row.id for row in rows}


def scoped(key: ScopedKey, kind: str, token: UUID) -> ScopedKey:
    """Return the key of another object in the scope of a key."""
    return ScopedKey.from_parts(kind, token, key.org, key.campaign, key.project)


def scoped_tokens(key: ScopedKey, kind: str, tokens: str | None) -> list[ScopedKey]:
    """Return the keys of objects of a kind in the scope of a key.

    Parameters
    ----------
    key : ScopedKey
        The key.
    kind : str
        The class of the objects.
    tokens : str or None
        Their tokens, as :data:`alchemistore.database.sql.TOKENS` returns them.
    """
    return ScopedKey.from_tokens(kind, tokens or "", key.org, key.campaign, key.project)


def keys_of(rows: Iterable[Row[Any]]) -> list[ScopedKey]:
    """Return the keys of rows with the columns kind, token, org, campaign and project."""
    return [
        ScopedKey.from_parts(row.kind, row.token, row.org, row.campaign, row.project)
        for row in rows
    ]


def listed_keys(rows: Iterable[Row[Any]]) -> list[ScopedKey]:
    """Return the keys of rows of `sql.listing_of_keys`, each of which holds several."""
    return list(
        chain.from_iterable(
            ScopedKey.from_tokens(row.kind, row.tokens, row.org, row.campaign, row.project)
            for row in rows
        )
    )


def one_or_missing(tx: Connection, statement: TextClause, key: ScopedKey, **more: Any) -> Row[Any]:
    """Run a statement about one object and return its row.

    Raises
    ------
    KeyError
        If there is no row.
    """
    row = tx.execute(statement, {**parameters(key), **more}).first()
    if row is None:
        raise MissingObjectError(key)
    return row


def gufe_token(key: str) -> UUID | None:
    """Return the token of a gufe key; ``None`` if the text is not a gufe key."""
    token = GufeKey(key).token
    # UUID also accepts braces, hyphens, underscores and capitals.
    return UUID(hex=token) if _TOKEN.fullmatch(token) else None
