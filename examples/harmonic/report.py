"""Print the results of the campaign."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harmonic.analysis import Answers, LostLease
from harmonic.cycles import Cycle, Leg

# If all is well, one transformation in 370 deviates by more than NOTABLE, and one in 1.7 million by
# more than LIMIT.
NOTABLE = 3.0
LIMIT = 5.0


@dataclass(frozen=True)
class Report:
    """The results of a campaign.

    Attributes
    ----------
    answers : Answers
    plot : Path
        The file of the plot.
    complete : bool
        Whether every task is complete.
    found : bool
        Whether the campaign was complete before this run.
    """

    answers: Answers
    plot: Path
    complete: bool
    found: bool = False

    @property
    def ok(self) -> bool:
        """Check whether all tasks are complete and all deviations are within the limit."""
        checked: list[Leg | Cycle] = [*self.answers.legs, *self.answers.cycles]
        return self.complete and all(abs(item.deviation) <= LIMIT for item in checked)

    def show(self, console: Console) -> None:
        """Print tables and a summary.

        Parameters
        ----------
        console : Console
        """
        for table in (legs_table(self.answers.legs), self._cycles(), self._services()):
            console.print()
            console.print(table)
        console.print()
        self._verdict(console)
        tell(console, f"Plot: [bold]{escape(str(self.plot))}[/]")

    def _cycles(self) -> Table:
        table = _table(
            "Cycle closure in kT: the free energies around a cycle should add up to zero"
        )
        table.add_column("in")
        table.add_column("around", overflow="fold")
        table.add_column("sum", justify="right", no_wrap=True)
        table.add_column("deviation", justify="right", no_wrap=True)
        previous = None
        for cycle in self.answers.cycles:
            if previous not in (None, cycle.environment):
                table.add_section()
            table.add_row(
                "" if cycle.environment == previous else cycle.environment,
                " → ".join((*cycle.ligands, cycle.ligands[0])),
                f"{cycle.closure:+.4f} ± {cycle.uncertainty:.4f}",
                _sigmas(cycle.deviation),
            )
            previous = cycle.environment
        return table

    def _services(self) -> Table:
        endings = sorted(
            {outcome for service in self.answers.services for outcome in service.outcomes}
        )
        table = _table("Workers: outcomes of the claimed tasks")
        table.add_column("worker", no_wrap=True)
        table.add_column("claimed", justify="right")
        for outcome in endings:
            table.add_column(outcome, justify="right")
        table.add_column("")
        for service in self.answers.services:
            counts = (str(service.outcomes[outcome] or "·") for outcome in endings)
            table.add_row(
                service.identifier,
                str(service.attempts),
                *counts,
                "\n".join(
                    f"[yellow]{_told(service.identifier, lease)}" for lease in service.lost_leases
                ),
            )
        return table

    def _verdict(self, console: Console) -> None:
        legs, loops = self.answers.legs, self.answers.cycles
        checked: list[Leg | Cycle] = [*legs, *loops]
        far = [item for item in checked if abs(item.deviation) > NOTABLE]
        if not self.complete:
            tell(console, "[yellow]The campaign is not complete: run it again to continue.")
        if not legs:
            return
        if not far:
            tell(
                console,
                f"[green]✓[/] All {len(legs)} transformations and {len(loops)} cycles are within"
                f" {NOTABLE:.0f} σ of the exact values.",
            )
        elif all(abs(item.deviation) <= LIMIT for item in far):
            tell(
                console,
                f"[yellow]![/] {len(far)} of {len(legs)} transformations and {len(loops)} cycles"
                f" deviate by more than {NOTABLE:.0f} σ."
                " By chance, this happens in about one of seven campaigns.",
            )
        else:
            tell(
                console,
                f"[red]✗[/] The results are wrong: more than {LIMIT:.0f} σ is not chance.",
            )


def legs_table(legs: Iterable[Leg]) -> Table:
    """Return a table of the estimated and exact free energies.

    Parameters
    ----------
    legs : iterable of Leg
        The transformations, sorted by environment.
    """
    table = _table("Free energies in kT: estimate ± standard error, and the exact value")
    table.add_column("in")
    table.add_column("from → to")
    for heading in ("estimate", "exact", "deviation", "samples"):
        table.add_column(heading, justify="right")
    previous = None
    for leg in legs:
        if previous not in (None, leg.environment):
            table.add_section()
        table.add_row(
            "" if leg.environment == previous else leg.environment,
            f"{leg.first} → {leg.second}",
            f"{leg.estimate:+.4f} ± {leg.uncertainty:.4f}",
            f"{leg.exact:+.4f}",
            _sigmas(leg.deviation),
            str(leg.samples),
        )
        previous = leg.environment
    return table


def tell(console: Console, text: str) -> None:
    """Print a line without coloured numbers and without breaking paths."""
    console.print(text, highlight=False, soft_wrap=True)


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )


def _told(identifier: str, lease: LostLease) -> str:
    if not lease.late:
        return (
            "lost; its task is open"
            if lease.completed_by is None
            else f"lost; {lease.completed_by} completed its task"
        )
    if lease.completed_by != identifier:
        return f"expired; {lease.completed_by} completed its task, its late result is kept"
    return "expired; its late result counts" + (
        f", {lease.superseded} was superseded" if lease.superseded else ""
    )


def _sigmas(deviation: float) -> str:
    text = f"{deviation:+.1f} σ"
    if abs(deviation) > LIMIT:
        return f"[bold red]{text} ✗[/]"
    return f"[yellow]{text} ![/]" if abs(deviation) > NOTABLE else f"{text} [green]✓[/]"
