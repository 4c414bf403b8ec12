"""Windows of a text, and batches of them."""

from __future__ import annotations

import pytest

from seedconv_tui.training.windows import Window, batches, plan_windows


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
