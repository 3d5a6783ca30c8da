"""Samples in the text format of Prometheus, and the server from which it gets them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from alchemistore.errors import PackageNotInstalledError
from alchemistore.monitoring.families import BOUNDS, FAMILIES, PREFIX, Family, Kind, Sample

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry

Source = Callable[[], Iterable[Sample]]


class _Collector:
    """The samples of a source, as prometheus_client asks for them."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Any]:
        by_family: dict[str, list[Sample]] = defaultdict(list)
        for one in self._source():
            by_family[one.family].append(one)
        for name, samples in by_family.items():
            yield _metric(FAMILIES[name], samples)


def _metric(family: Family, samples: Iterable[Sample]) -> Any:
    from prometheus_client import core

    name, text, labels = PREFIX + family.name, family.text, family.labels
    if family.kind is Kind.histogram:
        histogram = core.HistogramMetricFamily(name, text, labels=labels)
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        for one in samples:
            *counts, total = one.numbers
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            histogram.add_metric(one.labels, buckets=buckets, sum_value=total)
        return histogram
    counter = family.kind is Kind.counter
    metric = (core.CounterMetricFamily if counter else core.GaugeMetricFamily)(
        name, text, labels=labels
    )
    for one in samples:
        metric.add_metric(one.labels, one.numbers[0])
    return metric


def registry(source: Source) -> CollectorRegistry:
    """Return a registry of prometheus_client with the samples of a source.

    Parameters
    ----------
    source : callable
        Returns the samples at the time of a request.

    Raises
    ------
    PackageNotInstalledError
        If prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise PackageNotInstalledError("this command", "prometheus_client", "metrics") from None
    made = CollectorRegistry()
    made.register(_Collector(source))
    return made


def exposed_samples(source: Source) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the name, the labels and the value of each metric, as Prometheus gets them."""
    for metric in registry(source).collect():
        for one in metric.samples:
            yield one.name, dict(one.labels), one.value


def exposed_text(source: Source) -> str:
    """Return the samples of a source in the text format of Prometheus."""
    found = registry(source)
    from prometheus_client import generate_latest

    text: str = generate_latest(found).decode()
    return text


def serve(source: Source, host: str, port: int) -> WSGIServer:
    """Start a server of the samples in a thread of its own, and return it.

    Parameters
    ----------
    source : callable
        Returns the samples at the time of a request.
    host : str
        The address to listen on.
    port : int
        The port; 0 for any that is free.

    Raises
    ------
    OSError
        If the address cannot be used.
    """
    found = registry(source)
    from prometheus_client import start_http_server

    server: WSGIServer
    server, _ = start_http_server(port, addr=host, registry=found)
    return server
