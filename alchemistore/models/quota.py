"""Quotas: limits on the tasks of a scope."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from alchemistore.models.display import HtmlRecord
from alchemistore.models.keys import Scope

LIMIT_MAX = 2**63 - 1


def _scope(value: Any) -> Any:
    return Scope.from_str(value) if isinstance(value, str) else value


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, not {value}")
    return value


Limit = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=0, le=LIMIT_MAX)]


class Quota(HtmlRecord, BaseModel):
    """The limits that apply in a scope.

    Parameters
    ----------
    scope : Scope or str
        The scope.
    waiting_per_transformation : int or None, default None
        The largest number of waiting tasks of one transformation; ``None`` if there is no limit.
    actioned_per_hub : int or None, default None
        The largest number of tasks on one hub; ``None`` if there is no limit.
    """

    model_config = ConfigDict(frozen=True)

    scope: Annotated[Scope, BeforeValidator(_scope)]
    waiting_per_transformation: Limit | None = None
    actioned_per_hub: Limit | None = None
