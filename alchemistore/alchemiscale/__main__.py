"""``python -m alchemistore.alchemiscale``: the command line of alchemiscale, on this store."""

from __future__ import annotations

import sys

from alchemistore.alchemiscale.program import run

if __name__ == "__main__":
    run(sys.argv[1:])
