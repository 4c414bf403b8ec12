"""Divergences between seeds: what they must be, and what must not matter to them."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pytest
import torch

from engine.scoring.divergence import divergences
from engine.scoring.top_predictions import largest
from store.schema import DIVERGENCES
from tests.support.pair_formulas import FORMULAS

Named = dict[str, torch.Tensor]


def direct(logits: torch.Tensor) -> Named:
    """Each divergence (token, seed, other_seed), one float64 sum a pair, as defined."""
    log_p = logits.double().log_softmax(-1).numpy()
    return {
        name: torch.from_numpy(
            np.stack([np.stack([of(p, q) for q in log_p], -1) for p in log_p], 1)
        )
        for name, of in FORMULAS.items()
    }


def computed(logits: torch.Tensor, names: Collection[str] = DIVERGENCES) -> Named:
    log_p = logits.float().log_softmax(-1)
    return {
        name: values.double() for name, values in divergences(log_p, log_p.exp(), names).items()
    }


def make_logits(spread: float, tokens: int = 12, vocab: int = 50_304) -> torch.Tensor:
    """Five seeds that share most of what they say, (seed, token, vocab) float32."""
    generator = torch.Generator().manual_seed(0)
    shared = 3 * torch.randn(1, tokens, vocab, generator=generator, dtype=torch.float64)
    own = torch.randn(5, tokens, vocab, generator=generator, dtype=torch.float64)
    return (shared + spread * own).float()


def close(found: Named, expected: Named) -> None:
    assert tuple(found) == tuple(expected) == DIVERGENCES
    for name, ours in found.items():
        error = (ours - expected[name]).abs()
        assert (error <= 2e-6 + 1e-4 * expected[name]).all(), name


@pytest.mark.parametrize("spread", [3.0, 0.3, 1e-3])
def test_they_meet_their_budget(spread: float) -> None:
    logits = make_logits(spread)
    close(computed(logits), direct(logits))


@pytest.mark.parametrize("spread", [3.0, 0.01])
def test_what_they_always_are(spread: float) -> None:
    found = computed(make_logits(spread))
    kl, js, hellinger, tv = found.values()
    for values in found.values():
        assert (values.diagonal(dim1=1, dim2=2) == 0).all()
        assert values.min() >= -1e-6
    for values in (js, hellinger, tv):
        assert (values == values.transpose(1, 2)).all()
    assert js.max() <= math.log(2) + 1e-6
    assert (js <= (kl + kl.transpose(1, 2)) / 4 + 2e-6).all()  # log is concave
    assert max(hellinger.max(), tv.max()) <= 1 + 1e-6
    assert (hellinger**2 <= tv + 2e-6).all()  # Le Cam
    assert (tv**2 <= hellinger**2 * (2 - hellinger**2) + 1e-5).all()
    assert (tv**2 <= kl / 2 + 1e-5).all()  # Pinsker


@pytest.mark.parametrize("names", [["kl"], ["kl", "tv"], ["kl", "hellinger"], ["kl", "js", "tv"]])
def test_each_is_the_same_whichever_others_are_wanted(names: list[str]) -> None:
    logits = make_logits(0.3)
    found, everything = computed(logits, names), computed(logits)
    assert list(found) == names
    for name, values in found.items():
        assert torch.equal(values, everything[name])


def test_two_seeds_that_agree_beside_one_that_does_not() -> None:
    """What all are centred on is then far from both: rounding, to the root, is what is left."""
    logits = make_logits(3.0)
    logits[1] = logits[0]
    found = computed(logits)
    for name, most in (("kl", 5e-5), ("js", 5e-5), ("hellinger", 3e-3), ("tv", 0)):
        assert found[name][:, 0, 1].abs().max() <= most, name


def test_a_constant_added_to_logits_changes_nothing() -> None:
    logits = make_logits(0.3)
    moved = logits + torch.linspace(-20, 20, 5)[:, None, None] + torch.arange(12.0)[:, None]
    close(computed(moved), direct(logits))


def test_the_order_of_seeds_only_permutes() -> None:
    logits, order = make_logits(0.3), [3, 1, 4, 0, 2]
    expected = {name: values[:, order][:, :, order] for name, values in direct(logits).items()}
    close(computed(logits[order]), expected)


@pytest.mark.parametrize("rows", [1, 5, 12])
def test_the_size_of_blocks_does_not_matter(rows: int) -> None:
    logits = make_logits(0.3)
    parts = [computed(logits[:, a : a + rows]) for a in range(0, 12, rows)]
    joined = {name: torch.cat([part[name] for part in parts]) for name in DIVERGENCES}
    close(joined, direct(logits))


def test_probabilities_that_vanish_in_float32() -> None:
    """Both seeds give most of the vocabulary a probability that float32 cannot hold."""
    logits = torch.full((2, 1, 1000), -200.0)
    logits[0, 0, 0] = logits[1, 0, 1] = 0.0
    found = computed(logits)
    close(found, direct(logits))
    assert float(found["js"][0, 0, 1]) == pytest.approx(math.log(2), abs=3e-6)
    assert float(found["hellinger"][0, 0, 1]) == pytest.approx(1, abs=2e-6)
    assert float(found["tv"][0, 0, 1]) == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize("vocab", [12, 4095, 4096, 50_304, 50_257])
def test_the_largest_are_those_of_a_sort(vocab: int) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(3, 7, vocab, generator=generator)
    rows[0, 0, :: vocab // 11] += 20  # all in few columns
    rows[0, 1, -5:] += 30  # behind the rectangle
    values, places = largest(rows, 10)
    expected = rows.sort(-1, descending=True)
    assert torch.equal(values, expected.values[..., :10])
    assert torch.equal(places, expected.indices[..., :10])
