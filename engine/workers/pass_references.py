"""What the seeds of a pass are compared with besides each other, as one worker has it at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from engine.errors import CheckpointError, EngineError
from engine.models.readers import choose_reader
from engine.scoring.reference_kl import ReferenceModel, References
from engine.scoring.scorer import Scorer
from engine.scoring.stored import stored_rows
from engine.sources.base import Source
from engine.sources.reference_source import REFERENCE
from engine.study_file.file import StudyFile
from engine.study_file.reference_section import KEY
from engine.text.tokenizer import Tokenizer
from engine.workers.messages import Pass
from store import ModelLedger, Study
from store.schema import REFERENCE_METRICS, TO_MODEL
from store.writing import CellWriter, PendingPairs


class WorkerReferences:
    """Runs the reference model when it is first needed, and keeps what came of it."""

    def __init__(
        self,
        study: StudyFile,
        tokenizer: Tokenizer,
        sources: Mapping[str, Source],
        scorer: Scorer,
        store: Study,
        readers: ThreadPoolExecutor,
    ) -> None:
        self._study, self._tokenizer, self._scorer = study, tokenizer, scorer
        self._source, self._store, self._readers = sources.get(REFERENCE), store, readers
        self._model: ReferenceModel | None = None

    def _names(self, task: Pass, known: ModelLedger) -> tuple[str, ...]:
        """Return the metrics that a pass can have: those of the end once all seeds are stored."""
        end = self._study.reference.end
        there = end is not None and all((seed, end) in known.stored for seed in task.seeds)
        asked = self._study.reference.names
        return tuple(
            metric.name
            for metric in REFERENCE_METRICS
            if metric.name in asked and (there or not metric.at_end)
        )

    def prepare(self, progress: Callable[[int], None]) -> None:
        """Run the reference model, unless there is none or that was done.

        Raise EngineError when it cannot be used: no step could be compared as the study asks.
        """
        if self._source is None or self._model is not None:
            return
        try:
            self._model = self._run(progress)
        except torch.OutOfMemoryError:
            raise EngineError(
                f"reference.model: out of memory on {self._scorer.devices} with its weights. What "
                "was committed stays; choose a smaller one, or a larger device"
            ) from None
        except CheckpointError as error:
            why = str(error)  # which names fields of a model
            for field in ("config", "allow_pickle"):
                why = why.replace(f"models.{field}", f"reference.{field}")
            raise EngineError(
                f"reference.model: {why}. What was committed stays; put the model right and run "
                "again, or use another store without it"
            ) from None

    def begin_pairs(self, results: CellWriter, task: Pass) -> PendingPairs:
        """Start writing what a pass compares: pairs, and what there is of references."""
        names = self._names(task, self._store.ledger(task.model))
        fingerprint = None if self._model is None else self._model.fingerprint
        return results.begin_pairs(task.model, task.step, task.seeds, names, fingerprint)

    def of(self, task: Pass, names: tuple[str, ...]) -> References | None:
        """Return what a pass is compared with, for these metrics; None: nothing.

        Raise DamagedError for log-probs of the end that cannot be read.
        """
        end, ends = self._study.reference.end, []
        if end is not None and any(m.at_end and m.name in names for m in REFERENCE_METRICS):
            for seed in task.seeds:
                log_probs = self._store.log_probs(task.model, seed, end)
                ends.append(stored_rows(self._scorer, log_probs, self._readers))
        kept = self._model if TO_MODEL.name in names else None
        model = None if kept is None else kept.rows()
        return References(model, ends) if ends or model is not None else None

    def _run(self, progress: Callable[[int], None]) -> ReferenceModel:
        section, source = self._study.reference.source, self._source
        assert section is not None
        assert source is not None
        source.find()
        checkpoint = source.checkpoint(KEY)
        reader = choose_reader(section, self._study.folder, self._tokenizer)
        read = reader.read(checkpoint.fetch(), checkpoint.where(), KEY)
        model = self._scorer.load(read)
        try:
            read.drop()
            found = ReferenceModel(self._scorer, model, checkpoint.where(), progress)
        finally:
            model.close()
        self._refuse_another(found.fingerprint)
        return found

    def _refuse_another(self, fingerprint: str) -> None:
        """Raise CheckpointError when results of the store are of another reference model."""
        for name in self._store.models:
            for of in self._store.ledger(name).sets.values():
                if of.reference not in (None, fingerprint):
                    raise CheckpointError(
                        "its weights are not those of the reference that this store has results "
                        "of, which would not be comparable"
                    )
