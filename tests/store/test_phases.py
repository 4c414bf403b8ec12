"""Phases: curves with known breaks, seeds that differ, data that grow, noise, and what is kept."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from store import open_study
from store.schema import UNDECIDED, Floats, Phase
from store.statistics import find_phases
from tests.support.made_store import open_writer

NAMES = ["uniform", "sharp convergence", "sharp divergence", "slow reconvergence"]
DEMO = np.array([0, 1, 2, 4, 8, 12, 16, 24, 32, 48, *range(64, 769, 32)])
PYTHIA = np.array([0, *2 ** np.arange(10), *range(1000, 144_000, 1000)])
BREAKS = {"demo": (0, 8, 48, 384, 768), "pythia": (0, 16, 256, 2000, 143_000)}
GRID = {"demo": DEMO, "pythia": PYTHIA}
VALUES = (0.2, 0.2, 0.1, 0.4, 0.3)


def line(steps: Floats, breaks: tuple[float, ...], values: tuple[float, ...] = VALUES) -> Floats:
    """Straight between `breaks` over log(step + 1)."""
    return np.interp(np.log(steps + 1.0), np.log(np.array(breaks) + 1.0), values)


def pairs(curve: Floats, n_seeds: int = 2) -> Floats:
    """(step, seed, other_seed) of seeds that agree on the curve."""
    kl = np.repeat(curve, n_seeds**2).reshape(len(curve), n_seeds, n_seeds)
    kl[:, np.eye(n_seeds, dtype=bool)] = np.nan
    return kl


def simulated(
    seed: int,
    grid: str,
    n_seeds: int,
    *,
    height: float = 0.1,
    noise: float = 0.005,
    shift: float = 0.15,
) -> Floats:
    """Seeds whose curves differ in height and in where they break, and pairs with noise."""
    rng = np.random.default_rng([seed, n_seeds])
    curves = []
    for _ in range(n_seeds):
        inner = np.array(BREAKS[grid][1:-1]) * np.exp(rng.normal(0, shift, 3))
        breaks = (BREAKS[grid][0], *np.sort(inner), BREAKS[grid][-1])
        curves.append(line(GRID[grid], breaks) * (1 + rng.normal(0, height)))
    of = np.array(curves)
    kl = (of[:, None] + of + rng.normal(0, noise, (n_seeds, n_seeds, of.shape[1]))) / 2
    kl[np.eye(n_seeds, dtype=bool)] = np.nan
    return kl.transpose(2, 0, 1)


def names(phases: tuple[Phase, ...]) -> list[str]:
    return [phase.name for phase in phases]


# -- known breaks --------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRID)
@pytest.mark.parametrize("n_seeds", [2, 3, 10])
def test_all_four_phases_are_found_where_they_start(grid: str, n_seeds: int) -> None:
    phases = find_phases(GRID[grid], pairs(line(GRID[grid], BREAKS[grid]), n_seeds))
    assert names(phases) == NAMES
    assert [phase.start for phase in phases] == list(BREAKS[grid][:-1])
    for phase, before, after in zip(phases, (0, *BREAKS[grid]), BREAKS[grid][1:], strict=False):
        if n_seeds == 2:  # nothing can be drawn
            assert phase.low is phase.high is phase.support is None
        else:
            assert phase.support == 1
            assert before <= phase.low <= phase.start <= phase.high <= after


@pytest.mark.parametrize(
    ("breaks", "values", "expected"),
    [
        ((0, 8, 48, 768), (0.2, 0.2, 0.1, 0.4), NAMES[:3]),
        ((0, 48, 768), (0.2, 0.1, 0.4), NAMES[1:3]),  # no uniform phase
        ((0, 16, 768), (0.1, 0.1, 0.4), [NAMES[0], NAMES[2]]),  # no convergence
        ((0, 48, 384, 768), (0.2, 0.1, 0.4, 0.3), NAMES[1:]),
        ((0, 64, 768), (0.4, 0.2, 0.1), NAMES[1:2]),  # what goes on falling has not reconverged
        ((0, 768), (0.1, 0.4), NAMES[2:3]),
    ],
)
def test_phases_may_be_missing(
    breaks: tuple[int, ...], values: tuple[float, ...], expected: list[str]
) -> None:
    phases = find_phases(DEMO, pairs(line(DEMO, breaks, values), 4))
    assert names(phases) == expected
    assert [phase.start for phase in phases] == list(breaks[: len(expected)])


def test_a_study_may_begin_late() -> None:
    late = np.arange(1000, 40_000, 1000)
    curve = line(late, (0, 10_000, 39_000), (0.1, 0.4, 0.3))
    phases = find_phases(late, pairs(curve, 3))
    assert names(phases) == NAMES[2:]
    assert phases[1].low <= 10_000 <= phases[1].high
    close = np.arange(100_000, 110_001, 100)  # a hundred steps that a coarse grid would merge
    curve = line(close, (0, 104_000, 110_000), (0.1, 0.4, 0.395))
    curve = np.where(close < 104_000, np.interp(close, [100_000, 104_000], [0.3, 0.4]), curve)
    curve = np.where(close > 104_000, np.interp(close, [104_000, 110_000], [0.4, 0.3]), curve)
    phases = find_phases(close, pairs(curve, 3))
    assert names(phases) == NAMES[2:]
    assert abs(phases[1].start - 104_000) <= 200


def test_steps_that_are_not_reduced_are_left_out() -> None:
    kl = pairs(line(DEMO, BREAKS["demo"]), 4)
    kl[5] = np.nan
    kl[12:, 3] = kl[12:, :, 3] = np.nan  # a seed that ended early
    phases = find_phases(DEMO, kl)
    assert [phase.start for phase in phases] == list(BREAKS["demo"][:-1])
    assert find_phases(DEMO, np.full_like(kl, np.nan)) == ()
    assert find_phases(DEMO[:0], kl[:0]) == ()


def test_many_steps_are_thinned_without_losing_the_early_ones() -> None:
    steps = np.union1d(PYTHIA, np.arange(0, 143_000, 100))
    phases = find_phases(steps, pairs(line(steps, BREAKS["pythia"]), 5))
    assert names(phases) == NAMES
    for phase, start in zip(phases, BREAKS["pythia"], strict=False):
        assert abs(np.log((phase.start + 1) / (start + 1))) < 0.15
        assert phase.low <= start <= phase.high


# What the demo gave: KL of its three pairs of seeds in 1e-4 nats, mean of both directions.
MEASURED = (
    "2300 2299 2297 2290 2264 2227 2185 2024 1748 1356 1452 2234 2697 3023 3081 3272 3441 "
    "3463 3533 3691 3588 3718 3745 3772 3743 3697 3653 3626 3598 3574 3596 3568 3569",
    "2315 2314 2312 2307 2290 2265 2229 2065 1757 1271 1342 2175 2703 3061 3233 3316 3449 "
    "3380 3589 3663 3645 3598 3646 3716 3696 3677 3645 3607 3562 3555 3540 3517 3516",
    "2301 2300 2299 2293 2271 2234 2186 2039 1758 1358 1417 2260 2626 2968 3106 3202 3359 "
    "3301 3362 3496 3510 3513 3659 3595 3518 3539 3518 3525 3472 3475 3449 3427 3415",
)


def measured() -> Floats:
    """(step, seed, other_seed) of the demo, nats."""
    kl = np.full((len(DEMO), 3, 3), np.nan)
    for (i, j), values in zip(((0, 1), (0, 2), (1, 2)), MEASURED, strict=True):
        kl[:, i, j] = kl[:, j, i] = np.array(values.split(), float) / 1e4
    return kl


def test_the_demo_shows_all_four_phases_one_after_the_other() -> None:
    kl = measured()
    phases = find_phases(DEMO, kl)
    assert names(phases) == NAMES
    assert [phase.start for phase in phases[1:3]] == [16, 48]
    assert 256 < phases[3].low <= phases[3].start <= phases[3].high <= 512
    said = [find_phases(DEMO[:n], kl[:n])[-1].name for n in range(1, len(DEMO) + 1)]
    named = [NAMES.index(name) for name, _ in groupby(said) if name != UNDECIDED]
    assert named == [1, 2, 3]
    assert said[:5] == [UNDECIDED] * 5
    assert (said[int(np.flatnonzero(DEMO == 128)[0])], said[-1]) == (NAMES[2], NAMES[3])


# -- seeds that differ ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_intervals_cover_the_true_start(n_seeds: int) -> None:
    covered = []
    for seed in range(20):
        grid = "demo" if seed % 2 else "pythia"
        phases = {p.name: p for p in find_phases(GRID[grid], simulated(seed, grid, n_seeds))}
        for name, start in zip(NAMES[1:], BREAKS[grid][1:], strict=False):
            if name in phases:
                covered.append(phases[name].low <= start <= phases[name].high)
    assert len(covered) >= 55
    assert np.mean(covered) >= 0.9


def test_seeds_that_differ_more_make_intervals_wider() -> None:
    def width(shift: float) -> float:
        found = [find_phases(PYTHIA, simulated(n, "pythia", 6, shift=shift)) for n in range(10)]
        ratios = [(p.high + 1) / (p.low + 1) for phases in found for p in phases[1:]]
        return float(np.log(ratios).mean())

    assert width(0.8) > 1.15 * width(0.0)


def test_what_one_seed_does_alone_leaves_the_current_phase_undecided() -> None:
    kl = pairs(line(DEMO, (*BREAKS["demo"][:3], 768), (0.2, 0.2, 0.1, 0.4)), 4)
    turn = np.where(DEMO >= 384, 0.6 * np.log((DEMO + 1) / 385), 0)
    kl[:, 2] -= turn[:, None] / 2
    kl[:, :, 2] -= turn[:, None] / 2
    current = find_phases(DEMO, kl)[-1]
    assert (current.name, current.start) == (UNDECIDED, 384)
    assert current.support < 0.8
    agreed = pairs(line(DEMO, BREAKS["demo"]), 4)
    assert find_phases(DEMO, agreed)[-1].name == NAMES[3]


# -- data that grow ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_seeds", "grid"),
    [
        *((n_seeds, "demo") for n_seeds in (3, 5, 10)),
        (3, "pythia"),
        *(pytest.param(n_seeds, "pythia", marks=pytest.mark.long) for n_seeds in (5, 10)),
    ],
)
def test_the_current_phase_is_named_late_but_never_taken_back(grid: str, n_seeds: int) -> None:
    for seed in range(2 if grid == "demo" else 1):
        kl = simulated(seed, grid, n_seeds)
        said, since = [], {}
        for n in range(1, len(kl) + 1):
            phases = find_phases(GRID[grid][:n], kl[:n])
            current = phases[-1]
            assert UNDECIDED not in names(phases[:-1])
            if n < 6:
                assert phases == (Phase(UNDECIDED, 0),)
            said.append(current.name)
            since.setdefault(current.name, GRID[grid][n - 1])
        named = [NAMES.index(name) for name, _ in groupby(said) if name != UNDECIDED]
        assert named == sorted(named), said
        assert said[-1] == NAMES[3]
        for name, start in zip(NAMES[2:], BREAKS[grid][2:], strict=False):
            assert start < since[name] < 8 * start


def test_the_current_phase_stays_named_while_some_seeds_have_left_it() -> None:
    kl = pairs(line(DEMO, (*BREAKS["demo"][:3], 768), (0.2, 0.2, 0.1, 0.4)), 5)
    turn = np.where(DEMO >= 384, 0.35 * np.log((DEMO + 1) / 385), 0)
    for seed in (1, 2):
        kl[:, seed] -= turn[:, None] / 2
        kl[:, :, seed] -= turn[:, None] / 2
    phases = find_phases(DEMO, kl)
    assert names(phases) == [*NAMES[:3], UNDECIDED]
    assert phases[2].support == 1
    assert 0.2 < phases[3].support < 0.8
    assert phases[3].low < 384 < phases[3].high


def test_one_point_does_not_make_a_phase() -> None:
    curve = line(DEMO, (*BREAKS["demo"][:3], 768), (0.2, 0.2, 0.1, 0.4))
    curve[-1] = 0.2
    phases = find_phases(DEMO, pairs(curve, 5))
    assert names(phases) == [*NAMES[:3], UNDECIDED]
    assert phases[-1].start in DEMO[-4:]


# -- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_noise_has_no_phases(n_seeds: int) -> None:
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        steps = PYTHIA if seed % 2 else DEMO
        own = rng.normal(0, 0.1, n_seeds)
        noise = rng.normal(0, 0.03, (len(steps), n_seeds, n_seeds))
        phases = find_phases(steps, 1 + own[:, None] + own + noise)
        assert len([name for name in names(phases) if name != UNDECIDED]) <= 1, (seed, phases)
        found.append(names(phases))
    assert found.count(["uniform"]) >= 38


def test_equal_input_gives_equal_phases() -> None:
    kl = simulated(0, "pythia", 5)
    assert find_phases(PYTHIA, kl) == find_phases(PYTHIA, kl.copy())


# -- what is kept --------------------------------------------------------------------------------


def test_phases_are_kept_with_their_intervals(tmp_path: Path) -> None:
    phases = find_phases(DEMO, simulated(0, "demo", 5))
    assert all(phase.high is not None for phase in phases)
    writer = open_writer(tmp_path / "study.zarr")
    writer.plan("m", [("1", 0), ("2", 0)], {})
    writer.set_phases("m", phases)
    writer.close("finished")
    assert open_study(tmp_path / "study.zarr").snapshot().models[0].phases == phases
