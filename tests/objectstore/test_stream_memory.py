"""The memory that a process needs to store and fetch a large result, measured from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alchemistore import S3ObjectStore
from alchemistore.settings import S3ObjectStoreSettings

MB = 2**20
# Stores and fetches a file of a size, after a small one, with parts of a size. Prints how much the
# most memory of this process grew meanwhile, in bytes.
PROGRAM = """
import base64, os, sys
from pathlib import Path
from alchemistore import get_s3os
from alchemistore.objectstore import bucket
from alchemistore.settings import get_s3_settings
directory, size, bucket.PART = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
key, of = "ProtocolDAGResult-" + "1" * 32, "Transformation-" + "2" * 32 + "-o-c-p"
store = get_s3os(get_s3_settings())
source, target = directory / "source", directory / "target"
def most():
    # Not that of getrusage, which a process inherits.
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
def write(size):
    with source.open("wb") as file:
        file.write(b'[["' + key.encode() + b'", {"data": "')
        for _ in range(0, size, 2**20):
            file.write(base64.b64encode(os.urandom(3 * 2**18)))
        file.write(b'"}]]')
def there_and_back():
    ref = store.upload_protocoldagresult(source, True, key, of)
    store.download_protocoldagresult(target, location=ref.location)
write(0)
there_and_back()
before = most()
write(size)
there_and_back()
print(most() - before)
with source.open("rb") as a, target.open("rb") as b:
    while data := a.read(2**20):
        assert data == b.read(2**20)
    assert not b.read(1)
"""


def growth(objects: S3ObjectStore, settings: S3ObjectStoreSettings, *arguments: object) -> int:
    """Return by how much the memory of the program grows, in bytes."""
    objects.initialize()
    variables = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        for name, value in settings
        if value is not None
    }
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**os.environ, **variables},
        check=True,
        stdout=subprocess.PIPE,
    )
    return int(program.stdout)


def test_large_result_needs_little_memory(
    objects: S3ObjectStore, bucket: S3ObjectStoreSettings, tmp_path: Path
) -> None:
    # Several parts are in memory at once.
    assert growth(objects, bucket, tmp_path, 60 * MB, 5 * MB) < 40 * MB


@pytest.mark.soak
def test_result_of_500_mb_needs_less_than_100_mb(
    objects: S3ObjectStore, bucket: S3ObjectStoreSettings, tmp_path: Path
) -> None:
    assert growth(objects, bucket, tmp_path, 500 * MB, 8 * MB) < 100 * MB
