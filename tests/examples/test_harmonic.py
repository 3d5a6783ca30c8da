"""The example campaign: correct estimates and uncertainties, portable objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, pairwise
from math import log, pi
from pathlib import Path

import gufe
import numpy as np
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY
from numpy.typing import NDArray

from alchemistore import gufe_adapter
from harmonic import protocol as harmonic_protocol
from harmonic.bar import bar
from harmonic.protocol import EndState, HarmonicProtocol, HarmonicResult, HarmonicSettings, sample
from harmonic.system import (
    ENVIRONMENTS,
    LIGANDS,
    HarmonicWell,
    Medium,
    analytic,
    build_network,
    environment,
    force_constant,
    is_chord,
    ligands,
)

Run = Callable[..., gufe.ProtocolDAGResult]


def works(
    a: float, b: float, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw from both wells exactly and measure the work of switching."""
    in_a, in_b = rng.normal(0, a**-0.5, size), rng.normal(0, b**-0.5, size)
    return 0.5 * (b - a) * in_a**2, 0.5 * (a - b) * in_b**2


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    numbers = count(20_240_119)
    monkeypatch.setattr(harmonic_protocol, "fresh_seed", lambda: next(numbers))
    return numbers


@pytest.fixture
def protocol(seeds: Iterator[int]) -> HarmonicProtocol:
    return HarmonicProtocol(HarmonicSettings(walkers=50, frames=10, stride=100, step=0.15))


@pytest.fixture
def transformation(protocol: HarmonicProtocol) -> gufe.Transformation:
    water = Medium("water", 25.0)
    soft = gufe.ChemicalSystem(
        {"ligand": HarmonicWell("soft", 10), "environment": water}, name="soft in water"
    )
    stiff = gufe.ChemicalSystem(
        {"ligand": HarmonicWell("stiff", 115), "environment": water}, name="stiff in water"
    )
    return gufe.Transformation(stateA=soft, stateB=stiff, protocol=protocol, name="soft to stiff")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def execute(
        transformation: gufe.Transformation, extends: gufe.ProtocolDAGResult | None = None
    ) -> gufe.ProtocolDAGResult:
        dag = gufe_adapter.create_dag(transformation, extends=extends)
        result = gufe_adapter.execute_dag(
            dag, shared_basedir=tmp_path, scratch_basedir=tmp_path, raise_error=True
        )
        assert gufe_adapter.result_ok(result)
        return result

    return execute


def gathered(
    transformation: gufe.Transformation, *results: gufe.ProtocolDAGResult
) -> HarmonicResult:
    answer = gufe_adapter.gather(transformation.protocol, list(results))
    assert isinstance(answer, HarmonicResult)
    return answer


