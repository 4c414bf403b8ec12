"""The engine's main loop: plans, scores, reduces and commits, one (model, step) after the other."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from engine.corpus import build_text, load_tokenizer
from engine.errors import CheckpointError, ConfigError, Interrupted
from engine.events import Listener
from engine.phases import find_phases
from engine.planner import Settling, Step, find_checkpoints, lonely, remaining, seed_order
from engine.reducer import reduce_step
from engine.scorer import Scorer, choose_device
from engine.session import Session, disk_free
from engine.sources import Template, signature
from engine.study_file import ModelSection, StudyFile
from engine.weights import Checkpoint as Weights
from engine.weights import read_checkpoint
from store import DamagedError, Header, StudyWriter
from store.commits import Checkpoint
from store.pending import PendingCheckpoint
from store.snapshot import EngineStatus, State, Work

POLL_SECONDS = 2.0
_DENSE_BYTES = 1.2  # per log-prob on disk, float16 compressed; measured by benchmarks/


@dataclass
class Outcome:
    """What an engine did."""

    scored: int = 0
    reduced: int = 0
    failed: int = 0
    missing: int = 0


class Coordinator:
    """Works through one study. `run` does what is there, `watch` goes on as more arrives."""

    def __init__(
        self,
        study: StudyFile,
        listener: Listener,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Load tokenizer and corpus and open the store.

        Raises ConfigError, StoreError; nothing was written then.
        """
        self._study = study
        self._stop = stop or threading.Event()
        self._device = choose_device(study.scoring.device)
        self._tokenizer = load_tokenizer(study)
        self._text = build_text(study, self._tokenizer)
        self._n_tokens = len(self._text.corpus)
        self._scorer = Scorer(self._text, self._tokenizer, study.scoring, self._device)
        self._models = {model.name: model for model in study.models}
        self._writer = StudyWriter.open(study.store, self._header(), self._text.corpus, clock=clock)
        self._reader = self._writer.study()
        self._settling = Settling(clock)
        self._given_up: dict[tuple[str, Checkpoint], object] = {}  # failed, and how it looked then
        self._damaged: set[tuple[str, int]] = set()  # steps whose log-probs cannot be read
        self._seconds_busy = 0.0
        self._tokens_done = 0
        self.outcome = Outcome()
        status = EngineStatus(
            writer=self._writer.writer,
            host=self._writer.host,
            pid=self._writer.pid,
            heartbeat=clock(),
            started=clock(),
            state="starting",
            device=_describe(self._device),
        )
        self._session = Session(self._writer, status, listener, clock)

    def _header(self) -> Header:
        scoring = self._study.scoring
        identity: dict[str, str | int] = {
            "tokenizer.vocabulary": self._tokenizer.digest,
            "scoring.windowing": scoring.windowing,
            "scoring.window": scoring.window,
            "scoring.overlap": scoring.overlap,
            "scoring.dtype": scoring.dtype,
            "corpus.digest": self._text.digest,
        }
        details = {
            "tokenizer": self._study.tokenizer.source,
            "study_file": self._study.model_dump(mode="json"),
            "versions": _versions(),
        }
        return Header(self._study.study.name, self._tokenizer.size, identity, details)

    # -- the two ways to work ------------------------------------------------------------------

    def run(self) -> Outcome:
        """Score and reduce all that is missing and there, then return."""
        with self._session:
            available = {name: self._look(name, waiting=False) for name in self._models}
            self._explain(available)
            self._refuse_what_does_not_fit(available)
            self._work(self._remaining(available))
        return self.outcome

    def watch(self, *, until_complete: bool = False, poll_seconds: float = POLL_SECONDS) -> Outcome:
        """Go on as checkpoints arrive, until stopped or, if asked, until every listed one is done.

        Raises ConfigError when it could never be complete.
        """
        if until_complete:
            for name, model in self._models.items():
                if model.listed is None:
                    self._writer.close("failed")
                    raise ConfigError(
                        f"models {name!r}: list its seeds and steps; with "
                        '"discover" there is no telling when all of them are done'
                    )
        with self._session:
            while True:
                steps = self._remaining(
                    {name: self._look(name, waiting=True) for name in self._models}
                )
                if steps:
                    self._work(steps[:1])  # look again after each: newer checkpoints may be there
                elif until_complete and self._complete():
                    break
                else:
                    self._session.show(state="waiting", work=None)
                    self._stop.wait(poll_seconds)
                self._check_stop()
        return self.outcome

    def _complete(self) -> bool:
        for name in self._models:
            known = self._writer.ledger.model(name)
            done = set(known.scored) | {key for model, key in self._given_up if model == name}
            if not known.planned or not known.planned <= done:
                return False
        return True

    # -- planning ------------------------------------------------------------------------------

    def _look(self, name: str, *, waiting: bool) -> set[Checkpoint]:
        """What can be scored of a model now; the store learns what is planned or missing."""
        model, known = self._models[name], self._writer.ledger.model(name)
        wanted, there = find_checkpoints(self._study, model)
        for key in there & {key for owner, key in self._given_up if owner == name}:
            if self._given_up[name, key] == signature(self._folder(model, key)):
                wanted, there = wanted - {key}, there - {key}
            else:
                del self._given_up[name, key]
        if waiting:
            done = set(known.stored)
            there = {
                key
                for key in there
                if key in done or self._settling.finished(self._folder(model, key))
            }
            wanted = wanted if model.listed is not None else there
        absent = {
            key: f"{self._folder(model, key)}: there is no such folder"
            for key in _ordered(set() if waiting else wanted - there)
            if key not in known.scored
        }
        self._writer.plan(name, _ordered(wanted - absent.keys()), absent)
        self.outcome.missing += len(absent)
        return there

    def _folder(self, model: ModelSection, key: Checkpoint) -> Path:
        return Template(model.source).path(self._study.folder, model.name, *key)

    def _remaining(self, available: dict[str, set[Checkpoint]]) -> list[Step]:
        steps = [
            step
            for name, keys in available.items()
            for step in remaining(self._writer.ledger, name, keys)
            if step.score or (name, step.step) not in self._damaged
        ]
        order = list(self._models)
        steps.sort(key=lambda step: (step.step, order.index(step.model)))
        self._session.show(queued=sum(len(step.score) for step in steps))
        return steps

    def _explain(self, available: dict[str, set[Checkpoint]]) -> None:
        """Say what was found, before hours are spent on it."""
        for name, keys in available.items():
            known = self._writer.ledger.model(name)
            source = self._models[name].source
            if not keys and not known.scored:
                self.outcome.failed += 1
                self._session.say(
                    "error", "nothing", f"model {name}: no folder fits {source}", model=name
                )
                continue
            seeds = sorted({seed for seed, _ in keys}, key=seed_order)
            steps = {step for _, step in keys}
            self._session.say(
                "info",
                "found",
                f"model {name}: {len(keys)} checkpoints, {len(seeds)} seeds, {len(steps)} steps",
                model=name,
            )
            if absent := {key: why for key, why in known.missing.items() if key not in keys}:
                first = next(iter(absent.values()))
                more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
                self._session.say("warning", "missing", f"model {name}: {first}{more}", model=name)
            if why := lonely(known, keys):
                self.outcome.failed += 1
                self._session.say("error", "lonely", f"model {name}: {why}", model=name)

    def _refuse_what_does_not_fit(self, available: dict[str, set[Checkpoint]]) -> None:
        per_checkpoint = _DENSE_BYTES * self._n_tokens * self._tokenizer.size
        steps = self._remaining(available)
        counts = [len(step.score) for step in steps]
        if self._study.log_probs.retention == "until_reduced":
            counts = [max(counts, default=0)]
        needed, free = int(sum(counts) * per_checkpoint), disk_free(self._study.store)
        if not steps:
            return
        text = (
            f"{self._n_tokens:,} tokens x {self._tokenizer.size:,} entries; log-probs (dense) will "
            f"take about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
        )
        if needed > free:
            raise ConfigError(
                f"{self._study.store}: {text}; free some space, lower corpus.max_tokens, or set "
                'log_probs.retention = "until_reduced"'
            )
        self._session.say("info", "projected", text, bytes=needed, free=free)

    # -- working -------------------------------------------------------------------------------

    def _work(self, steps: list[Step]) -> None:
        queue = [(step, seed) for step in steps for seed in step.score]
        with ThreadPoolExecutor(1, thread_name_prefix="weights") as reader:
            loaded = _ahead(reader, self._read, queue)
            for step in steps:
                for seed in step.score:
                    self._check_stop()
                    self._score(step, seed, next(loaded))
                self._reduce(step)

    def _read(self, job: tuple[Step, str]) -> Weights:
        step, seed = job
        return read_checkpoint(
            self._folder(self._models[step.model], (seed, step.step)), self._tokenizer
        )

    def _score(self, step: Step, seed: str, weights: Future[Weights]) -> None:
        started = time.perf_counter()
        work = Work(step.model, seed, step.step, State.READING, 0, self._n_tokens)
        self._session.show(state="working", work=work)
        pending: PendingCheckpoint | None = None
        try:
            checkpoint = weights.result()
            self._warn_of_duplicate(step, seed, checkpoint)
            pending = self._writer.begin_checkpoint(
                step.model, seed, step.step, keep_log_probs=True
            )
            floor, done = 0.0, 0
            for block in self._scorer.score(checkpoint):
                self._check_stop()
                pending.append(vars(block))
                floor += block.squared_rounding
                done += len(block.surprisal)
                self._session.show(work=replace(work, state=State.SCORING, tokens_done=done))
            window, overlap = self._scorer.window(checkpoint.config)
            self._writer.commit_checkpoint(
                step.model,
                seed,
                step.step,
                pending,
                storage_floor=(floor / self._n_tokens) ** 0.5,
                details={
                    "fingerprint": checkpoint.fingerprint,
                    "window": window,
                    "overlap": overlap,
                    "model_vocab": int(checkpoint.config.get_text_config().vocab_size),
                    "device": str(self._device),
                },
            )
        except CheckpointError as error:
            self._writer.abandon(pending)
            self._fail(step, seed, str(error))
            return
        except torch.OutOfMemoryError:
            self._writer.abandon(pending)
            text = f"{step.model}, seed {seed}, step {step.step}: out of memory on {self._device}"
            self._fail(step, seed, f"{text} with one window; lower scoring.window")
            return
        except BaseException:
            self._writer.abandon(pending)
            raise
        seconds = time.perf_counter() - started
        self._seconds_busy += seconds
        self._tokens_done += self._n_tokens
        self.outcome.scored += 1
        rate = self._tokens_done / self._seconds_busy
        queued = max(0, self._session.status.queued - 1)
        self._session.show(
            queued=queued,
            tokens_per_second=rate,
            eta_seconds=queued * self._n_tokens / rate,
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
        for (other, at), record in self._writer.ledger.model(step.model).scored.items():
            same = record.get("fingerprint") == checkpoint.fingerprint
            if same and (other, at) != (seed, step.step):
                text = f"{step.model}, seed {seed}, step {step.step}: same weights as"
                self._session.say(
                    "warning", "duplicate", f"{text} seed {other}, step {at}", model=step.model
                )
                return

    def _fail(self, step: Step, seed: str, error: str) -> None:
        key = (seed, step.step)
        self._given_up[step.model, key] = signature(self._folder(self._models[step.model], key))
        self._writer.fail(step.model, seed, step.step, error)
        self.outcome.failed += 1
        self._session.show(queued=max(0, self._session.status.queued - 1))
        self._session.say("error", "failed", error, model=step.model, seed=seed, step=step.step)

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
        work = Work(name, None, at, State.REDUCING, 0, self._n_tokens)
        self._session.show(state="working", work=work)

        def progress(tokens: int) -> None:
            self._check_stop()
            self._session.show(work=replace(work, tokens_done=tokens))

        self._reader.refresh()
        pending = self._writer.begin_pairs(name, at, seeds)
        try:
            log_probs = [self._reader.log_probs(name, seed, at) for seed in seeds]
            reduce_step(log_probs, pending, self._device, progress)
        except DamagedError as error:
            pending.abandon()
            self._damaged.add((name, at))
            self.outcome.failed += 1
            text = f"cannot reduce {name}, step {at}: {error}"
            self._session.say("error", "damaged", text, model=name, step=at)
            return
        except BaseException:
            pending.abandon()
            raise
        self._writer.commit_pairs(name, at, seeds, pending)
        self.outcome.reduced += 1
        self._seconds_busy += time.perf_counter() - started
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
        planned = {seed for seed, t in known.planned if t == at}
        if self._study.log_probs.retention == "until_reduced" and planned <= set(seeds):
            self._writer.drop_log_probs(name, at, seeds)

    # -- telling -------------------------------------------------------------------------------

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped; what was committed stays, run it again to go on")


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[Any], Weights], jobs: list[Any]
) -> Iterator[Future[Weights]]:
    """Yield a future for each job, in order, the next one being read while this one is used."""
    following = pool.submit(read, jobs[0]) if jobs else None
    for job in itertools.chain(jobs[1:], [None]):
        current = following
        following = pool.submit(read, job) if job is not None else None
        if current is not None:
            yield current


def _ordered(keys: set[Checkpoint]) -> list[Checkpoint]:
    return sorted(keys, key=lambda key: (key[1], seed_order(key[0])))


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("seedconv-tui", "torch", "transformers", "zarr")}
