"""Draw the pictures of docs/concepts.md: `python docs/drawings/draw.py`."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from alchemistore.models import TaskStatusEnum
from alchemistore.operations.statuses import TRANSITIONS

HOME = Path(__file__).parent
INK, PALE, LINE = "#26323f", "#5c6b7a", "#8a99a8"
COLOURS = {
    "waiting": "#b7791f",
    "running": "#2566a8",
    "complete": "#2f7d4f",
    "error": "#b83232",
    "invalid": "#8b3d8b",
    "deleted": "#66717c",
}
BLUE, GREEN, AMBER, RED = (COLOURS[s] for s in ("running", "complete", "waiting", "error"))
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass
class Drawing:
    """A drawing of a given size, on a white ground, so that it can be read on any page."""

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 14,
        colour: str = INK,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """Add a line of text."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}"'
            f' text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        below: str = "",
        *,
        colour: str = BLUE,
        filled: bool = False,
        size: float = 14,
    ) -> None:
        """Add a box with a name and an explanation."""
        fill, ink = (colour, "#ffffff") if filled else ("#ffffff", INK)
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"'
            f' fill="{fill}" stroke="{colour}" stroke-width="1.6"/>'
        )
        middle = y + height / 2 + 5
        if below:
            self.text(x + width / 2, middle - 9, words, bold=True, colour=ink)
            self.text(x + width / 2, middle + 10, below, size=12, colour=ink if filled else PALE)
        elif words:
            self.text(x + width / 2, middle, words, bold=True, colour=ink, size=size)

    def line(
        self,
        *points: tuple[float, float],
        colour: str = LINE,
        width: float = 1.6,
        dashed: bool = False,
        arrow: bool = True,
    ) -> None:
        """Add a line through points, with rounded corners."""
        first, *rest = points
        path = [f"M {first[0]:g} {first[1]:g}"]
        for index, (x, y) in enumerate(rest):
            if index == len(rest) - 1:
                path.append(f"L {x:g} {y:g}")
                break
            (ax, ay), (bx, by) = points[index], rest[index + 1]
            start, end = _towards((x, y), (ax, ay)), _towards((x, y), (bx, by))
            path.append(f"L {start[0]:g} {start[1]:g} Q {x:g} {y:g} {end[0]:g} {end[1]:g}")
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        head = ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(
            f'<path d="{" ".join(path)}" fill="none" stroke="{colour}" color="{colour}"'
            f' stroke-width="{width:g}"{dash}{head}/>'
        )

    def dot(self, x: float, y: float, *, radius: float = 6, colour: str = BLUE) -> None:
        """Add a dot."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{colour}"/>')

    def svg(self) -> str:
        """Return the drawing as SVG."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g}'
                f' {self.height:g}" role="img" font-family="{FONT}">',
                f"<title>{escape(self.title)}</title>",
                '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
                ' markerHeight="7" orient="auto-start-reverse">'
                '<path d="M 0 1 L 9 5 L 0 9 z" fill="context-stroke"/></marker></defs>',
                f'<rect width="{self.width:g}" height="{self.height:g}" rx="10" fill="#ffffff"/>',
                *self.parts,
                "</svg>",
                "",
            ]
        )


