"""`alchemistore result`: results and references to them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import click

from alchemistore.cli.options import keys_argument, object_store, open_store, url_option
from alchemistore.cli.output import (
    ERRORS_ONLY,
    KEYS_ONLY,
    Output,
    busy,
    counted,
    output_options,
    plain,
    portions,
    tracked,
)
from alchemistore.cli.task import require

if TYPE_CHECKING:
    from alchemistore.models import ProtocolDAGResultRef, ScopedKey
    from alchemistore.objectstore import S3ObjectStore
    from alchemistore.store import StateStore


INDEX = "index.jsonl"
# Objects that are read at the same time, and that are begun before the first of them is awaited.
READERS = 4
PORTION = 16
WRITTEN, THERE = "written", "was there"


@click.group()
def result() -> None:
    """List and get the results of tasks."""


@result.command("list", short_help="List the references to results.")
@url_option
@click.option("--task", metavar="KEY", help="The results of this task.")
@click.option("--transformation", "-t", metavar="KEY", help="Those of this transformation.")
@click.option("--network", "-n", metavar="KEY", help="Those of all transformations of a network.")
@click.option("--failed", is_flag=True, help="Failed results instead of successful ones.")
@output_options(KEYS_ONLY)
def list_(
    out: Output,
    url: str,
    task: str | None,
    transformation: str | None,
    network: str | None,
    failed: bool,
) -> None:
    """List the references to the results of a task, a transformation or a network.

    'location' is the name of the object in the object store.

    \b
    Examples:
      alchemistore result list --network AlchemicalNetwork-... --json
      alchemistore result list --task Task-... --failed
    """
    if len({task, transformation, network} - {None}) != 1:
        raise click.UsageError("use one of --task, --transformation and --network")
    store = open_store(url)
    out.table(
        _rows(store, task, transformation, network, failed, out.quiet),
        *("result", "created", "creator", "location"),
    )


def _rows(
    store: StateStore,
    task: str | None,
    transformation: str | None,
    network: str | None,
    failed: bool,
    only_keys: bool,
) -> Iterator[dict[str, Any]]:
    require(store, task or transformation or network or "")
    edges: list[ScopedKey | str] = []
    if network is not None:
        edges += store.get_network_transformations(network)
    if transformation is not None:
        edges.append(transformation)
    for edge in edges:
        with busy("Reading results"):
            found = (
                store.get_transformation_failures(edge)
                if failed
                else store.get_transformation_results(edge)
            )
        yield from _references(store, found, only_keys, {"transformation": edge})
    if task is not None:
        found = store.get_task_failures(task) if failed else store.get_task_results(task)
        yield from _references(store, found, only_keys, {"task": task})


def _references(
    store: StateStore, keys: list[ScopedKey], only_keys: bool, origin: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    if only_keys:
        yield from ({"result": key} for key in keys)
        return
    for portion in portions(keys, "Reading results", 100):
        with store.transaction() as tx:
            refs = [tx.get_gufe(key) for key in portion]
        for key, ref in zip(portion, refs, strict=True):
            yield {
                "result": key,
                **origin,
                "ok": ref.ok,
                "created": ref.datetime_created,
                "creator": ref.creator,
                "location": ref.location,
                "obj_key": ref.obj_key,
            }


@result.command(short_help="Write all results of a network to files in a directory.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@url_option
@click.option("--task", metavar="KEY", help="The results of this task.")
@click.option("--transformation", "-t", metavar="KEY", help="Those of this transformation.")
@click.option("--network", "-n", metavar="KEY", help="Those of all transformations of a network.")
@click.option("--failed", is_flag=True, help="Also write failed results.")
@click.option(
    "--zstd",
    "compressed",
    is_flag=True,
    help="Write the objects as they are stored, compressed, to .json.zst.",
)
@output_options(ERRORS_ONLY)
def export(
    out: Output,
    url: str,
    directory: Path,
    task: str | None,
    transformation: str | None,
    network: str | None,
    failed: bool,
    compressed: bool,
) -> None:
    """Write all results of a network, a transformation or a task to files in DIRECTORY.

    Each result becomes a file of gufe's JSON in a directory of its transformation, or of the task;
    the object store is that of the AWS_... variables. index.jsonl lists them, one JSON object per
    line: reference, transformation or task, whether it succeeded, time, creator, and file.

    If it is interrupted, run it again: files that are there are not read again. Exit code 1 if a
    result is missing in the object store, or damaged.

    \b
    Examples:
      alchemistore result export results --network AlchemicalNetwork-...
      alchemistore result export results --task Task-... --failed --zstd
    """
    if len({task, transformation, network} - {None}) != 1:
        raise click.UsageError("use one of --task, --transformation and --network")
    store, export = open_store(url), Export(object_store(), directory, compressed)
    require(store, task or transformation or network or "")

    def rows(only_keys: bool) -> Iterator[dict[str, Any]]:
        for wanted in (False, True) if failed else (False,):
            yield from _rows(store, task, transformation, network, wanted, only_keys)

    directory.mkdir(parents=True, exist_ok=True)
    written = there = 0
    with whole_file(directory / INDEX) as index:
        results = tracked(
            export.run(rows(False)), "Writing results", lambda: sum(1 for _ in rows(True))
        )
        for row, state in results:
            if state not in (WRITTEN, THERE):
                out.complain(f"{row['result']}: {state}")
            written, there = written + (state == WRITTEN), there + (state == THERE)
            index.write(f"{json.dumps(row, default=plain)}\n".encode())
            out.json(row)
    found = f" ({there:,} were there already)" if there else ""
    out.say(f"Wrote {counted(written, 'result')}{found} to {directory}.")


class Export:
    """The files of results in a directory.

    Parameters
    ----------
    objects : S3ObjectStore
    directory : Path
    compressed : bool
        Whether the files are compressed.
    """

    def __init__(self, objects: S3ObjectStore, directory: Path, compressed: bool) -> None:
        self._objects, self._directory = objects, directory
        self._compressed = compressed

    def run(self, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
        """Write the results that are not there, a few at a time.

        Yields
        ------
        dict
            The row with the name of the file, or with ``None`` if there is none.
        str
            Whether the file was written or was there; else, why there is none.
        """
        with ThreadPoolExecutor(READERS) as pool:
            # A portion at a time, so that an error or Ctrl-C does not wait for all the others.
            while portion := list(islice(rows, PORTION)):
                yield from pool.map(self._one, portion)

    def _one(self, row: dict[str, Any]) -> tuple[dict[str, Any], str]:
        from alchemistore.errors import S3ObjectStoreError, S3UnavailableError
        from alchemistore.models import ScopedKey

        origin = ScopedKey.from_str(
            str(row["transformation" if "transformation" in row else "task"])
        )
        name = f"{row['obj_key']}.json{'.zst' if self._compressed else ''}"
        path = self._directory / str(origin.gufe_key) / name
        row = {**row, "file": str(path.relative_to(self._directory))}
        if path.exists():
            return row, THERE
        path.parent.mkdir(exist_ok=True)
        try:
            self._objects.download_protocoldagresult(
                path, location=row["location"], packed=self._compressed
            )
        except S3UnavailableError:
            raise
        except (KeyError, S3ObjectStoreError) as error:
            # Missing or damaged; the others can be written.
            return {**row, "file": None}, str(error)
        return row, WRITTEN


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name when it is complete."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@result.command(short_help="Write results to files, as gufe's JSON.")
@keys_argument("RESULT...")
@url_option
@click.option(
    "--directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each result to a file of its name in this directory, which is created.",
)
@output_options(ERRORS_ONLY)
def get(out: Output, url: str, keys: list[str], directory: Path | None) -> None:
    """Write results from the object store (AWS_... variables) to files, as gufe's JSON.

    RESULT is the key of a reference, ProtocolDAGResultRef-..., as 'result list' prints it. Without
    --directory, a single result is written to standard output. Exit code 1 if a result is missing.

    \b
    Examples:
      alchemistore result get ProtocolDAGResultRef-... > result.json
      alchemistore result list -n AlchemicalNetwork-... -q | alchemistore result get - -d results
    """
    if directory is None and len(keys) != 1:
        raise click.UsageError("several results need --directory")
    store, objects = open_store(url), object_store()
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    for number, key in enumerate(keys, start=1):
        with busy(f"Getting results: {number:,} of {len(keys):,}"), ExitStack() as stack:
            try:
                ref = _reference(store, key)
                # Nothing is printed before all of it has arrived.
                target = (
                    stack.enter_context(TemporaryFile())
                    if directory is None
                    else directory / f"{ref.obj_key}.json"
                )
                objects.download_protocoldagresult(target, location=ref.location)
            except KeyError as error:
                out.complain(str(error))
                continue
            if not isinstance(target, Path):
                target.seek(0)
                shutil.copyfileobj(target, sys.stdout.buffer)
                continue
        out.json({"result": key, "file": str(target)})
        out.say(str(target))


def _reference(store: StateStore, key: str) -> ProtocolDAGResultRef:
    from alchemistore.models import ProtocolDAGResultRef, ScopedKey

    parsed = ScopedKey.from_str(key)
    if parsed.qualname != ProtocolDAGResultRef.__name__:
        raise ValueError(f"{key} is not the key of a ProtocolDAGResultRef")
    found: ProtocolDAGResultRef = store.get_gufe(parsed)
    return found
