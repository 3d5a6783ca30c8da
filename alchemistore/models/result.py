"""References to objects in the object store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.keys import GufeKey, Scope, parse_gufe_key
from alchemistore.models.text import FreeText, check_length, text_size

# The longest location, in bytes; S3 allows no longer names.
LOCATION_MAX = 1024
# The largest size of the tracebacks of one failure, in bytes of UTF-8.
TRACEBACKS_MAX = 2**26

ScopeField = Annotated[
    Scope,
    BeforeValidator(lambda scope: Scope.from_str(scope) if isinstance(scope, str) else scope),
]
Location = Annotated[
    str, AfterValidator(lambda location: check_length("location", location, LOCATION_MAX))
]


def _parse_result_key(value: Any) -> GufeKey:
    key = parse_gufe_key(value)
    if key.qualname.startswith("ProtocolUnit"):
        raise ValueError(
            f"{key} is the key of a {key.qualname}, a part of a result; use the key of its"
            " ProtocolDAGResult"
        )
    return key


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

    obj_key: Annotated[GufeKey, BeforeValidator(_parse_result_key)] = Field()
    ok: bool
    datetime_created: UTCDatetime | None = None
    creator: FreeText | None = None


class Tracebacks(BaseModel):
    """The tracebacks of a failure, one per failed unit.

    Parameters
    ----------
    tracebacks : sequence of str
        At least one, none of them empty; together at most 64 MiB.
    source_keys : sequence of str
        Keys of the units that failed.
    failure_keys : sequence of str
        Keys of the results of these units.
    """

    model_config = ConfigDict(frozen=True)

    tracebacks: tuple[FreeText, ...] = Field(min_length=1)
    source_keys: tuple[FreeText, ...]
    failure_keys: tuple[FreeText, ...]

    @field_validator("tracebacks")
    @classmethod
    def _complete(cls, tracebacks: tuple[str, ...]) -> tuple[str, ...]:
        if not all(tracebacks):
            raise ValueError("a traceback must not be empty")
        check_tracebacks(tracebacks)
        return tracebacks


def check_tracebacks(tracebacks: Iterable[str]) -> int:
    """Return the size of tracebacks, in bytes of UTF-8.

    Raises
    ------
    ValueError
        If they are too long to be stored.
    """
    size = sum(map(text_size, tracebacks))
    if size > TRACEBACKS_MAX:
        raise ValueError(
            f"the tracebacks have {size} bytes; at most {TRACEBACKS_MAX} are stored with a failure,"
            " so shorten them"
        )
    return size
