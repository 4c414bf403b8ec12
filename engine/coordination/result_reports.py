"""Report results: scored, reduced, a new phase, an outlier, a failure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.coordination.session import Session
from engine.events import Level
from engine.workers.messages import Pass
from store.schema import CheckpointName, Failure, Key, ModelSnapshot, Phase
from store.statistics import distance, newly_outlying
from store.words import counted, nats
from store.writing import StudyWriter


class ResultReports:
    """Reports each result when it is committed."""

    def __init__(self, writer: StudyWriter, session: Session) -> None:
        self._writer, self._session = writer, session
        self._outliers: set[CheckpointName] = set()  # that were reported
        self._kept: set[str] = set()  # models already reported
        self._windows: set[str] = set()  # likewise
        self._duplicates = {
            (model, key)
            for model in writer.ledger.models
            for key in writer.ledger.duplicates(model)
        }

    def scored(self, task: Pass, seed: str, seconds: float) -> None:
        """Report a checkpoint that was scored, and whether its weights are those of another."""
        record = self._writer.ledger.model(task.model).scored[seed, task.step]
        captured = bool(record.get("captured"))
        how = ", captured in training," if captured else ""
        self._session.say(
            "info",
            "scored",
            f"scored {task.model}, seed {seed}, step {task.step:,}{how} in {seconds:.1f} s",
            model=task.model,
            seed=seed,
            step=task.step,
            seconds=round(seconds, 3),
            captured=captured,
        )
        self._duplicate(task.model, (seed, task.step))
        self._window(task.model, (seed, task.step))

    def _window(self, model: str, key: Key) -> None:
        """Report, once, that a checkpoint read other windows than the first of its model."""
        known = self._writer.ledger.model(model).scored
        first = next(iter(known))
        one, other = ((known[at].get("window"), known[at].get("overlap")) for at in (first, key))
        if one == other or None in (*one, *other) or model in self._windows:
            return
        self._windows.add(model)
        text = (
            f"{model}, seed {key[0]}, step {key[1]:,} was read in windows of {other[0]} "
            f"tokens that overlap by {other[1]}, "
            f"seed {first[0]}, step {first[1]:,} in {one[0]} that overlap by {one[1]}: a KL "
            "between them is one of contexts, too. Set scoring.window to what all seeds take, in a "
            "new study"
        )
        self._session.say("warning", "windows", text, model=model)

    def _duplicate(self, model: str, key: Key) -> None:
        """Report, once, that a checkpoint has the weights of one that was scored before."""
        first = self._writer.ledger.duplicates(model).get(key)
        if first is None or (model, key) in self._duplicates:
            return
        self._duplicates.add((model, key))
        captured = self._writer.ledger.model(model).scored[key].get("captured")
        same = "says the same, to the last digit, as" if captured else "same weights as"
        text = "{}, seed {}, step {:,}: {} {}, seed {}, step {:,}"
        text = text.format(model, *key, same, *first)
        self._session.say("warning", "duplicate", text, model=model)

    def kept(self, model: str) -> None:
        """Report, once, that log-probs of captured checkpoints stay, as more seeds may come."""
        if model not in self._kept:
            self._kept.add(model)
            text = (
                f"model {model}: log-probs of captured checkpoints stay: its seeds are discovered, "
                "and one that comes later could not be compared without them. List its seeds to "
                "have them dropped"
            )
            self._session.say("warning", "kept", text, model=model)

    def probed(self, task: Pass, names: Sequence[str]) -> None:
        """Report the probes that a checkpoint was asked."""
        (seed,) = task.live
        text = f"probed {task.model}, seed {seed}, step {task.step:,}: {', '.join(names)}"
        fields = {"model": task.model, "seed": seed, "step": task.step, "probes": names}
        self._session.say("info", "probed", text, **fields)

    def reduced(self, model: ModelSnapshot, step: int, seeds: Sequence[str]) -> None:
        """Report a step that was reduced, and its outliers."""
        value = float(model.expected_kl[model.steps == step][0])
        self._session.say(
            "info",
            "reduced",
            f"compared {model.name}, step {step:,}: expected KL {nats(value)} nats over "
            f"{counted(len(seeds), 'seed')}",
            model=model.name,
            step=step,
            seeds=list(seeds),
            expected_kl=value,
        )
        self._report_outliers(model, step)

    def phase(self, model: str, step: int, now: Phase) -> None:
        """Report the phase that training is in."""
        between = "" if now.low is None else f" ({now.low:,} to {now.high:,})"
        self._session.say(
            "info",
            "phase",
            f"{model} is in the phase {now.name}, from step {now.start:,}{between}",
            model=model,
            step=step,
            phase=now.name,
            start=now.start,
            low=now.low,
            high=now.high,
            support=now.support,
        )

    def _report_outliers(self, model: ModelSnapshot, step: int) -> None:
        reduced = model.n_pairs > 0
        kl, at = model.kl[reduced], int(np.flatnonzero(model.steps[reduced] == step)[0])
        far = distance(kl[at])
        median = float(np.nanmedian(far))
        for index in np.flatnonzero(newly_outlying(kl, at)):
            seed, value = model.seeds[index], float(far[index])
            if (model.name, seed, step) in self._outliers:
                continue  # another seed joined the step
            self._outliers.add((model.name, seed, step))
            self._session.say(
                "warning",
                "outlier",
                f"{model.name}, seed {seed} is an outlier at step {step:,} and the next one: "
                f"mean KL {nats(value)} nats to and from the other seeds, median of seeds "
                f"{nats(median)}",
                model=model.name,
                seed=seed,
                step=step,
                mean_kl=value,
                median=median,
            )

    def failed(
        self, checkpoint: CheckpointName, failure: Failure, probe: str | None, trace: str
    ) -> None:
        """Report that a checkpoint could not be scored, or could not be asked a probe."""
        model, seed, step = checkpoint
        text = f"{failure.error}; {failure.fate}"
        self._session.say(
            "error" if failure.parked else "warning",
            "probe_failed" if probe else "failed",
            f"probe {probe}: {text}" if probe else text,
            model=model,
            seed=seed,
            step=step,
            **({"probe": probe} if probe else {}),
            attempts=failure.attempts,
            retry_at=failure.retry_at,
            trace=trace,
        )

    def damaged(self, task: Pass, failure: Failure) -> None:
        """Report that a step cannot be reduced."""
        text = f"cannot reduce {task.model}, step {task.step:,}: {failure.error}"
        if not failure.parked:
            text += f"; {failure.fate}"
        level: Level = "error" if failure.parked else "warning"
        self._session.say(level, "damaged", text, model=task.model, step=task.step)
