"""Takes what came of the passes: commits it, tells it, and remembers what cannot be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.events import Level
from engine.sources.base import Source
from engine.study_file.file import StudyFile
from engine.workers.messages import Outcome, Pass
from store import StudyWriter
from store.schema.keys import CheckpointName, Key
from store.schema.snapshot import UNDECIDED, ModelSnapshot, Phase
from store.statistics import distance, find_phases, newly_outlying
from store.writing.pending import CheckpointResult, PairsResult

_MOST_LOSSES = 2  # devices that one pass may take with it before it counts as failed


@dataclass
class Totals:
    """What an engine did."""

    scored: int = 0
    reduced: int = 0
    failed: int = 0
    missing: int = 0
    probed: int = 0
    probes_failed: int = 0  # of checkpoints that are scored, each probe counts
    parked: int = 0  # of all that failed: not tried again until they change or are asked for


class Recorder:
    """The one that commits. `gone` is what planning leaves out."""

    def __init__(
        self,
        study: StudyFile,
        sources: Mapping[str, Source],
        writer: StudyWriter,
        session: Session,
        retries: Retries,
        clock: Callable[[], float],
    ) -> None:
        self._study, self._sources, self._writer, self._session = study, sources, writer, session
        self._retries = retries
        self._reader = writer.study()
        self._clock = clock
        self._since: float | None = None  # work has been going on
        self._seconds_busy = 0.0
        self._tokens_done = 0
        self._losses: Counter[Pass] = Counter()
        self.totals = Totals()
        self.gone: dict[tuple[str, Key], str] = {}  # deleted before they were done, and where
        self._told_outliers: set[CheckpointName] = set()
        self._told_duplicates = {
            (model, key)
            for model in writer.ledger.models
            for key in writer.ledger.duplicates(model)
        }

    def start(self) -> None:
        """Work begins, or goes on after a wait."""
        self._since = self._clock()

    def take(self, outcome: Outcome) -> None:
        """Commit the results of a pass, or note why there are none."""
        task = outcome.task
        self._writer.results.check()  # before anything else is blamed
        for note in outcome.notes:
            self._session.say("warning", "note", f"{task.model}, step {task.step}: {note}")
        if outcome.failed is not None:
            seed, why = outcome.failed
            self._fail(task, seed, why, task.probes, passing=outcome.passing, trace=outcome.trace)
        elif outcome.damaged is not None:
            self._fail_step(task, outcome.damaged, passing=outcome.passing)
        elif outcome.lost is not None:
            self._tell_lost(task, outcome.lost)
        else:
            if outcome.checkpoints or outcome.pairs is not None:
                self._writer.commit(task.model, task.step, outcome.checkpoints, outcome.pairs)
            for result in outcome.checkpoints:
                seconds = outcome.seconds / len(outcome.checkpoints)
                self._tell_scored(task, result, seconds)
            if outcome.pairs is not None:
                self._tell_reduced(task, outcome.pairs)
            self._take_probes(outcome)

    def _take_probes(self, outcome: Outcome) -> None:
        """Commit what was said of probes, and note where nothing was."""
        task = outcome.task
        self._writer.probes.commit(task.model, task.step, outcome.probes)
        if names := [result.probe for result in outcome.probes]:
            (seed,) = task.live
            self.totals.probed += 1
            text = f"probed {task.model}, seed {seed}, step {task.step}: {', '.join(names)}"
            fields = {"model": task.model, "seed": seed, "step": task.step, "probes": names}
            self._session.say("info", "probed", text, **fields)
        for probe, error, passing in outcome.unprobed:
            self._fail(task, task.live[0], error, [probe], passing=passing)

    def _tell_scored(self, task: Pass, result: CheckpointResult, seconds: float) -> None:
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
        self._session.say(
            "info",
            "scored",
            f"scored {task.model}, seed {result.seed}, step {task.step} in {seconds:.1f} s",
            model=task.model,
            seed=result.seed,
            step=task.step,
            seconds=round(seconds, 3),
        )
        self._tell_duplicate(task.model, (result.seed, task.step))

    def _tell_duplicate(self, model: str, key: Key) -> None:
        """Say, once, that a checkpoint has the weights of one that was scored before."""
        first = self._writer.ledger.duplicates(model).get(key)
        if first is None or (model, key) in self._told_duplicates:
            return
        self._told_duplicates.add((model, key))
        text = "{}, seed {}, step {}: same weights as {}, seed {}, step {}"
        text = text.format(model, *key, *first)
        self._session.say("warning", "duplicate", text, model=model)

    def _tell_reduced(self, task: Pass, pairs: PairsResult) -> None:
        name, at = task.model, task.step
        self.totals.reduced += 1
        self._retries.reduced(name, at)
        self._reader.refresh()
        model = self._reader.model_snapshot(name)
        self._take_phases(name, at, find_phases(model.steps, model.kl))
        value = float(model.expected_kl[model.steps == at][0])
        self._session.say(
            "info",
            "reduced",
            f"reduced {name}, step {at}: expected KL {value:.4g} nats over "
            f"{len(pairs.seeds)} seeds",
            model=name,
            step=at,
            seeds=list(pairs.seeds),
            expected_kl=value,
        )
        self._tell_outliers(model, at)
        known = self._writer.ledger.model(name)
        planned = {seed for seed, step in known.planned if step == at}
        if self._study.log_probs.retention == "until_reduced" and planned <= set(pairs.seeds):
            self._writer.drop_log_probs(name, at, pairs.seeds)

    def _take_phases(self, name: str, at: int, phases: tuple[Phase, ...]) -> None:
        """Record the phases; say, once for good, that training is in one that is new.

        Not while earlier steps wait: what is newest of a curve may look like any phase.
        """
        known = self._writer.ledger.model(name)
        over, newest = (
            known.scored.keys() | known.failed.keys() | known.missing.keys(),
            max(known.reduced),
        )
        settled = all(step > newest or (seed, step) in over for seed, step in known.planned)
        seen = {UNDECIDED, *known.phases_seen}
        self._writer.set_phases(name, phases, settled=settled)
        if not settled or not phases or phases[-1].name in seen:
            return
        now = phases[-1]
        between = "" if now.low is None else f" ({now.low} to {now.high})"
        self._session.say(
            "info",
            "phase",
            f"{name} is in the phase {now.name}, from step {now.start}{between}",
            model=name,
            step=at,
            phase=now.name,
            start=now.start,
            low=now.low,
            high=now.high,
            support=now.support,
        )

    def _tell_outliers(self, model: ModelSnapshot, step: int) -> None:
        reduced = model.n_pairs > 0
        kl, at = model.kl[reduced], int(np.flatnonzero(model.steps[reduced] == step)[0])
        far = distance(kl[at])
        median = float(np.nanmedian(far))
        for index in np.flatnonzero(newly_outlying(kl, at)):
            seed, value = model.seeds[index], float(far[index])
            if (model.name, seed, step) in self._told_outliers:
                continue  # another seed joined the step
            self._told_outliers.add((model.name, seed, step))
            self._session.say(
                "warning",
                "outlier",
                f"{model.name}, seed {seed} is an outlier at step {step} and the step beside it: "
                f"mean KL {value:.4g} nats to and from the other seeds, median of seeds "
                f"{median:.4g}",
                model=model.name,
                seed=seed,
                step=step,
                mean_kl=value,
                median=median,
            )

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
        """Note that a checkpoint could not be scored; or, which is told apart, asked `probes`."""
        key = (seed, task.step)
        checkpoint = self._sources[task.model].checkpoint(key)
        if checkpoint.gone():
            self._lose_unprobed(task, key) if probes else self.lose(task.model, [key])
            return
        if not probes:
            checkpoint.failed()
            self._session.show(queued=max(0, self._session.status.queued - 1))
        signature, named = checkpoint.signature(), {"model": task.model, "seed": seed}
        which: Sequence[str | None] = probes or [None]
        for probe in which:
            failure = self._retries.fail(
                task.model, key, error, signature, passing=passing, probe=probe
            )
            self._session.say(
                "error" if failure.parked else "warning",
                "probe_failed" if probe else "failed",
                f"probe {probe}: {error}; {failure.fate}" if probe else f"{error}; {failure.fate}",
                **named,
                step=task.step,
                **({"probe": probe} if probe else {}),
                attempts=failure.attempts,
                retry_at=failure.retry_at,
                trace=trace,
            )

    def _lose_unprobed(self, task: Pass, key: Key) -> None:
        """Note that a checkpoint was deleted before it was asked; its results stay."""
        where = self._sources[task.model].checkpoint(key).where()
        why = f"{where} is gone: deleted before it was asked probe {', '.join(task.probes)}"
        self.gone[task.model, key] = why
        for probe in task.probes:
            self._writer.probes.excuse(task.model, probe, [key])
        self._session.say("warning", "gone", f"model {task.model}: {why}", model=task.model)

    def lose(self, model: str, keys: Sequence[Key]) -> None:
        """Note checkpoints that were deleted before they were scored; nothing failed."""
        source, known = self._sources[model], self._writer.ledger.model(model)
        where = {key: source.checkpoint(key).where() for key in keys}
        lost = {key: f"{where[key]} is gone: deleted before it was scored" for key in keys}
        self.gone |= {(model, key): why for key, why in lost.items()}
        new = [why for key, why in lost.items() if known.missing.get(key) != why]
        self._writer.plan(model, [], lost)
        if new:
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            self._session.say("warning", "gone", f"model {model}: {new[0]}{more}", model=model)

    def _fail_step(self, task: Pass, error: str, *, passing: bool = False) -> None:
        failure = self._retries.fail_step(task.model, task.step, error, passing=passing)
        text = f"cannot reduce {task.model}, step {task.step}: {error}"
        if not failure.parked:
            text += f"; {failure.fate}"
        level: Level = "error" if failure.parked else "warning"
        self._session.say(level, "damaged", text, model=task.model, step=task.step)

    def _tell_lost(self, task: Pass, why: str) -> None:
        """A device took a pass with it: another one gets it, unless the pass seems to blame."""
        self._writer.results.discard(task.model, task.step, task.live, task.seeds)
        self._losses[task] += 1
        text = f"{task.model}, step {task.step}: {why}"
        if self._losses[task] < _MOST_LOSSES:
            self._session.say("warning", "lost", f"{text}; it is planned again", model=task.model)
            return
        text = f"{text}, for the {_MOST_LOSSES}nd time"
        for seed in task.live:
            self._fail(task, seed, text)
        if not task.live:
            self._fail_step(task, text)
