"""The protocol of the campaign: the harmonic wells, on machines that fail.

A fault is a file ``<name>.fault`` in the directory that ``HARMONIC_HTTP_FAULTS`` names. The first
process that samples an end state takes it and suffers it, so each fault happens once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from harmonic.protocol import EndState, HarmonicProtocol

FAULTS = "HARMONIC_HTTP_FAULTS"
# The content of the file of a fault that stops the process. Any other content is the message of the
# error that is raised.
HANG = "hang"


class UnreliableEndState(EndState):
    """Samples an end state, unless a fault is waiting."""

    @staticmethod
    def _execute(ctx: Any, **inputs: Any) -> dict[str, Any]:
        suffer_fault()
        return EndState._execute(ctx, **inputs)


class UnreliableProtocol(HarmonicProtocol):
    """Samples both wells, unless a fault is waiting."""

    end_state_cls = UnreliableEndState


def suffer_fault() -> None:
    """Raise an error or wait for ever, if a fault is left that no other process has taken."""
    directory = os.environ.get(FAULTS)
    if directory is None:
        return
    for fault in sorted(Path(directory).glob("*.fault")):
        taken = fault.with_suffix(f".taken-by-{os.getpid()}")
        try:
            fault.rename(taken)
        except FileNotFoundError:
            # Another process was faster.
            continue
        message = taken.read_text().strip()
        while message == HANG:
            time.sleep(60)
        raise RuntimeError(message)
