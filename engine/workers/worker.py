"""Doing one pass: scores and reduces on one device and writes results that are not yet committed.

A worker changes nothing that others share. What it returns is plain data, so that it may run in
this process, in another one, or on another machine that sees the same files.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from engine.errors import CheckpointError, first_line
from engine.machine.device_errors import is_dead_device, is_out_of_memory
from engine.machine.devices import DeviceGroup
from engine.machine.faults import is_fault
from engine.models.captured_files import Captured
from engine.models.language_model import LanguageModel, ReadCheckpoint
from engine.models.vocabulary import doubtful_padding
from engine.probes.questions import Questions
from engine.scoring.captured_seed import CapturedSeed
from engine.scoring.log_prob_rows import LiveSeed, Rows
from engine.scoring.passes import CorpusPass, Live, LiveError, PairsError
from engine.scoring.scorer import Scorer
from engine.scoring.stored import stored_rows
from engine.sources.base import Checkpoint, Source
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import EvaluationText
from engine.text.tokenizer import Tokenizer
from engine.workers.asking import ask_live, of_capture
from engine.workers.kept_as import kept_as
from engine.workers.messages import Outcome, Pass
from engine.workers.pass_errors import (
    NoMemoryError,
    SeedError,
    dead_device,
    no_memory,
    refuse_different,
    refuse_others,
)
from engine.workers.pass_references import WorkerReferences
from engine.workers.ways_to_load import Way, ways_to_load
from engine.workers.weights_reader import WeightsReader
from store import REPRESENTATIONS, DamagedError, ModelLedger, Study
from store.schema import Key, State, Work
from store.writing import CellWriter, CheckpointResult, PendingCheckpoint, PendingPairs

_READERS = 4  # at most


class Worker:
    """Works for one coordinator on one device, or on several that share each model."""

    def __init__(
        self,
        study: StudyFile,
        text: EvaluationText,
        tokenizer: Tokenizer,
        sources: Mapping[str, Source],
        devices: DeviceGroup,
        results: CellWriter,
        report: Callable[[Work], None],
        probes: Sequence[Questions] = (),
        *,
        shares_cache: bool = True,
    ) -> None:
        """Call `report` with progress, once a block; it may raise to stop the work.

        Where others that work do not share what was downloaded, nothing is left there for them.
        """
        self._probes = {questions.probe.name: questions for questions in probes}
        self._shares_cache, self._noted = shares_cache, set[str]()
        self._study, self._text, self._tokenizer, self._sources = study, text, tokenizer, sources
        self._models = {model.name: model for model in study.models}
        self._results, self._report = results, report
        self._notes: list[str] = []
        self._said: list[str] = []
        self._scorer = Scorer(
            text, tokenizer.size, study.scoring, devices, self._notes.append, study.limits,
            self._said.append,
        )  # fmt: skip
        self._offload = study.scoring.offload is not None
        self._weights = WeightsReader(study, sources, tokenizer, text)
        self._store = Study(study.store)
        readers = min(_READERS, study.limits.threads or _READERS)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="log-probs")
        self._references = WorkerReferences(
            study, tokenizer, sources, self._scorer, self._store, self._readers
        )

    def prefetch(self, task: Pass) -> None:
        """Begin to read the weights that a pass will need, in a thread of its own."""
        self._weights.prefetch(task)

    def _checkpoint(self, task: Pass, seed: str) -> Checkpoint:
        """Open the checkpoint of a live seed."""
        return task.open(seed, self._sources)

    def close(self) -> None:
        """End threads. What is being read is of no use any more, and may take minutes to end."""
        self._weights.close()
        self._readers.shutdown(cancel_futures=True)

    def run(self, task: Pass) -> Outcome:
        """Do one pass. What a checkpoint makes impossible is in the outcome, not raised.

        Raise what `report` raises, OSError when results cannot be written, BusyError when another
        coordinator has taken the study over, EngineError when the device does not work any more.
        Nothing of the pass stays on disk then.
        """
        started = time.perf_counter()
        self._notes.clear()
        self._said.clear()
        outcome = Outcome(task, 0.0)
        done = task.live
        try:
            outcome = self._try(task)
        except SeedError as error:
            failed = error.seed, str(error)
            trace = "".join(traceback.format_exception(error.__cause__ or error.__context__))
            outcome = replace(outcome, failed=failed, passing=error.passing, trace=trace)
            done = () if task.tentative else (error.seed,)
        except DamagedError as error:
            captured = task.model in self._study.captured
            does = "repairs what can be repaired" if captured else "has it scored again"
            text = f"{error}; `seedconv verify {self._study.store} --mend` {does}"
            outcome, done = replace(outcome, damaged=text), ()
        except PairsError as error:
            outcome, done = replace(outcome, damaged=str(error)), ()
        except BaseException as error:
            if is_dead_device(error):
                raise dead_device(str(self._scorer.devices), error) from error
            if is_out_of_memory(error):  # for the sake of no live seed
                text = (
                    f"out of memory on {self._scorer.devices} with log-probs of {len(task.stored)} "
                    "stored seeds; choose a larger one, or the CPU, with scoring.device"
                )
                outcome, done = replace(outcome, damaged=text, passing=True), ()
            elif isinstance(error, OSError) or not is_fault(error):
                raise
            else:
                outcome, done = self._fails(task, outcome, error), () if task.tentative else done
        for seed in done:
            if not self._wanted_again(task, outcome, (seed, task.step)):
                self._checkpoint(task, seed).release()
        seconds, size = time.perf_counter() - started, self._weights.largest.get(task.model, 0)
        notes, said = tuple(self._notes), tuple(self._said)
        return replace(outcome, seconds=seconds, notes=notes, said=said, weight_bytes=size)

    def _fails(self, task: Pass, outcome: Outcome, error: BaseException) -> Outcome:
        """Return the outcome of a pass in which something else went wrong, whatever it is.

        It concerns one checkpoint, or else one step: the rest goes on.
        """
        trace = "".join(traceback.format_exception(error))
        if len(task.live) != 1:
            return replace(outcome, damaged=first_line(error), trace=trace)
        where = self._checkpoint(task, task.live[0]).where()
        failed = task.live[0], f"{where}: cannot be scored: {first_line(error)}"
        return replace(outcome, failed=failed, trace=trace)

    def _wanted_again(self, task: Pass, outcome: Outcome, key: Key) -> bool:
        """Return whether a checkpoint was scored now and is asked probes later."""
        if task.probes or outcome.failed or not self._shares_cache:
            return False
        known = self._store.ledger(task.model)
        failed = [known.probe_failures.get(probe, {}) for probe in self._probes]
        return bool(known.unasked(key, self._probes)) and not any(key in them for them in failed)

    def _try(self, task: Pass) -> Outcome:
        self.prefetch(task)
        self._store.refresh()
        alone = task.seeds[0] if len(task.seeds) == 1 else None
        work = Work(task.model, alone, task.step, State.READING, 0, len(self._text.corpus))
        work = replace(work, probe=", ".join(task.probes))
        self._report(work)
        self._references.prepare(lambda _: self._report(work))
        state = State.SCORING if task.live else State.REDUCING
        pending: list[PendingCheckpoint | PendingPairs] = []
        made = contextlib.ExitStack()  # models: their memory is for those of the next pass
        try:
            stored = {seed: self._open_stored(task, seed) for seed in task.stored}
            checkpoints = self._take_weights(task, work)
            live = self._make_live(task, checkpoints, self._store.ledger(task.model), made)
            if task.probes:
                asked = [self._probes[name] for name in task.probes]
                return self._ask(Outcome(task, 0.0), live[task.live[0]], asked, work)
            pending += [entry.pending for entry in live.values() if entry.pending is not None]
            pairs = None
            if task.reduce and len(task.seeds) > 1:
                pairs = self._references.begin_pairs(self._results, task)
                pending.append(pairs)
            entries: dict[str, Live | Rows] = {**stored, **live}
            with self._names_seed(task):
                CorpusPass(
                    self._scorer,
                    [entries[seed] for seed in task.seeds],
                    pairs,
                    lambda n: self._report(replace(work, state=state, tokens_done=n)),
                    task.ahead,
                    None if pairs is None else self._references.of(task, pairs.divergences),
                ).run()
            results = []
            for seed in task.live:
                if live[seed].committed is not None:
                    self._compare(task, live[seed])
                if live[seed].pending is not None:
                    with self._names_seed(task, seed):
                        results.append(self._finish(task, live[seed]))
            outcome = Outcome(task, 0.0, tuple(results), None if pairs is None else pairs.finish())
            return self._ask_captured(outcome, live.values(), work)
        except BaseException:
            for unfinished in pending:
                unfinished.abandon()
            self._weights.forget(task)
            with contextlib.suppress(Exception):  # the next coordinator looks for it again
                self._results.discard(task.model, task.step, task.live, task.seeds)
            raise
        finally:
            made.close()

    def _ask(
        self, outcome: Outcome, entry: Live, probes: Sequence[Questions], work: Work
    ) -> Outcome:
        """Add to an outcome what one live checkpoint answers to probes."""
        where = self._checkpoint(outcome.task, entry.label).where()
        made, notes = ask_live(outcome, self._scorer, entry, probes, work, self._report, where)
        for note in notes:  # true of every checkpoint of a model
            self._note_once(note)
        return made

    def _ask_captured(self, outcome: Outcome, live: Iterable[Live], work: Work) -> Outcome:
        """Add the answers of what was captured in training, which cannot be asked later."""
        task, known = outcome.task, self._store.ledger(outcome.task.model)
        for entry in live:
            if asked := of_capture(entry, task.step, self._probes, known):
                outcome = self._ask(outcome, entry, asked, work)
        return outcome

    def _note_once(self, note: str) -> None:
        if note not in self._noted:
            self._noted.add(note)
            self._notes.append(note)

    def _open_stored(self, task: Pass, seed: str) -> Rows:
        log_probs = self._store.log_probs(task.model, seed, task.step)
        return stored_rows(self._scorer, log_probs, self._readers)

    def _take_weights(self, task: Pass, work: Work) -> list[ReadCheckpoint]:
        def on_wait() -> None:
            self._report(work)

        taken: list[ReadCheckpoint] = []
        for seed in task.live:
            with self._names_seed(task, seed):
                weights = self._weights.take(task, seed, on_wait, self._scorer.let_go)
                self._notes += [weights.note] if weights.note else []
                taken.append(weights)
        return taken

    def _make_live(
        self,
        task: Pass,
        checkpoints: Sequence[ReadCheckpoint],
        known: ModelLedger,
        made: contextlib.ExitStack,
    ) -> dict[str, Live]:
        """Models of the live seeds, and a place for the results of each that has new ones."""
        live = {}
        every = self._load(task, checkpoints, made)
        for seed, checkpoint, model in zip(task.live, checkpoints, every, strict=True):
            checkpoint.drop()
            record, captured = known.scored.get((seed, task.step)), isinstance(model, Captured)
            running: LiveSeed | CapturedSeed
            with self._names_seed(task, seed):
                where = checkpoint.where
                refuse_others(where, model.fingerprint, record, captured=captured)
                if isinstance(model, Captured):  # kept as it came, since it cannot come again
                    keep, layer = model.keep, model.layer
                    for doubt in model.doubts:
                        self._note_once(doubt)
                    running = CapturedSeed(self._scorer, model)
                else:
                    if padding := doubtful_padding(checkpoint.folder, model.rows, self._tokenizer):
                        self._note_once(padding)
                    keep, layer, note = kept_as(where, model, task.keep)
                    if note:
                        self._note_once(note)
                    running = LiveSeed(self._scorer, model, compared=task.reduce)
            pending, kept = None, REPRESENTATIONS[keep]
            if kept is not None or record is None:
                pending = self._results.begin_checkpoint(task.model, seed, task.step, keep, layer)
            live[seed] = Live(seed, running, pending, kept.result if kept is not None else None)
            if record is not None and bool(record.get("captured")) != captured:
                values = self._store.values(task.model, "surprisal", seed, task.step)
                live[seed].committed = np.asarray(values, np.float32)
        return live

    def _load(
        self, task: Pass, checkpoints: Sequence[ReadCheckpoint], made: contextlib.ExitStack
    ) -> list[LanguageModel | Captured]:
        """Models of the live seeds, in the best way that there is memory for; `made` closes them.

        What was free may just have been taken by another program: then the next way is tried. What
        was captured in training needs no model.
        """

        def load(way: Way) -> list[LanguageModel | Captured]:
            if way.note:
                self._note_once(way.note)
            models: list[LanguageModel | Captured] = []
            with contextlib.ExitStack() as opened:
                for seed, checkpoint in zip(task.live, checkpoints, strict=True):
                    if isinstance(checkpoint, Captured):
                        models.append(checkpoint)
                        continue
                    with self._names_seed(task, seed):
                        model = self._scorer.load(checkpoint, way.residence, way.rooms)
                    opened.callback(model.close)
                    models.append(model)
                made.enter_context(opened.pop_all())
            return models

        if not checkpoints:
            return []
        *ways, last = ways_to_load(self._scorer, checkpoints, offload=self._offload)
        for way in ways:
            with contextlib.suppress(NoMemoryError):
                return load(way)
        return load(last)

    @contextlib.contextmanager
    def _names_seed(self, task: Pass, seed: str | None = None) -> Iterator[None]:
        """Turn what is wrong with one live seed into an error that names it."""
        try:
            yield
        except SeedError:
            raise
        except LiveError as error:
            where = self._checkpoint(task, error.seed).where()
            text = ""
            if error.token is not None:
                text = f" ({self._text.corpus.token_text(error.token)!r})"
            text = f"{where}: {error}{text}{error.advice}"
            raise SeedError(error.seed, text) from error.__cause__
        except CheckpointError as error:
            if seed is None and len(task.live) != 1:
                raise
            seed = seed or task.live[0]  # what was captured is read while tokens are asked for
            raise SeedError(seed, str(error), passing=error.passing) from error.__cause__
        except BaseException as error:
            if task.live and is_out_of_memory(error):
                loading, seed = seed is not None, seed or task.live[-1]
                raise no_memory(task, seed, loading=loading) from None
            # What cannot be written or sent is not the checkpoint's: its own files were read in
            # another thread, which has named it.
            if seed is None or isinstance(error, OSError) or not is_fault(error):
                raise
            where = self._checkpoint(task, seed).where()
            raise SeedError(seed, f"{where}: cannot be scored: {first_line(error)}") from error

    def _compare(self, task: Pass, entry: Live) -> None:
        """Refuse a checkpoint whose results are there, were got in another way and are others."""
        record = self._store.ledger(task.model).scored[entry.label, task.step]
        with self._names_seed(task, entry.label):
            where = self._checkpoint(task, entry.label).where()
            refuse_different(where, entry.difference / len(self._text.corpus), record)

    def _finish(self, task: Pass, entry: Live) -> CheckpointResult:
        assert entry.pending is not None
        assert entry.seed.noise_floor is not None
        window, overlap = entry.seed.window
        floors = {
            "storage_floor": (entry.squared_rounding / len(self._text.corpus)) ** 0.5,
            "noise_floor": entry.seed.noise_floor,
        }
        if not all(map(math.isfinite, floors.values())):  # a record holds nothing else
            where = self._checkpoint(task, entry.label).where()
            raise CheckpointError(f"{where}: its noise is NaN or infinite")
        return entry.pending.finish(
            floors,
            {
                "fingerprint": entry.seed.model.fingerprint,
                **self._checkpoint(task, entry.label).details(),
                "window": window,
                "overlap": overlap,
                "model_vocab": entry.seed.model.rows,
                "device": str(self._scorer.devices),
                **(entry.seed.model.record() if isinstance(entry.seed, CapturedSeed) else {}),
            },
        )
