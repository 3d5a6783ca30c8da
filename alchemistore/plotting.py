"""Drawings of networks: chemical systems, and transformations coloured by status or result."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from alchemistore import gufe_adapter
from alchemistore.errors import MissingObjectError, PackageNotInstalledError
from alchemistore.models import ScopedKey

if TYPE_CHECKING:
    from alchemistore.objectstore import S3ObjectStore
    from alchemistore.store import StateStore

REFERENCE = ":gufe-key:"
# A colour and a line for each status of an edge, so that it can be told without colours, too.
LINES: dict[str, tuple[str, Any]] = {
    "complete": ("#2a9d55", "solid"),
    "running": ("#2a6fdb", (0, (6, 1.5))),
    "waiting": ("#d99a00", (0, (2, 1.5))),
    "error": ("#d1362f", (0, (5, 1.5, 1, 1.5))),
    "no tasks": ("#9aa0a8", (0, (1, 2.5))),
}
# What needs attention comes first.
ORDER = ("error", "running", "waiting", "complete")
INK, PALE, NODE = "#1f2430", "#9aa0a8", "#e8edf4"
# With more edges or systems, their labels would cover each other.
MOST_LABELS = 60
NAME_SIZE = 22
# Iterations times systems of a layout.
STEPS = 45_000
# The colours of a network without any result range over this.
SMALLEST_RANGE = 0.1
KCAL = "kilocalorie / mole"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference of free energies.

    Attributes
    ----------
    value : float
    uncertainty : float
    unit : str, default ""
        The unit, in short; empty if the protocol returns plain numbers.
    """

    value: float
    uncertainty: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class PlottedEdge:
    """A transformation in a drawing.

    Attributes
    ----------
    transformation : ScopedKey
    systems : tuple of (str, str)
        The keys of both systems; twice the same for a NonTransformation.
    name : str or None
    tasks : mapping of str to int
        Number of tasks by status.
    estimate : Estimate or None, default None
        The result, if it is wanted and there is one.
    """

    transformation: ScopedKey
    systems: tuple[str, str]
    name: str | None
    tasks: Mapping[str, int]
    estimate: Estimate | None = None

    @property
    def status(self) -> str:
        """The status that needs most attention among those of the tasks."""
        return next((one for one in ORDER if self.tasks.get(one)), "no tasks")


@dataclass(frozen=True)
class PlottedNetwork:
    """The content of a drawing of a network.

    Attributes
    ----------
    network : ScopedKey
    name : str or None
    systems : dict of str to str
        The name of each chemical system by its key.
    edges : list of PlottedEdge
    """

    network: ScopedKey
    name: str | None
    systems: dict[str, str]
    edges: list[PlottedEdge] = field(default_factory=list)


def read_network(
    store: StateStore,
    network: ScopedKey | str,
    estimate: Callable[[ScopedKey], Estimate | None] | None = None,
) -> PlottedNetwork:
    """Read what a drawing of a network shows. Needs gufe only for estimates.

    Parameters
    ----------
    store : StateStore
    network : ScopedKey or str
    estimate : callable, optional
        Returns the estimate of a transformation; see `estimator`.

    Raises
    ------
    KeyError
        If there is no such network.
    ValueError
        If it is the key of something else.
    """
    key = network if isinstance(network, ScopedKey) else ScopedKey.from_str(network)
    with store.transaction() as tx:
        tx.get_network_state(key)
        chain = dict(tx.get_keyed_chain(key))
        edges = tx.get_network_transformations(key)
        tasks = [tx.get_transformation_status(edge) for edge in edges]
    content = chain[key.gufe_key]
    found = PlottedNetwork(key, content.get("name") or None, {})
    for node in content.get("nodes", ()):
        _add_system(found, chain, node[REFERENCE])
    for edge, counts in zip(edges, tasks, strict=True):
        fields = chain[edge.gufe_key]
        # A NonTransformation has one system.
        ends = (fields.get("stateA", fields.get("system")), fields.get("stateB"))
        first, second = ends[0][REFERENCE], (ends[1] or ends[0])[REFERENCE]
        for system in (first, second):
            _add_system(found, chain, system)
        result = None if estimate is None else estimate(edge)
        name = fields.get("name") or None
        found.edges.append(PlottedEdge(edge, (first, second), name, counts, result))
    return found


