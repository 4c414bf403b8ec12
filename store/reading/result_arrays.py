"""Opening arrays of results, each as the commit log says that it must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zarr.abc.store import Store

from store.commits.ledger import ModelLedger
from store.errors import StoreError
from store.schema import layout
from store.schema.array_layout import ArrayLayout
from store.storage.arrays import Array, expect, open_array


@dataclass
class _Known:
    """The form that an array must have, and the one that was found to have it."""

    whole: str  # its path
    sizes: tuple[int, int, int]  # of the axes step, seed and level
    made: ArrayLayout
    sound: Array | None = None


class ResultArrays:
    """Opens arrays of the results of one study, which messages name as `study`."""

    def __init__(
        self,
        study: object,
        store: Store,
        n_tokens: int,
        divergences: tuple[str, ...],
        n_levels: Callable[[], int],
    ) -> None:
        self._study, self._store, self._n_tokens = study, store, n_tokens
        self._divergences, self._n_levels = divergences, n_levels
        self._known: dict[tuple[str, str], _Known] = {}  # by model and path

    def open(self, model: str, path: str, ledger: ModelLedger) -> Array:
        """Open an array by its path below the model's group.

        Raise StoreError where the study has none, DamagedError.
        """
        sizes = len(ledger.steps), len(ledger.seeds), self._n_levels()
        known = self._known.get((model, path))
        if known is None or known.sizes != sizes:
            self._refuse_absent(path)
            whole = f"{layout.model_path(model)}/{path}"
            if path not in layout.ARRAYS:  # a coordinate: the commit log is what counts
                return open_array(self._store, whole)
            steps, seeds, levels = sizes
            made = layout.ARRAYS[path].layout(steps, seeds, self._n_tokens, levels)
            known = self._known[model, path] = _Known(whole, sizes, made)
        array = open_array(self._store, known.whole, known.made)
        if array is not known.sound:  # else nothing has changed since
            expect(array, known.made, growing=layout.ARRAYS[path].growing)
            known.sound = array
        return array

    def _refuse_absent(self, path: str) -> None:
        """Raise StoreError for an array of a divergence that the study does not keep."""
        divergences = self._divergences
        if path in layout.ARRAYS.keys() - layout.arrays_of(divergences).keys():
            name = path.removeprefix(f"{layout.LOOSE}/")
            raise StoreError(
                f"{self._study}: has no {name}; its divergences are: {', '.join(divergences)}"
            )
