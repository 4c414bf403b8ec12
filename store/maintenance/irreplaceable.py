"""Results that repairing can only give up: training handed them over, nothing makes them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from store.errors import StoreError
from store.schema.damage import Damage, Part
from store.study import open_study

_OF_CHECKPOINTS = frozenset({Part.RESULTS, Part.LOG_PROBS, Part.PAIRS})


def lost_by_mending(path: Path, damage: Sequence[Damage]) -> frozenset[Damage]:
    """Return the damage to captured checkpoints that does not follow from what is stored.

    Their results, log-probs and pairs; log-probs of which only metadata are damaged as well, though
    repairing may write those again.
    """
    if not any(found.part in _OF_CHECKPOINTS for found in damage):
        return frozenset()
    try:
        study = open_study(path)
    except StoreError:  # that is the damage
        return frozenset()
    bad = {(d.model, d.seed, d.step) for d in damage if d.part is Part.LOG_PROBS}

    def is_lost(model: str, seed: str | None, step: int) -> bool:
        if seed is None or model not in study.models:
            return False
        known = study.ledger(model)
        captured = known.scored.get((seed, step), {}).get("captured")
        stored = (seed, step) in known.stored and (model, seed, step) not in bad
        return bool(captured) and not stored

    return frozenset(
        d
        for d in damage
        if d.part in _OF_CHECKPOINTS and d.model is not None and d.step is not None
        if any(is_lost(d.model, seed, d.step) for seed in (d.seed, d.other_seed))
    )
