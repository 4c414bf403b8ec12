"""How alike the hidden states of checkpoints are, from what a study keeps `factored`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from store.errors import StoreError
from store.reading.log_probs import REPRESENTATIONS, LogProbs
from store.reading.study_reader import StudyReader
from store.schema.keys import CheckpointName
from store.statistics.kernel_alignment import Alignment, CrossMoments

_HELD = 2**30  # bytes of the matrix that is summed up
_ROWS = 2**10  # tokens that are added at once


def hidden_seeds(study: StudyReader, model: str) -> dict[int, tuple[str, ...]]:
    """Return the seeds whose hidden states are kept by step, of steps with two of them at least."""
    known, found = study.ledger(model), dict[int, tuple[str, ...]]()
    for step in sorted(known.steps):
        seeds = tuple(
            seed
            for seed in known.seeds
            if (seed, step) in known.stored
            and (kept := REPRESENTATIONS.get(str(known.scored[seed, step].get("log_probs"))))
            and kept.has_factors
        )
        if len(seeds) > 1:
            found[step] = seeds
    return found


def hidden_alignment(
    study: StudyReader,
    checkpoints: Sequence[CheckpointName],
    progress: Callable[[float], None] = lambda share: None,
) -> Alignment:
    """Return linear CKA of the final hidden states of each two checkpoints, over all tokens.

    These are the input of the output layer. Checkpoints may be of any models, seeds and steps.
    Memory holds a matrix of units times units of as many as fit into a gigabyte (two at least).

    `progress` is called now and then with the share that is done. Raise StoreError before anything
    is read when hidden states of one are not kept, DamagedError.
    """
    opened = [study.log_probs(*checkpoint) for checkpoint in checkpoints]
    for (model, seed, step), log_probs in zip(checkpoints, opened, strict=True):
        if log_probs.hidden_width is None:
            raise StoreError(
                f"{study.path}: hidden states of {model}, seed {seed}, step {step} are not kept; "
                'that takes log_probs.representation = "factored"'
            )
    widest = max((log_probs.hidden_width or 1 for log_probs in opened), default=1)
    n = max(2, int((_HELD / 8) ** 0.5) // widest)
    places = list(range(len(opened)))
    size = n if len(places) <= n else n // 2
    runs = [places[start : start + size] for start in places[::size]]
    together = [*itertools.combinations(runs, 2)] or [(run, []) for run in runs]
    found = Alignment(*(np.full((len(opened),) * 2, np.nan) for _ in range(2)))
    for done, (first, second) in enumerate(together):
        index = [*first, *second]

        def so_far(share: float, done: int = done) -> None:
            progress((done + share) / len(together))

        of = _of_few([opened[place] for place in index], so_far)
        for values, few in zip(found, of, strict=True):
            values[np.ix_(index, index)] = few
    return found


def _of_few(checkpoints: Sequence[LogProbs], progress: Callable[[float], None]) -> Alignment:
    """Return CKA of some checkpoints, in one pass over their states."""
    moments = CrossMoments([log_probs.hidden_width or 0 for log_probs in checkpoints])
    n_tokens = checkpoints[0].shape[0] if checkpoints else 0
    block = min((log_probs.state_rows for log_probs in checkpoints), default=1)
    for start in range(0, n_tokens, block):
        stop = min(start + block, n_tokens)
        states = [log_probs.states(start, stop) for log_probs in checkpoints]
        for first in range(0, stop - start, _ROWS):
            part = [of[first : first + _ROWS] for of in states]
            moments.add(np.concatenate(part, axis=1, dtype=np.float64))
        progress(stop / n_tokens)
    return moments.alignment()
