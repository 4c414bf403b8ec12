"""The engine's main loop: looks, plans, has the passes done and commits what comes of them."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from engine.coordination.blocked import BlockedStore
from engine.coordination.board import ProgressBoard
from engine.coordination.disk_use import DiskUse
from engine.coordination.inventory import Available, Inventory
from engine.coordination.planner import Step, make_plan
from engine.coordination.recorder import Recorder, Totals
from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.coordination.small_steps import SmallSteps
from engine.coordination.summary_updates import Summaries
from engine.errors import (
    ConfigError,
    EngineError,
    Interrupted,
    blocks_writing,
    store_trouble,
)
from engine.probes.questions import Questions
from engine.study_file.file import StudyFile
from engine.workers.executor import Executor
from engine.workers.messages import Pass
from store import DamagedError
from store.schema import Schedule
from store.words import counted
from store.writing import StudyWriter

_MOST_AMISS = 50  # lines that a heartbeat carries

PATIENCE_SECONDS = 60.0  # of `run`, with what failed, when all the rest is done


class Coordinator:
    """Works through one study. `run` does what is there, `watch` goes on as more arrives."""

    def __init__(
        self,
        study: StudyFile,
        schedules: Mapping[str, Schedule],
        probes: Sequence[Questions],
        warnings: Sequence[tuple[str, str]],
        writer: StudyWriter,
        session: Session,
        board: ProgressBoard,
        inventory: Inventory,
        retries: Retries,
        recorder: Recorder,
        summaries: Summaries,
        disk_use: DiskUse,
        small: SmallSteps,
        blocked: BlockedStore,
        make_executor: Callable[[], Executor],
        clock: Callable[[], float],
    ) -> None:
        """Take the parts, as `build_coordinator` makes them; an executor for each session."""
        self._study, self._schedules, self._clock = study, schedules, clock
        self._probes, self._warnings = probes, warnings
        self._writer, self._session, self._board = writer, session, board
        self._inventory, self._retries, self._recorder = inventory, retries, recorder
        self._summaries, self._disk_use, self._small = summaries, disk_use, small
        self._blocked, self._make_executor = blocked, make_executor
        self._reported_plans: dict[str, set[str]] = {}

    # -- the two ways to work ------------------------------------------------------------------

    def run(self) -> Totals:
        """Score and reduce everything that is missing and there, then return."""
        with self._at_work(), self._prepared():
            available = self._look(waiting=False)
            self._inventory.report_found(available)
            self._inventory.report_parked()
            steps = self._inventory.remaining(available)
            self._disk_use.report(steps)
            self._work(steps, available)
            if late := self._inventory.not_compared_with_end():
                self._work(late, available)
            self._try_again()
            self._inventory.release_announcements()
            self._finish()
        return self.totals()

    def _try_again(self) -> None:
        """Give what failed for a reason that may pass another chance, for a minute at most."""
        patience = self._clock() + PATIENCE_SECONDS
        while (due := self._retries.next_due()) is not None and due <= patience:
            self._pass_time(max(0.0, due - self._clock()))
            available = self._look(waiting=False)
            steps = self._inventory.remaining(available)
            if not steps:
                break
            self._work(steps, available)

    def watch(self, *, until_complete: bool = False, poll_seconds: float | None = None) -> Totals:
        """Go on as checkpoints arrive, until stopped or, if asked, until every listed one is done.

        `poll_seconds` replaces the study file's. Raise ConfigError when it can never be complete.
        """
        if until_complete:
            for model in self._study.models:
                if model.listed is None:
                    self._writer.close("failed")
                    raise ConfigError(
                        f'model "{model.name}": list its seeds and steps; with '
                        '"discover" there is no telling when all of them are done'
                    )
        with self._at_work():
            while True:
                try:
                    with self._prepared():
                        self._watch(until_complete, poll_seconds or self._study.watch.poll_seconds)
                    break
                except OSError as error:
                    if not blocks_writing(error):
                        raise
                    # Without its traceback, which would keep models in memory.
                    trouble = OSError(error.errno, error.strerror, error.filename)
                self._blocked.wait(trouble)
        return self.totals()

    def _watch(self, until_complete: bool, poll_seconds: float) -> None:
        """Work on what arrives, until stopped or complete."""
        available = self._look(waiting=True)
        self._inventory.report_parked()
        while True:
            newest = self._study.watch.order == "newest"
            steps = self._inventory.remaining(available, newest_first=newest)
            self._disk_use.show()
            if steps:  # look again soon: newer checkpoints may be there
                first = [step for step in steps if step.seed is None] or steps
                few = max(1, self._executor.capacity // 2)
                self._work(first[:few], available, then_probe=False)
                self._blocked.regain()
            elif until_complete and self._inventory.complete():
                break
            else:
                self._blocked.regain()
                self._pass_time(poll_seconds, enough=self._inventory.hears_of_more)
            self._board.check_stop()
            available = self._look(waiting=True)
        self._inventory.report_lonely()
        self._finish()
        self._blocked.regain()

    def _pass_time(self, seconds: float, enough: Callable[[], bool] | None = None) -> None:
        """Summarise what waits for that, then wait, until it is time to look again or `enough`.

        However short the time, some of it is summarised.
        """
        if self._summaries.waiting:
            self._board.rest("working")
            until = self._clock() + seconds
            while self._summaries.waiting and seconds >= 0:
                self._summaries.do_some(seconds)
                if enough is not None and enough():
                    return
                seconds = until - self._clock()
        if seconds > 0 or not self._summaries.waiting:
            self._board.wait(max(seconds, 0.0), enough=enough)

    def _finish(self) -> None:
        """Bring the summaries up to date, and find out what is left undone and why."""
        self._summaries.finish()
        self._inventory.find_lost_pairs()
        self._session.show(queued=0)
        self._show_amiss()

    def _look(self, *, waiting: bool) -> Available:
        """Look what is there, and show what is wrong."""
        available = self._inventory.look(waiting=waiting)
        self._show_amiss()
        return available

    def _show_amiss(self) -> None:
        lines = [*self._inventory.amiss(), *self._summaries.failed]
        self._session.show(amiss=tuple(lines[:_MOST_AMISS]))

    def totals(self) -> Totals:
        """Return what was done so far, and what is wrong now."""
        amiss = self._inventory.count()
        amiss["failed"] += len(self._summaries.failed)
        return replace(self._recorder.totals, **amiss)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """From the first heartbeat to the last; an end before time says what to do."""
        with self._session.at_work(lambda: vars(self.totals())):
            try:
                self._warn_of_remote_code()
                yield
            except Interrupted:
                raise Interrupted(self._where_it_stands()) from None
            except DamagedError:
                self._writer.results.check()  # what seems damaged may have gone altogether
                raise
            except OSError as error:
                self._writer.results.check()
                raise EngineError(store_trouble(error, self._study.store)) from error

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[None]:
        """Have workers for a session of the study, and keep in the store what is asked for."""
        with self._make_executor() as self._executor:
            self._keep_probes()
            self._writer.set_schedules(self._schedules)
            for model in self._study.models:
                self._writer.set_groups(model.name, model.groups)
            self._summaries.start()
            yield

    def _where_it_stands(self) -> str:
        done, steps = self._recorder.totals, self._inventory.left()
        score, reduce = sum(len(step.score) for step in steps), sum(step.reduce for step in steps)
        left = f"{counted(score, 'checkpoint')} to score and {counted(reduce, 'step')} to compare"
        if self._probes:
            unasked = score + sum(step.seed is not None for step in steps)
            left = f"{left.replace(' and ', ', ')} and {counted(unasked, 'checkpoint')} to probe"
        return (
            f"stopped; what was committed stays: {counted(done.scored, 'checkpoint')} scored and "
            f"{counted(done.reduced, 'step')} compared, {left} are left; "
            "run the same command again to continue"
        )

    # -- one round of work ---------------------------------------------------------------------

    def _work(
        self, steps: Iterable[Step], available: Available, *, then_probe: bool = True
    ) -> None:
        """Have steps done: each is planned when its turn comes and again after its passes.

        No checkpoint is probed while a step is being worked on, whose KL would have to wait; nor,
        unless `then_probe`, are those of a step that was worked on.

        Raise Interrupted when asked to stop, OSError when results cannot be written, EngineError
        when no device is left.
        """
        waiting, ready = deque(steps), deque[Pass]()
        left: Counter[tuple[str, int]] = Counter()  # passes of a step that are not done
        submitted = 0
        self._recorder.start()
        self._summaries.begin_passes()
        while True:
            while (ready or waiting) and submitted < self._executor.capacity:
                if ready:
                    self._board.check_stop()
                    workers = max(1, self._executor.capacity // 2)
                    ahead = sum(step.reduce for step in waiting) // workers
                    self._executor.submit(replace(ready.popleft(), ahead=ahead))
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
            self._recorder.take(self._small.take(outcome))
            task = outcome.task
            if outcome.pairs is not None:
                self._summaries.update(task.model, task.step)
            self._summaries.in_between()
            left[task.model, task.step] -= not task.probes
            if left[task.model, task.step]:
                continue
            again = self._inventory.remaining_of(task.model, task.step, available)
            if task.probes:  # with a rest to do if its device was lost
                again = [step for step in again if (step.seed,) == task.live]
            elif not then_probe:
                again = [step for step in again if step.seed is None]
            waiting.extendleft(s for s in reversed(again) if not self._inventory.only_probes(s))
            waiting.extend(s for s in again if self._inventory.only_probes(s))

    def _plan(self, step: Step) -> tuple[Pass, ...]:
        """Choose how a step is done, and say so when that was not said before."""
        keep = self._study.log_probs.representation
        known, captured = self._writer.ledger.model(step.model), step.model in self._study.captured
        small = self._executor.capacity <= 2 and self._small.has(step)  # else by several workers
        plan = make_plan(step, known, keep, captured=captured, small=small)
        reported = self._reported_plans.setdefault(step.model, set())
        # The reduction that ends a kept step was announced with its scoring.
        if plan.why not in reported and (step.score or step.probes or not reported):
            reported.add(plan.why)
            text = f"{step.model}, plan {plan.name} from step {step.step:,}: {plan.why}"
            self._session.say("info", "plan", text, model=step.model, plan=plan.name)
        return plan.passes

    def _keep_probes(self) -> None:
        """Have the store know the probes of the study; others that it has stay."""
        for event, text in self._warnings:
            self._session.say("warning", event, text)
        for questions in self._probes:
            self._writer.probes.set(questions.probe)
        asked = {questions.probe.name for questions in self._probes}
        for name, known in self._writer.ledger.models.items():
            for probe in known.probe_failures.keys() - asked:
                self._writer.probes.excuse(name, probe, known.probe_failures[probe])

    def _warn_of_remote_code(self) -> None:
        for model in self._study.models:
            if model.trust_remote_code:
                self._session.say(
                    "warning",
                    "remote_code",
                    f"model {model.name}: models.trust_remote_code is set: Python code that comes "
                    "with its checkpoints may run",
                    model=model.name,
                )
