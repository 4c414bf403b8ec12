"""KL from seeds to fixed distributions: a reference model, and the study's own last checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from engine.errors import CheckpointError
from engine.models.language_model import LanguageModel
from engine.models.output_head import Head
from engine.scoring.divergence import log
from engine.scoring.log_prob_rows import Logits, Rows
from engine.scoring.scorer import Scorer
from store.schema import TO_END, TO_END_MEAN, TO_MODEL

_TINY = 1e-37  # as in `engine.scoring.divergence`
_PIECE_BYTES = 2**24  # of hidden states, brought to the device at once


class ReferenceModel:
    """A model that was run once over the corpus: its hidden states, and its output layer.

    Hidden states, (token, hidden) float32, lie in a file without a name, which ends with the
    process. Log-probs are made of them again in each pass, block by block.
    """

    def __init__(
        self, scorer: Scorer, model: LanguageModel, where: str, progress: Callable[[int], None]
    ) -> None:
        """Run the model, which is not needed any more then.

        `progress` is called with the tokens done and may raise to stop. Raise CheckpointError.
        """
        if model.head is None:
            raise CheckpointError(
                f"{where}: its logits are not hidden states times an output embedding, as a "
                "reference's must be. Name another model"
            )
        bias = None if model.head.bias is None else model.head.bias.clone()
        self._head: Head = replace(model.head, weight=model.head.weight.clone(), bias=bias)
        self.fingerprint = model.fingerprint
        self._scorer, n_tokens, at = scorer, len(scorer.targets), 0
        shape = n_tokens, self._head.weight.shape[1]
        with tempfile.TemporaryFile(prefix="seedconv-reference-") as file:
            self._states = np.memmap(file, np.float32, "w+", shape=shape)
        with torch.inference_mode():
            for batch in scorer.windows(model):
                piece = scorer.forward(model, batch)
                if not torch.isfinite(piece).all():
                    raise CheckpointError(f"{where}: its predictions are NaN or infinite")
                self._states[at : at + len(piece)] = piece.cpu().numpy()
                at += len(piece)
                progress(at)

    def rows(self) -> Rows:
        """Return its log-probs, from the first token on."""
        n_tokens, width = self._states.shape
        piece, at = max(1, _PIECE_BYTES // (4 * width)), 0

        def more() -> torch.Tensor:
            nonlocal at
            values = np.array(self._states[at : min(at + piece, n_tokens)])
            states = torch.from_numpy(values).to(self._scorer.device)
            at += len(values)  # not before it is on the device: memory may run out
            return states

        return Rows(self._scorer, self._head, more)


class References:
    """What the seeds of one pass are compared with."""

    def __init__(self, model: Rows | None, ends: Sequence[Rows]) -> None:
        """Take log-probs of the reference model, and of each seed of the pass at the end."""
        self._model, self._ends = model, ends

    def shrink(self) -> None:
        """Use less memory."""
        for rows in (*([] if self._model is None else [self._model]), *self._ends):
            rows.shrink()

    def logits(self, start: int, stop: int) -> ReferenceLogits:
        """Return theirs at tokens [start, stop), good until others are asked for."""
        model = None if self._model is None else self._model.logits(start, stop)
        return ReferenceLogits(model, [rows.logits(start, stop) for rows in self._ends])


@dataclass(frozen=True)
class ReferenceLogits:
    """Logits of references at some tokens. Threads may read them at once."""

    model: Logits | None
    ends: Sequence[Logits]

    def kl(
        self, start: int, stop: int, log_p: torch.Tensor, p: torch.Tensor, spare: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the KL from each seed to each reference, (token, seed) by name of the metric.

        Args:
            start: the first token of the block.
            stop: the token after its last.
            log_p: (seed, token, vocab) float32, normalised natural log-probs.
            p: their exponentials. Neither is overwritten.
            spare: (3, token, vocab), to work in.
        """
        found: dict[str, torch.Tensor] = {}
        log_q, apart, mean = spare[:3]
        if self.model is not None:
            self.model.log_probs(start, stop, log_q)
            found[TO_MODEL.name] = _kl_to(log_p, p, log_q, apart)
        if self.ends:
            own = []
            mean.zero_()
            for logits, log_of_seed, of_seed in zip(self.ends, log_p, p, strict=True):
                logits.log_probs(start, stop, log_q)
                own.append(torch.sub(log_of_seed, log_q, out=apart).mul_(of_seed).sum(-1))
                mean += log_q.exp_()
            found[TO_END.name] = torch.stack(own, -1)
            log_m = log(mean.div_(len(self.ends)).clamp_min_(_TINY), mean)
            found[TO_END_MEAN.name] = _kl_to(log_p, p, log_m, apart)
        return found


def _kl_to(
    log_p: torch.Tensor, p: torch.Tensor, log_q: torch.Tensor, apart: torch.Tensor
) -> torch.Tensor:
    """Return KL(p_i || q), (token, seed); logarithms are subtracted before the product."""
    of_seeds = [
        torch.sub(log_of_seed, log_q, out=apart).mul_(of_seed).sum(-1)
        for log_of_seed, of_seed in zip(log_p, p, strict=True)
    ]
    return torch.stack(of_seeds, -1)
