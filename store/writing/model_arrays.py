"""One model's arrays as its coordinator writes them: made once, grown as their axes do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import ProbeEntry
from store.commits.log import CommitReader
from store.errors import DamagedError
from store.reading.probe_arrays import loose_name, result_name, results_layouts
from store.schema import layout
from store.schema.array_layout import ArrayLayout
from store.storage.arrays import Array, create_array, create_group, open_array, read, resized, write
from store.storage.durable_store import DurableStore
from store.storage.metadata import coordinate_layout, coordinates, model_groups
from store.storage.side_by_side import side_by_side


class ModelArrays:
    """Every array of a model but log-probs, by its path below the model's group."""

    def __init__(
        self, store: DurableStore, model: str, n_tokens: int, divergences: tuple[str, ...]
    ) -> None:
        self._store, self._model, self._n_tokens = store, model, n_tokens
        self._variables = layout.arrays_of(divergences)
        self._group = layout.model_path(model)
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def grow(
        self,
        steps: Sequence[int],
        seeds: Sequence[str],
        n_levels: int,
        probes: Mapping[str, ProbeEntry],
    ) -> None:
        """Give the axes these lengths; what is there is not rewritten."""
        for path, attributes in model_groups(self._model, seeds, probes=bool(probes)).items():
            create_group(self._store, path, attributes)

        def fit(name: str) -> None:
            variable = self._variables[name]
            self._fit(name, variable.layout(len(steps), len(seeds), self._n_tokens, n_levels))

        side_by_side(fit, self._variables)
        for name, entry in probes.items():
            self.add_probe(name, entry, len(steps), len(seeds))
        positions = {step: index for index, step in enumerate(steps)}
        labels = {seed: index for index, seed in enumerate(seeds)}
        for name, values in coordinates(positions, labels).items():
            array = self._fit(name, coordinate_layout(name, len(values), {}))
            if not _holds(array, values):
                write(array, (slice(None),), values)
            if name != "step" and array.attrs.get("labels") != list(seeds):
                array.attrs["labels"] = list(seeds)

    def add_probe(self, name: str, entry: ProbeEntry, n_steps: int, n_seeds: int) -> None:
        """Make, or grow, the arrays of the results of a probe."""
        for path in (layout.PROBE, f"{layout.LOOSE}/{layout.PROBE}"):
            create_group(self._store, f"{self._group}/{path}", {})
        for path, made in results_layouts(name, n_steps, n_seeds, entry).items():
            self._fit(path, made)

    def drop_probe(self, name: str) -> None:
        """Let go of the arrays of the results of a probe, which are about to be removed."""
        for path in (result_name(name), loose_name(name)):
            self._arrays.pop(path, None)

    def _fit(self, name: str, made: ArrayLayout) -> Array:
        path = f"{self._group}/{name}"
        if name not in self._arrays:
            if (self._store.root / path / "zarr.json").exists():
                self._arrays[name] = open_array(self._store, path)
            else:
                self._arrays[name] = create_array(self._store, path, made)
        array = self._arrays[name]
        if made.shape != array.shape:  # smaller only when an earlier plan was never committed
            array = self._arrays[name] = resized(array, made.shape)
        return array


class StudyArrays:
    """The arrays of a study's models by name of the model, opened when they are first asked for."""

    def __init__(
        self,
        store: DurableStore,
        reader: CommitReader,
        n_tokens: int,
        divergences: tuple[str, ...],
    ) -> None:
        self._store, self._reader, self._n_tokens = store, reader, n_tokens
        self.divergences = divergences  # that the study has
        self._models: dict[str, ModelArrays] = {}

    def __contains__(self, model: str) -> bool:
        """Return whether the model's arrays are open."""
        return model in self._models

    def __getitem__(self, model: str) -> ModelArrays:
        """Return the model's arrays, opened, or made, with the axes that are committed."""
        if model not in self._models:
            known = self._reader.ledger.model(model)
            self.grow(model, known.steps, known.seeds)
        return self._models[model]

    def grow(
        self, model: str, steps: Iterable[int], seeds: Iterable[str], n_levels: int | None = None
    ) -> None:
        """Give the model's arrays axes of these steps and seeds; None: the levels committed."""
        ledger = self._reader.ledger
        if model not in self._models:
            made = ModelArrays(self._store, model, self._n_tokens, self.divergences)
            self._models[model] = made
        n_levels = ledger.n_levels if n_levels is None else n_levels
        self._models[model].grow(list(steps), list(seeds), n_levels, ledger.probes)


def _holds(array: Array, values: NDArray[Any]) -> bool:
    try:
        return np.array_equal(read(array, (slice(None),)), values)
    except DamagedError:
        return False
