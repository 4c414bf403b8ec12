"""Writing results into cells that are theirs alone: what a worker may do to a study.

Nothing here commits, resizes or replaces anything that two checkpoints share, so any number of
workers, in any processes, can write side by side; one coordinator commits what they return.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from store.commits.chunk_checksums import ChunkChecksums
from store.commits.ledger import RESULTS, ModelLedger
from store.commits.log import CommitReader, refuse_lost
from store.commits.pair_sums import Pair, once
from store.commits.seed_sets import SET_RESULTS
from store.commits.study_progress import divergences_of, read_root
from store.reading.log_probs import REPRESENTATIONS, create_log_probs, log_prob_chunks
from store.schema import layout
from store.schema.output_layer import OutputLayer, Representation
from store.schema.packed import chunk_keys
from store.schema.pair_metrics import OF_STATES
from store.schema.reference import REFERENCES
from store.schema.seed_pairs import ordered_pairs, pairs_among
from store.storage.arrays import Array, open_array
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree
from store.writing.pending import Flushed, PendingCheckpoint, PendingPairs

_WRITER_THREADS = 4


class CellWriter:
    """Writes checkpoints and divergences of one study for session `session`."""

    def __init__(self, path: Path, session: int, reader: CommitReader | None = None) -> None:
        """Write for the coordinator of that session; `reader` is its own, in its own process."""
        self.path, self.session = path, session
        self._there: os.stat_result | None = None  # the session's log, once it was seen
        root = read_root(path)
        self._shape = int(root["n_tokens"]), int(root["vocab_size"])
        self.divergences = divergences_of(root)
        self._follows = reader is None  # the log, which another process writes
        self._reader = reader or CommitReader(path / layout.COMMITS)
        self.store = DurableStore(path, self.check)
        self.store.expected = ChunkChecksums(lambda: self._reader.ledger)
        self._pool = ThreadPoolExecutor(_WRITER_THREADS, thread_name_prefix="store")
        self._arrays: dict[tuple[str, str], tuple[tuple[int, int], Array]] = {}

    def check(self) -> None:
        """Raise BusyError when another has taken the study over, StoreError when it was deleted."""
        folder = self.path / layout.COMMITS
        self._there = refuse_lost(folder, self.session, self._there)

    def begin_checkpoint(
        self,
        model: str,
        seed: str,
        step: int,
        representation: Representation,
        layer: OutputLayer | None = None,
    ) -> PendingCheckpoint:
        """Start writing one checkpoint that was planned and whose log-probs are not stored.

        Results that are committed stay unchanged: scoring again only brings back log-probs.
        `layer` is needed for, and only for, a representation that has factors; else ValueError.
        """
        known = self._known(model)
        path = layout.log_probs_path(model, seed, step)
        if REPRESENTATIONS[representation] is not None:
            remove_tree(self.path, self.path / path)
        kept = create_log_probs(self.store, path, representation, self._shape, layer)
        arrays = {
            name: self.array(model, name)
            for name, variable in layout.VARIABLES.items()
            if variable.of_checkpoint and (seed, step) not in known.scored
        }

        width = 0 if layer is None else layer.weight.shape[1]
        log_prob_keys = log_prob_chunks(path, representation, self._shape, width)

        def flush() -> Flushed:
            self.store.flush()
            keys = [key for name in RESULTS for key in self._keys(model, name, index) if arrays]
            of_log_probs = {
                name: self.store.take_checksums(of) for name, of in log_prob_keys.items()
            }
            n_bytes = _bytes_below(self.path / path) if kept else 0
            return Flushed(n_bytes, self.store.take_checksums(keys), of_log_probs)

        index = (known.steps[step], known.seeds[seed])
        return PendingCheckpoint(seed, arrays, index, kept, representation, self._pool, flush)

    def begin_pairs(
        self,
        model: str,
        step: int,
        seeds: Iterable[str],
        references: Collection[str] = (),
        reference: str | None = None,
    ) -> PendingPairs:
        """Start writing the pairs among `seeds` that are not reduced yet.

        What depends on all of them is written next to what is there of fewer: with these
        `references` (`store.schema.reference`), of whose model `reference` is the fingerprint.
        Where all pairs are reduced, only such results are written that are not there.
        """
        known = self._known(model)
        chosen = {seed: known.seeds[seed] for seed in seeds}
        done = np.array([seed in known.reduced.get(step, ()) for seed in chosen], bool)
        new = ordered_pairs(len(chosen)) & ~pairs_among(done)
        kept = known.sets.get(step)
        there = set(kept.cells) if kept is not None and not new.any() else set()
        arrays = {
            name: self.array(model, name)
            for name, variable in layout.variables_of(self.divergences).items()
            if variable.per_token and not variable.of_checkpoint
            if name in references or name not in REFERENCES
            if new.any() or (variable.by_set and name not in there)
        }

        def flush(pairs: Iterable[Pair]) -> dict[str, str]:
            self.store.flush()
            pairs, t = list(pairs), known.steps[step]
            found = {}
            for name in arrays:
                variable = layout.VARIABLES[name]
                kept = once(pairs) if variable.symmetric else pairs
                cells = [(t, *variable.seed_cell(chosen[i], chosen[j])) for i, j in kept]
                if variable.by_set:
                    cells = [(t, index, len(chosen) - 1) for index in chosen.values()]
                keys = (key for cell in cells for key in self._keys(model, name, cell))
                found[name] = self.store.take_checksums(keys)
            return found

        has = layout.variables_of(self.divergences) if new.any() else {}
        of_states = [name for name in OF_STATES if name in has]
        t = known.steps[step]
        return PendingPairs(arrays, t, chosen, new, self._pool, flush, of_states, reference)

    def discard(
        self, model: str, step: int, checkpoints: Iterable[str], pairs: Iterable[str] = ()
    ) -> None:
        """Remove what was written and not committed: of these seeds, and of pairs among those.

        Raise BusyError when another coordinator has taken over: what lies there may be its own.
        """
        known = self._known(model)
        for seed in checkpoints:
            if (seed, step) not in known.stored:
                self._remove(layout.log_probs_path(model, seed, step))
            if (seed, step) not in known.scored:
                remove_results(self.path, model, known, seed, step)
        pairs, done = list(pairs), known.reduced.get(step, frozenset())
        for i, j in itertools.permutations(pairs, 2):
            if not {i, j} <= done:
                remove_pair(self.path, model, known, i, j, step)
        if len(pairs) > 1:
            remove_other_sets(self.path, model, known, step)

    def close(self) -> None:
        """Wait for writes under way."""
        self._pool.shutdown()

    def _keys(self, model: str, name: str, cell: tuple[int, ...]) -> list[str]:
        array = self.array(model, name)
        return chunk_keys(array.path, array.shape, array.chunks, cell)

    def _remove(self, path: str) -> None:
        remove_tree(self.path, self.path / path)

    def _known(self, model: str) -> ModelLedger:
        self.check()
        if self._follows:
            self._reader.refresh()
        return self._reader.ledger.model(model)

    def array(self, model: str, name: str) -> Array:
        """Return the array of these results, opened again when its axes have grown."""
        known = self._reader.ledger.model(model)
        axes = len(known.steps), len(known.seeds)
        found = self._arrays.get((model, name))
        if found is None or found[0] != axes:
            path = f"{layout.model_path(model)}/{layout.array_path(name)}"
            found = axes, open_array(self.store, path)
            self._arrays[model, name] = found
        return found[1]


def remove_results(path: Path, model: str, known: ModelLedger, seed: str, step: int) -> None:
    """Remove one checkpoint's per-token results from disk."""
    for name, variable in layout.VARIABLES.items():
        if variable.of_checkpoint:
            _remove_cell(path, model, name, known.steps[step], known.seeds[seed])


def remove_pair(
    path: Path, model: str, known: ModelLedger, seed: str, other: str, step: int
) -> None:
    """Remove what one ordered pair has per token from disk."""
    for name, variable in layout.VARIABLES.items():
        if variable.per_token and variable.by_pair:
            index = variable.seed_cell(known.seeds[seed], known.seeds[other])
            _remove_cell(path, model, name, known.steps[step], *index)


def remove_other_sets(path: Path, model: str, known: ModelLedger, step: int) -> None:
    """Remove what a step has of other seeds together than those that are committed."""
    t = known.steps[step]
    for name in SET_RESULTS:
        kept = known.set_with(step, name)
        array = path / layout.model_path(model) / layout.array_path(name)
        for cell in (array / "c" / str(t)).glob("*/*"):
            if kept is None or cell.name != str(kept.place):
                remove_tree(path, cell)


def _remove_cell(path: Path, model: str, name: str, *index: int) -> None:
    """Remove a loose cell. What is packed is no more when the step is packed again."""
    cell = f"{layout.array_path(name)}/c/{'/'.join(map(str, index))}"
    remove_tree(path, path / layout.model_path(model) / cell)


def _bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
