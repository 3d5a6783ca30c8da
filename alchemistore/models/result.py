"""References to what the object store holds."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.keys import GufeKey, Scope, _gufe_key

ScopeField = Annotated[
    Scope,
    BeforeValidator(lambda scope: Scope.from_str(scope) if isinstance(scope, str) else scope),
]


class ObjectStoreRef(BaseModel):
    """Where an object is.

    Parameters
    ----------
    location : str, optional
        Path in the object store, relative to its prefix.
    obj_key : GufeKey, optional
        Key of the object.
    scope : Scope or str
        The scope it belongs to.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    location: str | None = None
    obj_key: Annotated[
        GufeKey | None, BeforeValidator(lambda key: None if key is None else _gufe_key(key))
    ] = None
    scope: ScopeField

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> ObjectStoreRef:
        """Make one from the fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values; times as ISO 8601 text in UTC."""
        return {**self.model_dump(mode="json"), "scope": str(self.scope)}

    @property
    def key(self) -> GufeKey:
        """``<class>-<md5 of all fields that are set>``."""
        content = {name: value for name, value in self.to_dict().items() if value is not None}
        text = json.dumps(content, sort_keys=True)
        return GufeKey(
            f"{type(self).__name__}-{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
        )


class ProtocolDAGResultRef(ObjectStoreRef):
    """Where the result of a task is, and whether it is a success.

    Parameters
    ----------
    location : str, optional
        Path in the object store, relative to its prefix.
    obj_key : GufeKey
        Key of the ProtocolDAGResult.
    scope : Scope or str
        The scope it belongs to.
    ok : bool
        Whether every unit succeeded.
    datetime_created : datetime, optional
        When it was stored; naive means UTC.
    creator : str, optional
        Who made it, in practice the identifier of a compute service.
    """

    obj_key: Annotated[GufeKey, BeforeValidator(_gufe_key)] = Field()
    ok: bool
    datetime_created: UTCDatetime | None = None
    creator: str | None = None
