"""The work of the process of an attempt: create the DAG, execute it, write the result."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pathlib import Path

from alchemistore import gufe_adapter
from alchemistore.worker.files import AttemptFiles


def load() -> None:
    """Import everything that an attempt needs.

    Raises
    ------
    GufeNotInstalledError
        If gufe is not installed.
    """
    # An attribute is imported when it is first used.
    assert gufe_adapter.create_stored_dag is not None
    # Most protocols draw random numbers, and gufe needs NumPy.
    import_module("numpy.random")


def perform(directory: Path, log: Path, retries: int) -> int:
    """Run the attempt whose files are in a directory, and return the exit code.

    Parameters
    ----------
    directory, log : Path
        See :class:`AttemptFiles`.
    retries : int
        The number of retries of a failed unit.
    """
    files = AttemptFiles(directory, log)
    try:
        _draw_new_random_numbers()
        extends = files.extends.read_bytes() if files.extends.exists() else None
        dag, unfinished = gufe_adapter.create_stored_dag(files.transformation.read_bytes(), extends)
        files.write_product(files.unfinished, unfinished)
        result = gufe_adapter.execute_stored_dag(dag, directory, retries)
        files.write_product(files.result, result)
    # The code of a protocol may raise anything, and may end the process with SystemExit.
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        files.error.write_text(traceback.format_exc(), errors="backslashreplace")
        return 1
    for one in result.tracebacks:
        # gufe catches the errors of units.
        print(one, file=sys.stderr)  # noqa: T201
    return 0


def _draw_new_random_numbers() -> None:
    # Otherwise, all attempts would draw the same ones. Python does so for its own `random`.
    sys.modules["numpy.random"].seed()
