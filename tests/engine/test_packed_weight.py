"""Products with a packed weight: right, or not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.models import packed_weight
from engine.models.output_head import Head
from engine.models.packed_weight import PackedWeight
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.tiny_models import make_runs, write_study

pytestmark = pytest.mark.skipif(not packed_weight._works(), reason="torch has no such products")

VOCAB, HIDDEN = 9_001, 50


def weight(vocab: int = VOCAB, hidden: int = HIDDEN) -> torch.Tensor:
    return torch.randn(vocab, hidden, generator=torch.Generator().manual_seed(1))


def states(rows: int, hidden: int = HIDDEN) -> torch.Tensor:
    """Some of the columns of a larger tensor, as hidden states are that come with others."""
    return torch.randn(rows, hidden + 7, generator=torch.Generator().manual_seed(2))[:, :hidden]


@pytest.mark.parametrize("rows", [1, 5, 128, 300])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_packed_product_is_the_product(rows: int, *, with_bias: bool) -> None:
    given, bias = states(rows), weight()[:, 3] if with_bias else None  # which is strided
    packed = PackedWeight.of(weight())
    assert packed is not None
    exact = given.double() @ weight().double().T + (0 if bias is None else bias.double())
    found = packed.times(given, bias)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-6 * exact.abs().max()


def test_scale_and_cap_come_after_it() -> None:
    head = Head(weight(), None, scale=0.5, soft_cap=3.0)
    assert head.packed is not None
    exact = (states(5).double() @ weight().double().T) * 0.5
    np.testing.assert_allclose(head.logits(states(5)), 3 * (exact / 3).tanh(), atol=1e-5)


@pytest.mark.parametrize(
    "unfit",
    [weight().half(), weight().to("meta"), weight(9, 8), torch.empty(300_001, 64)],
    ids=["half", "another-device", "small", "large"],
)
def test_a_weight_is_packed_where_it_pays(unfit: torch.Tensor) -> None:
    assert PackedWeight.of(unfit) is None


def test_operators_that_are_wrong_or_missing_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any) -> torch.Tensor:
        return torch.zeros(7, 64)

    def missing(*_: Any) -> None:
        raise AttributeError

    for name, acts in (("times", wrong), ("__init__", missing)):
        with monkeypatch.context() as patched:
            patched.setattr(PackedWeight, name, acts)
            packed_weight._works.cache_clear()
            assert PackedWeight.of(weight()) is None
            found = Head(weight(), None).logits(states(3))
        assert torch.equal(found, states(3) @ weight().T)
    packed_weight._works.cache_clear()
    assert PackedWeight.of(weight()) is not None


@pytest.mark.parametrize("kept", ["none", "factored", "dense"])
def test_a_study_has_the_same_numbers(
    tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, seeds=("1", "2", "3"), steps=(5,))
    found = []
    for least in (2**20, 0):
        monkeypatch.setattr(packed_weight, "_LEAST_BYTES", least)
        store = f"{least}.zarr"
        file = write_study(tmp_path, study__store=store, log_probs__representation=kept)
        assert run(["run", str(file)]) == 0
        found.append(open_study(tmp_path / store).dataset("m").load())
    plain, packed = found
    for name in ("surprisal", "entropy", "kl_unigram"):
        np.testing.assert_allclose(packed[name], plain[name], rtol=1e-5, atol=1e-6)
    for name in ("kl", "js"):  # dense: of float16, of which few are rounded otherwise
        np.testing.assert_allclose(packed[name], plain[name], rtol=1e-2, atol=1e-5)
