"""Scopes, and keys of objects in a scope."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from alchemistore.errors import InvalidScopeError
from alchemistore.models.text import check_length

# The longest scope that can be stored, and the longest key of a gufe object, in bytes. The name of
# a result in S3 holds a scope and two keys, and has at most 1,024 bytes; an entry of an index of
# PostgreSQL has at most 2,704 bytes.
SCOPE_MAX = 300
GUFE_KEY_MAX = 200

_COMPONENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_GUFE_KEY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*-[A-Za-z0-9_]+")
_TOKEN = re.compile(r"[0-9a-f]{32}")
# The digits of a token.
TOKEN_LENGTH = 32


def _wildcard_to_none(value: Any) -> Any:
    return None if value == "*" else value


def _component(value: str) -> str:
    if not _COMPONENT.fullmatch(value):
        raise InvalidScopeError(
            f"{value!r}: a scope component must start with a letter and may contain only"
            " alphanumeric or underscore characters; use '*' for any"
        )
    return value


Component = Annotated[str, AfterValidator(_component)]
OpenComponent = Annotated[Component | None, BeforeValidator(_wildcard_to_none)]


@total_ordering
class _ByText:
    """Equality, order and hash by class and text."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(other) == str(self)

    def __lt__(self, other: object) -> bool:
        return str(self) < str(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))


class Scope(_ByText, BaseModel):
    """An organisation, campaign and project, or all below an organisation or campaign.

    Parameters
    ----------
    org, campaign, project : str or None, default None
        An ASCII letter, then ASCII letters, digits and underscores. ``None`` or ``"*"`` means any;
        all components after an open component must be open, too.

    Examples
    --------
    >>> str(Scope("openfe", "tyk2"))
    'openfe-tyk2-*'
    """

    model_config = ConfigDict(frozen=True)

    org: OpenComponent = None
    campaign: OpenComponent = None
    project: OpenComponent = None

    def __init__(
        self, org: str | None = None, campaign: str | None = None, project: str | None = None
    ) -> None:
        super().__init__(org=org, campaign=campaign, project=project)

    @model_validator(mode="after")
    def _open_from_the_right(self) -> Scope:
        open_before = False
        for component in self.to_tuple():
            if open_before and component is not None:
                raise InvalidScopeError(
                    f"{self}: after an open component ('*') every component must be open"
                )
            open_before = component is None
        return self

    @classmethod
    def from_str(cls, text: str) -> Scope:
        """Parse ``org-campaign-project``.

        Raises
        ------
        ValueError
            If the text is not a scope.
        """
        parts = text.split("-")
        if len(parts) != 3:
            raise ValueError(
                f"{text!r} is not a scope: expected 'org-campaign-project', with '*' for any"
            )
        return cls(*parts)

    def to_tuple(self) -> tuple[str | None, str | None, str | None]:
        """Return ``(org, campaign, project)``, with ``None`` for open components."""
        return self.org, self.campaign, self.project

    def require_storable(self) -> Scope:
        """Return this scope.

        Raises
        ------
        InvalidScopeError
            If it has more than 300 characters, so that the names of results would be too long.
        """
        if (size := len(str(self))) > SCOPE_MAX:
            raise InvalidScopeError(
                f"{str(self)!r:.100}: the scope has {size} characters; at most {SCOPE_MAX} are"
                " allowed, so choose shorter names"
            )
        return self

    def specific(self) -> bool:
        """Check whether all three components are set."""
        return self.project is not None

    def is_superset(self, other: Scope) -> bool:
        """Check whether this scope contains all of `other`. A scope contains itself."""
        return all(
            mine is None or mine == its
            for mine, its in zip(self.to_tuple(), other.to_tuple(), strict=True)
        )

    def __str__(self) -> str:
        return "-".join(component or "*" for component in self.to_tuple())

    def __repr__(self) -> str:
        return f"<Scope('{self}')>"


class GufeKey(str):
    """The key of a gufe object, ``<qualname>-<token>``."""

    __slots__ = ()

    @property
    def qualname(self) -> str:
        """The class of the object."""
        return self.partition("-")[0]

    @property
    def token(self) -> str:
        """The part that is unique among objects of the same class."""
        return self.partition("-")[2]


