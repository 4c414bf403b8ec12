"""Which steps are so small that all their seeds are scored in one pass, though factors are kept.

One pass makes the log-probs that seeds are compared by only once. It takes the weights of all seeds
at a time, though, and what it has done is lost when it is stopped.
"""

from __future__ import annotations

from dataclasses import replace

from engine.coordination.planner import Step
from engine.study_file.limits_section import LimitsSection
from engine.study_file.scoring_section import ScoringSection
from engine.workers.messages import Outcome

_WEIGHT_BYTES = 300_000_000  # of all seeds of a step; those of the next are read meanwhile
_SHARE = 0.25  # of what limits leave to this process, for the same
_LOG_PROBS = 2**33  # of all seeds of a step: some two minutes of two cores


class SmallSteps:
    """Judges steps by the weights of checkpoints that were read before."""

    def __init__(self, log_probs: int, limits: LimitsSection, scoring: ScoringSection) -> None:
        """Take how many log-probs a seed has at a step, and the study's limits of memory.

        Until a checkpoint of a model was read, none of its steps is small.
        """
        self._log_probs, self._limit = log_probs, float(_WEIGHT_BYTES)
        if limits.memory_gb is not None:
            self._limit = min(self._limit, _SHARE * limits.memory_gb * 1e9)
        if scoring.memory_gb is not None:  # or models would take turns on the device
            self._limit = min(self._limit, scoring.memory_gb * 1e9)
        self._bytes: dict[str, int] = {}  # of the largest checkpoint, by model
        self._spoilt: set[tuple[str, int]] = set()

    def take(self, outcome: Outcome) -> Outcome:
        """Take note of what a pass has found, and return what is to be recorded of it.

        What failed while several seeds were scored side by side is no failure yet: each is scored
        by itself then, so that all have results but the one that fails again.
        """
        task = outcome.task
        if outcome.weight_bytes:
            known = self._bytes.get(task.model, 0)
            self._bytes[task.model] = max(known, outcome.weight_bytes)
        if not task.tentative or outcome.checkpoints:
            return outcome
        self._spoilt.add((task.model, task.step))
        return replace(outcome, failed=None, damaged=None, passing=False, trace="")

    def has(self, step: Step) -> bool:
        """Return whether a step is small."""
        n, each = len(step.score), self._bytes.get(step.model)
        if each is None or (step.model, step.step) in self._spoilt:
            return False
        return n * each <= self._limit and n * self._log_probs <= _LOG_PROBS
