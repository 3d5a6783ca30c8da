"""The fixture that runs commands."""

from tests.cli.conftest import run as run
