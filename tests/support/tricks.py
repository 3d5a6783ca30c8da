"""A protocol whose unit does what its settings say: it works, fails, or takes its process down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gufe
import numpy as np

from tests.support.gufe_classes import Effort, PushProtocol, system

GREEDY = 2**32


class Trick(gufe.ProtocolUnit):
    """A unit that carries out a mode, which may have an argument after a space."""

    @staticmethod
    def _execute(ctx: Any, *, mode: str, start: float, **more: Any) -> dict[str, Any]:
        what, argument = [*mode.split(maxsplit=1), ""][:2]
        if what == "fail":
            raise ArithmeticError("no luck")
        if what == "once" and not Path(argument).exists():
            Path(argument).touch()
            raise ArithmeticError("no luck at first")
        if what == "exit":
            os._exit(3)
        if what == "leave":
            sys.exit(4)
        if what == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "greedy":
            # Never touched, so that nothing is used without a limit.
            np.empty(GREEDY, dtype=np.uint8)
        if what == "talk":
            sys.stdout.write("x" * int(argument) + "\n")
            sys.stdout.flush()
            subprocess.run(["echo", "from a process of the protocol"], check=True)
            sys.stderr.write("the end, on standard error\n")
        if what == "hang":
            hang(Path(argument))
        if what == "pause":
            time.sleep(float(argument))
        if what == "orphan":
            Path(argument).write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        if what == "environment":
            Path(argument).write_text("\n".join(sorted(os.environ)))
        return {"total": start + 1.0, "random": float(np.random.random())}


def hang(directory: Path) -> None:
    """Start a process, tell both ids, and hang until there is a file `go`."""
    child = subprocess.Popen(["sleep", "600"])
    (directory / "partial").write_text(f"{os.getpid()} {child.pid}")
    (directory / "partial").rename(directory / "pids")
    while not (directory / "go").exists():
        time.sleep(0.02)
    child.kill()


class TrickProtocol(PushProtocol):
    """A protocol of one unit, which receives the mode."""

    def _create(
        self,
        stateA: gufe.ChemicalSystem,
        stateB: gufe.ChemicalSystem,
        mapping: Any = None,
        extends: Any = None,
        extend_from: Any = None,
        **_: Any,
    ) -> list[gufe.ProtocolUnit]:
        parent = extends if extends is not None else extend_from
        if self.settings.mode == "no dag":
            raise ArithmeticError("there is no DAG")
        start = 0.0 if parent is None else parent.protocol_unit_results[-1].outputs["total"]
        return [Trick(name="trick", mode=self.settings.mode, start=start)]


def trick_network(mode: str) -> gufe.AlchemicalNetwork:
    """Return a network of one transformation that carries out a mode."""
    edge = gufe.Transformation(system("a"), system("b"), TrickProtocol(Effort(mode)), name="a to b")
    return gufe.AlchemicalNetwork([edge], name="tricks")
