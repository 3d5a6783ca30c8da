"""Processes of workers, forked from one that has imported what they need.

The list of modules is one for all tests, because there is one such process.
"""

from __future__ import annotations

import multiprocessing

from tests.support import fault_worker

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [fault_worker.__name__, "alchemistore.cli", "alchemistore.objectstore", "alchemistore.worker"]
)
