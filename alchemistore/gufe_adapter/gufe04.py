"""Code that only gufe 0.4 needs.

To drop gufe 0.4, delete this file and the test of the version in ``gufe_adapter/version.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gufe.protocols import protocoldag
from gufe.tokenization import TOKENIZABLE_REGISTRY, GufeKey, from_dict

from alchemistore.models.gufe import GufeTokenizable


def build(content: dict[str, Any]) -> GufeTokenizable:
    """Build one object from its document.

    gufe 0.4 reads the key of a unit as a plain string, which has none of the attributes of a key,
    and registers the unit under a temporary key only.
    """
    if "_key" in content:
        content["_key"] = GufeKey(content["_key"])
    obj = from_dict(content)
    return TOKENIZABLE_REGISTRY.setdefault(obj.key, obj)


def create_dag(
    transformation: GufeTokenizable, extends: GufeTokenizable | None = None, name: str | None = None
) -> GufeTokenizable:
    """Create the ``ProtocolDAG`` of a transformation.

    ``Transformation.create`` of gufe 0.4 takes no arguments, so the protocol is called instead.
    """
    return transformation.protocol.create(
        stateA=transformation.stateA,
        stateB=transformation.stateB,
        # A NonTransformation of gufe 0.4 has no mapping.
        mapping=getattr(transformation, "_mapping", None),
        extend_from=extends,
        name=name or str(transformation.key),
    )


def execute_dag(
    dag: GufeTokenizable,
    *,
    shared_basedir: Path,
    scratch_basedir: Path,
    raise_error: bool = False,
    n_retries: int = 0,
) -> GufeTokenizable:
    """Run a ``ProtocolDAG`` in this process; a retry runs the whole DAG again."""
    for _ in range(n_retries + 1):
        result = protocoldag.execute(dag, shared=Path(shared_basedir))
        if result_ok(result):
            return result
    if raise_error:
        failure = result.protocol_unit_failures[0]
        raise RuntimeError(f"unit {failure.name} failed: {failure.exception}\n{failure.traceback}")
    return result


def create_result(
    *,
    protocol_units: list[GufeTokenizable],
    protocol_unit_results: list[GufeTokenizable],
    transformation_key: str,
) -> GufeTokenizable:
    """Create the ``ProtocolDAGResult`` of units that have run.

    A result of gufe 0.4 does not name its transformation.
    """
    return protocoldag.ProtocolDAGResult(
        name=transformation_key,
        protocol_units=protocol_units,
        protocol_unit_results=protocol_unit_results,
    )


def result_ok(result: GufeTokenizable) -> bool:
    """Check whether every unit succeeded.

    ``ok()`` of gufe 0.4 is not used, because it returns True if only the last unit failed.
    """
    succeeded = {unit.source_key for unit in result.protocol_unit_results if unit.ok()}
    return all(unit.key in succeeded for unit in result.protocol_units)
