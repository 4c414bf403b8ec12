"""Messages between a coordinator and its workers: plain data, in any process or machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.probes.questions import Questions
from engine.sources.base import Checkpoint, Reference, Source
from engine.study_file.file import StudyFile
from engine.study_file.scoring_section import Keep
from engine.text.evaluation_text import EvaluationText
from engine.text.tokenizer import Tokenizer
from store import StoreError
from store.schema import ProbeValues, Work
from store.writing import CheckpointResult, PairsResult


def seed_order(seed: str) -> tuple[bool, int, str]:
    """Return the sort key of a seed: numbers by value, then names."""
    return (not seed.isdecimal(), int(seed) if seed.isdecimal() else 0, seed)


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to know of the study it works on."""

    study: StudyFile
    text: EvaluationText
    tokenizer: Tokenizer
    session: int  # of the coordinator
    folder: Path  # its working folder: paths of the study may be relative to it
    probes: tuple[Questions, ...] = ()
    shares_cache: bool = True  # of downloads, with all others that work

    @classmethod
    def of(
        cls,
        study: StudyFile,
        text: EvaluationText,
        tokenizer: Tokenizer,
        session: int,
        probes: tuple[Questions, ...] = (),
    ) -> Job:
        """Return a job that can be sent: scoring needs the tokenizer's facts, not its backend."""
        return cls(study, text, tokenizer.without_backend(), session, Path.cwd(), probes)


@dataclass(frozen=True)
class Pass:
    """One pass over the corpus, which one device does on its own."""

    model: str
    step: int
    live: tuple[str, ...]  # seeds that are scored
    stored: tuple[str, ...]  # seeds whose log-probs are read from the store
    keep: Keep  # how the log-probs of the live seeds are kept
    reduce: bool  # whether all of them are compared with each other
    probes: tuple[str, ...] = ()  # that the one live seed, which is scored, is asked instead
    # Of the live seeds, as they were found; the pass is the same one wherever they are.
    checkpoints: tuple[Reference, ...] = field(default=(), compare=False)
    ahead: int = field(default=0, compare=False)  # steps that come after it, as far as is known

    def located(self, sources: Mapping[str, Source]) -> Pass:
        """Return this pass with its checkpoints as the sources, by model, have found them."""
        source = sources[self.model]
        found = (source.checkpoint((seed, self.step)) for seed in self.live)
        return replace(self, checkpoints=tuple(checkpoint.reference() for checkpoint in found))

    def open(self, seed: str, sources: Mapping[str, Source]) -> Checkpoint:
        """Open the checkpoint of a live seed, as it was found; `sources` are by model."""
        return sources[self.model].reopen(self.checkpoints[self.live.index(seed)])

    @property
    def tentative(self) -> bool:
        """Whether seeds are scored side by side that might be by themselves.

        If it comes to nothing they are, and what is wrong is found out again.
        """
        return len(self.live) > 1 and self.keep != "none"

    @property
    def seeds(self) -> tuple[str, ...]:
        """Live and stored seeds in their order."""
        return tuple(sorted((*self.live, *self.stored), key=seed_order))


@dataclass(frozen=True)
class Outcome:
    """The outcome of one pass: results, or one reason for the lack of them."""

    task: Pass
    seconds: float
    checkpoints: tuple[CheckpointResult, ...] = ()
    pairs: PairsResult | None = None
    failed: tuple[str, str] | None = None  # a seed that cannot be scored, and why
    trace: str = ""  # where in the code, for the log
    passing: bool = False  # it failed for a reason that may pass
    damaged: str | None = None  # why stored log-probs cannot be reduced
    lost: str | None = None  # the device failed, or its process ended
    notes: tuple[str, ...] = ()  # what the user should know besides
    said: tuple[str, ...] = ()  # what is merely of interest
    weight_bytes: int = 0  # of the model's largest checkpoint so far, on the device; 0: not known
    probes: tuple[ProbeValues, ...] = ()
    unprobed: tuple[tuple[str, str, bool], ...] = ()  # probes, why, and whether that may pass


@dataclass(frozen=True)
class Ready:
    """The worker can take passes."""


@dataclass(frozen=True)
class Ended:
    """The worker's last message, or one in its place when it cannot send any more."""

    why: str | None = None  # None: it was asked to end
    error: OSError | StoreError | None = None  # not the device's fault: no other would fare better


Message = Ready | Work | Outcome | Ended
