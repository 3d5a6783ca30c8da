"""Run the protocol of a stored transformation, in a process that may end at any time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from alchemistore.gufe_adapter.encoding import key_of
from alchemistore.gufe_adapter.results import result_from_json, result_to_json
from alchemistore.gufe_adapter.version import create_dag, create_result, execute_dag, result_ok
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.keys import GufeKey


class WrittenResult(NamedTuple):
    """A result as the object store takes it.

    Attributes
    ----------
    key : GufeKey
        The key of the result.
    ok : bool
        Whether every unit succeeded.
    tracebacks : list of str
        The tracebacks of the units that failed.
    data : bytes
        The keyed chain of the result as JSON.
    """

    key: GufeKey
    ok: bool
    tracebacks: list[str]
    data: bytes


def create_stored_dag(
    transformation: bytes, extends: bytes | None
) -> tuple[GufeTokenizable, WrittenResult]:
    """Create the ``ProtocolDAG`` of a stored transformation, and the result of not finishing it.

    Parameters
    ----------
    transformation : bytes
        The keyed chain of the transformation as JSON.
    extends : bytes or None
        The JSON of the result to continue from.

    Returns
    -------
    tuple of (ProtocolDAG, WrittenResult)
        The DAG, and a failure that contains its units and no results of them. It is what remains if
        the process that executes the DAG is killed.

    Raises
    ------
    DocumentNotBuildableError
        If the installed packages cannot build an object.
    """
    edge = result_from_json(transformation)
    previous = None if extends is None else result_from_json(extends)
    dag = create_dag(edge, extends=previous)
    # The DAG of gufe 0.4 does not name its transformation.
    of = str(getattr(dag, "transformation_key", None) or edge.key)
    nothing = create_result(
        protocol_units=list(dag.protocol_units), protocol_unit_results=[], transformation_key=of
    )
    return dag, _written(nothing)


def execute_stored_dag(dag: GufeTokenizable, directory: Path, n_retries: int) -> WrittenResult:
    """Run a ``ProtocolDAG`` in this process, below a directory.

    Parameters
    ----------
    dag : ProtocolDAG
        The DAG to run.
    directory : Path
        An existing directory for the files of the units.
    n_retries : int
        The number of retries of a failed unit.
    """
    shared, scratch = directory / "shared", directory / "scratch"
    for one in (shared, scratch):
        one.mkdir()
    return _written(
        execute_dag(dag, shared_basedir=shared, scratch_basedir=scratch, n_retries=n_retries)
    )


def _written(result: GufeTokenizable) -> WrittenResult:
    return WrittenResult(
        key=key_of(result),
        ok=result_ok(result),
        tracebacks=[str(failure.traceback) for failure in result.protocol_unit_failures],
        data=result_to_json(result),
    )
