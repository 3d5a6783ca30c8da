"""One scenario: prepare its servers, run the load, and compare journals and stores."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import text

from alchemistore import AlchemistoreError, S3ObjectStore
from bench.soak import journal, verdict
from bench.soak.load import Drained, Load, Sizes
from bench.soak.scenarios import SCENARIOS, Place, object_store
from bench.soak.servers import Skipped

OUTCOMES = text("SELECT coalesce(outcome, 'open') AS outcome FROM attempts")


@dataclass
class Figures:
    """The figures of a scenario; all of `faulty` must be empty.

    Attributes
    ----------
    scenario : str
        Its name.
    skipped : str
        Why it was not run; empty if it was.
    failed : str
        Why it could not be run to its end; empty if it was.
    tasks, faults : int
        How many there were.
    seconds, rate : float
        The duration of the load, and completed tasks per second.
    attempts : dict of str to int
        The numbers of attempts by outcome.
    settled : int
        The number of settlements that were answered.
    faulty : dict of str to list of str
        What must not happen, and each time it did.
    errors : dict of str to int
        How often workers and maintainer saw each error.
    messages : list of str
        The most frequent of their texts.
    """

    scenario: str
    skipped: str = ""
    failed: str = ""
    tasks: int = 0
    faults: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    attempts: dict[str, int] = field(default_factory=dict)
    settled: int = 0
    faulty: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True if the scenario ran and nothing forbidden happened."""
        return not self.failed and not any(self.faulty.values())


def run(
    name: str, sizes: Sizes, small_disk: Path | None = None, keep: Path | None = None
) -> Figures:
    """Run a scenario and return its figures.

    Parameters
    ----------
    name : str
        The scenario.
    sizes : Sizes
        How much load, and how many faults.
    small_disk : Path, optional
        A directory on a small file system.
    keep : Path, optional
        A directory for the journals and the logs of PostgreSQL, if the scenario does not pass.
    """
    directory = Path(tempfile.mkdtemp(prefix="alchemistore-soak-"))
    # PostgreSQL does not run as root.
    directory.chmod(0o711)
    try:
        with SCENARIOS[name](Place(directory, small_disk)) as setup:
            load = Load(setup, sizes, directory / "journals")
            with closing(load.store):
                figures = _figures(name, load, load.run(), object_store(setup))
            if keep is not None and not figures.passed:
                _keep(directory, keep / name)
            return figures
    except Skipped as reason:
        return Figures(name, skipped=str(reason))
    except (AlchemistoreError, psycopg.Error, OSError) as error:
        if keep is not None:
            _keep(directory, keep / name)
        return Figures(name, failed=f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _keep(directory: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for file in [*directory.glob("journals/*"), *directory.rglob("postgres.log")]:
        kept = target / file.relative_to(directory)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, kept)


def _figures(name: str, load: Load, drained: Drained, objects: S3ObjectStore | None) -> Figures:
    events = list(journal.events(load.directory))
    twice = verdict.claimed_twice(events, load)
    if drained.twice:
        twice.append(f"{drained.twice} tasks had two open attempts at once")
    errors, messages = verdict.errors(events)
    return Figures(
        name,
        tasks=load.sizes.tasks,
        faults=drained.faults,
        seconds=round(drained.seconds, 1),
        rate=round(drained.complete / drained.seconds, 1),
        attempts=dict(Counter(row.outcome for row in load.rows(OUTCOMES))),
        settled=sum(one["kind"] == "settled" for one in events),
        faulty={
            "claimed twice": twice,
            "results lost": verdict.results_lost(events, load, objects),
            "claims lost": verdict.claims_lost(events, load),
            "stranded": drained.stranded,
            "problems": list(load.insist("problems", load.store.problems)),
            "crashes": verdict.crashes(events),
        },
        errors=errors,
        messages=messages,
    )
