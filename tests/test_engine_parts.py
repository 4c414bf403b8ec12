"""Parts of the engine that stand alone: windows and phases."""

from __future__ import annotations

import numpy as np
import pytest

from engine.phases import find_phases
from engine.windows import Window, batches, plan_windows


@pytest.mark.parametrize("window", [2, 3, 8, 50])
@pytest.mark.parametrize("share", [0, 0.5, 0.9])
@pytest.mark.parametrize("both_sides", [False, True])
def test_windows_keep_every_input_once_and_in_order(
    window: int, share: float, both_sides: bool
) -> None:
    overlap = int(share * (window - 1))
    lengths = [1, 2, 7, 49, 50, 51, 200]
    kept = []
    for w in plan_windows(lengths, window, overlap, both_sides=both_sides):
        assert w.length <= window
        assert w.start <= w.first < w.last <= w.stop
        assert w.start == 0 or w.first - w.start >= (overlap // 2 if both_sides else overlap)
        assert w.last == w.stop or (both_sides and w.stop - w.last >= overlap // 2)
        assert w.last == w.stop or w.stop < lengths[w.sequence]
        kept += [(w.sequence, position) for position in range(w.first, w.last)]
    assert kept == [(s, position) for s, n in enumerate(lengths) for position in range(n)]


def test_batches_stay_within_their_size_and_lose_nothing() -> None:
    lengths = [5, 9, 2, 40, 3, 3, 3]
    windows = [Window(n, 0, length, 0, length) for n, length in enumerate(lengths)]
    made = list(batches(iter(windows), 20))
    assert [w for batch in made for w in batch] == windows
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(w.length for w in batch) <= 20
    equal = list(batches(iter(windows), 20, equal=True))
    assert [[w.length for w in batch] for batch in equal] == [[5], [9], [2], [40], [3, 3, 3]]


STEPS = np.array([0, 1, 2, 4, 8, 12, 16, 24, 32, 48, *range(64, 769, 32)])


def curve(steps: np.ndarray) -> np.ndarray:
    x, breaks = np.log(steps + 1.0), np.log(np.array([0, 8, 48, 512, 768]) + 1.0)
    return np.interp(x, breaks, [0.23, 0.23, 0.13, 0.36, 0.34])


def test_phases_are_found_as_the_curve_grows() -> None:
    names = ["uniform", "sharp convergence", "sharp divergence", "slow reconvergence"]
    whole = find_phases(STEPS, curve(STEPS))
    assert [phase.name for phase in whole] == names[:3] or [p.name for p in whole] == names
    assert [phase.start for phase in whole[:3]] == [0, 8, 48]
    assert find_phases(STEPS[:5], curve(STEPS[:5])) == ()
    half = STEPS[STEPS <= 32]
    assert [phase.name for phase in find_phases(half, curve(half))] == names[:2]
    gaps = np.where(STEPS == 12, np.nan, curve(STEPS))
    assert [phase.start for phase in find_phases(STEPS, gaps)[:3]] == [0, 8, 48]


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_phases(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(1, 0.01, len(STEPS))
    assert len(find_phases(STEPS, noise)) <= 1
