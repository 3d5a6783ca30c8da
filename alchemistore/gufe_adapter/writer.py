"""The versions that are noted with documents. This module does not import gufe."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version


def is_other_version(written_by: str | None, writer: str) -> bool:
    """Check whether a text names another version than a writer, if it names any."""
    if written_by is None:
        return False
    parts = {part.strip() for part in writer.split(",")}
    return not {part.strip() for part in written_by.split(",")} <= parts


@cache
def writer_versions() -> str:
    """Return the versions of the packages that can change keys, as one text."""
    versions = {}
    for package in ("gufe", "zstandard", "rdkit"):
        try:
            versions[package] = version(package).removeprefix("v")
        except PackageNotFoundError:
            versions[package] = "unknown"
    versions["python"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ", ".join(f"{package} {number}" for package, number in versions.items())
