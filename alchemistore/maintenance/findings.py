"""Findings: the problems that maintenance finds in schema, data and object store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """The kind of a finding."""

    schema = "schema"
    invariant = "invariant"
    dangling_reference = "dangling_reference"
    unreferenced_object = "unreferenced_object"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem.

    Attributes
    ----------
    kind : FindingKind
        `schema` for the schema of the database, `invariant` for a broken rule,
        `dangling_reference` for a reference whose object is missing, and `unreferenced_object` for
        an object without a reference.
    text : str
        The problem in a sentence, with the name of the object.
    key : str or None, default None
        Key of the object in the database, if the finding is about one.
    location : str or None, default None
        Location in the object store, if the finding is about one.
    """

    kind: FindingKind
    text: str
    key: str | None = None
    location: str | None = None