def _towards(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the point eight units from one point towards another."""
    length = math.dist(one, other) or 1.0
    step = min(8.0, length / 2) / length
    return one[0] + step * (other[0] - one[0]), one[1] + step * (other[1] - one[1])


def objects() -> Drawing:
    """Draw what is stored, and how it belongs together."""
    d = Drawing(760, 420, "Networks, hubs, tasks, claims, attempts and results")
    d.box(20, 24, 170, 56, "network", "an AlchemicalNetwork")
    d.box(20, 150, 170, 56, "transformation", "with its protocol")
    d.box(290, 24, 170, 56, "task hub", "one for each network", colour=AMBER)
    d.box(290, 150, 170, 56, "task", "one run of a protocol", colour=AMBER, filled=True)
    d.box(560, 150, 180, 56, "claim", "while a service runs it", colour=GREEN)
    d.box(560, 24, 180, 56, "compute service", "with heartbeats", colour=GREEN)
    d.box(560, 276, 180, 56, "attempt", "kept, with its outcome", colour=GREEN)
    d.box(290, 276, 170, 56, "reference", "to a result", colour=RED)
    d.box(290, 358, 170, 44, "result in the bucket", colour=RED)
    d.line((105, 80), (105, 150))
    d.text(113, 119, "contains", size=12, colour=PALE, anchor="start")
    d.line((290, 52), (190, 52))
    d.text(240, 44, "hub of", size=12, colour=PALE)
    d.line((290, 178), (190, 178))
    d.text(240, 170, "runs", size=12, colour=PALE)
    d.line((375, 150), (375, 80), colour=AMBER, width=3)
    d.text(385, 111, "action, with a weight", size=12, colour=AMBER, anchor="start", bold=True)
    d.line((560, 178), (460, 178))
    d.text(510, 170, "holds", size=12, colour=PALE)
    d.line((650, 150), (650, 80))
    d.text(658, 119, "belongs to", size=12, colour=PALE, anchor="start")
    d.line((650, 206), (650, 276))
    d.text(658, 245, "is recorded as", size=12, colour=PALE, anchor="start")
    d.line((560, 304), (460, 304))
    d.text(510, 296, "delivered", size=12, colour=PALE)
    d.line((375, 276), (375, 206))
    d.text(385, 245, "of", size=12, colour=PALE, anchor="start")
    d.line((375, 332), (375, 358))
    d.line((290, 196), (250, 196), (250, 232), (310, 232), (310, 206), colour=AMBER)
    d.text(243, 250, "extends another task", size=12, colour=PALE)
    return d


# The arrows between statuses, from one side of a box to a side of another.
PLACES = {
    "waiting": (40, 120),
    "running": (350, 120),
    "complete": (580, 40),
    "error": (580, 200),
    "invalid": (350, 300),
    "deleted": (580, 300),
}
ARROWS = {
    ("waiting", "running"): ([(180, 138), (350, 138)], (265, 129, "claim")),
    ("running", "waiting"): ([(350, 158), (180, 158)], (265, 176, "claim lost, or released")),
    ("running", "complete"): ([(490, 138), (535, 138), (535, 68), (580, 68)], (525, 58, "success")),
    ("running", "error"): ([(490, 158), (535, 158), (535, 214), (580, 214)], (508, 200, "failure")),
    ("error", "waiting"): (
        [(580, 242), (110, 242), (110, 176)],
        (300, 234, "restart, by a pattern or by hand"),
    ),
}


def statuses() -> Drawing:
    """Draw the statuses of a task and the changes between them."""
    changes = {
        (source, str(target))
        for target, transition in TRANSITIONS.items()
        for source in transition.sources
        if source != target and target not in ("invalid", "deleted")
    }
    assert changes == set(ARROWS), "the arrows are those of the table of transitions"
    for target in (TaskStatusEnum.invalid, TaskStatusEnum.deleted):
        assert set(TRANSITIONS[target].sources) == {*PLACES} - {"invalid", "deleted"} | {target}
    d = Drawing(760, 376, "Statuses of a task")
    d.parts.append(
        '<rect x="20" y="20" width="720" height="250" rx="12" fill="#f5f7f9" stroke="none"/>'
    )
    explained = {
        "waiting": "can be claimed",
        "running": "is claimed",
        "complete": "has a result",
        "error": "has failed",
        "invalid": "must not be run",
        "deleted": "is gone for users",
    }
    for name, (x, y) in PLACES.items():
        d.box(x, y, 140, 56, name, explained[name], colour=COLOURS[name], filled=True)
    for (_, target), (points, (x, y, words)) in ARROWS.items():
        d.line(*points, colour=COLOURS[target])
        d.text(x, y, words, size=12, colour=PALE)
    d.line((420, 270), (420, 300), colour=COLOURS["invalid"])
    d.line((650, 270), (650, 300), colour=COLOURS["deleted"])
    d.text(330, 323, "from each of these four statuses,", size=12, colour=PALE, anchor="end")
    d.text(330, 340, "with all tasks that extend it", size=12, colour=PALE, anchor="end")
    return d


def race() -> Drawing:
    """Draw the queue of a hub as a race."""
    rng = random.Random(3)  # noqa: S311  (the same drawing each time)
    d = Drawing(760, 300, "The queue of a hub as a race")
    left, right = 150, 720

    def lane(y: float, words: str, below: str) -> None:
        d.text(20, y + 1, words, anchor="start", bold=True)
        d.text(20, y + 18, below, anchor="start", size=12, colour=PALE)
        d.line((left, y + 6), (right, y + 6), width=2)

    lane(60, "priority 1", "claimed first")
    lane(180, "priority 10", "when that is empty")
    for y, clock, times in (
        (66, 250, [268, 300, 352, 420, 560]),
        (186, 180, sorted(190 + 400 * rng.random() for _ in range(9))),
    ):
        d.line((clock, y - 26), (clock, y + 26), colour=GREEN, width=2.4, arrow=False)
        for x in [left + 14, left + 42, left + 66][: 3 if y == 66 else 1]:
            d.dot(x, y, radius=5, colour="#cfd6dd")
        for index, x in enumerate(times):
            heavy = index % 3 == 0
            d.dot(x, y, radius=8 if heavy else 5, colour=AMBER)
    d.text(250, 32, "clock: the last one claimed", size=12, colour=GREEN)
    d.line((268, 110), (268, 78), colour=BLUE)
    d.text(268, 126, "the next claim takes this task", size=12, colour=BLUE)
    d.text(560, 48, "small weight: far to the right", size=12, colour=PALE)
    d.line((470, 232), (470, 202), colour=AMBER)
    d.text(
        470,
        248,
        "a task that becomes claimable starts at the clock, and draws clock + Exp(1) / weight",
        size=12,
        colour=AMBER,
    )
    d.text(right, 86, "race", size=12, colour=PALE)
    d.text(right, 206, "race", size=12, colour=PALE)
    d.text(
        380,
        282,
        "Grey: claimed before. Large: weight 1. Small: weight 0.1. A claim reads the head of an"
        " index, however many tasks wait.",
        size=12,
        colour=PALE,
    )
    return d


def late() -> Drawing:
    """Draw a claim that is lost, and a result that comes late."""
    d = Drawing(760, 300, "A lost claim and a late result")
    left, right = 120, 730
    rows = {"service A": 60, "task": 140, "service B": 220}
    for words, y in rows.items():
        d.text(20, y + 5, words, anchor="start", bold=True)
        d.line((left, y), (right, y), width=1, arrow=False)
    d.line((left, 270), (right, 270), width=1)
    d.text(right, 288, "time", size=12, colour=PALE, anchor="end")

    def stretch(x: float, end: float, y: float, words: str, colour: str) -> None:
        d.box(x, y - 17, end - x, 34, words, colour=colour, filled=True, size=12)

    stretch(130, 180, 140, "", COLOURS["waiting"])
    stretch(180, 390, 140, "running, attempt 1", COLOURS["running"])
    stretch(390, 450, 140, "waiting", COLOURS["waiting"])
    stretch(450, 590, 140, "running, attempt 2", COLOURS["running"])
    stretch(590, 725, 140, "complete", COLOURS["complete"])
    stretch(180, 270, 60, "computes", GREEN)
    stretch(270, 500, 60, "is cut off from the network", LINE)
    stretch(500, 590, 60, "computes", GREEN)
    stretch(450, 660, 220, "computes", GREEN)
    d.line((180, 77), (180, 123), colour=GREEN)
    d.text(188, 104, "claims", size=12, colour=PALE, anchor="start")
    for x in (200, 225, 250):
        d.line((x, 43), (x, 30), colour=GREEN, width=1.2)
    d.text(225, 22, "heartbeats", size=12, colour=PALE)
    d.line((390, 100), (390, 123), colour=RED)
    d.text(390, 94, "its registration expires: attempt 1 ends, expired", size=12, colour=RED)
    d.line((450, 203), (450, 157), colour=GREEN)
    d.text(442, 186, "claims", size=12, colour=PALE, anchor="end")
    d.line((590, 77), (590, 123), colour=GREEN)
    d.text(598, 104, "late result: it counts", size=12, colour=PALE, anchor="start")
    d.line((660, 203), (660, 157), colour=RED, dashed=True)
    d.text(652, 186, "kept; attempt 2 was superseded", size=12, colour=PALE, anchor="end")
    return d


DRAWINGS = {"objects": objects, "statuses": statuses, "race": race, "late": late}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (HOME / f"{name}.svg").write_text(draw().svg())
