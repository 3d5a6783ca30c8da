"""The answers, told to a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harmonic.analysis import Answers, Lapse
from harmonic.cycles import Cycle, Leg

# One transformation in 370 is off by more than this although all is well; more than the limit, one in 1.7 million.
NOTABLE = 3.0
LIMIT = 5.0


@dataclass(frozen=True)
class Report:
    """What a campaign came to.

    Attributes
    ----------
    answers : Answers
    plot : Path
        The picture.
    complete : bool
        Whether every task is done.
    found : bool
        Whether it was done before this run.
    """

    answers: Answers
    plot: Path
    complete: bool
    found: bool = False

    @property
    def ok(self) -> bool:
        """Whether all is done and nothing is further from the truth, or from closing, than chance allows."""
        checked: list[Leg | Cycle] = [*self.answers.legs, *self.answers.cycles]
        return self.complete and all(abs(item.deviation) <= LIMIT for item in checked)

    def show(self, console: Console) -> None:
        """Print tables and verdict.

        Parameters
        ----------
        console : Console
        """
        for table in (self._legs(), self._cycles(), self._services()):
            console.print()
            console.print(table)
        console.print()
        self._verdict(console)
        tell(console, f"Plot: [bold]{escape(str(self.plot))}[/]")

    def _legs(self) -> Table:
        table = _table("Free energies in kT: estimate ± standard error against the exact answer")
        table.add_column("in")
        table.add_column("from → to")
        for heading in ("estimate", "exact", "deviation", "samples"):
            table.add_column(heading, justify="right")
        previous = None
        for leg in self.answers.legs:
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
        table = _table("Workers: what became of the tasks they claimed")
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
                    f"[yellow]{_told(service.identifier, lapse)}" for lapse in service.lapses
                ),
            )
        return table

    def _verdict(self, console: Console) -> None:
        legs, loops = self.answers.legs, self.answers.cycles
        checked: list[Leg | Cycle] = [*legs, *loops]
        far = [item for item in checked if abs(item.deviation) > NOTABLE]
        if not self.complete:
            tell(console, "[yellow]The campaign is not complete: run it again to go on.")
        if not legs:
            return
        if not far:
            tell(
                console,
                f"[green]✓[/] All {len(legs)} transformations and {len(loops)} cycles lie within {NOTABLE:.0f} σ of the truth.",
            )
        elif all(abs(item.deviation) <= LIMIT for item in far):
            tell(
                console,
                f"[yellow]![/] {len(far)} of {len(legs)} transformations and {len(loops)} cycles lie beyond {NOTABLE:.0f} σ."
                f" That much is chance: it happens once in about seven campaigns.",
            )
        else:
            tell(
                console,
                f"[red]✗[/] Something is wrong: a deviation of more than {LIMIT:.0f} σ is no chance.",
            )


def tell(console: Console, text: str) -> None:
    """Print a line as it is: numbers are not coloured, and paths not broken, so that they can be copied."""
    console.print(text, highlight=False, soft_wrap=True)


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )


def _told(identifier: str, lapse: Lapse) -> str:
    if not lapse.late:
        return (
            "vanished; its task is open"
            if lapse.completed_by is None
            else f"vanished; {lapse.completed_by} did its task"
        )
    if lapse.completed_by != identifier:
        return f"silent for too long; {lapse.completed_by} did its task, its late result is kept"
    return "silent for too long; its late result counts" + (
        f", {lapse.superseded} was superseded" if lapse.superseded else ""
    )


def _sigmas(deviation: float) -> str:
    text = f"{deviation:+.1f} σ"
    if abs(deviation) > LIMIT:
        return f"[bold red]{text} ✗[/]"
    return f"[yellow]{text} ![/]" if abs(deviation) > NOTABLE else f"{text} [green]✓[/]"
