"""Networks: their states, and the marks that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.display import HtmlRecord
from alchemistore.models.keys import GufeKey, ScopedKey
from alchemistore.models.text import KeyText


class NetworkStateEnum(StrEnum):
    """The state of a network. It only affects queries and counts, not claims."""

    active = "active"
    inactive = "inactive"
    invalid = "invalid"
    deleted = "deleted"


def parse_state(state: NetworkStateEnum | str) -> NetworkStateEnum:
    """Return the state with a name.

    Raises
    ------
    ValueError
        If there is no such state.
    """
    if isinstance(state, NetworkStateEnum):
        return state
    try:
        return NetworkStateEnum(state)
    except ValueError:
        known = sorted(known.value for known in NetworkStateEnum)
        raise ValueError(f"{state!r} is not a valid state. Valid values include: {known}") from None


class NetworkDetails(HtmlRecord, BaseModel):
    """The current state of a network.

    Attributes
    ----------
    network : ScopedKey
    name : str or None
        The name of the network, if it has one.
    state : NetworkStateEnum
    created_at : UTCDatetime
    taskhub : ScopedKey or None
        The hub of the network, if it has one.
    weight : float or None
        The weight of the hub.
    strategy : ScopedKey or None
        The strategy of the network, if it has one.
    num_transformations : int
    tasks : mapping of str to int
        Number of tasks of its transformations by status, without zero counts.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    network: ScopedKey
    name: str | None = None
    state: NetworkStateEnum
    created_at: UTCDatetime
    taskhub: ScopedKey | None = None
    weight: float | None = None
    strategy: ScopedKey | None = None
    num_transformations: int
    tasks: Mapping[str, int]


class NetworkMark(BaseModel):
    """The mark of a network, which holds its state.

    Parameters
    ----------
    target : str or ScopedKey
        Scoped key of the network.
    state : NetworkStateEnum or str, default active
        The state of the network.
    """

    model_config = ConfigDict(frozen=True)

    target: KeyText
    state: Annotated[NetworkStateEnum, BeforeValidator(parse_state)] = NetworkStateEnum.active

    @property
    def key(self) -> GufeKey:
        """The key of the mark, ``NetworkMark-<md5 of the scoped key of the network>``."""
        return GufeKey(
            f"NetworkMark-{hashlib.md5(self.target.encode(), usedforsecurity=False).hexdigest()}"
        )