def _add_system(found: PlottedNetwork, chain: Mapping[Any, Any], key: str) -> None:
    name = chain[key].get("name")
    found.systems[key] = name if isinstance(name, str) and name else f"…{key[-6:]}"


def estimator(store: StateStore, objects: S3ObjectStore) -> Callable[[ScopedKey], Estimate | None]:
    """Return a function that gathers the results of a transformation; it needs gufe.

    It returns ``None`` for a transformation without results, and for one whose protocol computes no
    number from them.

    Parameters
    ----------
    store : StateStore
    objects : S3ObjectStore
    """

    def estimate(transformation: ScopedKey) -> Estimate | None:
        with store.transaction() as tx:
            refs = [tx.get_gufe(key) for key in tx.get_transformation_results(transformation)]
        results = []
        for ref in refs:
            try:
                results.append(objects.pull_protocoldagresult(location=ref.location))
            except MissingObjectError:
                continue
        if not results:
            return None
        protocol = store.get_gufe(transformation).protocol
        gathered = gufe_adapter.gather(protocol, results)
        value, unit = _number(gathered.get_estimate())
        uncertainty, _ = _number(gathered.get_uncertainty())
        if not math.isfinite(value):
            return None
        return Estimate(value, uncertainty, unit)

    return estimate


def _number(quantity: Any) -> tuple[float, str]:
    """Return a number and its unit; energies per amount are in kcal/mol."""
    if quantity is None:
        return math.nan, ""
    if not hasattr(quantity, "magnitude"):
        return float(quantity), ""
    if quantity.is_compatible_with(KCAL):
        return float(quantity.to(KCAL).magnitude), "kcal/mol"
    return float(quantity.magnitude), f"{quantity.units:~}"


