"""The places of results in the bucket, and the keys that lead to them."""

from __future__ import annotations

from alchemistore.models import GufeKey, ScopedKey

FILE = "obj.json.zst"
# Written by deployments of alchemiscale.
PLAIN_FILE = "obj.json"
TRANSFORMATIONS = ("Transformation", "NonTransformation")
RESULT = "ProtocolDAGResult-"


def location_of(transformation: ScopedKey, result: str, ok: bool) -> str:
    """Return the location of a result."""
    return f"{directory_of(transformation, result, ok)}/{FILE}"


def directory_of(transformation: ScopedKey, result: str, ok: bool) -> str:
    """Return the directory of a result, which is part of its location."""
    of, route = transformation, "results" if ok else "failures"
    return f"protocoldagresult/{of.org}/{of.campaign}/{of.project}/{of.gufe_key}/{route}/{result}"


def result_at(location: str) -> GufeKey | None:
    """Return the key of the result at a location, if the location names one."""
    name = location.rpartition("/")[0].rpartition("/")[2]
    return GufeKey(name) if name.startswith(RESULT) else None


def parse_scoped(key: ScopedKey | str) -> ScopedKey:
    """Return a scoped key, given as such or as text."""
    return key if isinstance(key, ScopedKey) else ScopedKey.from_str(str(key))


def parse_transformation(key: ScopedKey | str) -> ScopedKey:
    """Return the key of a transformation.

    Raises
    ------
    ValueError
        If the key is malformed, or that of something else.
    """
    of = parse_scoped(key)
    if of.qualname not in TRANSFORMATIONS:
        raise ValueError(f"{of} is not the key of a {' or '.join(TRANSFORMATIONS)}")
    return of
