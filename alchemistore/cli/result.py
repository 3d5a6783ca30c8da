"""`alchemistore result`: results and references to them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import keys_argument, object_store, open_store, url_option
from alchemistore.cli.output import ERRORS_ONLY, KEYS_ONLY, Output, busy, output_options, portions
from alchemistore.cli.task import require

if TYPE_CHECKING:
    from alchemistore.models import ProtocolDAGResultRef, ScopedKey
    from alchemistore.store import StateStore


@click.group()
def result() -> None:
    """List and get the results of tasks."""


@result.command("list")
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


@result.command()
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