def draw(
    network: PlottedNetwork,
    file: str | Path | IO[bytes],
    form: str = "svg",
    *,
    by_estimate: bool = False,
) -> None:
    """Draw a network into a file.

    Parameters
    ----------
    network : PlottedNetwork
    file : str, Path or file object
    form : {"svg", "png"}, default "svg"
        The format.
    by_estimate : bool, default False
        Colour the edges by their estimates instead of their statuses.

    Raises
    ------
    PackageNotInstalledError
        If matplotlib or networkx is not installed.
    """
    try:
        import matplotlib as mpl
        import networkx
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PackageNotInstalledError("a drawing", error.name or str(error), "plot") from None
    graph = networkx.Graph()
    graph.add_nodes_from(network.systems)
    graph.add_edges_from(edge.systems for edge in network.edges)
    places = _layout(networkx, graph)
    # A constant salt and no date: the same network gives the same file.
    with mpl.rc_context({"svg.hashsalt": "alchemistore", "font.size": 8}):
        figure = Figure(figsize=_size(places), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_aspect("equal")
        axes.axis("off")
        axes.margins(0.08)
        title = network.name or str(network.network)
        axes.set_title(
            title,
            loc="left",
            weight="bold",
            color=INK,
            fontsize=10 * _scale(axes),
            parse_math=False,
        )
        if by_estimate:
            _draw_estimates(figure, axes, network, places)
        else:
            _draw_statuses(axes, network, places)
        _draw_systems(axes, network, places)
        date = "Date" if form == "svg" else "Creation Time"
        figure.savefig(file, format=form, dpi=150, metadata={date: None})


def _layout(networkx: Any, graph: Any) -> dict[str, tuple[float, float]]:
    """Return the place of each node: each component by itself, side by side in rows."""
    parts = sorted(
        (sorted(part) for part in networkx.connected_components(graph)),
        key=lambda part: (-len(part), part),
    )
    places: dict[str, tuple[float, float]] = {}
    # Rows are wider than all of them are high, as screens and pages are.
    width = 1.6 * math.sqrt(sum(_side(part) ** 2 for part in parts))
    left = top = height = 0.0
    for part in parts:
        side = _side(part)
        if left and left + side > width:
            left, top, height = 0.0, top - height, 0.0
        spread = networkx.spring_layout(
            graph.subgraph(part),
            seed=7,
            # Fewer for a large network, whose iterations take longer.
            iterations=min(300, max(30, STEPS // len(part))),
            method="force",
            pos=networkx.circular_layout(part),
            k=2.6 / math.sqrt(len(part)),
        )
        xs, ys = zip(*spread.values(), strict=True)
        extent = max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
        inner = side - 1
        for node, (x, y) in spread.items():
            places[node] = (
                left + 0.5 + inner * (x - min(xs)) / extent,
                top - 0.5 - inner * (max(ys) - y) / extent,
            )
        left, height = left + side, max(height, side)
    return places


def _size(places: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Return the width and height of a figure in inches."""
    width, height = (max(one) - min(one) for one in zip(*places.values(), strict=True))
    longest = max(width, height)
    # The bounds keep the text readable.
    scale = min(max(1.6 * longest, 3.5), 30.0) / max(longest, 1e-9)
    return max(width * scale + 1.5, 4.5), max(height * scale + 1.5, 3.5)


def _scale(axes: Any) -> float:
    """Return how much larger the title and the legend are, because the figure is large."""
    return max(float(axes.figure.get_figwidth()) / 14, 1.0)


def _side(part: Sequence[str]) -> float:
    """Return the side of the square of a component; a lone system takes a unit."""
    return 1 + (0.0 if len(part) == 1 else 0.9 * math.sqrt(len(part)))


def _arcs(edges: Iterable[PlottedEdge]) -> dict[int, float]:
    """Return the curvature of each edge: parallel ones are bent apart."""
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    listed = list(edges)
    for index, edge in enumerate(listed):
        groups[frozenset(edge.systems)].append(index)
    curves = {}
    for members in groups.values():
        for position, index in enumerate(members):
            bend = 0.25 * (position - (len(members) - 1) / 2)
            # The same side for an edge that runs the other way round.
            first, second = listed[index].systems
            curves[index] = bend if first <= second else -bend
    return curves


def _draw_edge(
    axes: Any,
    edge: PlottedEdge,
    places: Any,
    bend: float,
    colour: Any,
    line: Any,
    label: str,
    arrow: bool = False,
) -> None:
    from matplotlib.patches import Circle, FancyArrowPatch

    (x1, y1), (x2, y2) = (places[system] for system in edge.systems)
    if edge.systems[0] == edge.systems[1]:
        radius = 0.13 + abs(bend)
        axes.add_patch(
            Circle((x1, y1 + radius), radius, fill=False, ec=colour, ls=line, lw=2, zorder=1)
        )
        middle = (x1, y1 + 2 * radius)
    else:
        axes.add_patch(
            FancyArrowPatch(
                (x1, y1),
                (x2, y2),
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>" if arrow else "-",
                mutation_scale=10,
                color=colour,
                linestyle=line,
                linewidth=2,
                zorder=1,
                shrinkA=0,
                shrinkB=6 if arrow else 0,
            )
        )
        middle = ((x1 + x2) / 2 + bend / 2 * (y2 - y1), (y1 + y2) / 2 - bend / 2 * (x2 - x1))
    if label:
        axes.text(
            *middle,
            label,
            ha="center",
            va="center",
            fontsize=6.5,
            color=INK,
            zorder=2,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
        )


def _draw_statuses(axes: Any, network: PlottedNetwork, places: Any) -> None:
    from matplotlib.lines import Line2D

    curves, labelled = _arcs(network.edges), len(network.edges) <= MOST_LABELS
    counts = Counter(edge.status for edge in network.edges)
    for index, edge in enumerate(network.edges):
        total = sum(edge.tasks.values())
        label = f"{edge.tasks.get('complete', 0)}/{total}" if labelled and total else ""
        _draw_edge(axes, edge, places, curves[index], *LINES[edge.status], label)
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=2, label=f"{one} ({counts[one]})")
        for one, (colour, line) in LINES.items()
        if counts[one]
    ]
    if handles:
        title = "transformations by status" + (
            "; n/m: complete of all tasks" if labelled and len(counts) > counts["no tasks"] else ""
        )
        _legend(axes, handles, title)


def _draw_estimates(figure: Any, axes: Any, network: PlottedNetwork, places: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    curves, labelled = _arcs(network.edges), len(network.edges) <= MOST_LABELS
    found = [edge.estimate for edge in network.edges if edge.estimate is not None]
    reach = max([abs(one.value) for one in found], default=0.0) or SMALLEST_RANGE
    # Zero is a middle grey-violet, so that no edge vanishes on white.
    colours: Any = ScalarMappable(Normalize(-reach, reach), _diverging())
    for index, edge in enumerate(network.edges):
        if edge.estimate is None:
            style = LINES["no tasks"]
            _draw_edge(axes, edge, places, curves[index], *style, "")
            continue
        one = edge.estimate
        colour = colours.to_rgba(one.value)
        label = _rounded(one) if labelled else ""
        # The arrow shows the direction of the sign.
        _draw_edge(axes, edge, places, curves[index], colour, "solid", label, arrow=True)
    units = sorted({one.unit for one in found} - {""})
    if found:
        bar = figure.colorbar(colours, ax=axes, shrink=0.6, aspect=30, pad=0.01)
        bar.set_label(f"ΔG{f' / {units[0]}' if len(units) == 1 else ''}")
        bar.outline.set_visible(False)
    if missing := len(network.edges) - len(found):
        grey, line = LINES["no tasks"]
        handle = Line2D([], [], color=grey, linestyle=line, lw=2, label=f"no result ({missing})")
        _legend(axes, [handle], "")


def _rounded(one: Estimate) -> str:
    """Return a value with its uncertainty, rounded to the first digit of the latter."""
    if not (math.isfinite(one.uncertainty) and one.uncertainty > 0):
        return f"{one.value:.2f}".replace("-", "−")
    digits = min(max(-math.floor(math.log10(one.uncertainty)), 0), 4)
    return f"{one.value:.{digits}f} ± {one.uncertainty:.{digits}f}".replace("-", "−")


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("free energies", ["#1f5fbf", "#a9a3b8", "#c0392b"])


def _legend(axes: Any, handles: list[Any], title: str) -> None:
    legend = axes.legend(
        handles=handles,
        title=title or None,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=min(len(handles), 5),
        frameon=False,
        handlelength=3.2,
        fontsize=8 * _scale(axes),
    )
    legend.get_title().set_color(PALE)
    legend.get_title().set_fontsize(7.5 * _scale(axes))


def _draw_systems(axes: Any, network: PlottedNetwork, places: Any) -> None:
    from matplotlib.patheffects import withStroke

    labelled = len(network.systems) <= MOST_LABELS
    xs, ys = zip(*(places[key] for key in network.systems), strict=True)
    size = 120 if labelled else 30
    axes.scatter(xs, ys, s=size, color=NODE, edgecolors=INK, linewidths=0.8, zorder=3)
    if not labelled:
        return
    for key, name in network.systems.items():
        short = name if len(name) <= NAME_SIZE else f"{name[: NAME_SIZE - 1]}…"
        axes.annotate(
            short,
            places[key],
            xytext=(0, -9),
            textcoords="offset points",
            ha="center",
            va="top",
            color=INK,
            zorder=4,
            parse_math=False,
            # Readable where an edge passes below.
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
