"""Scopes, and keys within them."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from alchemistore.errors import InvalidScopeError

_COMPONENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_GUFE_KEY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*-[A-Za-z0-9_]+")
_TOKEN = re.compile(r"[0-9a-f]{32}")


def _wildcard_to_none(value: Any) -> Any:
    return None if value == "*" else value


def _component(value: str) -> str:
    if not _COMPONENT.fullmatch(value):
        raise InvalidScopeError(
            f"{value!r}: a scope component may contain only alphanumeric or underscore characters"
            " and starts with a letter; '*' leaves it open"
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
    """A part of the tenants' tree: organisation, campaign, project.

    Parameters
    ----------
    org, campaign, project : str or None, default None
        An ASCII letter, then ASCII letters, digits and underscores. ``None`` or ``"*"`` leaves the component open; then every
        component after it must be open too.

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
        """Parse ``org-campaign-project``; a text of another form is a :class:`ValueError`."""
        parts = text.split("-")
        if len(parts) != 3:
            raise ValueError(
                f"{text!r} is not a scope: expected 'org-campaign-project', '*' for what is open"
            )
        return cls(*parts)

    def to_tuple(self) -> tuple[str | None, str | None, str | None]:
        """Give ``(org, campaign, project)``, ``None`` for what is open."""
        return self.org, self.campaign, self.project

    def specific(self) -> bool:
        """Tell whether all three components are set."""
        return self.project is not None

    def is_superset(self, other: Scope) -> bool:
        """Tell whether everything in `other` is in this scope too; a scope is a superset of itself."""
        return all(
            mine is None or mine == its
            for mine, its in zip(self.to_tuple(), other.to_tuple(), strict=True)
        )

    def __str__(self) -> str:
        return "-".join(component or "*" for component in self.to_tuple())

    def __repr__(self) -> str:
        return f"<Scope('{self}')>"


class GufeKey(str):
    """The key of a gufe object, ``<qualname>-<token>``; a plain string to everybody else."""

    __slots__ = ()

    @property
    def qualname(self) -> str:
        """The class of the object."""
        return self.partition("-")[0]

    @property
    def token(self) -> str:
        """What tells it from the other objects of its class."""
        return self.partition("-")[2]


def _gufe_key(value: Any) -> GufeKey:
    if not isinstance(value, str) or not _GUFE_KEY.fullmatch(value):
        raise ValueError(f"{value!r} is not a gufe key: expected '<class>-<token>'")
    return value if isinstance(value, GufeKey) else GufeKey(value)


class ScopedKey(_ByText, BaseModel):
    """The key of an object in a scope, ``<qualname>-<token>-<org>-<campaign>-<project>``. Always specific.

    Parameters
    ----------
    gufe_key : str
        ``<qualname>-<token>``.
    org, campaign, project : str
        The scope; no wildcards.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    gufe_key: Annotated[GufeKey, BeforeValidator(_gufe_key)]
    org: Component
    campaign: Component
    project: Component

    @classmethod
    def from_str(cls, text: str) -> ScopedKey:
        """Parse the text form; a text of another form is a :class:`ValueError`."""
        parts = text.split("-")
        if len(parts) != 5:
            raise ValueError(
                f"{text!r} is not a scoped key: expected '<class>-<token>-<org>-<campaign>-<project>'"
            )
        return cls(
            gufe_key=GufeKey(f"{parts[0]}-{parts[1]}"),
            org=parts[2],
            campaign=parts[3],
            project=parts[4],
        )

    @classmethod
    def from_parts(cls, kind: str, token: UUID, org: str, campaign: str, project: str) -> ScopedKey:
        """Put a key together from what the database holds, which was validated on its way in."""
        return cls.model_construct(
            gufe_key=GufeKey(f"{kind}-{token.hex}"), org=org, campaign=campaign, project=project
        )

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> ScopedKey:
        """Make a key from the four fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, str]:
        """Give the four fields as texts."""
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
        """The token as the database keeps it; ``None`` for a token that no stored object can have."""
        token = self.gufe_key.token
        return UUID(hex=token) if _TOKEN.fullmatch(token) else None

    @property
    def scope(self) -> Scope:
        """The scope the object is in."""
        return Scope(self.org, self.campaign, self.project)

    def __str__(self) -> str:
        return f"{self.gufe_key}-{self.org}-{self.campaign}-{self.project}"

    def __repr__(self) -> str:
        return f"<ScopedKey('{self}')>"
