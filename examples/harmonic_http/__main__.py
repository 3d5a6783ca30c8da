"""``python -m harmonic_http``: run the campaign over HTTP."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from alchemistore.alchemiscale.substitution import require_installed
from alchemistore.errors import AlchemistoreError


def main() -> None:
    """Run the campaign with the arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonic_http",
        description="Run a small campaign with alchemiscale's servers and services on this store."
        " Exit code 1 if something is not as expected, 2 if it could not run.",
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

    try:
        require_installed()
        succeeded = _run(arguments.directory, arguments.services)
    except AlchemistoreError as error:
        print(f"The campaign could not run: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if succeeded else 1)


def _run(directory: Path | None, services: int) -> bool:
    from harmonic_http.campaign import run

    console = Console()
    if directory is not None:
        return run(directory, services=services, console=console)
    with tempfile.TemporaryDirectory(prefix="harmonic-http-") as temporary:
        # PostgreSQL does not run as root, and its user must be able to enter.
        Path(temporary).chmod(0o755)
        return run(Path(temporary) / "data", services=services, console=console)


if __name__ == "__main__":
    main()
