"""Print the results of the campaign."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harmonic.analysis import Answers, LostLease
from harmonic.cycles import Cycle, Leg
from harmonic.odds import chi_square_tail, largest_of
from harmonic.ranking import Ranking, rank

# If all is well, one transformation in 370 deviates by more than NOTABLE, and one in 1.7 million by
# more than LIMIT.
NOTABLE = 3.0
LIMIT = 5.0
# The relative free energy of ligands is that in the first environment minus that in the second.
ENVIRONMENTS = ("solvent", "vacuum")
# Columns of the file with the tables.
WIDE = 120


@dataclass(frozen=True)
class Report:
    """The results of a campaign.

    Attributes
    ----------
    answers : Answers
    plot : Path
        The file of the plot.
    tables : Path
        The file of the tables.
    complete : bool
        Whether every task is complete.
    found : bool
        Whether the campaign was complete before this run.
    """

    answers: Answers
    plot: Path
    tables: Path
    complete: bool
    found: bool = False

    @property
    def ok(self) -> bool:
        """Check whether all tasks are complete and all deviations are within the limit."""
        checked: list[Leg | Cycle] = [*self.answers.legs, *self.answers.cycles]
        return self.complete and all(abs(item.deviation) <= LIMIT for item in checked)

    @cached_property
    def ranking(self) -> Ranking | None:
        """The ligands in the order of their relative free energies, once there are results."""
        return rank(self.answers.legs, ENVIRONMENTS)

    def show(self, console: Console, tables: bool = False) -> None:
        """Print the verdict and the ranking of the ligands.

        Parameters
        ----------
        console : Console
        tables : bool, default False
            Print the tables of all transformations, cycles and workers, too.
        """
        console.print()
        self._verdict(console)
        if self.ranking is not None:
            console.print()
            console.print(ranking_table(self.ranking))
            tell(console, _order(self.ranking))
        elif self.answers.legs:
            tell(console, "The results do not connect all ligands yet, so there is no ranking.")
        if tables:
            self.show_tables(console)
        console.print()
        if self.answers.legs:
            tell(console, f"Plot: [bold]{escape(str(self.plot))}[/]")
        tell(
            console,
            f"All transformations, cycles and workers: [bold]{escape(str(self.tables))}[/]"
            + ("" if tables else "; --tables prints them"),
        )

    def show_tables(self, console: Console) -> None:
        """Print the tables of all transformations, cycles and workers.

        Parameters
        ----------
        console : Console
        """
        for table in (legs_table(self.answers.legs), self._cycles(), self._services()):
            console.print()
            console.print(table)

    def write_tables(self) -> None:
        """Write the tables to their file."""
        with self.tables.open("w") as file:
            self.show_tables(Console(file=file, width=WIDE))

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
        legs = self.answers.legs
        if not self.complete:
            tell(console, "[yellow]The campaign is not complete: run it again to continue.")
        if not legs:
            return
        worst = max(legs, key=lambda leg: abs(leg.deviation))
        checked: list[Leg | Cycle] = [*legs, *self.answers.cycles]
        far = sum(abs(leg.deviation) > NOTABLE for leg in legs)
        if any(abs(item.deviation) > LIMIT for item in checked):
            tell(
                console,
                f"[red]✗[/] [bold]The results are wrong[/]: a deviation of more than {LIMIT:.0f} σ"
                " is not chance.",
            )
        elif far:
            tell(
                console,
                f"[yellow]![/] [bold]{len(legs) - far} of {len(legs)} transformations agree with"
                f" the exact values[/] within {NOTABLE:.0f} σ.",
            )
        else:
            tell(
                console,
                f"[green]✓[/] [bold]All {len(legs)} transformations agree with the exact values[/]"
                f" within {NOTABLE:.0f} σ.",
            )
        where = f"{worst.first} → {worst.second} in {worst.environment}"
        tell(
            console,
            f"  Largest deviation: {abs(worst.deviation):.1f} σ ({where}); chance gives one"
            f" as large in {_odds(largest_of(len(legs), worst.deviation))}.",
        )
        squares = sum(leg.deviation**2 for leg in legs)
        tell(
            console,
            f"  All {len(legs)} together have χ² = {squares:.1f}; chance gives more in"
            f" {_odds(chi_square_tail(squares, len(legs)))}.",
        )
        if self.ranking is not None and self.ranking.independent_cycles:
            tell(
                console,
                f"  The {self.ranking.independent_cycles} independent cycles close with"
                f" χ² = {self.ranking.closure:.1f}; chance gives more in"
                f" {_odds(self.ranking.closure_odds)}.",
            )


def ranking_table(ranking: Ranking) -> Table:
    """Return a table of the ligands in the order of their relative free energies.

    Parameters
    ----------
    ranking : Ranking
    """
    first, second = ranking.environments
    table = _table(f"ΔΔG = ΔG({first}) − ΔG({second}) in kT, relative to the mean")
    table.add_column("", justify="right")
    table.add_column("ligand")
    for heading in ("ΔΔG", "exact", "deviation", "before the next"):
        table.add_column(heading, justify="right")
    for index, ligand in enumerate(ranking.ligands):
        last = index == len(ranking.ligands) - 1
        table.add_row(
            str(index + 1),
            ligand.name,
            f"{ligand.estimate:+.3f} ± {ligand.uncertainty:.3f}",
            f"{ligand.exact:+.3f}",
            _sigmas(ligand.deviation),
            "" if last else _percent(ranking.below_next(index)),
        )
    return table


def _order(ranking: Ranking) -> str:
    wrong = ranking.wrong_pairs
    if not wrong:
        return f"All {ranking.pairs} pairs of ligands are in the order of the exact values."
    named = ", ".join(f"{one} and {other}" for one, other in wrong)
    return (
        f"{ranking.pairs - len(wrong)} of {ranking.pairs} pairs of ligands are in the order of the"
        f" exact values; not {named}."
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


def _percent(probability: float) -> str:
    if probability > 0.999:
        return "> 99.9 %"
    return f"{100 * probability:.{1 if probability > 0.99 else 0}f} %"


def _odds(probability: float) -> str:
    """Return a probability as a share of campaigns."""
    if probability >= 0.01:
        return f"{100 * probability:.0f} % of campaigns"
    if probability > 1e-9:
        return f"one of {float(f'{1 / probability:.1g}'):,.0f} campaigns"
    return "less than one of a billion campaigns"


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
