"""Reading a study, live or finished. Readers never write, lock or see half a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import ModelLedger, Partition, ProbeEntry
from store.commits.progress import Progress
from store.errors import DamagedError, StoreError, UnsupportedError
from store.reading.category import ALL, Category, read_category
from store.reading.corpus import CorpusReader
from store.reading.log_probs import LogProbs, open_log_probs
from store.reading.model import read_means, read_model
from store.reading.steady import steady
from store.reading.summary import Summary, read_summary
from store.schema import variables as layout
from store.schema.corpus import Corpus, Vocabulary
from store.schema.schedule import Schedule, of_model
from store.schema.snapshot import ModelSnapshot, StudySnapshot
from store.statistics.means import pairs_among
from store.storage.arrays import Array, boxes, expect, open_array, read

if TYPE_CHECKING:
    import xarray

    from store.analysis.difference import Difference
    from store.reading.probe import Probe
    from store.schema.keys import CheckpointName

_EVERYTHING = slice(None)


def open_study(path: str | Path) -> Study:
    """Open the study at `path` for reading: a folder, or a remote copy's address.

    Addresses (s3://, gs://, az://, https://) need the extra `remote`. Raises NotAStudyError when
    there is none or its format is not ours, DamagedError when what must be there cannot be read,
    RemoteError when a remote store does not answer, UnsupportedError.
    """
    return Study(path)


class Study:
    """A study open for reading: `refresh` follows an engine that is still writing."""

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        self._progress = progress = Progress(path, clock=clock)
        self.path = progress.path  # what messages name
        self.name = progress.name
        self.n_tokens = progress.n_tokens
        self.vocab_size = progress.vocab_size
        self.identity: dict[str, Any] = progress.root["identity"]
        self._store = progress.files.arrays()
        self._commits = progress.commits
        self._models: dict[str, tuple[int, ModelSnapshot]] = {}
        self._corpus_files = CorpusReader(progress.files, self._store, progress.root)
        self._corpus: Corpus | None = None
        self._vocabulary: Vocabulary | None = None

    def refresh(self) -> bool:
        """Take in what was committed since; say whether there was anything."""
        return self._commits.refresh()

    @property
    def folder(self) -> Path:
        """The study's folder. Raises UnsupportedError for a study that is read from elsewhere."""
        if not isinstance(self.path, Path):
            raise UnsupportedError(f"{self.path}: only a study on a file system can be checked")
        return self.path

    @property
    def live(self) -> bool:
        """Whether the last session did not end well, or not yet: uncommitted data may be there."""
        return self._commits.ledger.ended not in {"finished", "stopped"}

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order in which they were added."""
        return tuple(self._commits.ledger.models)

    def ledger(self, model: str) -> ModelLedger:
        """What is committed of `model`. Raises StoreError when there is no such model."""
        if model not in self._commits.ledger.models:
            names = ", ".join(self.models) or "none yet"
            raise StoreError(f"{self.path}: no model {model!r}; it has: {names}")
        return self._commits.ledger.models[model]

    def learning_rate(self, model: str) -> Schedule | None:
        """The model's learning rate over training, if the study file gave it; else None.

        Raises StoreError when there is no such model.
        """
        self.ledger(model)
        return of_model(self._commits.ledger.schedules, model)

    @property
    def corpus(self) -> Corpus:
        """The evaluation text and its tokens, read at first use."""
        if self._corpus is None:
            self._corpus = self._corpus_files.corpus()
        return self._corpus

    def log_probs(self, model: str, seed: str, step: int) -> LogProbs:
        """One checkpoint's log-probs. Raises StoreError when they are not (or no longer) stored."""
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
        """One committed per-token result: (token[, rank]), in the variable's dtype and units.

        With `tokens`, of those alone. Raises StoreError when it is not committed, DamagedError when
        it cannot be read.
        """
        known, by_pair = self.ledger(model), layout.VARIABLES[name].by_pair
        seeds = known.reduced.get(step, frozenset()) if by_pair else known.scored_at(step)
        asked = (seed, other) if by_pair and other is not None else (seed,)
        if not seeds.issuperset(asked) or len(set(asked)) != 1 + by_pair:
            raise StoreError(
                f"{self.path}: {name} of {model}, {asked}, step {step}: no such result"
            )
        index = tuple(known.seeds[label] for label in asked)
        part = slice(None) if tokens is None else tokens
        return read(self.array(model, name), (known.steps[step], *index, part))

    def pair_means(self, model: str, name: str, step: int) -> NDArray[np.float64]:
        """A mean over tokens of every pair at a step, (seed, other_seed), e.g. `mean_js`.

        In the order of `ModelSnapshot.seeds`; NaN for pairs that are not reduced. Raises StoreError
        when none is, DamagedError when it cannot be read.
        """
        known = self.ledger(model)
        if not (members := known.reduced.get(step)):
            raise StoreError(f"{self.path}: {name} of {model}, step {step}: no such result")
        inside = np.array([seed in members for seed in known.seeds], np.bool_)
        pairs = pairs_among(inside)
        array, values = self.array(model, name), np.full(pairs.shape, np.nan)
        for box in boxes(pairs.shape, array.chunks[1:]):
            if pairs[box].any():  # else the chunk may not exist yet
                values[box] = read(array, (known.steps[step], *box))
        return np.where(pairs, values, np.nan)

    def means(self, model: str, name: str) -> NDArray[np.float64]:
        """A committed mean over tokens of every checkpoint or pair: (step, seed[, other_seed]).

        Steps ascend, seeds are in the order of `ModelSnapshot.seeds`; NaN where not committed. In
        the units of `layout.VARIABLES[name]`. Raises StoreError, DamagedError.
        """
        return read_means(self, model, name)

    def array(self, model: str, name: str) -> Array:
        """A results array as it is on disk; only committed cells of it mean anything.

        Raises DamagedError when its metadata are not what they must be.
        """
        known = self.ledger(model)
        array = open_array(self._store, f"{layout.model_path(model)}/{name}")
        if name not in layout.ARRAYS:  # a coordinate: the commit log is what counts
            return array
        variable, n_levels = layout.ARRAYS[name], self.n_levels
        return expect(
            array,
            shape=variable.shape(len(known.steps), len(known.seeds), self.n_tokens, n_levels),
            chunks=variable.chunks(self.n_tokens),
            dtype=variable.dtype,
            dims=variable.dims,
            attributes=variable.attributes,
            growing=variable.growing,
        )

    # -- categories and summaries --------------------------------------------------------------

    @property
    def n_levels(self) -> int:
        """Length of the axis `level` of the summaries."""
        return self._commits.ledger.n_levels

    def categories(self, model: str) -> tuple[str, ...]:
        """Names of the categories that the model's tokens are parted by."""
        ledger = self._commits.ledger
        there = ledger.categories.keys() | self.ledger(model).categories.keys()
        return tuple(name for name in ledger.levels if name in there)

    def partition(self, model: str, category: str) -> Partition | None:
        """What the log tells of a category; None while it has none, or not now."""
        own = self.ledger(model).categories
        return own.get(category) or self._commits.ledger.categories.get(category)

    def levels(self, category: str) -> range:
        """Where a category's levels are on the axis `level` of the summaries."""
        return self._commits.ledger.levels[category]

    def category(self, model: str, category: str) -> Category:
        """Levels of the tokens, with labels and counts. Raises StoreError, DamagedError."""
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
                if not self.refresh():  # else an engine may be writing another in its place
                    raise

    def own_categories(self, model: str | None) -> Mapping[str, Partition]:
        """Categories of the corpus alone, or those that are a model's own."""
        ledger = self._commits.ledger
        return ledger.categories if model is None else self.ledger(model).categories

    def own_category(self, category: str, model: str | None) -> Category:
        """One of `own_categories`. Raises DamagedError when it cannot be read."""
        digest = self.own_categories(model)[category].digest
        return read_category(self._store, category, model, digest)

    def summary(self, model: str, category: str = ALL) -> Summary:
        """Expected KL and all else by the levels of a category. Raises StoreError, DamagedError."""
        return read_summary(self, model, category)

    def token_kl(self, model: str, step: int, tokens: slice = _EVERYTHING) -> NDArray[np.float32]:
        """KL at each token, mean over ordered pairs of seeds: (token,), nats.

        Raises StoreError when the step is not summarised, DamagedError.
        """

        def read_tokens() -> NDArray[np.float32]:
            known = self.ledger(model)
            if step not in known.summaries:
                raise StoreError(f"{self.path}: {model}, step {step}: not summarised (yet)")
            array = self.array(model, f"{layout.SUMMARY}/token_kl")
            return read(array, (known.steps[step], tokens))

        return steady(self, model, [step], read_tokens)

    # -- probes ----------------------------------------------------------------------------------

    def probes(self) -> tuple[str, ...]:
        """Names of the probes: of what checkpoints say beside what they say of the corpus."""
        return tuple(self._commits.ledger.probes)

    def probe_entry(self, name: str) -> ProbeEntry:
        """What the log tells of a probe. Raises StoreError when there is none of that name."""
        if name not in self._commits.ledger.probes:
            names = ", ".join(self.probes()) or "none"
            raise StoreError(f"{self.path}: no probe {name!r}; it has: {names}")
        return self._commits.ledger.probes[name]

    def probe(self, name: str) -> Probe:
        """What a probe's items are. Raises StoreError, DamagedError when it cannot be read."""
        from store.reading.probe import read_probe

        while True:
            digest = self.probe_entry(name).digest
            try:
                return read_probe(self._store, name, digest)
            except DamagedError:
                if not self.refresh():  # else an engine may be writing another in its place
                    raise

    def probe_values(self, model: str, name: str, seed: str, step: int) -> NDArray[np.float32]:
        """What a checkpoint says of a probe's items: (item, variant), nats, NaN: no such variant.

        Log-probs of sentences (`blimp`) or surprisals (`icl`). Raises StoreError when it is not
        committed, which `ModelLedger.probed` tells, DamagedError when it cannot be read.
        """
        from store.reading.probe import read_values

        return read_values(self, self._store, model, name, (seed, step))

    # -- between steps and models ----------------------------------------------------------------

    def kl_between(self, a: CheckpointName, b: CheckpointName) -> NDArray[np.float64]:
        """KL from one checkpoint (model, seed, step) to another at each token: (token,), nats.

        Any two of the study: other steps of a seed, other models, other seeds; computed when asked,
        from their log-probs. Raises StoreError when those of one are not stored, DamagedError.
        """
        from store.analysis.between import kl_between

        return kl_between(self, a, b)

    def difference(
        self, a: tuple[str, int], b: tuple[str, int], category: str = "all"
    ) -> Difference:
        """Expected KL at (model, step) `a` minus that at `b`, by level, with intervals.

        Steps of one model are compared on the seeds that both have, models as independent. Raises
        StoreError when one is not summarised by that category, UnsupportedError when the levels
        are each model's own and the models differ, DamagedError. Needs scipy (extra `analysis`).
        """
        from store.analysis.difference import read_difference

        return read_difference(self, a, b, category)

    # -- everything ------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> Vocabulary:
        """The entries of the vocabulary and their counts, read at first use."""
        if self._vocabulary is None:
            self._vocabulary = self._corpus_files.vocabulary()
        return self._vocabulary

    def dataset(self, model: str) -> xarray.Dataset:
        """All results of a model as an `xarray.Dataset`: lazy, labelled, NaN where not committed.

        Variables and units are those of `docs/store-format.md`; steps ascend, seeds are labels.
        Needs the extra `xarray`.
        """
        from store.reading.dataset import (
            model_dataset,  # xarray takes long to import and is optional
        )

        return model_dataset(self, model)

    def snapshot(self) -> StudySnapshot:
        """What the screens show. Reads again only the models that changed."""
        self.refresh()
        return self._progress.snapshot(self.model_snapshot)

    def model_snapshot(self, model: str) -> ModelSnapshot:
        """One model's summary as of the last refresh; read again only when something changed."""
        known, duplicates = self.ledger(model), self._commits.ledger.duplicates(model)
        last = self._models.get(model)
        if last is None or last[0] != known.changes or last[1].duplicates != duplicates:
            self._models[model] = (known.changes, read_model(self, model, known, duplicates))
        return self._models[model][1]