def parse_gufe_key(value: Any) -> GufeKey:
    """Check and convert the key of a gufe object.

    Raises
    ------
    ValueError
        If the value is not a key.
    """
    if not isinstance(value, str) or not _GUFE_KEY.fullmatch(value):
        raise ValueError(f"{value!r:.200} is not a gufe key: expected '<class>-<token>'")
    check_length("gufe key", value, GUFE_KEY_MAX)
    return value if isinstance(value, GufeKey) else GufeKey(value)


class ScopedKey(_ByText, BaseModel):
    """The key of an object in a scope, ``<qualname>-<token>-<org>-<campaign>-<project>``.

    Parameters
    ----------
    gufe_key : str
        ``<qualname>-<token>``.
    org, campaign, project : str
        The scope, without open components.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    gufe_key: Annotated[GufeKey, BeforeValidator(parse_gufe_key)]
    org: Component
    campaign: Component
    project: Component

    @classmethod
    def from_str(cls, text: str) -> ScopedKey:
        """Parse ``<qualname>-<token>-<org>-<campaign>-<project>``.

        Raises
        ------
        ValueError
            If the text is not a scoped key.
        """
        parts = text.split("-")
        if len(parts) != 5:
            raise ValueError(
                f"input does not appear to be a `ScopedKey`: {text!r} is not a scoped key:"
                " expected '<class>-<token>-<org>-<campaign>-<project>'"
            )
        return cls(
            gufe_key=GufeKey(f"{parts[0]}-{parts[1]}"),
            org=parts[2],
            campaign=parts[3],
            project=parts[4],
        )

    @classmethod
    def from_parts(cls, kind: str, token: UUID, org: str, campaign: str, project: str) -> ScopedKey:
        """Create a key from values of the database, without validation."""
        return cls.from_tokens(kind, token.hex, org, campaign, project)[0]

    @classmethod
    def from_tokens(
        cls, kind: str, tokens: str, org: str, campaign: str, project: str
    ) -> list[ScopedKey]:
        """Create keys of one kind and scope from values of the database, without validation.

        Parameters
        ----------
        kind : str
            The class of the objects.
        tokens : str
            The tokens, each of 32 hexadecimal digits, one after the other.
        org, campaign, project : str
            The scope.

        Returns
        -------
        list of ScopedKey
            In the order of the tokens.
        """
        keys = []
        for start in range(0, len(tokens), TOKEN_LENGTH):
            key = cls.__new__(cls)
            gufe_key = GufeKey(f"{kind}-{tokens[start : start + TOKEN_LENGTH]}")
            # What `model_construct` does, in a quarter of the time.
            _set_fields(
                key, {"gufe_key": gufe_key, "org": org, "campaign": campaign, "project": project}
            )
            _set_names(key, _FIELDS)
            _set_extra(key, None)
            _set_private(key, None)
            keys.append(key)
        return keys

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> ScopedKey:
        """Create a key from the fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, str]:
        """Return the fields as strings."""
        return {
            "gufe_key": str(self.gufe_key),
            "org": self.org,
            "campaign": self.campaign,
            "project": self.project,
        }

    @property
    def qualname(self) -> str:
        """The class of the object."""
        return self.gufe_key.qualname

    @property
    def token(self) -> UUID | None:
        """The token as a UUID; ``None`` if the token is not that of a stored object."""
        token = self.gufe_key.token
        return UUID(hex=token) if _TOKEN.fullmatch(token) else None

    @property
    def scope(self) -> Scope:
        """The scope of the object."""
        return Scope(self.org, self.campaign, self.project)

    def __str__(self) -> str:
        return f"{self.gufe_key}-{self.org}-{self.campaign}-{self.project}"

    def __repr__(self) -> str:
        return f"<ScopedKey('{self}')>"


# The setters of what each object of a pydantic model consists of, and its fields that are set.
_set_fields, _set_names, _set_extra, _set_private = (
    BaseModel.__dict__[name].__set__
    for name in (
        "__dict__",
        "__pydantic_fields_set__",
        "__pydantic_extra__",
        "__pydantic_private__",
    )
)
_FIELDS = set(ScopedKey.model_fields)
