"""Small gufe classes that work with every gufe from 0.4 on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import gufe
import numpy as np
from gufe.tokenization import GufeTokenizable

from alchemistore import gufe_adapter


class Holder(GufeTokenizable):
    """Holds anything."""

    def __init__(self, content: Any = None) -> None:
        self.content = content

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {}

    def _to_dict(self) -> dict[str, Any]:
        return {"content": self.content}

    @classmethod
    def _from_dict(cls, dct: dict[str, Any]) -> Holder:
        return cls(**dct)


class Outer:
    class Inner(Holder):
        """Has a dot in its qualified name."""


class Ball(gufe.Component):
    def __init__(self, name: str, mass: float = 1.0) -> None:
        self._name, self._mass = name, float(mass)

    @property
    def name(self) -> str:
        return self._name

    @property
    def total_charge(self) -> int:
        return 0

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {}

    def _to_dict(self) -> dict[str, Any]:
        return {"name": self._name, "mass": self._mass}

    @classmethod
    def _from_dict(cls, dct: dict[str, Any]) -> Ball:
        return cls(**dct)


class Effort(GufeTokenizable):
    """Settings: units ``work``, ``fail``, or ``fail badly`` with arguments unknown to JSON."""

    def __init__(self, mode: str = "work") -> None:
        self.mode = mode

    def frozen_copy(self) -> Effort:
        return self

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {}

    def _to_dict(self) -> dict[str, Any]:
        return {"mode": self.mode}

    @classmethod
    def _from_dict(cls, dct: dict[str, Any]) -> Effort:
        return cls(**dct)


class Push(gufe.ProtocolUnit):
    @staticmethod
    def _execute(ctx: Any, *, start: float, mode: str, **_: Any) -> dict[str, Any]:
        if mode == "fail":
            raise ArithmeticError("no luck", 7)
        if mode == "fail badly":
            raise ArithmeticError("no luck", object(), {"where": Ball("lost")})
        return {"end": start + 1.0, "trace": np.array([start, start + 1.0])}


class Sum(gufe.ProtocolUnit):
    @staticmethod
    def _execute(ctx: Any, *, pushes: list[Any], **_: Any) -> dict[str, Any]:
        return {"total": sum(push.outputs["end"] for push in pushes)}


class PushResult(gufe.ProtocolResult):
    def get_estimate(self) -> float:
        return float(sum(self.data["totals"]))

    def get_uncertainty(self) -> float:
        return 0.0

    def get_rate_of_convergence(self) -> float:
        return 0.0

    @classmethod
    def _from_dict(cls, dct: dict[str, Any]) -> PushResult:
        counted = dct.get("n_protocol_dag_results")
        return cls(
            **({} if counted is None else {"n_protocol_dag_results": counted}), **dct["data"]
        )


class PushProtocol(gufe.Protocol):
    result_cls = PushResult
    _settings_cls = Effort

    __hash__ = GufeTokenizable.__hash__
    __eq__ = GufeTokenizable.__eq__

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def _default_settings(cls) -> Effort:
        return Effort()

    def _create(
        self,
        stateA: gufe.ChemicalSystem,
        stateB: gufe.ChemicalSystem,
        mapping: Any = None,
        extends: Any = None,
        extend_from: Any = None,
        **_: Any,
    ) -> list[gufe.ProtocolUnit]:
        parent = extends if extends is not None else extend_from
        start = 0.0 if parent is None else parent.protocol_unit_results[-1].outputs["total"]
        pushes = [
            Push(name=f"push {i}", start=start, mode=self.settings.mode, system=stateA)
            for i in range(2)
        ]
        return [*pushes, Sum(name="sum", pushes=pushes)]

    def _gather(self, protocol_dag_results: Iterable[Any]) -> dict[str, Any]:
        return {
            "totals": [
                result.protocol_unit_results[-1].outputs["total"] for result in protocol_dag_results
            ]
        }


class OtherProtocol(PushProtocol):
    """The same protocol under another name."""


def system(name: str) -> gufe.ChemicalSystem:
    """A system of one ball under two labels."""
    ball = Ball(name)
    return gufe.ChemicalSystem({"left": ball, "right": ball}, name=name)


def transformation(mode: str = "work", name: str | None = "a to b") -> gufe.Transformation:
    return gufe.Transformation(system("a"), system("b"), PushProtocol(Effort(mode)), name=name)


def network(name: str | None = "net") -> gufe.AlchemicalNetwork:
    """Two transformations around a, b and c, one NonTransformation, and a system without edges."""
    protocol = PushProtocol(Effort())
    a, b, c = (system(label) for label in "abc")
    edges = [
        gufe.Transformation(a, b, protocol, name="a to b"),
        gufe.Transformation(b, c, protocol),
        gufe.NonTransformation(c, protocol, name="c stays"),
    ]
    return gufe.AlchemicalNetwork(edges, nodes=[system("alone")], name=name)


def encode_parts(obj: Any) -> tuple[str, dict[str, bytes]]:
    """The key of an object, and the documents of it and its parts by key."""
    documents = gufe_adapter.encode(obj)
    return str(documents[-1].key), {document.key: document.data for document in documents}


def encode_and_forget(make: Callable[[], Any]) -> tuple[str, dict[str, bytes]]:
    """Store the object that `make` returns, then forget it."""
    key, documents = encode_parts(make())
    gc.collect()
    assert gufe_adapter.cached(key) is None
    return key, documents


def keyed_chain_of(obj: Any) -> list[list[Any]]:
    """The keyed chain of an object, as a JSON file contains it."""
    return [
        [str(document.key), gufe_adapter.plain(document.data)]
        for document in gufe_adapter.encode(obj)
    ]
