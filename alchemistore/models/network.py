"""Networks: their states, and the marks that hold them."""

from __future__ import annotations

import hashlib
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from alchemistore.models.keys import GufeKey
from alchemistore.models.text import KeyText


class NetworkStateEnum(StrEnum):
    """The state of a network. It only affects queries and counts, not claims."""

    active = "active"
    inactive = "inactive"
    invalid = "invalid"
    deleted = "deleted"


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
    state: NetworkStateEnum = NetworkStateEnum.active

    @property
    def key(self) -> GufeKey:
        """The key of the mark, ``NetworkMark-<md5 of the scoped key of the network>``."""
        return GufeKey(
            f"NetworkMark-{hashlib.md5(self.target.encode(), usedforsecurity=False).hexdigest()}"
        )
