"""Reads the weights of the next passes while the device works on one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from engine.errors import CheckpointError
from engine.machine.faults import blamed
from engine.machine.host_memory import HostMemory
from engine.models.captured_files import CapturedReader
from engine.models.language_model import ReadCheckpoint
from engine.models.readers import choose_reader
from engine.sources.base import Checkpoint, Source
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import EvaluationText
from engine.text.orders import make_order
from engine.text.tokenizer import Tokenizer
from engine.workers.messages import Pass
from store.schema import Key

_POLL_SECONDS = 0.2  # within which a request to stop is noticed while weights are read

T = TypeVar("T")


class WeightsReader:
    """Reads weights in a thread of its own, as far ahead as the host's memory allows."""

    def __init__(
        self,
        study: StudyFile,
        sources: Mapping[str, Source],
        tokenizer: Tokenizer,
        text: EvaluationText,
    ) -> None:
        self._sources = sources
        self._readers = {
            model.name: choose_reader(model, study.folder, tokenizer) for model in study.models
        }
        if study.captured:  # and so of this text; each of the probes is compared for itself
            order = make_order(study, tokenizer, text, {}).digest
            for name in study.captured:
                self._readers[name] = CapturedReader(name, order, study.scoring, tokenizer.size)
        self.largest: dict[str, int] = {}  # bytes that a checkpoint takes on the device, by model
        self._dtype = getattr(torch, study.scoring.dtype)
        self._memory = HostMemory(study.limits.memory_gb)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._reading: dict[tuple[str, Key], Future[ReadCheckpoint | None]] = {}

    def prefetch(self, task: Pass) -> None:
        """Begin to read the weights that a pass will need."""
        for seed in task.live:
            which = task.model, (seed, task.step)
            if which not in self._reading:
                checkpoint = task.open(seed, self._sources)
                self._reading[which] = self._submit(self._read_early, task.model, checkpoint)

    def take(
        self, task: Pass, seed: str, on_wait: Callable[[], None], make_room: Callable[[], None]
    ) -> ReadCheckpoint:
        """Return the weights of a live seed, which were prefetched, once they are read.

        `on_wait` is called every 0.2 s and may raise to stop. `make_room` is called when there is
        room for these weights only without those that were used before. Raise CheckpointError when
        they cannot be read.
        """
        weights = self._await(self._reading.pop((task.model, (seed, task.step))), on_wait)
        if weights is None:
            make_room()
            checkpoint = task.open(seed, self._sources)
            again = self._submit(self._read, task.model, checkpoint)
            weights = self._await(again, on_wait)
        return weights

    def forget(self, task: Pass) -> None:
        """Cancel what was not taken of a pass: another device may do it."""
        for seed in task.live:
            if reading := self._reading.pop((task.model, (seed, task.step)), None):
                reading.cancel()

    def close(self) -> None:
        """End the thread. What it reads is not needed any more, and may take minutes to end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self, read: Callable[[str, Checkpoint], T], model: str, checkpoint: Checkpoint
    ) -> Future[T]:
        """Read in the thread. Whatever goes wrong there is a CheckpointError that names it."""

        def work() -> T:
            with blamed(checkpoint.where(), "cannot be read"):
                return read(model, checkpoint)

        return self._thread.submit(work)

    def _await(self, reading: Future[T], on_wait: Callable[[], None]) -> T:
        while not wait([reading], _POLL_SECONDS).done:
            on_wait()
        return reading.result()

    def _read_early(self, name: str, checkpoint: Checkpoint) -> ReadCheckpoint | None:
        """Return the weights, or None when there is room for them only without others."""
        if self._memory.limit is not None:
            needed = self._readers[name].bytes_needed(checkpoint.fetch())
            if self._memory.lacks(2 * needed):  # as much for the pass in hand
                return None
        return self._read(name, checkpoint)

    def _read(self, name: str, checkpoint: Checkpoint) -> ReadCheckpoint:
        reader, folder = self._readers[name], checkpoint.fetch()
        needed = 0 if self._memory.limit is None else reader.bytes_needed(folder)
        if lacking := self._memory.lacks(needed):
            raise CheckpointError(f"{checkpoint.where()}: reading its weights takes {lacking}")
        found = reader.read(folder, checkpoint.where(), checkpoint.key)
        self.largest[name] = max(self.largest.get(name, 0), found.bytes_as(self._dtype))
        return found
