"""The protocol: Monte Carlo in both end states, then Bennett's acceptance ratio.

It uses only those parts of gufe that are the same in 0.4 and 1.x.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import gufe
import numpy as np
from gufe.tokenization import GufeTokenizable
from numpy.typing import NDArray

from harmonic.bar import bar
from harmonic.system import force_constant

Positions = NDArray[np.float64]
# Work values by sampling run, so that a run that is part of two results is counted once.
Runs = dict[str, list[float]]

# The number of frames discarded for equilibration.
EQUILIBRATION = 2


class HarmonicSettings(GufeTokenizable):
    """The settings of the sampling.

    Parameters
    ----------
    walkers : int, default 32
        The number of independent particles.
    frames : int, default 32
        The number of samples of each particle.
    stride : int, default 800
        The number of Monte Carlo moves between two samples. The default makes samples independent
        in the softest well.
    step : float, default 0.05
        The largest move, in nm.
    """

    def __init__(
        self, walkers: int = 32, frames: int = 32, stride: int = 800, step: float = 0.05
    ) -> None:
        self.walkers, self.frames, self.stride, self.step = (
            int(walkers),
            int(frames),
            int(stride),
            float(step),
        )
        if min(self.walkers, self.frames, self.stride, self.step) <= 0:
            raise ValueError(
                f"walkers, frames, stride and step must be above zero: {self._to_dict()}"
            )

    def frozen_copy(self) -> HarmonicSettings:
        """Return the settings themselves, because they are immutable."""
        return self

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {}

    def _to_dict(self) -> dict[str, Any]:
        return {
            "walkers": self.walkers,
            "frames": self.frames,
            "stride": self.stride,
            "step": self.step,
        }

    @classmethod
    def _from_dict(cls, dct: dict[str, Any]) -> HarmonicSettings:
        return cls(**dct)


def sample(
    constant: float,
    start: Positions,
    *,
    frames: int,
    stride: int,
    step: float,
    rng: np.random.Generator,
) -> Positions:
    """Sample a well by Metropolis Monte Carlo.

    Parameters
    ----------
    constant : float
        The force constant, in kT/nm^2.
    start : ndarray
        The initial positions of the walkers, in nm.
    frames, stride, step
        As in :class:`HarmonicSettings`.
    rng : Generator
        The random number generator.

    Returns
    -------
    ndarray
        The positions in nm, frames by walkers.
    """
    trajectory = np.empty((frames, start.size))
    here = np.array(start, dtype=np.float64)
    energy = 0.5 * constant * here**2
    for frame in trajectory:
        for _ in range(stride):
            there = here + rng.uniform(-step, step, here.size)
            energy_there = 0.5 * constant * there**2
            # For uniform u, -ln(u) is exponentially distributed. This is the Metropolis criterion
            # u < exp(energy - energy_there).
            accepted = rng.standard_exponential(here.size) > energy_there - energy
            here = np.where(accepted, there, here)
            energy = np.where(accepted, energy_there, energy)
        frame[:] = here
    return trajectory


class EndState(gufe.ProtocolUnit):
    """Samples one end state and computes the work of switching to the other."""

    @staticmethod
    def _execute(
        ctx: Any,
        *,
        constant: float,
        constant_other: float,
        settings: HarmonicSettings,
        start: list[float] | None,
        seed: int,
        **_: Any,
    ) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        how: dict[str, Any] = {"stride": settings.stride, "step": settings.step, "rng": rng}
        if start is None:
            positions = sample(constant, np.zeros(settings.walkers), frames=EQUILIBRATION, **how)[
                -1
            ]
        else:
            positions = np.asarray(start)
        trajectory = sample(constant, positions, frames=settings.frames, **how)
        work = 0.5 * (constant_other - constant) * trajectory**2
        return {
            "run": f"{seed:016x}",
            "work": work.ravel().tolist(),
            "positions": trajectory[-1].tolist(),
        }


class FreeEnergy(gufe.ProtocolUnit):
    """Estimates the free energy from the work values of both end states and an earlier result."""

    @staticmethod
    def _execute(
        ctx: Any,
        *,
        state_a: gufe.ProtocolUnitResult,
        state_b: gufe.ProtocolUnitResult,
        earlier: dict[str, Any] | None,
        **_: Any,
    ) -> dict[str, Any]:
        before: dict[str, Runs] = earlier or {"forward": {}, "backward": {}}
        works = {
            direction: {**before[direction], end.outputs["run"]: end.outputs["work"]}
            for direction, end in (("forward", state_a), ("backward", state_b))
        }
        estimate, uncertainty = bar(_pool(works["forward"]), _pool(works["backward"]))
        return {
            "estimate": estimate,
            "uncertainty": uncertainty,
            "positions": [state_a.outputs["positions"], state_b.outputs["positions"]],
            **works,
        }


class HarmonicResult(gufe.ProtocolResult):
    """The free energy of a transformation from all its results, in kT."""

    def get_estimate(self) -> float:
        """Return the free energy of state B minus that of state A, in kT."""
        return float(self.data["estimate"])

    def get_uncertainty(self) -> float:
        """Return the standard error of the estimate, in kT."""
        return float(self.data["uncertainty"])

    def get_rate_of_convergence(self) -> float:
        """Return the uncertainty times the square root of the number of samples, in kT.

        It is constant once the sampling has converged.
        """
        return float(self.data["uncertainty"] * self.data["samples"] ** 0.5)

    @classmethod
    def _from_dict(cls, dct: dict[str, Any]) -> HarmonicResult:
        # gufe 1.x adds the number of results to the data; 0.4 has no such argument.
        counted = dct.get("n_protocol_dag_results")
        return cls(
            **({} if counted is None else {"n_protocol_dag_results": counted}), **dct["data"]
        )


class HarmonicProtocol(gufe.Protocol):
    """Samples both wells and estimates the free energy between them.

    A result that extends another continues from the final positions of its walkers. Its estimate
    uses the work values of both.

    Parameters
    ----------
    settings : HarmonicSettings

    Attributes
    ----------
    end_state_cls : type
        The unit that samples an end state.
    """

    result_cls = HarmonicResult
    end_state_cls: type[EndState] = EndState
    _settings_cls = HarmonicSettings

    # The methods of gufe 0.4 compare settings only.
    __hash__ = GufeTokenizable.__hash__
    __eq__ = GufeTokenizable.__eq__

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def _default_settings(cls) -> HarmonicSettings:
        return HarmonicSettings()

    def _create(
        self,
        stateA: gufe.ChemicalSystem,
        stateB: gufe.ChemicalSystem,
        mapping: Any = None,
        extends: gufe.ProtocolDAGResult | None = None,
        extend_from: gufe.ProtocolDAGResult | None = None,
        **_: Any,
    ) -> list[gufe.ProtocolUnit]:
        parent = extends if extends is not None else extend_from
        earlier = None if parent is None else _estimation(parent)
        start_a, start_b = (None, None) if earlier is None else earlier["positions"]
        a, b = force_constant(stateA), force_constant(stateB)
        ends = {
            label: self.end_state_cls(
                name=f"sample {system.name}",
                constant=constant,
                constant_other=other,
                settings=self.settings,
                start=start,
                seed=fresh_seed(),
            )
            for label, system, constant, other, start in (
                ("state_a", stateA, a, b, start_a),
                ("state_b", stateB, b, a, start_b),
            )
        }
        works = (
            None
            if earlier is None
            else {direction: earlier[direction] for direction in ("forward", "backward")}
        )
        return [*ends.values(), FreeEnergy(name="free energy", **ends, earlier=works)]

    def _gather(self, protocol_dag_results: Iterable[gufe.ProtocolDAGResult]) -> dict[str, Any]:
        forward: Runs = {}
        backward: Runs = {}
        for result in protocol_dag_results:
            outputs = _estimation(result)
            forward.update(outputs["forward"])
            backward.update(outputs["backward"])
        if not forward:
            raise ValueError("there is no result yet; run a task of the transformation first")
        works = _pool(forward), _pool(backward)
        estimate, uncertainty = bar(*works)
        return {
            "estimate": estimate,
            "uncertainty": uncertainty,
            "samples": works[0].size + works[1].size,
        }


def fresh_seed() -> int:
    """Return a random seed. It is stored in the result, so that the run can be repeated."""
    return secrets.randbits(63)


def _estimation(result: gufe.ProtocolDAGResult) -> dict[str, Any]:
    for unit in result.protocol_unit_results:
        if unit.ok() and "estimate" in unit.outputs:
            outputs: dict[str, Any] = unit.outputs
            return outputs
    raise ValueError(f"{result.key} contains no estimate; run its task again")


def _pool(runs: Runs) -> Positions:
    return np.concatenate([np.asarray(works, dtype=np.float64) for works in runs.values()])
