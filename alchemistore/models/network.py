"""Networks: their states, and the marks that hold them."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from alchemistore.models.keys import GufeKey
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
