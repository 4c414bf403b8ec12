"""Commits what came of the passes, and remembers what cannot be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.coordination.inventory import Inventory
from engine.coordination.result_reports import ResultReports
from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.sources.base import Source
from engine.study_file.file import StudyFile
from engine.workers.messages import Outcome, Pass
from store.schema import UNDECIDED, Phase
from store.statistics import find_phases
from store.writing import CheckpointResult, PairsResult, StudyWriter

_MOST_LOSSES = 2  # devices that one pass may take with it before it counts as failed


@dataclass
class Totals:
    """Counts of what an engine did."""

    scored: int = 0
    reduced: int = 0
    failed: int = 0
    missing: int = 0
    uncompared: int = 0  # steps with pairs of seeds that cannot be computed
    probed: int = 0
    probes_failed: int = 0  # of checkpoints that are scored, each probe counts
    parked: int = 0  # of the failed ones: not tried again until they change or are asked for


class Recorder:
    """The one that commits."""

    def __init__(
        self,
        study: StudyFile,
        sources: Mapping[str, Source],
        writer: StudyWriter,
        session: Session,
        retries: Retries,
        inventory: Inventory,
        clock: Callable[[], float],
    ) -> None:
        self._study, self._sources, self._writer, self._session = study, sources, writer, session
        self._retries, self._inventory, self._clock = retries, inventory, clock
        self._reports = ResultReports(writer, session)
        self._reader = writer.study()
        self._since: float | None = None  # work has been going on
        self._seconds_busy = 0.0
        self._tokens_done = 0
        self._losses: Counter[Pass] = Counter()
        self.totals = Totals()

    def start(self) -> None:
        """Take note that work begins, or goes on after a wait."""
        self._since = self._clock()

    def take(self, outcome: Outcome) -> None:
        """Commit the results of a pass, or note why there are none."""
        task = outcome.task
        self._writer.results.check()  # before anything else is blamed
        for note in outcome.notes:
            self._session.say("warning", "note", f"{task.model}, step {task.step:,}: {note}")
        for text in outcome.said:
            text = f"{task.model}, step {task.step:,}: {text}"
            self._session.say("info", "compiling", text, model=task.model)
        if outcome.failed is not None:
            seed, why = outcome.failed
            self._fail(task, seed, why, task.probes, passing=outcome.passing, trace=outcome.trace)
        elif outcome.damaged is not None:
            self._fail_step(task, outcome.damaged, passing=outcome.passing)
        elif outcome.lost is not None:
            self._take_lost(task, outcome.lost)
        else:
            if outcome.checkpoints:  # answers of what was captured come with it, and so before it:
                self._commit_probes(outcome)  # once it is scored, its folder may go
            if outcome.checkpoints or outcome.pairs is not None:
                self._writer.commit(task.model, task.step, outcome.checkpoints, outcome.pairs)
            for result in outcome.checkpoints:
                self._take_scored(task, result, outcome.seconds / len(outcome.checkpoints))
            if outcome.pairs is not None:
                self._take_reduced(task, outcome.pairs)
            self._take_probes(outcome)
            if task.model in self._study.captured:
                for result in outcome.checkpoints:
                    self._inventory.report_unasked(task.model, (result.seed, task.step))

    def _take_probes(self, outcome: Outcome) -> None:
        """Commit answers to probes, and note where there are none."""
        task = outcome.task
        if not outcome.checkpoints:
            self._commit_probes(outcome)
        if names := [result.probe for result in outcome.probes]:
            self.totals.probed += 1
            self._reports.probed(task, names)
        for probe, error, passing in outcome.unprobed:
            self._fail(task, task.live[0], error, [probe], passing=passing)

    def _commit_probes(self, outcome: Outcome) -> None:
        task = outcome.task
        self._writer.probes.commit(task.model, task.step, outcome.probes)

    def _take_scored(self, task: Pass, result: CheckpointResult, seconds: float) -> None:
        self.totals.scored += 1
        self._tokens_done += self._writer.n_tokens
        now = self._clock()
        self._seconds_busy += now - (self._since if self._since is not None else now)
        self._since = now
        rate = self._tokens_done / self._seconds_busy if self._seconds_busy else None
        queued = max(0, self._session.status.queued - 1)
        self._session.show(
            queued=queued,
            tokens_per_second=rate,
            eta_seconds=queued * self._writer.n_tokens / rate if rate else None,
            bytes_written=self._writer.bytes_written,
        )
        self._reports.scored(task, result.seed, seconds)

    def _take_reduced(self, task: Pass, pairs: PairsResult) -> None:
        name, at = task.model, task.step
        self._retries.reduced(name, at)
        if not pairs.means:  # its pairs were reduced before
            text = f"{name}, step {at:,}: compared with the step reference.end"
            self._session.say("info", "reference", text, model=name, step=at)
            return
        self.totals.reduced += 1
        self._reader.refresh()
        model = self._reader.model_snapshot(name)
        self._take_phases(name, at, find_phases(model.steps, model.kl))
        self._reports.reduced(model, at, pairs.seeds)
        known = self._writer.ledger.model(name)
        # A seed that has not come to this step yet is to be compared as well.
        awaited = {seed for seed, step in known.planned if step == at} | self._inventory.seeds(name)
        if awaited <= set(pairs.seeds) and self._drops(name):
            self._writer.drop_log_probs(name, at, pairs.seeds)

    def _drops(self, name: str) -> bool:
        """Return whether log-probs of a model go once all seeds of their step are compared.

        What was captured cannot be had again for a seed that is discovered later.
        """
        settings = self._study.log_probs
        dropped = settings.retention == "until_reduced"
        if name not in self._study.captured:
            return dropped
        dropped |= settings.representation == "none"
        if dropped and self._inventory.discovers(name):
            self._reports.kept(name)
            return False
        return dropped

    def _take_phases(self, name: str, at: int, phases: tuple[Phase, ...]) -> None:
        """Record the phases; report, once for good, that training is in one that is new.

        Not while earlier steps wait: what is newest of a curve may look like any phase.
        """
        known = self._writer.ledger.model(name)
        over = known.scored.keys() | known.failed.keys() | known.missing.keys()
        newest = max(known.reduced)
        settled = all(step > newest or (seed, step) in over for seed, step in known.planned)
        seen = {UNDECIDED, *known.phases_seen}
        self._writer.set_phases(name, phases, settled=settled)
        if settled and phases and phases[-1].name not in seen:
            self._reports.phase(name, at, phases[-1])

    def _fail(
        self,
        task: Pass,
        seed: str,
        error: str,
        probes: Sequence[str] = (),
        *,
        passing: bool = False,
        trace: str = "",
    ) -> None:
        """Note that a checkpoint could not be scored; or, with `probes`, could not be asked them.

        The two are kept apart: a checkpoint that was scored stays so.
        """
        key = (seed, task.step)
        checkpoint = self._sources[task.model].checkpoint(key)
        if checkpoint.gone():
            if probes:
                self._inventory.lose_unprobed(task.model, key, task.probes)
            else:
                self._inventory.lose(task.model, [key])
            return
        if not probes:
            checkpoint.failed()
            self._session.show(queued=max(0, self._session.status.queued - 1))
        signature = checkpoint.signature()
        which: Sequence[str | None] = probes or [None]
        for probe in which:
            failure = self._retries.fail(
                task.model, key, error, signature, passing=passing, probe=probe
            )
            self._reports.failed((task.model, *key), failure, probe, trace)

    def _fail_step(self, task: Pass, error: str, *, passing: bool = False) -> None:
        failure = self._retries.fail_step(task.model, task.step, error, passing=passing)
        self._reports.damaged(task, failure)

    def _take_lost(self, task: Pass, why: str) -> None:
        """Have another device do the pass of one that failed, unless the pass seems to blame."""
        self._writer.results.discard(task.model, task.step, task.live, task.seeds)
        self._losses[task] += 1
        text = f"{task.model}, step {task.step:,}: {why}"
        if self._losses[task] < _MOST_LOSSES:
            self._session.say("warning", "lost", f"{text}; it is planned again", model=task.model)
            return
        text = f"{text}, for the {_MOST_LOSSES}nd time"
        for seed in task.live:
            self._fail(task, seed, text)
        if not task.live:
            self._fail_step(task, text)
