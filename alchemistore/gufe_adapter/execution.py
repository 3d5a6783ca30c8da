"""Build objects, run protocols and evaluate results with gufe 1.1 and later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gufe.protocols import protocoldag
from gufe.tokenization import from_dict

from alchemistore.models.gufe import GufeTokenizable


def build(content: dict[str, Any]) -> GufeTokenizable:
    """Build one object from a document in which objects have replaced the references.

    The document is modified.
    """
    return from_dict(content)


def create_dag(
    transformation: GufeTokenizable, extends: GufeTokenizable | None = None, name: str | None = None
) -> GufeTokenizable:
    """Create the ``ProtocolDAG`` of a transformation.

    Parameters
    ----------
    transformation : Transformation or NonTransformation
        The transformation to run.
    extends : ProtocolDAGResult, optional
        The result to continue from.
    name : str, optional
        Name of the DAG.

    Returns
    -------
    ProtocolDAG
        Ready for :func:`execute_dag`.
    """
    return transformation.create(extends=extends, name=name)


def execute_dag(
    dag: GufeTokenizable,
    *,
    shared_basedir: Path,
    scratch_basedir: Path,
    raise_error: bool = False,
    n_retries: int = 0,
) -> GufeTokenizable:
    """Run a ``ProtocolDAG`` in this process.

    Parameters
    ----------
    dag : ProtocolDAG
        The DAG to run.
    shared_basedir, scratch_basedir : Path
        Existing directories for the files of the units.
    raise_error : bool, default False
        Raise if a unit fails, instead of recording the failure in the result.
    n_retries : int, default 0
        The number of retries of a failed unit.

    Returns
    -------
    ProtocolDAGResult
        All successes and failures; see :func:`result_ok`.
    """
    return protocoldag.execute_DAG(
        dag,
        shared_basedir=Path(shared_basedir),
        scratch_basedir=Path(scratch_basedir),
        raise_error=raise_error,
        n_retries=n_retries,
    )


def create_result(
    *,
    protocol_units: list[GufeTokenizable],
    protocol_unit_results: list[GufeTokenizable],
    transformation_key: str,
) -> GufeTokenizable:
    """Create the ``ProtocolDAGResult`` of units that have run."""
    return protocoldag.ProtocolDAGResult(
        protocol_units=protocol_units,
        protocol_unit_results=protocol_unit_results,
        transformation_key=transformation_key,
    )


def result_ok(result: GufeTokenizable) -> bool:
    """Check whether every unit of a ``ProtocolDAGResult`` succeeded."""
    return bool(result.ok())
