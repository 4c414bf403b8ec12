"""Rows of log-probs of states that come in pieces, as a model or the store gives them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from engine.models.output_head import Head
from engine.scoring.log_prob_rows import Rows

TOKENS, HIDDEN, VOCAB = 23, 8, 50


@pytest.mark.parametrize("pieces", [(23,), (5, 1, 9, 8), (1,) * 23])
@pytest.mark.parametrize("block", [1, 4, 23])
@pytest.mark.parametrize("kept", ["logits", "half", "hidden"])
def test_rows_do_not_depend_on_the_pieces(kept: str, pieces: tuple[int, ...], block: int) -> None:
    """Each block is asked for twice, as after memory has run out."""
    generator = torch.Generator().manual_seed(1)
    scorer: Any = SimpleNamespace(
        device=torch.device("cpu"), vocab_size=VOCAB, targets=torch.zeros(TOKENS)
    )
    head = Head(torch.randn(VOCAB, HIDDEN, generator=generator), None) if kept == "hidden" else None
    width = VOCAB if head is None else HIDDEN
    states = 3 * torch.randn(TOKENS, width, generator=generator)
    states = states.half() if kept == "half" else states
    coming = iter(states.split(list(pieces)))
    rows = Rows(scorer, head, lambda: next(coming))

    logits = states.double().numpy()
    if head is not None:
        logits = logits @ head.weight.double().numpy().T
    expected = log_softmax(logits, axis=1)
    for start in range(0, TOKENS, block):
        stop = min(start + block, TOKENS)
        for _ in range(2):
            found = torch.empty(stop - start, VOCAB)
            rows.fill(start, stop, found)
            np.testing.assert_allclose(found.numpy(), expected[start:stop], atol=1e-5, rtol=0)
            assert torch.equal(rows.states(start, stop), states[start:stop])
