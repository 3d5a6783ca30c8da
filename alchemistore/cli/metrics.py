"""`alchemistore metrics`: numbers about a store in operation, for Prometheus."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

import click

from alchemistore.cli.exit_codes import CommandError
from alchemistore.cli.options import age_option, object_store, url_option
from alchemistore.cli.output import ERRORS_ONLY, Output, busy, output_options, printable

if TYPE_CHECKING:
    from alchemistore.monitoring.collection import Collection
    from alchemistore.monitoring.families import Sample
    from alchemistore.store import StateStore

FILES = {"dashboard": "dashboard.json", "alerts": "alerts.yml"}


def _print_file(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    from importlib import resources

    file = resources.files("alchemistore.monitoring") / FILES[value]
    click.echo(file.read_text(encoding="utf-8"), nl=False)
    context.exit()


@click.command(short_help="Serve numbers about a store to Prometheus.")
@url_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9797,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Metrics contain the names of scopes; there is no password.",
)
@age_option("--interval", "30s", "Read the database at most this often.")
@age_option("--timeout", "10s", "Cancel a statement that takes longer.")
@age_option(
    "--lease",
    "30m",
    "A service without a heartbeat for this long has expired; for a third of it, is silent.",
)
@click.option(
    "--by",
    type=click.Choice(["project", "campaign", "org", "all"]),
    default="project",
    show_default=True,
    help="Count tasks by whole scopes or by a part of them; with many scopes, there are many"
    " metrics.",
)
@click.option(
    "--objects/--no-objects",
    default=None,
    help="Write, read and delete two small objects in the object store (AWS_... variables) every"
    " five minutes.  [default: if AWS_S3_BUCKET is set]",
)
@click.option("--once", is_flag=True, help="Print the metrics, and end.")
@click.option(
    "--print",
    type=click.Choice(list(FILES)),
    is_eager=True,
    expose_value=False,
    callback=_print_file,
    help="Print the dashboard for Grafana or the alert rules for Prometheus, and end.",
)
@output_options(ERRORS_ONLY)
def metrics(
    out: Output,
    url: str,
    port: int,
    host: str,
    interval: timedelta,
    timeout: timedelta,
    lease: timedelta,
    by: str,
    objects: bool | None,
    once: bool,
) -> None:
    """Serve numbers about tasks, services and the servers to Prometheus.

    The database is read in the background, by one connection, every --interval. A part of the
    numbers that takes long to read is read less often, so that reading takes at most a twentieth
    of the time. A part that cannot be read is absent, and alchemistore_collection_up is 0 for it.
    The command goes on, also while the database cannot be reached. SIGTERM and Ctrl-C end it.

    With --once, the exit code is 1 if a part could not be read.

    \b
    Examples:
      alchemistore metrics --host 0.0.0.0 --port 9797
      alchemistore metrics --once --no-objects > /var/lib/node_exporter/alchemistore.prom
      alchemistore metrics --print alerts > alerts.yml
    """
    if objects is None:
        objects = bool(os.environ.get("AWS_S3_BUCKET"))
    store = _store(url, timeout)
    collections = _collections(store, interval, lease, by, objects, once)
    if once:
        with busy("Reading the numbers"):
            for one in collections:
                one.refresh()
        _print(out, collections)
        return
    _serve(out, collections, host, port)


def _store(url: str, timeout: timedelta) -> StateStore:
    from pydantic import SecretStr

    from alchemistore.settings import Settings
    from alchemistore.store import StateStore

    seconds = timeout.total_seconds()
    store = StateStore(
        Settings(
            database_url=SecretStr(url),
            pool_size=1,
            pool_timeout=max(seconds, 1),
            connect_timeout=max(round(seconds), 1),
            statement_timeout=seconds,
            lock_timeout=seconds,
            application_name="alchemistore metrics",
        )
    )
    click.get_current_context().call_on_close(store.close)
    return store


def _collections(
    store: StateStore, interval: timedelta, lease: timedelta, by: str, objects: bool, once: bool
) -> list[Collection]:
    from alchemistore.monitoring.collection import Collection
    from alchemistore.monitoring.readings import By, database_parts, object_store_part

    seconds = interval.total_seconds()
    found = [Collection(database_parts(store.engine, lease, By(by)), seconds, absolute=once)]
    if objects:
        # Of its own, because an object store may take long to fail.
        part = object_store_part(lambda: object_store().check())
        found.append(Collection([part], seconds, absolute=once))
    return found


def _samples(collections: list[Collection]) -> list[Sample]:
    from alchemistore.monitoring.collection import build_info

    return [build_info(), *(one for some in collections for one in some.samples())]


def _print(out: Output, collections: list[Collection]) -> None:
    from alchemistore.monitoring.exposition import exposed_samples, exposed_text

    if out.as_json:
        for name, labels, value in exposed_samples(lambda: _samples(collections)):
            out.json({"metric": name, "labels": labels, "value": value})
    elif not out.quiet:
        click.echo(exposed_text(lambda: _samples(collections)), nl=False)
    for collection in collections:
        for part, error in collection.errors().items():
            out.complain(f"{part}: {_explained(error)}")


def _explained(error: str) -> str:
    """Return an error that names the option instead of the variables that it replaces."""
    for name in ("ALCHEMISTORE_STATEMENT_TIMEOUT", "ALCHEMISTORE_LOCK_TIMEOUT"):
        error = error.replace(name, "--timeout")
    return error


def _serve(out: Output, collections: list[Collection], host: str, port: int) -> None:
    from alchemistore.monitoring.exposition import serve

    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        server = serve(lambda: _samples(collections), host, port)
    except OSError as error:
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    address = f"http://{host}:{server.server_port}/metrics"
    out.json({"address": address})
    out.say(f"Serving {address}")
    threads = [
        threading.Thread(target=_collect, args=(one, stop), daemon=True) for one in collections
    ]
    try:
        for thread in threads:
            thread.start()
        stop.wait()
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def _collect(collection: Collection, stop: threading.Event) -> None:
    """Read the parts that are due again and again; print errors when they begin and end."""
    known: dict[str, str] = {}
    while not stop.is_set():
        pause = collection.refresh()
        errors = collection.errors()
        changed = [part for part in {**known, **errors} if known.get(part) != errors.get(part)]
        for text in dict.fromkeys(errors.get(part) for part in changed):
            parts = ", ".join(part for part in changed if errors.get(part) == text)
            words = "can be read again" if text is None else printable(_explained(text))
            click.echo(f"{parts}: {words}", err=True)
        known = errors
        stop.wait(pause)


def _stop_on_signals(stop: threading.Event) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    # Tests run commands in threads, where signals cannot be handled.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
