"""Read the stored data of a study, live or finished; nothing here is composed of other data.

Readers never write, lock or see half a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from store.commits.chunk_checksums import ChunkChecksums
from store.commits.ledger import ModelLedger, Partition, ProbeEntry
from store.commits.study_progress import StudyProgress
from store.errors import DamagedError, StoreError, UnsupportedError
from store.reading.category_arrays import read_category
from store.reading.corpus_reader import CorpusReader
from store.reading.log_probs import LogProbs, open_log_probs
from store.reading.mean_arrays import MeanReader
from store.reading.per_token import Place, fetch_parts, locate
from store.reading.probe_arrays import open_results, read_probe
from store.reading.result_arrays import ResultArrays
from store.schema import layout
from store.schema.category import Category
from store.schema.corpus import Corpus, Vocabulary
from store.schema.keys import CheckpointName, Key, ResultPart
from store.schema.packed import all_known
from store.schema.probe import Probe
from store.schema.schedule import Schedule, of_model
from store.storage.arrays import Array, read
from store.storage.places import Address

_EVERYTHING = slice(None)
_Read = TypeVar("_Read")


class StudyReader:
    """A study open for reading: `refresh` follows an engine that is still writing."""

    def __init__(self, path: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._progress = StudyProgress(path, clock=clock)
        self._begin()

    def _begin(self) -> None:
        progress = self._progress
        self._replaced = progress.replaced
        self.files = progress.files
        self.path = progress.path  # what messages name
        self.name = progress.name
        self.n_tokens = progress.n_tokens
        self.vocab_size = progress.vocab_size
        self.divergences = progress.divergences  # of pairs, KL first
        self.identity: dict[str, Any] = progress.root["identity"]
        self._store = progress.files.arrays()
        if hasattr(self._store, "check"):
            self._store.check = partial(progress.refuse_replaced, self._replaced)
        self._commits = progress.commits
        self._store.expected = ChunkChecksums(lambda: self._commits.ledger)
        self._arrays = ResultArrays(
            self.path, self._store, self.n_tokens, self.divergences, lambda: self.n_levels
        )
        self._corpus_files = CorpusReader(progress.files, self._store, progress.root)
        self._corpus: Corpus | None = None
        self._vocabulary: Vocabulary | None = None
        self._finite: dict[object, bool] = {}  # by cell, whether its results per token are

    # -- what there is ---------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take in what was committed since; return whether there was anything.

        Where another study, or an older copy of this one, was put in its place, all knowledge
        is forgotten and read again; `replaced` counts that.
        """
        changed = self._progress.refresh()
        if self._progress.replaced != self._replaced:
            self._begin()
        return changed

    @property
    def replaced(self) -> int:
        """Return how often another study, or an older copy, was found in the place of this one."""
        return self._replaced

    def _follow(self) -> bool:
        """Do as `refresh` within one reading. Raise ReplacedError rather than begin again."""
        self._progress.refuse_replaced(self._replaced)
        return self._commits.refresh()

    @property
    def folder(self) -> Path:
        """The study's folder. Raise UnsupportedError for a study that is read from elsewhere."""
        if not isinstance(self.path, Path):
            raise UnsupportedError(f"{self.path}: only a study on a file system can be checked")
        return self.path

    @property
    def live(self) -> bool:
        """Return whether a session is open or crashed: there may be uncommitted data."""
        return self._commits.ledger.ended not in {"finished", "stopped"}

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order in which they were added."""
        return tuple(self._commits.ledger.models)

    def ledger(self, model: str) -> ModelLedger:
        """Return what is committed of `model`. Raise StoreError when there is no such model."""
        if model not in self._commits.ledger.models:
            names = ", ".join(self.models) or "none yet"
            raise StoreError(f"{self.path}: no model {model!r}; it has: {names}")
        return self._commits.ledger.models[model]

    def learning_rate(self, model: str) -> Schedule | None:
        """Return the model's learning rate over training, if the study file gave it; else None.

        Raise StoreError when there is no such model.
        """
        self.ledger(model)
        return of_model(self._commits.ledger.schedules, model)

    def duplicates(self, model: str) -> dict[Key, CheckpointName]:
        """Return the model's checkpoints with the weights of one scored before, and that one."""
        return self._commits.ledger.duplicates(model)

    def consistent(
        self, steps: Mapping[str, Collection[int]], read_all: Callable[[], _Read]
    ) -> _Read:
        """Return what `read_all` returns, once its reads of these steps are of one moment.

        While it reads, or since the last refresh, an engine may have summarised some of these
        steps, by model, once more in the same place: with more seeds, or by a category that has
        moved on. It is called again then. Raise DamagedError for what cannot be read though
        nothing changed.
        """
        while True:
            before = self._summarised(steps)
            try:
                found = read_all()
            except DamagedError:
                self._follow()
                if self._summarised(steps) == before:
                    raise
                continue
            self._follow()
            if self._summarised(steps) == before:
                return found

    def _summarised(self, steps: Mapping[str, Collection[int]]) -> list[Any]:
        """Return what summaries of these steps are made of."""
        state: list[Any] = []
        for model, wanted in steps.items():
            known = self.ledger(model)
            state += [(name, self.partition(model, name)) for name in self.categories(model)]
            state += [known.summaries.get(step) for step in wanted]
        return state

    # -- text ------------------------------------------------------------------------------------

    @property
    def corpus(self) -> Corpus:
        """The evaluation text and its tokens, read at first use."""
        if self._corpus is None:
            self._corpus = self._corpus_files.corpus()
        return self._corpus

    @property
    def vocabulary(self) -> Vocabulary:
        """The entries of the vocabulary and their counts, read at first use."""
        if self._vocabulary is None:
            self._vocabulary = self._corpus_files.vocabulary()
        return self._vocabulary

    # -- log-probs and results -------------------------------------------------------------------

    def log_probs(self, model: str, seed: str, step: int) -> LogProbs:
        """Open one checkpoint's log-probs.

        Raise StoreError when they are not (or no longer) stored.
        """
        known = self.ledger(model)
        if (seed, step) not in known.stored:
            why = "not scored (yet)"
            if (seed, step) in known.scored:
                kept = known.scored[seed, step].get("log_probs")
                why = "they were dropped" if kept else "the study keeps none"
            raise StoreError(
                f"{self.path}: log-probs of {model}, seed {seed}, step {step} are not stored: {why}"
            )
        path = layout.log_probs_path(model, seed, step)
        representation = str(known.scored[seed, step]["log_probs"])
        shape = (self.n_tokens, self.vocab_size)
        return open_log_probs(self._store, path, representation, shape)

    def values(
        self,
        model: str,
        name: str,
        seed: str,
        step: int,
        other: str | None = None,
        *,
        tokens: slice | None = None,
    ) -> Any:
        """Read one committed per-token result: (token[, rank]), in the variable's dtype and units.

        Given `tokens`, only of those. Raise StoreError when it is not committed, DamagedError when
        it cannot be read.
        """
        part = ResultPart(model, name, step, seed, other, tokens or _EVERYTHING)
        while True:
            try:
                return read(*self._locate(part))
            except DamagedError:
                if not self._follow():  # else an engine may have computed it once more
                    raise

    def _locate(self, part: ResultPart) -> Place:
        open_it = partial(self.array, part.model)
        return locate(self.path, self.ledger(part.model), part, open_it)

    def fetch(self, parts: Iterable[ResultPart]) -> None:
        """Ask a remote store at once for what will be read, if the log has its checksums."""
        if not self.files.near:
            fetch_parts(parts, self._locate)

    def pair_means(self, model: str, name: str, step: int) -> NDArray[np.float64]:
        """Read a mean over tokens of every pair at a step, (seed, other_seed), e.g. `mean_js`.

        In the order of `ModelSnapshot.seeds`; NaN for pairs that are not reduced. Raise StoreError
        when none is, DamagedError when it cannot be read.
        """
        if not self.ledger(model).reduced.get(step):
            raise StoreError(f"{self.path}: {name} of {model}, step {step}: no such result")
        return self.mean_reader(model, name).at(self.array(model, name), step)

    def means(self, model: str, name: str, *, recorded: bool = False) -> NDArray[np.float64]:
        """Read a mean over tokens of every checkpoint or pair: (step, seed[, other_seed]).

        Steps ascend, seeds are in the order of `ModelSnapshot.seeds`; NaN where not committed, or
        where a token's value is. In the units of `layout.VARIABLES[name]`. With `recorded`, those
        that the commit log holds are taken from there, and their array is not read. Raise
        StoreError, DamagedError.
        """
        known, committed = self.ledger(model), self.committed(model, name)
        if not committed.any():
            return np.full(committed.shape, np.nan)
        order = np.array([known.steps[step] for step in sorted(known.steps)], np.intp)
        reader = self.mean_reader(model, name)
        if recorded and (found := reader.recorded(order, committed)) is not None:
            return found
        return reader.all(self.array(model, name), order, committed)

    def committed(self, model: str, name: str) -> NDArray[np.bool_]:
        """Return which checkpoints or pairs have a result: (step, seed[, other_seed]).

        In the order of `means`. Raise StoreError when there is no such model.
        """
        return self.mean_reader(model, name).committed()

    def mean_reader(self, model: str, name: str) -> MeanReader:
        """Return what reads an array of means. Raise StoreError when there is no such model."""
        return MeanReader(self.ledger(model), name, partial(self.all_finite, model))

    def all_finite(
        self, model: str, name: str, seed: str, step: int, other: str | None = None
    ) -> bool:
        """Return whether all of a cell's results per token are; read once. Raise as `values`."""
        cell = model, name, seed, step, other
        if cell not in self._finite:
            values = read(*self._locate(ResultPart(model, name, step, seed, other)))
            self._finite[cell] = bool(np.isfinite(values).all())
        return self._finite[cell]

    def array(self, model: str, name: str) -> Array:
        """Open an array of results; those per token are at `Variable.seed_cell`.

        Only committed cells mean anything. Raise StoreError where the study has none, DamagedError.
        """
        return self.array_at(model, layout.array_path(name))

    def array_at(self, model: str, path: str) -> Array:
        """Open an array by its path below the model's group. Raise DamagedError like `array`."""
        return self._arrays.open(model, path, self.ledger(model))

    def token_kl(self, model: str, step: int, tokens: slice = _EVERYTHING) -> NDArray[np.float32]:
        """Read the KL at each token, mean over ordered pairs of seeds: (token,), nats.

        Raise StoreError when the step is not summarised, DamagedError.
        """
        part = ResultPart(model, "token_kl", step, tokens=tokens)
        while (known := self.ledger(model).summaries.get(step)) and all_known(known.cells):
            try:
                return read(*self._locate(part))  # each chunk is what this record says
            except DamagedError:
                if not self._follow():  # else an engine may have summarised it once more
                    raise
        return self.consistent({model: [step]}, lambda: read(*self._locate(part)))

    # -- categories ------------------------------------------------------------------------------

    @property
    def n_levels(self) -> int:
        """Length of the axis `level` of the summaries."""
        return self._commits.ledger.n_levels

    def categories(self, model: str) -> tuple[str, ...]:
        """Return names of the categories that the model's tokens are partitioned by."""
        ledger = self._commits.ledger
        there = ledger.categories.keys() | self.ledger(model).categories.keys()
        return tuple(name for name in ledger.levels if name in there)

    def partition(self, model: str, category: str) -> Partition | None:
        """Return what the log says of a category; None while it has none, or not now."""
        own = self.ledger(model).categories
        return own.get(category) or self._commits.ledger.categories.get(category)

    def levels(self, category: str) -> range:
        """Return where a category's levels are on the axis `level` of the summaries."""
        return self._commits.ledger.levels[category]

    def category(self, model: str, category: str) -> Category:
        """Read levels of the tokens, with labels and counts. Raise StoreError, DamagedError."""
        while True:
            if self.partition(model, category) is None:
                there = ", ".join(self.categories(model)) or "none yet"
                raise StoreError(
                    f"{self.path}: {model} has no category {category!r}; it has: {there}"
                )
            own = category in self.ledger(model).categories
            try:
                return self.own_category(category, model if own else None)
            except DamagedError:
                if not self._follow():  # else an engine may be writing another in its place
                    raise

    def own_categories(self, model: str | None) -> Mapping[str, Partition]:
        """Return the categories of the corpus itself, or those that are a model's own."""
        ledger = self._commits.ledger
        return ledger.categories if model is None else self.ledger(model).categories

    def own_category(self, category: str, model: str | None) -> Category:
        """Read one of `own_categories`. Raise DamagedError when it cannot be read."""
        digest = self.own_categories(model)[category].digest
        return read_category(self._store, category, model, digest)

    # -- probes ----------------------------------------------------------------------------------

    def probes(self) -> tuple[str, ...]:
        """Return names of the probes: of what checkpoints say in addition to the corpus."""
        return tuple(self._commits.ledger.probes)

    def probe_entry(self, name: str) -> ProbeEntry:
        """Return what the log says of a probe. Raise StoreError when there is no such probe."""
        if name not in self._commits.ledger.probes:
            names = ", ".join(self.probes()) or "none"
            raise StoreError(f"{self.path}: no probe {name!r}; it has: {names}")
        return self._commits.ledger.probes[name]

    def probe(self, name: str) -> Probe:
        """Read what a probe's items are. Raise StoreError, DamagedError if it cannot be read."""
        while True:
            digest = self.probe_entry(name).digest
            try:
                return read_probe(self._store, name, digest)
            except DamagedError:
                if not self._follow():  # else an engine may be writing another in its place
                    raise

    def probe_values(self, model: str, name: str, seed: str, step: int) -> NDArray[np.float32]:
        """Read what a checkpoint says of a probe's items: (item, variant), nats.

        Log-probs of sentences (`blimp`) or surprisals (`icl`); NaN: no such variant. Raises
        StoreError when it is not committed, see `ModelLedger.probed`, DamagedError when it cannot
        be read.
        """
        while True:
            known, entry = self.ledger(model), self.probe_entry(name)
            if (seed, step) not in known.probed.get(name, ()):
                raise StoreError(
                    f"{self.path}: probe {name!r} of {model}, seed {seed}, step {step}: "
                    "no such result (yet)"
                )
            try:
                array = open_results(self._store, model, name, known, entry)
                values = read(array, (known.steps[step], known.seeds[seed]))
            except DamagedError:
                if not self._follow():  # else an engine may be writing another probe in its place
                    raise
                continue
            if self.probe_entry(name) == entry:
                return np.asarray(values, np.float32)
