"""The checksum of each committed chunk, by key: a sound chunk in the wrong place is damage.

Chunks that hold one checkpoint's, one pair's or one step's cells alone are known. Others, which are
replaced whole as checkpoints arrive, are not: records hold what is in them instead.
"""

from __future__ import annotations

from collections.abc import Callable

from store.commits.ledger import RESULTS, Ledger, ModelLedger
from store.commits.seed_sets import SET_RESULTS
from store.schema import layout
from store.schema.packed import checksum_at, n_checksums


class ChunkChecksums:
    """Finds the checksum of a chunk in the commit log; it follows the log as that is refreshed."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger
        # By the path of a model: what is known of it, and its steps and seeds by index and name.
        self._models: dict[str, tuple[ModelLedger, tuple[int, int], _Axes]] = {}

    def __call__(self, key: str) -> str | None:
        """Return the checksum in hex digits that a chunk must have; None: the log does not say."""
        group, _, chunk = key.rpartition("/c/")
        parts = group.split("/")
        if parts[0] != layout.MODELS or len(parts) < 3 or not chunk:
            return None
        found = self._model(parts[1])
        if found is None:
            return None
        known, axes = found
        try:
            at = [int(number) for number in chunk.split("/")]
            return _find(known, axes, parts[2:], at)
        except (ValueError, IndexError, KeyError):  # no key of ours
            return None

    def _model(self, name: str) -> tuple[ModelLedger, _Axes] | None:
        models, held = self._ledger().models, self._models.get(name)
        if held is not None:
            known, sizes, axes = held
            if sizes == (len(known.steps), len(known.seeds)) and models.get(axes.model) is known:
                return known, axes
        for model, known in list(models.items()):
            if layout.safe_name(model) == name:
                axes = _Axes(model, known)
                self._models[name] = known, (len(axes.steps), len(axes.seeds)), axes
                return known, axes
        return None


class _Axes:
    """A model's steps and seeds in the order of its arrays' axes."""

    def __init__(self, model: str, known: ModelLedger) -> None:
        self.model = model
        self.steps, self.seeds = list(known.steps), list(known.seeds)
        self.labels = {layout.safe_name(seed): seed for seed in self.seeds}


def _find(known: ModelLedger, axes: _Axes, array: list[str], at: list[int]) -> str | None:
    match array:
        case [layout.LOG_PROBS, seed, step, *factor]:
            key = axes.labels[seed], int(step)
            return checksum_at(known.log_prob_cells[key].get("".join(factor)), at[0])
        case [layout.LOOSE, layout.PROBE, probe]:
            key = axes.seeds[at[1]], axes.steps[at[0]]
            for name, cells in known.probe_cells.items():
                if layout.safe_name(name) == probe:
                    return checksum_at(cells.get(key), at[2])
        case [layout.SUMMARY, "token_kl"]:
            return checksum_at(known.summaries[axes.steps[at[0]]].cells, at[1])
        case [layout.LOOSE, name] if name in RESULTS:
            packed = known.scored[axes.seeds[at[1]], axes.steps[at[0]]].get("cells")
            n_chunks = n_checksums(packed) // len(RESULTS)
            return checksum_at(packed, RESULTS.index(name) * n_chunks + at[2])
        case [layout.LOOSE, name] if name in layout.VARIABLES and layout.VARIABLES[name].by_pair:
            pair = axes.seeds[at[1]], axes.seeds[at[2]]
            found = known.pair_checksums(axes.steps[at[0]], name, pair)
            return found[at[3]] if found else None
        case [layout.LOOSE, name] if name in SET_RESULTS:
            of = known.set_with(axes.steps[at[0]], name)
            if of is not None and at[2] == of.place:  # elsewhere are what no record names
                return of.checksums(name, axes.seeds[at[1]])[at[3]]
    return None
