"""``python -m harmonic_http``: run the campaign over HTTP."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console


def main() -> None:
    """Run the campaign with the arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonic_http",
        description="Run a small campaign with alchemiscale's servers and services on this store."
        " Exit code 1 if something is not as expected.",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="empty directory for data and logs; by default a new one, which is removed afterwards",
    )
    parser.add_argument("--services", type=int, default=3, help="number of compute services")
    arguments = parser.parse_args()
    if arguments.services < 2:
        parser.error("one service is killed, so at least two are needed")

    from harmonic_http.campaign import run

    console = Console()
    if arguments.directory is not None:
        succeeded = run(arguments.directory, services=arguments.services, console=console)
    else:
        with tempfile.TemporaryDirectory(prefix="harmonic-http-") as directory:
            # PostgreSQL does not run as root, and its user must be able to enter.
            Path(directory).chmod(0o755)
            place = Path(directory) / "data"
            succeeded = run(place, services=arguments.services, console=console)
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
