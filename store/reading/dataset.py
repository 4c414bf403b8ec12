"""A model's results as an `xarray.Dataset`: lazy, in order, and only what is committed."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader
from store.schema import layout
from store.schema.seed_pairs import over_pairs
from store.schema.variable import PERCENTILES
from store.storage.arrays import read


class _CommittedArray(BackendArray):
    """A results array, steps ascending; cells that are not committed are never read."""

    def __init__(self, study: StudyReader, model: str, name: str) -> None:
        self._variable = layout.VARIABLES[name]
        self._array = study.array(model, name)
        self._means, known = study.mean_reader(model, name), study.ledger(model)
        steps, seeds = sorted(known.steps), list(known.seeds)
        self._study, self._model, self._name = study, model, name
        self._steps, self._seeds = steps, seeds
        self._order = [known.steps[step] for step in steps]
        self._committed = study.committed(model, name)
        sizes = dict(
            zip(
                self._variable.dims,
                self._variable.shape(len(steps), len(seeds), study.n_tokens),
                strict=True,
            )
        )
        self.dims = tuple(dim for dim in sizes if dim != "compared")  # of each step, the last
        self.shape = tuple(sizes[dim] for dim in self.dims)
        self.dtype = np.dtype(self._variable.dtype)

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        fill = -1 if self.dtype.kind == "i" else np.nan
        n_cell = self._committed.ndim
        if not self._variable.per_token:  # small, and many cells share a chunk
            order = np.array(self._order, np.intp)
            chosen: NDArray[Any] = self._means.all(self._array, order, self._committed)[key]
            return chosen
        cell_key, token_key = key[:n_cell], key[n_cell:]
        committed = np.asarray(self._committed[cell_key])
        axes = np.ix_(*(np.arange(n)[_run(k)] for k, n in zip(cell_key, self.shape, strict=False)))
        tail = np.empty(self.shape[n_cell:], bool)[token_key].shape if token_key else ()
        cells = np.full((committed.size, *tail), fill, self.dtype)
        where = [axis.ravel() for axis in np.broadcast_arrays(*axes)]
        for n in np.flatnonzero(committed.ravel()):
            step, *rest = (int(axis[n]) for axis in where)
            if self._variable.by_set:  # elsewhere once other seeds are compared
                cells[n] = self._of_set(step, *rest)[token_key]
                continue
            at = self._order[step], *self._variable.seed_cell(*rest)
            cells[n] = read(self._array, (*at, *token_key))
        return cells.reshape(*committed.shape, *tail)

    def _of_set(self, step: int, seed: int) -> NDArray[Any]:
        study, model, name = self._study, self._model, self._name
        values: NDArray[Any] = study.values(model, name, self._seeds[seed], self._steps[step])
        return values


class _ExpectedKl(BackendArray):
    """Means over the committed pairs; the array on disk may be ahead of what is committed."""

    dims = ("step",)

    def __init__(self, study: StudyReader, model: str) -> None:
        self._means = _CommittedArray(study, model, "mean_kl")
        self.shape, self.dtype = self._means.shape[:1], self._means.dtype

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        means = self._means._read((slice(None),) * 3)
        values: NDArray[Any] = over_pairs(means, np.mean)[key]
        return values


class _SummaryArray(BackendArray):
    """Summaries of all levels, steps ascending; what is not, or not now, summarised is NaN."""

    def __init__(self, study: StudyReader, model: str, name: str) -> None:
        self._study, self._model, self._name = study, model, name
        self._reader = SummaryReader(study, model)
        self._partitions = {c: study.partition(model, c) for c in study.categories(model)}
        self._spans = {c: study.levels(c) for c in self._partitions}
        known, self._variable = study.ledger(model), layout.SUMMARIES[name]
        sizes = len(known.steps), len(known.seeds), study.n_tokens, study.n_levels
        self.shape, self.dtype = self._variable.shape(*sizes), np.dtype(self._variable.dtype)

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        values = np.full(self.shape, np.nan, self.dtype)
        chosen: NDArray[np.bool_] = np.zeros(self.shape[0], bool)
        chosen[key[0]] = True
        if self._variable.per_token:
            for row in np.flatnonzero(chosen & self._reader.summarised):
                values[row] = self._study.token_kl(self._model, int(self._reader.steps[row]))
        else:
            inner = tuple(slice(n) for n in self.shape[1:-1])  # seeds may have come since
            for category, span in self._spans.items():
                if self._study.partition(self._model, category) == self._partitions[category]:
                    found = self._reader.read(self._name, category, chosen)
                    values[..., span.start : span.stop] = found[:, *inner]
        selected: NDArray[Any] = values[key]
        return selected


def _run(key: int | slice) -> slice:
    return key if isinstance(key, slice) else slice(key, key + 1)


def model_dataset(study: StudyReader, model: str) -> xr.Dataset:
    """Return all results of a model, see `Study.dataset`. Raise StoreError, DamagedError."""
    known = study.ledger(model)
    steps, seeds = sorted(known.steps), list(known.seeds)
    variables = {}
    for name, variable in layout.variables_of(study.divergences).items():
        expected = name == "expected_kl"
        array = _ExpectedKl(study, model) if expected else _CommittedArray(study, model, name)
        attributes = {"units": variable.units, "long_name": variable.description}
        lazy = indexing.LazilyIndexedArray(array)
        variables[name] = xr.Variable(array.dims, lazy, attributes)
    for name, variable in layout.summaries_of(study.divergences).items():
        lazy = indexing.LazilyIndexedArray(_SummaryArray(study, model, name))
        attributes = {"units": variable.units, "long_name": variable.description}
        dataset_name = name if variable.per_token else f"level_{name}"
        variables[dataset_name] = xr.Variable(variable.dims, lazy, attributes)
    corpus = study.corpus
    category, label, n = _levels(study, model)
    return xr.Dataset(
        variables,
        coords={
            "step": ("step", steps),
            "seed": ("seed", seeds),
            "other_seed": ("other_seed", seeds),
            "token_id": ("token", corpus.token_id),
            "document": ("token", corpus.document),
            "category": ("level", category),
            "label": ("level", label),
            "n": ("level", n),
            "percentile": ("percentile", list(PERCENTILES)),
        },
        attrs={
            "study": study.name,
            "model": model,
            "phases": [phase.name for phase in known.phases],
            "phase_starts": [phase.start for phase in known.phases],
        },
    )


def _levels(study: StudyReader, model: str) -> tuple[list[str], list[str], list[int]]:
    """Return category, label and tokens at each place on the axis `level`; blank: none now."""
    category, label, n = [""] * study.n_levels, [""] * study.n_levels, [0] * study.n_levels
    for name in study.categories(model):
        found, span = study.category(model, name), study.levels(name)
        category[span.start : span.stop] = [name] * len(span)
        label[span.start : span.stop] = found.labels
        n[span.start : span.stop] = found.counts.tolist()
    return category, label, n
