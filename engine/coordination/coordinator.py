"""The engine's main loop: looks, plans, has the passes done and commits what comes of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from engine.categories.partition import build_categories, context_targets
from engine.coordination.board import ProgressBoard
from engine.coordination.inventory import Available, Inventory
from engine.coordination.planner import Step, make_plan
from engine.coordination.projection import bytes_to_come, project
from engine.coordination.recorder import Recorder, Totals
from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.coordination.summary_updates import Summaries
from engine.errors import ConfigError, EngineError, Interrupted, store_trouble
from engine.events import Listener
from engine.probes.questions import build_probes
from engine.sources.announcements import Announcements
from engine.sources.hub_client import HubClient
from engine.sources.open import open_source
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import entry_texts, load_tokenizer
from engine.workers.choice import choose_crew
from engine.workers.messages import Job, Pass
from store import DamagedError, Header, StudyWriter, Vocabulary
from store.schema.snapshot import EngineStatus

PATIENCE_SECONDS = 60.0  # of `run`, with what failed, when all the rest is done


class Coordinator:
    """Works through one study. `run` does what is there, `watch` goes on as more arrives."""

    def __init__(
        self,
        study: StudyFile,
        listener: Listener,
        *,
        ray: str | None = None,
        retry_failed: bool = False,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Load tokenizer and corpus and open the store; with `ray`, an address, for a cluster.

        With `retry_failed`, checkpoints that are parked are tried again.

        Raises ConfigError, StoreError, Interrupted; nothing was written then.
        """
        self._study, self._clock = study, clock
        stop = stop or threading.Event()
        crew = choose_crew(study.scoring.device, ray, study.limits)
        hub = HubClient(stop)
        self._tokenizer = load_tokenizer(study, hub)
        self._text = build_text(study, self._tokenizer)
        self._n_tokens = len(self._text.corpus)
        self._models = {model.name: model for model in study.models}
        self._schedules = study.learning_rates()
        announcements = Announcements(study.announcements, self._models, clock)
        self._sources = {
            model.name: open_source(
                model, study.folder, hub, clock, watch=study.watch, announcements=announcements
            )
            for model in study.models
        }
        self._probes, self._probe_warnings = build_probes(study, self._tokenizer)
        categories = build_categories(study, self._tokenizer, self._text)
        if stop.is_set():
            raise Interrupted("stopped before work began; run the same command again to go on")
        counts = self._text.counts
        vocabulary = Vocabulary(entry_texts(self._tokenizer), counts.count, counts.source)
        self._writer = StudyWriter.open(
            study.store, self._header(), self._text.corpus, vocabulary, clock=clock
        )
        status = EngineStatus(
            writer=self._writer.writer,
            host=self._writer.host,
            pid=self._writer.pid,
            heartbeat=clock(),
            started=clock(),
            state="starting",
            device=crew.description,
        )
        self._session = Session(self._writer, status, listener, clock, crew.gpus)
        hub.on_wait = partial(self._session.say, "warning", "hub")
        self._retries = Retries(self._writer, self._remedies(), clock, forgive=retry_failed)
        self._recorder = Recorder(
            study, self._sources, self._writer, self._session, self._retries, clock
        )
        self._inventory = Inventory(
            self._models,
            self._sources,
            self._writer,
            self._session,
            self._recorder,
            self._retries,
            announcements,
            tuple(questions.probe.name for questions in self._probes),
        )
        self._board = ProgressBoard(self._session, stop)
        self._summaries = Summaries(
            study.categories,
            categories,
            context_targets(self._text),
            self._writer,
            self._session,
            self._board.check_stop,
        )
        results = self._writer.results
        job = Job.of(study, self._text, self._tokenizer, results.session, self._probes)
        self._executor = crew.executor(job, self._sources, results, self._board)
        self._told_plans: dict[str, set[str]] = {}
        self._session.counts = lambda: vars(self.totals())

    def _header(self) -> Header:
        scoring = self._study.scoring
        identity: dict[str, str | int] = {
            "tokenizer.vocabulary": self._tokenizer.digest,
            "scoring.prediction": scoring.prediction,
            "scoring.windowing": scoring.windowing,
            "scoring.window": scoring.window,
            "scoring.overlap": scoring.overlap,
            "scoring.dtype": scoring.dtype,
            "corpus.digest": self._text.digest,
            "corpus.counts": self._text.counts.digest,
        }
        details = {
            "tokenizer": self._study.tokenizer.source,
            "study_file": self._study.model_dump(mode="json"),
            "versions": _versions(),
        }
        return Header(self._study.study.name, identity, details)

    def _remedies(self) -> dict[str, object]:
        """By model, all that may help a checkpoint that failed without it: settings, libraries."""
        shared = self._study.scoring.model_dump(mode="json"), _versions()
        return {
            name: (model.allow_pickle, model.trust_remote_code, *shared)
            for name, model in self._models.items()
        }

    # -- the two ways to work ------------------------------------------------------------------

    def run(self) -> Totals:
        """Score and reduce all that is missing and there, then return."""
        with self._at_work():
            available = self._inventory.look(waiting=False)
            self._inventory.explain(available)
            self._inventory.tell_parked()
            steps = self._inventory.remaining(available)
            self._session.show(bytes_projected=self._writer.ledger.bytes_stored)
            if any(step.score or step.reduce for step in steps):
                self._tell_size(steps)
            self._work(steps, available)
            self._try_again()
            self._inventory.answer()
            self._summaries.catch_up(exactly=True)
        return self.totals()

    def _try_again(self) -> None:
        """Give what failed for a reason that may pass another chance, for a minute at most."""
        patience = self._clock() + PATIENCE_SECONDS
        while (due := self._retries.next_due()) is not None and due <= patience:
            self._board.wait(max(0.0, due - self._clock()))
            available = self._inventory.look(waiting=False)
            steps = self._inventory.remaining(available)
            if not steps:
                break
            self._work(steps, available)

    def watch(self, *, until_complete: bool = False, poll_seconds: float | None = None) -> Totals:
        """Go on as checkpoints arrive, until stopped or, if asked, until every listed one is done.

        `poll_seconds` replaces the study file's. Raises ConfigError when it can never be complete.
        """
        if until_complete:
            for name, model in self._models.items():
                if model.listed is None:
                    self._writer.close("failed")
                    raise ConfigError(
                        f"models {name!r}: list its seeds and steps; with "
                        '"discover" there is no telling when all of them are done'
                    )
        with self._at_work():
            available = self._inventory.look(waiting=True)
            self._inventory.tell_parked()
            while True:
                newest = self._study.watch.order == "newest"
                steps = self._inventory.remaining(available, newest_first=newest)
                self._show_size()
                if steps:  # look again soon: newer checkpoints may be there
                    first = [step for step in steps if step.seed is None] or steps
                    few = max(1, self._executor.capacity // 2)
                    self._work(first[:few], available, then_probe=False)
                elif until_complete and self._inventory.complete():
                    break
                else:
                    self._board.wait(poll_seconds or self._study.watch.poll_seconds)
                self._board.check_stop()
                available = self._inventory.look(waiting=True)
            self._summaries.catch_up(exactly=True)
        return self.totals()

    def totals(self) -> Totals:
        """What was done so far, and what is amiss now."""
        amiss = self._inventory.count()
        amiss["failed"] += self._summaries.failed
        return replace(self._recorder.totals, **amiss)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """From the first heartbeat to the last; an end before time says what to do."""
        with self._session, self._executor:
            try:
                self._warn_of_remote_code()
                self._keep_probes()
                self._writer.set_schedules(self._schedules)
                self._summaries.start()
                yield
            except Interrupted:
                raise Interrupted(self._where_it_stands()) from None
            except DamagedError:
                self._writer.results.check()  # what seems damaged may have gone altogether
                raise
            except OSError as error:
                self._writer.results.check()
                raise EngineError(store_trouble(error, self._study.store)) from error

    def _where_it_stands(self) -> str:
        done, steps = self._recorder.totals, self._inventory.left()
        score, reduce = sum(len(step.score) for step in steps), sum(step.reduce for step in steps)
        left = f"{_count(score, 'checkpoint')} to score and {_count(reduce, 'step')} to reduce"
        if self._probes:
            unasked = score + sum(step.seed is not None for step in steps)
            left = f"{left.replace(' and ', ', ')} and {_count(unasked, 'checkpoint')} to probe"
        return (
            f"stopped; what was committed stays: {_count(done.scored, 'checkpoint')} scored and "
            f"{_count(done.reduced, 'step')} reduced, {left} are left; "
            "run the same command again to go on"
        )

    # -- one round of work ---------------------------------------------------------------------

    def _work(
        self, steps: Iterable[Step], available: Available, *, then_probe: bool = True
    ) -> None:
        """Have steps done: each is planned when its turn comes and again after its passes.

        No checkpoint is probed while a step is being worked on, whose KL would have to wait; nor,
        unless `then_probe`, are those of a step that was worked on.

        Raises Interrupted when asked to stop, OSError when results cannot be written, EngineError
        when no device is left.
        """
        waiting, ready = deque(steps), deque[Pass]()
        left: Counter[tuple[str, int]] = Counter()  # passes of a step that are not done
        submitted = 0
        self._recorder.start()
        while True:
            while submitted < self._executor.capacity and (ready or waiting):
                if ready:
                    self._board.check_stop()
                    self._executor.submit(ready.popleft())
                    submitted += 1
                elif waiting[0].seed is not None and left.total():
                    break
                else:
                    step = waiting.popleft()
                    ready += self._plan(step)
                    if step.seed is None:
                        left[step.model, step.step] = len(ready)
            if not submitted:
                if ready or waiting:
                    raise EngineError("no device is left to work on; what was committed stays")
                return
            outcome = self._executor.next()
            if outcome is None:
                continue
            submitted -= 1
            self._recorder.take(outcome)
            task = outcome.task
            if outcome.pairs is not None:
                self._summaries.update(task.model, task.step)
            left[task.model, task.step] -= not task.probes
            if left[task.model, task.step]:
                continue
            again = self._inventory.remaining_of(task.model, task.step, available)
            if task.probes:  # of which something is left if its device was lost
                again = [step for step in again if (step.seed,) == task.live]
            elif not then_probe:
                again = [step for step in again if step.seed is None]
            waiting.extendleft(s for s in reversed(again) if not self._inventory.at_leisure(s))
            waiting.extend(s for s in again if self._inventory.at_leisure(s))

    def _plan(self, step: Step) -> tuple[Pass, ...]:
        """Choose how a step is done, and say so when that was not said before."""
        keep = self._study.log_probs.representation
        plan = make_plan(step, self._writer.ledger.model(step.model), keep)
        told = self._told_plans.setdefault(step.model, set())
        # The reduction that ends a kept step was announced with its scoring.
        if plan.why not in told and (step.score or step.probes or not told):
            told.add(plan.why)
            text = f"{step.model}, from step {step.step}: {plan.name}: {plan.why}"
            self._session.say("info", "plan", text, model=step.model, plan=plan.name)
        return plan.passes

    def _tell_size(self, steps: list[Step]) -> None:
        """Say what the log-probs will take. Raises ConfigError when it is too much."""
        stored = self._writer.ledger.bytes_stored
        projection = project(
            self._study, self._sources, steps, self._n_tokens, self._tokenizer.size, stored
        )
        needed = projection.sizes[self._study.log_probs.representation]
        self._session.show(bytes_projected=stored + needed)
        self._session.say(
            "info",
            "projected",
            projection.text,
            bytes=needed,
            free=projection.free,
            sizes=projection.sizes,
        )

    def _show_size(self) -> None:
        """Show, while watching, what log-probs will take if all that will come is listed."""
        if all(model.listed is not None for model in self._models.values()):
            ledger = self._writer.ledger
            coming = bytes_to_come(ledger, self._study.log_probs.retention)
            projected = None if coming is None else ledger.bytes_stored + coming
            self._session.show(bytes_projected=projected)

    def _keep_probes(self) -> None:
        """Have the store know the probes of the study; others that it has stay."""
        for text in self._probe_warnings:
            self._session.say("warning", "probe", text)
        for questions in self._probes:
            self._writer.probes.set(questions.probe)
        asked = {questions.probe.name for questions in self._probes}
        for name, known in self._writer.ledger.models.items():
            for probe in known.probe_failures.keys() - asked:
                self._writer.probes.excuse(name, probe, known.probe_failures[probe])

    def _warn_of_remote_code(self) -> None:
        for name, model in self._models.items():
            if model.trust_remote_code:
                self._session.say(
                    "warning",
                    "remote_code",
                    f"model {name}: models.trust_remote_code is set: Python code that comes with "
                    "its checkpoints may run",
                    model=name,
                )


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("seedconv-tui", "torch", "transformers", "zarr")}
