"""Results of ``openfe quickrun``, which hold results of units but neither units nor their run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gufe.protocols import ProtocolUnit

from alchemistore.gufe_adapter.codec import Reviver, to_text
from alchemistore.gufe_adapter.decoding import build_object
from alchemistore.gufe_adapter.document import REFERENCE, check_kind, parse_key
from alchemistore.gufe_adapter.encoding import is_gufe
from alchemistore.gufe_adapter.version import create_result
from alchemistore.models.gufe import GufeTokenizable

UNIT_RESULTS = ("ProtocolUnitResult", "ProtocolUnitFailure")


class _MissingPartError(Exception):
    """An object that is referred to has not been built yet."""


def result_of_quickrun(
    content: dict[str, Any], transformation: GufeTokenizable, key: str
) -> GufeTokenizable:
    """Build a ``ProtocolDAGResult`` from a file of ``openfe quickrun``.

    The file lacks the units themselves. They are made from their results, which hold their keys,
    names and inputs.

    Parameters
    ----------
    content : dict
        The parsed file.
    transformation : Transformation or NonTransformation
        The transformation that ran.
    key : str
        The key under which it is stored.

    Returns
    -------
    ProtocolDAGResult
        The same for the same file.

    Raises
    ------
    ValueError
        If the file holds no results of units, or refers to objects that are not known.
    DocumentNotBuildableError
        If the installed packages cannot build a part.
    """
    builder = _Builder(transformation, len(to_text(content)))
    own = content.get("unit_results")
    wanted = {*own} if isinstance(own, dict) else None
    pending = [
        part
        for source in (content.get("protocol_result"), content.get("result"), own)
        for part in _unit_results(source)
    ]
    while pending:
        left = [part for part in pending if not builder.try_to_build(part)]
        if len(left) == len(pending):
            raise ValueError(
                f"the file refers to {builder.missing}, which is neither in the file nor a part of"
                f" {key}; check that --transformation names the transformation that ran"
            )
        pending = left
    results = {
        name: one
        for name, one in builder.parts.items()
        if type(one).__qualname__ in UNIT_RESULTS and (wanted is None or name in wanted)
    }
    if not results or not (wanted or set()) <= results.keys():
        raise ValueError(
            "the file of 'openfe quickrun' lacks the results of the units, so it cannot become a"
            " result; run the transformation again with a newer openfe"
        )
    ordered = [results[name] for name in sorted(results)]
    units = _Units(transformation)
    return create_result(
        protocol_units=[units.of(one) for one in {one.source_key: one for one in ordered}.values()],
        protocol_unit_results=ordered,
        transformation_key=parse_key(key),
    )


def _unit_results(value: Any) -> Iterator[dict[str, Any]]:
    """Find results of units, innermost first."""
    children = value.values() if isinstance(value, dict) else value if type(value) is list else ()
    for child in children:
        yield from _unit_results(child)
    if isinstance(value, dict) and value.get("__qualname__") in UNIT_RESULTS:
        yield value


class _Builder:
    """Builds nested and referring dicts; equal parts once."""

    def __init__(self, transformation: GufeTokenizable, size: int) -> None:
        self.revive = Reviver(size)
        self.parts: dict[str, GufeTokenizable] = {}
        self.built: dict[str, GufeTokenizable] = {}
        self.missing = ""
        stack = [transformation]
        while stack:
            part = stack.pop()
            if part.key not in self.parts:
                self.parts[str(part.key)] = part
                stack.extend(_objects_in(part.to_shallow_dict()))

    def try_to_build(self, dct: dict[str, Any]) -> bool:
        """Build an object, unless it refers to one that is not built yet."""
        try:
            self.build(dct)
        except _MissingPartError as error:
            self.missing = str(error)
            return False
        return True

    def build(self, value: Any) -> Any:
        """Return a value with objects instead of their dicts and references."""
        if type(value) is list:
            return [self.build(item) for item in value]
        if not isinstance(value, dict):
            return value
        if REFERENCE in value:
            if value[REFERENCE] not in self.parts:
                raise _MissingPartError(value[REFERENCE])
            return self.parts[value[REFERENCE]]
        if "__qualname__" not in value or "__module__" not in value:
            return self.revive({name: self.build(item) for name, item in value.items()})
        text = to_text(value)
        if text not in self.built:
            name = value.get("_key", f"{value['__qualname__']}-")
            check_kind(name, value)
            part = build_object(name, {name: self.build(item) for name, item in value.items()})
            self.built[text] = self.parts[str(part.key)] = part
        return self.built[text]


def _objects_in(value: Any) -> list[GufeTokenizable]:
    if is_gufe(value):
        return [value]
    items = value.values() if isinstance(value, dict) else value if type(value) is list else ()
    return [found for item in items for found in _objects_in(item)]


class _Units:
    """Makes the units of a protocol from their results."""

    def __init__(self, transformation: GufeTokenizable) -> None:
        self.module = type(transformation.protocol).__module__
        self.units: dict[str, GufeTokenizable] = {}

    def of(self, result: GufeTokenizable) -> GufeTokenizable:
        """Return the unit of a result."""
        key = str(result.source_key)
        if key not in self.units:
            cls = self._class(key.partition("-")[0])
            content = {
                "__module__": cls.__module__,
                "__qualname__": cls.__qualname__,
                "name": result.name,
                "inputs": self._inputs(result.inputs),
                "_key": key,
            }
            self.units[key] = build_object(key, content)
        return self.units[key]

    def _inputs(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._inputs(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._inputs(item) for item in value]
        return self.of(value) if type(value).__qualname__ in UNIT_RESULTS else value

    def _class(self, qualname: str) -> Any:
        known, stack = {}, [ProtocolUnit]
        while stack:
            cls = stack.pop()
            stack.extend(cls.__subclasses__())
            if cls.__qualname__ == qualname:
                known[cls.__module__] = cls
        if not known:
            raise ValueError(
                f"the unit {qualname} is not defined by the protocol of the transformation, in"
                f" {self.module}; install the version of the package that made the file"
            )
        return known.get(self.module) or next(iter(known.values()))