@pytest.mark.parametrize("sizes", [(4000, 4000), (1000, 5000), (5000, 1000)])
def test_bar_agrees_with_the_analytic_free_energy(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(22_245)
    forward, backward = works(10, 40, max(sizes), rng)
    estimate, uncertainty = bar(forward[: sizes[0]], backward[: sizes[1]])
    assert 0.005 < uncertainty < 0.05
    assert abs(estimate - 0.5 * log(4)) < 3 * uncertainty


def test_bar_is_exact_for_equal_and_opposite_works() -> None:
    estimate, uncertainty = bar([1.5] * 10, [-1.5] * 30)
    assert estimate == pytest.approx(1.5, abs=1e-9)
    assert uncertainty == pytest.approx(0, abs=1e-9)


def test_bar_changes_sign_with_the_direction() -> None:
    forward, backward = works(10, 40, 500, np.random.default_rng(1))
    there, error_there = bar(forward, backward)
    back, error_back = bar(backward, forward)
    assert there == pytest.approx(-back, abs=1e-9)
    assert error_there == pytest.approx(error_back, rel=1e-6)


def test_bar_solves_its_equation_far_from_zero() -> None:
    forward, backward = works(10, 40, 500, np.random.default_rng(1))
    estimate, _ = bar(forward, backward)
    shifted, _ = bar(forward + 700, backward - 700)
    assert shifted == pytest.approx(estimate + 700, abs=1e-6)


def test_error_of_bar_has_the_stated_coverage() -> None:
    rng = np.random.default_rng(91_140_601)
    deviations = []
    for _ in range(600):
        estimate, uncertainty = bar(*works(10, 60, 200, rng))
        deviations.append((estimate - 0.5 * log(6)) / uncertainty)
    within = np.abs(deviations)
    # In a normal distribution, 68.3 % and 95.4 % are within one and two sigmas. With 600 draws, the
    # standard errors are 1.9 % and 0.9 %.
    assert np.mean(within < 1) == pytest.approx(0.683, abs=0.057)
    assert np.mean(within < 2) == pytest.approx(0.954, abs=0.026)
    assert np.std(deviations) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("forward", "backward", "says"),
    [
        ([], [1.0, 2.0], "two forward"),
        ([1.0, 2.0], [1.0], "two backward"),
        ([1.0, float("nan")], [1.0, 2.0], "not a finite number"),
        ([1.0, 2.0], [float("inf"), 1.0], "not a finite number"),
    ],
)
def test_bar_refuses_works_it_cannot_use(
    forward: list[float], backward: list[float], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        bar(forward, backward)


def test_sampling_reproduces_the_well() -> None:
    rng = np.random.default_rng(5)
    positions = sample(20.0, np.zeros(200), frames=60, stride=150, step=0.15, rng=rng)[2:]
    # The relative standard error of a variance from n samples is sqrt(2 / n).
    assert positions.var() * 20.0 == pytest.approx(1, abs=4 * (2 / positions.size) ** 0.5)
    assert np.mean(positions**4) / np.mean(positions**2) ** 2 == pytest.approx(3, abs=0.2)


def test_frames_of_the_default_settings_are_independent_in_the_softest_well() -> None:
    settings = HarmonicProtocol.default_settings()
    softest = min(LIGANDS.values()) + min(ENVIRONMENTS.values())
    squares = (
        sample(
            softest,
            np.zeros(1500),
            frames=4,
            stride=settings.stride,
            step=settings.step,
            rng=np.random.default_rng(3),
        )
        ** 2
    )
    correlation = np.corrcoef(squares[2], squares[3])[0, 1]
    assert abs(correlation) < 4 / 1500**0.5


def test_transformation_yields_the_analytic_answer(
    run: Run, transformation: gufe.Transformation
) -> None:
    assert analytic(transformation) == pytest.approx(0.5 * log(4))
    answer = gathered(transformation, *(run(transformation) for _ in range(3)))
    assert 0.01 < answer.get_uncertainty() < 0.05
    assert abs(answer.get_estimate() - analytic(transformation)) < 3 * answer.get_uncertainty()


def test_swapped_end_states_are_far_off(run: Run, transformation: gufe.Transformation) -> None:
    swapped = gufe.Transformation(
        stateA=transformation.stateB,
        stateB=transformation.stateA,
        protocol=transformation.protocol,
        name="swapped",
    )
    answer = gathered(transformation, run(swapped))
    assert abs(answer.get_estimate() - analytic(transformation)) > 20 * answer.get_uncertainty()
    assert abs(answer.get_estimate() - analytic(swapped)) < 3 * answer.get_uncertainty()


def test_extension_continues_from_the_samples_and_narrows_the_error(
    run: Run, transformation: gufe.Transformation
) -> None:
    results = [run(transformation)]
    for _ in range(3):
        results.append(run(transformation, results[-1]))
    answers = [gathered(transformation, result) for result in results]
    assert [answer.data["samples"] for answer in answers] == [1000, 2000, 3000, 4000]
    for before, after in pairwise(answers):
        assert after.get_uncertainty() < before.get_uncertainty()
    assert answers[-1].get_uncertainty() == pytest.approx(
        answers[0].get_uncertainty() / 2, rel=0.15
    )
    assert (
        abs(answers[-1].get_estimate() - analytic(transformation))
        < 3 * answers[-1].get_uncertainty()
    )

    starts = {
        unit.name: unit.inputs["start"]
        for unit in results[1].protocol_units
        if "start" in unit.inputs
    }
    ends = {
        unit.name: unit.outputs["positions"]
        for unit in results[0].protocol_unit_results
        if "work" in unit.outputs
    }
    assert len(starts) == 2
    assert starts == ends


def test_end_state_starts_at_the_given_positions() -> None:
    settings = HarmonicSettings(walkers=2, frames=1, stride=3, step=0.1)
    outputs = EndState._execute(
        None, constant=1.0, constant_other=2.0, settings=settings, start=[5.0, -7.0], seed=1
    )
    assert outputs["positions"] == pytest.approx([5.0, -7.0], abs=3 * 0.1)
    assert outputs["positions"] != [5.0, -7.0]


def test_samples_that_two_results_share_count_once(
    run: Run, transformation: gufe.Transformation
) -> None:
    first = run(transformation)
    extended = run(transformation, first)
    assert (
        gathered(transformation, first, extended).get_estimate()
        == gathered(transformation, extended).get_estimate()
    )
    other = run(transformation)
    assert gathered(transformation, first, extended, other).data["samples"] == 3000


def test_two_runs_of_one_transformation_are_independent(
    run: Run, transformation: gufe.Transformation
) -> None:
    first, second = (gathered(transformation, run(transformation)) for _ in range(2))
    assert first.get_estimate() != second.get_estimate()


def test_gather_without_results_is_an_error(transformation: gufe.Transformation) -> None:
    with pytest.raises(ValueError, match="no result yet"):
        gathered(transformation)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_well_without_a_bottom_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        HarmonicWell("flat", wrong)


def test_settings_that_sample_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        HarmonicSettings(frames=0)


def test_objects_round_trip(run: Run, transformation: gufe.Transformation) -> None:
    result = gathered(transformation, run(transformation))
    for original in (
        transformation.stateA.components["ligand"],
        transformation.stateA.components["environment"],
        transformation.stateA,
        transformation.protocol.settings,
        transformation.protocol,
        transformation,
        build_network(transformation.protocol),
        result,
    ):
        document = original.to_dict()
        # gufe returns the existing object of a key instead of a second one.
        TOKENIZABLE_REGISTRY.clear()
        copy = type(original).from_dict(document)
        assert copy is not original
        assert copy.key == original.key
        assert copy == original


def test_integer_and_float_force_constants_give_the_same_key() -> None:
    assert HarmonicWell("a", 1).key == HarmonicWell("a", 1.0).key


def test_network_is_connected_with_cycles_in_each_environment(
    protocol: HarmonicProtocol,
) -> None:
    network = build_network(protocol)
    assert network.name == "harmonic wells"
    assert len(network.edges) == 40
    assert len(network.nodes) == len(LIGANDS) * len(ENVIRONMENTS)
    for medium in ENVIRONMENTS:
        pairs = [ligands(edge) for edge in network.edges if environment(edge) == medium]
        reached, previous = {pairs[0][0]}, 0
        while len(reached) > previous:
            previous = len(reached)
            reached |= {name for pair in pairs if reached & set(pair) for name in pair}
        assert reached == set(LIGANDS)
        assert len(pairs) - len(LIGANDS) + 1 == 9
        assert sum(is_chord(edge) for edge in network.edges if environment(edge) == medium) == 8


def test_environment_changes_the_answers(protocol: HarmonicProtocol) -> None:
    network = build_network(protocol)
    answers = {(ligands(edge), environment(edge)): analytic(edge) for edge in network.edges}
    for (pair, medium), answer in answers.items():
        if medium == "vacuum":
            assert answer == pytest.approx(0.5 * log(LIGANDS[pair[1]] / LIGANDS[pair[0]]))
            assert abs(answers[pair, "solvent"]) < abs(answer)


def test_analytic_answer_follows_from_the_partition_functions(
    transformation: gufe.Transformation,
) -> None:
    def free_energy(system: gufe.ChemicalSystem) -> float:
        return -0.5 * log(2 * pi / force_constant(system))

    difference = free_energy(transformation.stateB) - free_energy(transformation.stateA)
    assert analytic(transformation) == pytest.approx(difference)
