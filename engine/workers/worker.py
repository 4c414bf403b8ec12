"""Doing one pass: scores and reduces on one device and writes results that are not yet committed.

A worker changes nothing that others share. What it returns is plain data, so that it may run in
this process, in another one, or on another machine that sees the same files.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TypeVar

import torch

from engine.errors import CheckpointError, EngineError
from engine.machine.device_errors import is_dead_device, is_out_of_memory
from engine.machine.host_memory import HostMemory, weights_bytes
from engine.models.weights import CheckpointWeights, read_checkpoint
from engine.probes.answers import ask_each
from engine.probes.questions import Questions
from engine.scoring.passes import CorpusPass, Live, NotFiniteError
from engine.scoring.scorer import LiveSeed, Loaded, Rows, Scorer, refuse_factors
from engine.scoring.stored import stored_rows
from engine.sources.base import Checkpoint, Source
from engine.sources.checkpoint_files import checkpoint_files
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import EvaluationText
from engine.text.tokenizer import Tokenizer
from engine.workers.messages import Outcome, Pass
from store import REPRESENTATIONS, DamagedError, ModelLedger, Record, Study
from store.schema import Key, ProbeValues, State, Work
from store.writing import CellWriter, CheckpointResult, PendingCheckpoint, PendingPairs

_READERS = 4  # at most


_POLL_SECONDS = 0.2  # within which a request to stop is noticed while weights are read

T = TypeVar("T")


class _SeedError(Exception):
    """One of the live seeds cannot be scored."""

    def __init__(self, seed: str, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.seed, self.passing = seed, passing


class _NoMemoryError(_SeedError):
    """Not with what the device has left, which may change."""

    def __init__(self, seed: str, reason: str) -> None:
        super().__init__(seed, reason, passing=True)


class Worker:
    """Works for one coordinator on one device."""

    def __init__(
        self,
        study: StudyFile,
        text: EvaluationText,
        tokenizer: Tokenizer,
        sources: Mapping[str, Source],
        device: torch.device,
        results: CellWriter,
        report: Callable[[Work], None],
        probes: Sequence[Questions] = (),
        *,
        shares_cache: bool = True,
    ) -> None:
        """`report` hears of progress, once a block, and may raise to stop the work.

        Where others that work do not share what was downloaded, nothing is left there for them.
        """
        self._probes = {questions.probe.name: questions for questions in probes}
        self._shares_cache, self._told = shares_cache, set[str]()
        self._study, self._text, self._tokenizer, self._sources = study, text, tokenizer, sources
        self._models = {model.name: model for model in study.models}
        self._results, self._report = results, report
        self._notes: list[str] = []
        self._scorer = Scorer(
            text, tokenizer.size, study.scoring, device, self._notes.append, study.limits
        )
        self._memory = HostMemory(study.limits.memory_gb)
        self._store = Study(study.store)
        readers = min(_READERS, study.limits.threads or _READERS)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="log-probs")
        self._loading: dict[tuple[str, Key], Future[CheckpointWeights | None]] = {}

    def prefetch(self, task: Pass) -> None:
        """Begin to read the weights that a pass will need, in a thread of its own."""
        for seed in task.live:
            where = task.model, (seed, task.step)
            if where not in self._loading:
                checkpoint = self._checkpoint(task, seed)
                self._loading[where] = self._loader.submit(self._read_early, task.model, checkpoint)

    def _checkpoint(self, task: Pass, seed: str) -> Checkpoint:
        """Open the checkpoint of a live seed."""
        return self._sources[task.model].reopen(task.checkpoints[task.live.index(seed)])

    def _read_early(self, name: str, checkpoint: Checkpoint) -> CheckpointWeights | None:
        """Read the weights; None when there is room for them only once others are gone."""
        if self._memory.limit is not None:
            files = checkpoint_files(
                checkpoint.fetch(), allow_pickle=self._models[name].allow_pickle
            )
            if self._memory.lacks(2 * weights_bytes(files.weights)):  # as much for the pass in hand
                return None
        return self._read(name, checkpoint)

    def _read(self, name: str, checkpoint: Checkpoint) -> CheckpointWeights:
        model, folder = self._models[name], checkpoint.fetch()
        if self._memory.limit is not None:
            needed = weights_bytes(
                checkpoint_files(folder, allow_pickle=model.allow_pickle).weights
            )
            if lacking := self._memory.lacks(needed):
                raise CheckpointError(f"{checkpoint.where()}: reading its weights takes {lacking}")
        return read_checkpoint(
            folder,
            self._tokenizer,
            where=checkpoint.where(),
            allow_pickle=model.allow_pickle,
            trust_remote_code=model.trust_remote_code,
        )

    def close(self) -> None:
        """End threads. What is being read is of no use any more, and may take minutes to end."""
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)

    def run(self, task: Pass) -> Outcome:
        """Do one pass. What cannot be done for the sake of a checkpoint is told, not raised.

        Raises what `report` raises, OSError when results cannot be written, BusyError when another
        coordinator has taken the study over, EngineError when the device does not work any more.
        Nothing of the pass stays on disk then.
        """
        started = time.perf_counter()
        self._notes.clear()
        outcome = Outcome(task, 0.0)
        done = task.live
        try:
            outcome = self._try(task)
        except _SeedError as error:
            failed = error.seed, str(error)
            trace = "".join(traceback.format_exception(error.__context__))
            outcome = replace(outcome, failed=failed, passing=error.passing, trace=trace)
            done = (error.seed,)
        except DamagedError as error:
            text = f"{error}; `seedconv verify {self._study.store} --mend` has it scored again"
            outcome, done = replace(outcome, damaged=text), ()
        except (RuntimeError, MemoryError) as error:
            if is_dead_device(error):
                raise _dead(self._scorer.device, error) from error
            if not is_out_of_memory(error):  # for the sake of no live seed
                raise
            text = (
                f"out of memory on {self._scorer.device} with log-probs of {len(task.stored)} "
                "stored seeds; choose a larger one, or the CPU, with scoring.device"
            )
            outcome, done = replace(outcome, damaged=text, passing=True), ()
        for seed in done:
            if not self._wanted_again(task, outcome, (seed, task.step)):
                self._checkpoint(task, seed).release()
        seconds = time.perf_counter() - started
        return replace(outcome, seconds=seconds, notes=tuple(self._notes))

    def _wanted_again(self, task: Pass, outcome: Outcome, key: Key) -> bool:
        """Whether a checkpoint was scored now and is asked probes later."""
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
        state = State.SCORING if task.live else State.REDUCING
        pending: list[PendingCheckpoint | PendingPairs] = []
        try:
            stored = {seed: self._open_stored(task, seed) for seed in task.stored}
            checkpoints = self._weights(task, work)
            live = self._make_live(task, checkpoints, self._store.ledger(task.model))
            if task.probes:
                return self._ask(task, live[task.live[0]].seed.loaded, work)
            pending += [entry.pending for entry in live.values() if entry.pending is not None]
            pairs = None
            if task.reduce and len(task.seeds) > 1:
                pairs = self._results.begin_pairs(task.model, task.step, task.seeds)
                pending.append(pairs)
            entries: dict[str, Live | Rows] = {**stored, **live}
            with self._names_seed(task):
                CorpusPass(
                    self._scorer,
                    [entries[seed] for seed in task.seeds],
                    pairs,
                    lambda n: self._report(replace(work, state=state, tokens_done=n)),
                ).run()
            results = tuple(
                self._finish(task, live[seed], checkpoint)
                for seed, checkpoint in zip(task.live, checkpoints, strict=True)
                if live[seed].pending is not None
            )
            return Outcome(task, 0.0, results, None if pairs is None else pairs.finish())
        except BaseException:
            for unfinished in pending:
                unfinished.abandon()
            for seed in task.live:  # another device may do what is left
                if future := self._loading.pop((task.model, (seed, task.step)), None):
                    future.cancel()
            with contextlib.suppress(Exception):  # the next coordinator looks for it again
                self._results.discard(task.model, task.step, task.live, task.seeds)
            raise

    def _ask(self, task: Pass, loaded: Loaded, work: Work) -> Outcome:
        """What the checkpoint of a pass says of its probes, and where something went wrong."""
        (seed,) = task.live

        def progress(probe: str, done: int, total: int) -> None:
            doing = replace(work, state=State.SCORING, probe=probe)
            self._report(replace(doing, tokens_done=done, tokens_total=total))

        answers = ask_each(
            self._scorer, loaded, [self._probes[name] for name in task.probes], progress
        )
        for note in answers.notes:  # true of every checkpoint of a model
            if note not in self._told:
                self._told.add(note)
                self._notes.append(note)
        where = self._checkpoint(task, seed).where()
        return Outcome(
            task,
            0.0,
            probes=tuple(
                ProbeValues(name, self._probes[name].probe.digest, seed, values)
                for name, values in answers.values.items()
            ),
            unprobed=tuple(
                (name, f"{where}: {why}", passing)
                for name, (why, passing) in answers.failures.items()
            ),
        )

    def _open_stored(self, task: Pass, seed: str) -> Rows:
        log_probs = self._store.log_probs(task.model, seed, task.step)
        return stored_rows(self._scorer, log_probs, self._readers)

    def _weights(self, task: Pass, work: Work) -> list[CheckpointWeights]:
        """Wait for the weights of the live seeds, in their order."""
        found = []
        for seed in task.live:
            future = self._loading.pop((task.model, (seed, task.step)))
            with self._names_seed(task, seed):
                weights = self._await(future, work)
                if weights is None:
                    self._scorer.let_go()
                    checkpoint = self._checkpoint(task, seed)
                    again = self._loader.submit(self._read, task.model, checkpoint)
                    weights = self._await(again, work)
                found.append(weights)
        return found

    def _await(self, future: Future[T], work: Work) -> T:
        while not wait([future], _POLL_SECONDS).done:
            self._report(work)
        return future.result()

    def _make_live(
        self, task: Pass, checkpoints: Sequence[CheckpointWeights], known: ModelLedger
    ) -> dict[str, Live]:
        """Models of the live seeds, and a place for the results of each that has new ones."""
        for seed, checkpoint in zip(task.live, checkpoints, strict=True):
            with self._names_seed(task, seed):
                _refuse_others(checkpoint, known.scored.get((seed, task.step)))
        live, kept = {}, REPRESENTATIONS[task.keep]
        every = self._load(task, checkpoints)
        for seed, checkpoint, loaded in zip(task.live, checkpoints, every, strict=True):
            checkpoint.weights.clear()  # what is on the device needs no copy here
            with self._names_seed(task, seed):
                layer = None
                if kept is not None and kept.has_factors:
                    layer = loaded.head.output_layer() if loaded.head is not None else None
                    if layer is None:
                        raise refuse_factors(checkpoint)
            pending = None
            if kept is not None or (seed, task.step) not in known.scored:
                pending = self._results.begin_checkpoint(
                    task.model, seed, task.step, task.keep, layer
                )
            running = LiveSeed(self._scorer, loaded)
            live[seed] = Live(seed, running, pending, kept.result if kept is not None else None)
        return live

    def _load(self, task: Pass, checkpoints: Sequence[CheckpointWeights]) -> list[Loaded]:
        """Models of the live seeds: all on the device, or moved there in turn."""

        def load(*, resident: bool) -> list[Loaded]:
            models = []
            for seed, checkpoint in zip(task.live, checkpoints, strict=True):
                with self._names_seed(task, seed):
                    models.append(self._scorer.load(checkpoint, resident=resident))
            return models

        if not self._all_fit(checkpoints):
            return load(resident=False)
        if len(checkpoints) > 1:
            with contextlib.suppress(_NoMemoryError):  # another program may just have taken it
                return load(resident=True)
            self._notes.append("out of memory with all seeds' weights; they are moved in turn")
        return load(resident=len(checkpoints) == 1)

    def _all_fit(self, checkpoints: Sequence[CheckpointWeights]) -> bool:
        """Whether the weights of all live seeds can be on the device at the same time."""
        free = self._scorer.free_bytes() if len(checkpoints) > 1 else None
        needed = sum(map(self._scorer.bytes_on_device, checkpoints))
        if free is None or needed <= free:
            return True
        self._notes.append(
            f"weights of {len(checkpoints)} seeds take {needed / 1e9:.3g} GB on the device, where "
            f"{free / 1e9:.3g} GB may be used: they are moved there in turn"
        )
        return False

    @contextlib.contextmanager
    def _names_seed(self, task: Pass, seed: str | None = None) -> Iterator[None]:
        """Turn what is wrong with one live seed into an error that names it."""
        try:
            yield
        except CheckpointError as error:
            assert seed is not None  # once models are made, nothing else is wrong with them
            raise _SeedError(seed, str(error), passing=error.passing) from None
        except NotFiniteError as error:
            where = self._checkpoint(task, error.seed).where()
            text = self._text.corpus.token_text(error.token)
            raise _SeedError(error.seed, f"{where}: {error} ({text!r})") from None
        except (RuntimeError, MemoryError) as error:
            if not task.live or not is_out_of_memory(error):
                raise
            loading, seed = seed is not None, seed or task.live[-1]
            what = "with one token at a time; lower scoring.window"
            if loading:
                what = 'with its weights; set scoring.dtype to "bfloat16" or choose another device'
            if len(task.live) > 1:
                what = (
                    f"with {len(task.live)} models at once; set log_probs.representation to "
                    '"factored" or "dense"'
                )
            where = f"{task.model}, seed {seed}, step {task.step}"
            raise _NoMemoryError(seed, f"{where}: out of memory {what}") from None

    def _finish(self, task: Pass, entry: Live, checkpoint: CheckpointWeights) -> CheckpointResult:
        assert entry.pending is not None
        assert entry.seed.noise_floor is not None
        window, overlap = entry.seed.window
        floors = {
            "storage_floor": (entry.squared_rounding / len(self._text.corpus)) ** 0.5,
            "noise_floor": entry.seed.noise_floor,
        }
        return entry.pending.finish(
            floors,
            {
                "fingerprint": checkpoint.fingerprint,
                **self._checkpoint(task, entry.label).details(),
                "window": window,
                "overlap": overlap,
                "model_vocab": int(checkpoint.config.get_text_config().vocab_size),
                "device": str(self._scorer.device),
            },
        )


def _dead(device: torch.device, error: Exception) -> EngineError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return EngineError(
        f"{device} does not work any more ({reason}); what was committed stays. See what "
        "`nvidia-smi` says, and run the same command again, perhaps with --device for another one"
    )


def _refuse_others(checkpoint: CheckpointWeights, record: Record | None) -> None:
    """Raise CheckpointError when results are committed that are of other weights."""
    if record is not None and record.get("fingerprint") not in (None, checkpoint.fingerprint):
        raise CheckpointError(
            f"{checkpoint.where}: its weights are not those that its results are of; put the old "
            "ones back, or give the new ones a seed of their own"
        )
