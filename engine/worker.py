"""Scoring and reducing one (model, step) and committing what comes of it."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from engine.errors import CheckpointError, Interrupted
from engine.fingerprints import Fingerprints
from engine.phases import find_phases
from engine.planner import Step, seed_order
from engine.reducer import reduce_blocks, reduce_step
from engine.scorer import Scorer
from engine.session import Session
from engine.sources import Source
from engine.study_file import StudyFile
from engine.weights import Checkpoint as Weights
from store import DamagedError, StudyWriter
from store.commits import Checkpoint
from store.pending import PendingCheckpoint, PendingPairs
from store.snapshot import State, Work


@dataclass
class Outcome:
    """What an engine did."""

    scored: int = 0
    reduced: int = 0
    failed: int = 0
    missing: int = 0


class _SeedFailedError(Exception):
    """One of the seeds that are scored side by side cannot be scored."""

    def __init__(self, seed: str, reason: str) -> None:
        super().__init__(reason)
        self.seed = seed


class Worker:
    """Does the work that a coordinator planned, one step after the other."""

    def __init__(
        self,
        study: StudyFile,
        scorer: Scorer,
        writer: StudyWriter,
        session: Session,
        stop: threading.Event,
        sources: Mapping[str, Source],
        read: Callable[[str, Checkpoint], Weights],
    ) -> None:
        self._study, self._scorer, self._writer = study, scorer, writer
        self._session, self._stop = session, stop
        self._sources, self._read_weights = sources, read
        self._reader = writer.study()
        self._fingerprints = Fingerprints(writer.ledger)
        self._seconds_busy = 0.0
        self._tokens_done = 0
        self.outcome = Outcome()
        self.given_up: dict[tuple[str, Checkpoint], object] = {}  # failed, and how it looked then
        self.damaged: set[tuple[str, int]] = set()  # steps whose log-probs cannot be read

    def work(self, steps: Sequence[Step]) -> None:
        """Score and reduce; the next checkpoint is read while one is scored.

        Raises Interrupted when asked to stop, OSError when results cannot be written.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="weights") as pool:
            if self._study.log_probs.representation == "none":
                for step in steps:
                    self._score_side_by_side(step, pool)
                    self._reduce(step)  # what seeds scored earlier may have kept
                return
            queue = [(step, seed) for step in steps for seed in step.score]
            loaded = _ahead(pool, self._read, queue)
            for step in steps:
                for seed in step.score:
                    self.check_stop()
                    self._score(step, seed, next(loaded))
                self._reduce(step)

    def check_stop(self) -> None:
        """Raise Interrupted when asked to stop."""
        if self._stop.is_set():
            raise Interrupted("stopped; what was committed stays, run it again to go on")

    def _read(self, job: tuple[Step, str]) -> Weights:
        step, seed = job
        return self._read_weights(step.model, (seed, step.step))

    # -- scoring, log-probs kept ---------------------------------------------------------------

    def _score(self, step: Step, seed: str, weights: Future[Weights]) -> None:
        started = time.perf_counter()
        work = Work(step.model, seed, step.step, State.READING, 0, self._writer.n_tokens)
        self._session.show(state="working", work=work)
        pending: PendingCheckpoint | None = None
        try:
            with self._seed_may_fail(step, seed):
                checkpoint = weights.result()
                self._warn_of_duplicate(step, seed, checkpoint)
                model = self._scorer.load(checkpoint)
                pending = self._writer.begin_checkpoint(
                    step.model,
                    seed,
                    step.step,
                    self._study.log_probs.representation,
                    model.output_layer,
                )
                floor, done = 0.0, 0
                for block in self._scorer.score(model):
                    self.check_stop()
                    pending.append(vars(block))
                    floor += block.squared_rounding
                    done += len(block.surprisal)
                    self._session.show(work=replace(work, state=State.SCORING, tokens_done=done))
                self._commit(step, seed, checkpoint, pending, floor)
        except _SeedFailedError as error:
            self._writer.abandon(pending)
            self._fail(step, seed, str(error))
            return
        except BaseException:
            self._writer.abandon(pending)
            raise
        self._tell_scored(step, seed, time.perf_counter() - started)

    @contextlib.contextmanager
    def _seed_may_fail(self, step: Step, seed: str) -> Iterator[None]:
        """Turn what is wrong with one checkpoint into an error that names its seed."""
        try:
            yield
        except CheckpointError as error:
            raise _SeedFailedError(seed, str(error)) from None
        except torch.OutOfMemoryError:
            text = f"{step.model}, seed {seed}, step {step.step}: out of memory"
            what = "with one window; lower scoring.window"
            if self._study.log_probs.representation == "none" and len(step.score) > 1:
                what = (
                    f"with {len(step.score)} models at once; set log_probs.representation to "
                    '"factored" or "dense"'
                )
            raise _SeedFailedError(seed, f"{text} {what}") from None

    def _commit(
        self, step: Step, seed: str, checkpoint: Weights, pending: PendingCheckpoint, floor: float
    ) -> None:
        window, overlap = self._scorer.window(checkpoint.config)
        self._writer.commit_checkpoint(
            step.model,
            seed,
            step.step,
            pending,
            storage_floor=(floor / self._writer.n_tokens) ** 0.5,
            details={
                "fingerprint": checkpoint.fingerprint,
                **self._sources[step.model].details((seed, step.step)),
                "window": window,
                "overlap": overlap,
                "model_vocab": int(checkpoint.config.get_text_config().vocab_size),
                "device": str(self._scorer.device),
            },
        )

    def _tell_scored(self, step: Step, seed: str, seconds: float) -> None:
        self._seconds_busy += seconds
        self._tokens_done += self._writer.n_tokens
        self.outcome.scored += 1
        rate = self._tokens_done / self._seconds_busy
        self._sources[step.model].release((seed, step.step))
        queued = max(0, self._session.status.queued - 1)
        self._session.show(
            queued=queued,
            tokens_per_second=rate,
            eta_seconds=queued * self._writer.n_tokens / rate,
            bytes_written=self._writer.bytes_written,
        )
        self._session.say(
            "info",
            "scored",
            f"scored {step.model}, seed {seed}, step {step.step} in {seconds:.1f} s",
            model=step.model,
            seed=seed,
            step=step.step,
            seconds=round(seconds, 3),
        )

    def _warn_of_duplicate(self, step: Step, seed: str, checkpoint: Weights) -> None:
        key = seed, step.step
        if first := self._fingerprints.add(step.model, key, checkpoint.fingerprint):
            model, (other, at) = first
            self._session.say(
                "warning",
                "duplicate",
                f"{step.model}, seed {seed}, step {step.step}: same weights as {model}, seed "
                f"{other}, step {at}",
                model=step.model,
            )

    def _fail(self, step: Step, seed: str, error: str) -> None:
        key = (seed, step.step)
        source = self._sources[step.model]
        self.given_up[step.model, key] = source.signature(key)
        source.release(key)
        self._writer.fail(step.model, seed, step.step, error)
        self.outcome.failed += 1
        self._session.show(queued=max(0, self._session.status.queued - 1))
        self._session.say("error", "failed", error, model=step.model, seed=seed, step=step.step)

    # -- scoring and reducing at once, log-probs not kept ---------------------------------------

    def _score_side_by_side(self, step: Step, pool: ThreadPoolExecutor) -> None:
        """Score all seeds of a step in turn, block by block; reduce each block when all have it.

        Seeds whose log-probs an earlier session kept are read. A seed that fails is left out and
        the others start again.
        """
        read = {seed: pool.submit(self._read, (step, seed)) for seed in step.score}
        while read:
            self.check_stop()
            try:
                self._try_side_by_side(step, read)
            except _SeedFailedError as error:
                del read[error.seed]
                self._fail(step, error.seed, str(error))
            except DamagedError as error:
                self._tell_damaged(step, error)
                step = replace(step, reduce=False)
            else:
                return

    def _try_side_by_side(self, step: Step, read: dict[str, Future[Weights]]) -> None:
        started = time.perf_counter()
        name, at = step.model, step.step
        known = self._writer.ledger.model(name)
        kept = {seed for seed in known.scored_at(at) if (seed, at) in known.stored} - read.keys()
        seeds = tuple(sorted({*read, *kept} if step.reduce else read, key=seed_order))
        work = Work(name, None, at, State.READING, 0, self._writer.n_tokens)
        self._session.show(state="working", work=work)
        new = [seed for seed in seeds if (seed, at) not in known.scored]
        pending: dict[str, PendingCheckpoint] = {}
        pairs: PendingPairs | None = None
        try:
            streams, checkpoints = [], {}
            for seed in seeds:
                if seed in kept:
                    streams.append(self._kept_stream(name, seed, at))
                    continue
                with self._seed_may_fail(step, seed):
                    checkpoints[seed] = read[seed].result()
                    if seed in new:
                        self._warn_of_duplicate(step, seed, checkpoints[seed])
                    streams.append(self._stream(step, seed, checkpoints[seed], pending))
            for seed in new:
                pending[seed] = self._writer.begin_checkpoint(name, seed, at, "none")
            if step.reduce and len(seeds) > 1:
                pairs = self._writer.begin_pairs(name, at, seeds)
            for done in reduce_blocks(streams, pairs):
                self.check_stop()
                self._session.show(work=replace(work, state=State.SCORING, tokens_done=done))
            for seed in new:
                self._commit(step, seed, checkpoints[seed], pending.pop(seed), 0.0)
        except BaseException:
            for checkpoint in pending.values():
                self._writer.abandon(checkpoint)
            self._writer.abandon(pairs)
            raise
        for seed in read:
            self._tell_scored(step, seed, (time.perf_counter() - started) / len(read))
        if pairs is not None:
            self._commit_pairs(step, seeds, pairs)

    def _stream(
        self, step: Step, seed: str, checkpoint: Weights, pending: dict[str, PendingCheckpoint]
    ) -> Iterator[torch.Tensor]:
        """Exact log-probs of one seed, block by block; its results go to `pending`."""
        with self._seed_may_fail(step, seed):
            model = self._scorer.load(checkpoint)
        blocks = self._scorer.score(model)
        while True:
            with self._seed_may_fail(step, seed):
                block = next(blocks, None)
            if block is None:
                return
            if seed in pending:
                pending[seed].append(vars(block))
            yield block.exact

    def _kept_stream(self, model: str, seed: str, step: int) -> Iterator[torch.Tensor]:
        self._reader.refresh()
        for _, block in self._reader.log_probs(model, seed, step).blocks():
            yield torch.from_numpy(block).to(self._scorer.device)

    # -- reducing from the store ---------------------------------------------------------------

    def _reduce(self, step: Step) -> None:
        """Reduce a step, if after scoring there are pairs that are not."""
        name, at = step.model, step.step
        known = self._writer.ledger.model(name)
        seeds = tuple(
            sorted((s for s in known.scored_at(at) if (s, at) in known.stored), key=seed_order)
        )
        done = known.reduced.get(at, frozenset())
        if not step.reduce or len(seeds) < 2 or not done < set(seeds):
            return
        started = time.perf_counter()
        work = Work(name, None, at, State.REDUCING, 0, self._writer.n_tokens)
        self._session.show(state="working", work=work)

        def progress(tokens: int) -> None:
            self.check_stop()
            self._session.show(work=replace(work, tokens_done=tokens))

        self._reader.refresh()
        pending = self._writer.begin_pairs(name, at, seeds)
        try:
            log_probs = [self._reader.log_probs(name, seed, at) for seed in seeds]
            reduce_step(log_probs, pending, self._scorer.device, progress)
        except DamagedError as error:
            self._writer.abandon(pending)
            self._tell_damaged(step, error)
            return
        except BaseException:
            self._writer.abandon(pending)
            raise
        self._seconds_busy += time.perf_counter() - started
        self._commit_pairs(step, seeds, pending)
        planned = {seed for seed, t in known.planned if t == at}
        if self._study.log_probs.retention == "until_reduced" and planned <= set(seeds):
            self._writer.drop_log_probs(name, at, seeds)

    def _tell_damaged(self, step: Step, error: DamagedError) -> None:
        self.damaged.add((step.model, step.step))
        self.outcome.failed += 1
        text = f"cannot reduce {step.model}, step {step.step}: {error}"
        self._session.say("error", "damaged", text, model=step.model, step=step.step)

    def _commit_pairs(self, step: Step, seeds: tuple[str, ...], pending: PendingPairs) -> None:
        name, at = step.model, step.step
        self._writer.commit_pairs(name, at, seeds, pending)
        self.outcome.reduced += 1
        self._reader.refresh()
        model = self._reader.model_snapshot(name)
        self._writer.set_phases(name, find_phases(model.steps, model.expected_kl))
        value = float(model.expected_kl[model.steps == at][0])
        self._session.say(
            "info",
            "reduced",
            f"reduced {name}, step {at}: expected KL {value:.4g} nats over {len(seeds)} seeds",
            model=name,
            step=at,
            seeds=list(seeds),
            expected_kl=value,
        )


def _ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[tuple[Step, str]], Weights],
    jobs: Sequence[tuple[Step, str]],
) -> Iterator[Future[Weights]]:
    """Yield a future for each job, in order, the next one being read while this one is used."""
    following = pool.submit(read, jobs[0]) if jobs else None
    for job in itertools.chain(jobs[1:], [None]):
        current = following
        following = pool.submit(read, job) if job is not None else None
        if current is not None:
            yield current
