"""Select the code for the installed version of gufe."""

from __future__ import annotations

import gufe
from gufe.protocols import protocoldag

from alchemistore.models.gufe import GufeTokenizable

# The only test of the version: gufe 0.4 does not have this function.
if hasattr(protocoldag, "execute_DAG"):
    from alchemistore.gufe_adapter.execution import (
        build,
        create_dag,
        create_result,
        execute_dag,
        result_ok,
    )
else:
    from alchemistore.gufe_adapter.gufe04 import (
        build,
        create_dag,
        create_result,
        execute_dag,
        result_ok,
    )

__all__ = [
    "build",
    "create_dag",
    "create_result",
    "execute_dag",
    "gather",
    "gufe_version",
    "result_ok",
]


def gather(protocol: GufeTokenizable, results: list[GufeTokenizable]) -> GufeTokenizable:
    """Combine the results of one transformation.

    Parameters
    ----------
    protocol : Protocol
        The protocol of the transformation.
    results : list of ProtocolDAGResult
        The results of its tasks.

    Returns
    -------
    ProtocolResult
        The estimate and its uncertainty.
    """
    return protocol.gather(list(results))


def gufe_version() -> str:
    """Return the version of the installed gufe, such as ``1.9.0``."""
    return str(gufe.__version__).removeprefix("v")
