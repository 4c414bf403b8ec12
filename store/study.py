"""A study open for reading, with what is computed from it: what scripts and screens use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.errors import DamagedError, ReplacedError, from_extra
from store.reading.model import read_model
from store.reading.study_reader import StudyReader
from store.reading.summary import Summary, read_summary
from store.schema.category import ALL
from store.schema.keys import CheckpointName
from store.schema.snapshot import ModelSnapshot, StudySnapshot
from store.storage.places import Address

if TYPE_CHECKING:
    import xarray

    from store.analysis.difference import Difference

_TRIES = 3


def open_study(path: Address) -> Study:
    """Open the study at `path` for reading: a folder, or a remote copy's address.

    Given the `files` of one that is open, what was read of a remote copy is not read again.

    Addresses (s3://, gs://, az://, https://) need the extra `remote`. Raise NotAStudyError when
    there is none or its format is not ours, DamagedError when what must be there cannot be read,
    RemoteError when a remote store does not answer, UnsupportedError.
    """
    return Study(path)


class Study(StudyReader):
    """A study open for reading: `refresh` follows an engine that is still writing."""

    def __init__(self, path: Address, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, clock=clock)
        self._models: dict[str, tuple[int, ModelSnapshot]] = {}

    def summary(self, model: str, category: str = ALL) -> Summary:
        """Read expected KL and all else by the levels of a category.

        Raise StoreError, DamagedError.
        """
        return read_summary(self, model, category)

    def kl_between(self, a: CheckpointName, b: CheckpointName) -> NDArray[np.float64]:
        """Compute the KL from one checkpoint to another at each token: (token,), nats.

        Any two of the study: other steps of a seed, other models, other seeds; from their
        log-probs. Raise StoreError when those of one are not stored, DamagedError.
        """
        from store.analysis.between import kl_between

        return kl_between(self, a, b)

    def difference(self, a: tuple[str, int], b: tuple[str, int], category: str = ALL) -> Difference:
        """Compute expected KL at (model, step) `a` minus that at `b`, by level, with intervals.

        Steps of one model are compared on the seeds that both have, models as independent. Raises
        StoreError when one is not summarised by that category, UnsupportedError when the levels
        are each model's own and the models differ, DamagedError. Needs scipy (extra `analysis`).
        """
        from store.analysis.difference import read_difference

        return read_difference(self, a, b, category)

    def dataset(self, model: str) -> xarray.Dataset:
        """Return all results of a model: lazy, labelled, NaN where not committed.

        Variables and units are those of `docs/store-format.md`; steps ascend, seeds are labels.
        Needs the extra `xarray`.
        """
        with from_extra("a dataset", "xarray"):
            from store.reading.dataset import model_dataset  # slow to import

        return model_dataset(self, model)

    def snapshot(self) -> StudySnapshot:
        """Return what the screens show. Reads again only the models that changed.

        Raise ReplacedError for a study that is replaced again and again, and what `open_study`
        raises.
        """
        for _ in range(_TRIES):
            self.refresh()
            with contextlib.suppress(ReplacedError):  # while it was read
                return self._progress.snapshot(self.model_snapshot)
        self.refresh()
        return self._progress.snapshot(self.model_snapshot)

    def model_snapshot(self, model: str) -> ModelSnapshot:
        """Return one model's summary as of the last refresh, read again only when it changed."""
        known, duplicates = self.ledger(model), self.duplicates(model)
        last = self._models.get(model)
        if last is None or last[0] != known.changes or last[1].duplicates != duplicates:
            while True:
                try:
                    self._models[model] = (known.changes, read_model(self, model))
                    break
                except DamagedError:
                    if not self._follow():  # else an engine may have computed some once more
                        raise
                    known = self.ledger(model)
        return self._models[model][1]
