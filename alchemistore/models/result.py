"""References to objects in the object store."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.keys import GufeKey, Scope, parse_gufe_key
from alchemistore.models.text import FreeText, check_length

# The longest location, in bytes; S3 allows no longer names.
LOCATION_MAX = 1024

ScopeField = Annotated[
    Scope,
    BeforeValidator(lambda scope: Scope.from_str(scope) if isinstance(scope, str) else scope),
]
Location = Annotated[
    str, AfterValidator(lambda location: check_length("location", location, LOCATION_MAX))
]


class ObjectStoreRef(BaseModel):
    """A reference to an object in the object store.

    Parameters
    ----------
    location : str, optional
        Path in the object store, relative to its prefix; at most 1,024 bytes.
    obj_key : GufeKey, optional
        Key of the object.
    scope : Scope or str
        Scope of the object.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    location: Location | None = None
    obj_key: Annotated[
        GufeKey | None, BeforeValidator(lambda key: None if key is None else parse_gufe_key(key))
    ] = None
    scope: ScopeField

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> ObjectStoreRef:
        """Create a reference from the fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, with times as ISO 8601 text in UTC."""
        return {**self.model_dump(mode="json"), "scope": str(self.scope)}

    @property
    def key(self) -> GufeKey:
        """The key of the reference, ``<class>-<md5 of all fields that are set>``."""
        content = {name: value for name, value in self.to_dict().items() if value is not None}
        text = json.dumps(content, sort_keys=True)
        return GufeKey(
            f"{type(self).__name__}-{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
        )


class ProtocolDAGResultRef(ObjectStoreRef):
    """A reference to the result of a task.

    Parameters
    ----------
    location : str, optional
        Path in the object store, relative to its prefix; at most 1,024 bytes.
    obj_key : GufeKey
        Key of the ProtocolDAGResult.
    scope : Scope or str
        Scope of the object.
    ok : bool
        Whether every unit succeeded.
    datetime_created : datetime, optional
        Time at which the result was stored; a naive time is taken as UTC.
    creator : str, optional
        Creator of the result, in practice the identifier of a compute service.
    """

    obj_key: Annotated[GufeKey, BeforeValidator(parse_gufe_key)] = Field()
    ok: bool
    datetime_created: UTCDatetime | None = None
    creator: FreeText | None = None
