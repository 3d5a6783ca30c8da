"""`alchemistore result`: references to stored results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from alchemistore.cli.options import open_store, url_option
from alchemistore.cli.output import KEYS_ONLY, Output, busy, output_options, portions
from alchemistore.cli.task import require

if TYPE_CHECKING:
    from alchemistore.models import ScopedKey
    from alchemistore.store import StateStore


@click.group()
def result() -> None:
    """Show the results of tasks."""


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
