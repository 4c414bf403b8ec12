"""Divergences between seeds: what they must be, and what must not matter to them."""

from __future__ import annotations

import math

import pytest
import torch

from engine.scoring.divergence import divergences
from engine.scoring.top_predictions import largest

Both = tuple[torch.Tensor, torch.Tensor]


def direct(logits: torch.Tensor) -> Both:
    """KL and Jensen-Shannon (token, seed, other_seed), one float64 sum a pair, as defined."""
    log_p = logits.double().log_softmax(-1)

    def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (p.exp() * (p - q)).sum(-1)

    def js(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        m = torch.logaddexp(p, q) - math.log(2)
        return (kl(p, m) + kl(q, m)) / 2

    def pairs(of: object) -> torch.Tensor:
        rows = [torch.stack([of(p, q) for q in log_p], -1) for p in log_p]  # type: ignore[operator]
        return torch.stack(rows, 1)

    return pairs(kl), pairs(js)


def computed(logits: torch.Tensor) -> Both:
    log_p = logits.float().log_softmax(-1)
    kl, js = divergences(log_p, log_p.exp())
    return kl.double(), js.double()


def make_logits(spread: float, tokens: int = 12, vocab: int = 50_304) -> torch.Tensor:
    """Five seeds that share most of what they say, (seed, token, vocab) float32."""
    generator = torch.Generator().manual_seed(0)
    shared = 3 * torch.randn(1, tokens, vocab, generator=generator, dtype=torch.float64)
    own = torch.randn(5, tokens, vocab, generator=generator, dtype=torch.float64)
    return (shared + spread * own).float()


def close(found: Both, expected: Both) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ((ours - theirs).abs() <= 2e-6 + 1e-4 * theirs).all()


@pytest.mark.parametrize("spread", [3.0, 0.3, 1e-3])
def test_they_meet_their_budget(spread: float) -> None:
    logits = make_logits(spread)
    close(computed(logits), direct(logits))


@pytest.mark.parametrize("spread", [3.0, 0.01])
def test_what_they_always_are(spread: float) -> None:
    kl, js = computed(make_logits(spread))
    for values in (kl, js):
        assert (values.diagonal(dim1=1, dim2=2) == 0).all()
        assert values.min() >= -1e-6
    assert (js == js.transpose(1, 2)).all()
    assert js.max() <= math.log(2) + 1e-6
    assert (js <= (kl + kl.transpose(1, 2)) / 4 + 2e-6).all()  # log is concave


def test_a_constant_added_to_logits_changes_nothing() -> None:
    logits = make_logits(0.3)
    moved = logits + torch.linspace(-20, 20, 5)[:, None, None] + torch.arange(12.0)[:, None]
    close(computed(moved), direct(logits))


def test_the_order_of_seeds_only_permutes() -> None:
    logits, order = make_logits(0.3), [3, 1, 4, 0, 2]
    kl, js = (values[:, order][:, :, order] for values in direct(logits))
    close(computed(logits[order]), (kl, js))


@pytest.mark.parametrize("rows", [1, 5, 12])
def test_the_size_of_blocks_does_not_matter(rows: int) -> None:
    logits = make_logits(0.3)
    parts = [computed(logits[:, a : a + rows]) for a in range(0, 12, rows)]
    close((torch.cat([kl for kl, _ in parts]), torch.cat([js for _, js in parts])), direct(logits))


def test_probabilities_that_vanish_in_float32() -> None:
    """Both seeds give most of the vocabulary a probability that float32 cannot hold."""
    logits = torch.full((2, 1, 1000), -200.0)
    logits[0, 0, 0] = logits[1, 0, 1] = 0.0
    close(computed(logits), direct(logits))
    assert float(computed(logits)[1][0, 0, 1]) == pytest.approx(math.log(2), abs=3e-6)


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
