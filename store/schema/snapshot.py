"""A store's contents at one moment, as plain frozen data: the only thing that screens see.

A snapshot is cheap to make again (`Study.snapshot`) and never changes once made, so it can be
built in a thread and handed to the event loop.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.schema.keys import CheckpointName, Key
from store.schema.pair_metrics import USUAL
from store.schema.seed_pairs import over_pairs


class State(IntEnum):
    """The state of one checkpoint. Order is the order of the life cycle, not a severity."""

    ABSENT = 0  # not part of the study
    QUEUED = 1  # planned, nothing done yet
    READING = 2  # weights are being read
    SCORING = 3  # log-probs are being computed
    SCORED = 4  # committed, waits for a second seed or for the reducer
    REDUCING = 5  # divergences are being computed
    DONE = 6  # reduced against every other seed scored at this step
    FAILED = 7  # could not be scored; `ModelSnapshot.errors` says why
    MISSING = 8  # not at its source, or gone from there, or of another trainer; `errors` says
    PRUNED = 9  # done, and its log-probs were dropped; results stay
    DUPLICATE = 10  # done or pruned, with the weights of another; in `ModelSnapshot.marked` alone


ACTIVE_STATES = frozenset({"starting", "working", "waiting"})
"""Engine states in which a heartbeat is due; after any other the engine has ended."""

UNDECIDED = "undecided"  # name of the current phase while the data do not support one


@dataclass(frozen=True)
class Failure:
    """Why a checkpoint could not be scored, or asked, when last tried, and what becomes of it."""

    error: str  # one line; untrusted
    attempts: int = 1  # without success, since the checkpoint last changed
    time: float | None = None  # unix time of the last of them; None: not recorded
    retry_at: float | None = None  # unix time from which it is tried again; None: it is parked
    looks: str | None = None  # digest of checkpoint and settings: others are tried at once

    @property
    def parked(self) -> bool:
        """Return whether it is not retried until it changes or the user asks for it."""
        return self.retry_at is None

    @property
    def fate(self) -> str:
        """Return its prospects, in the reader's time: "tried 2 times, next try at 14:03:12"."""
        tried = "tried once" if self.attempts == 1 else f"tried {self.attempts} times"
        if self.retry_at is None:
            return f"{tried}, parked until it changes or --retry-failed"
        return f"{tried}, next try at {clock.strftime('%H:%M:%S', clock.localtime(self.retry_at))}"


@dataclass(frozen=True)
class Phase:
    """One phase of training: from `start` to the next phase's start (training steps)."""

    name: str
    start: int
    low: int | None = None  # interval of the start over draws of seeds, 90 %, both ends
    high: int | None = None  # belong to it; None: fewer than 3 seeds
    support: float | None = None  # share of the draws that have it, at the end if it is the last


@dataclass(frozen=True)
class ModelSnapshot:
    """One model's results. Steps ascend; arrays are indexed by position in `steps`/`seeds`."""

    name: str
    seeds: tuple[str, ...]
    steps: NDArray[np.int64]  # (step,)
    state: NDArray[np.uint8]  # (step, seed), values of `State`
    kl: NDArray[np.float64]  # (step, seed, other_seed): mean over tokens, nats; NaN: not reduced
    cross_entropy: NDArray[np.float64]  # (step, seed): mean surprisal, nats; NaN: not scored
    entropy: NDArray[np.float64]  # (step, seed): mean entropy of the prediction, nats
    storage_floor: NDArray[np.float64]  # (step,): KL error that stored rounding alone makes, nats
    noise_floor: NDArray[np.float64]  # (step,): KL of a checkpoint with itself, batched otherwise
    errors: Mapping[Key, str] = field(default_factory=dict)  # each in one line
    kl_interval: NDArray[np.float64] | None = None  # (step, 2): 95 %, low and high, nats; NaN: none
    phases: tuple[Phase, ...] = ()
    # Those with the weights of a checkpoint that was scored before: (seed, step) -> that one
    duplicates: Mapping[Key, CheckpointName] = field(default_factory=dict)
    failures: Mapping[Key, Failure] = field(default_factory=dict)  # of what failed
    captured: frozenset[Key] = frozenset()  # scored by what training handed over: no weights exist
    n_scored: int = 0  # checkpoints whose results are committed
    probed: Mapping[str, int] = field(default_factory=dict)  # by probe, how many of them answered
    # Results that `verify --mend` computed again from log-probs as they are stored
    restored: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    # Pairs that are reduced, (step, seed, other_seed), also to NaN; None: those whose KL is not NaN
    reduced: NDArray[np.bool_] | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of seeds, by name
    # What is made of hidden states by array, (step, seed, other_seed); empty: the study has none
    of_states: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    # Of checkpoints that are scored and could not be asked a probe: (probe, seed, step)
    probe_failures: Mapping[tuple[str, str, int], Failure] = field(default_factory=dict)

    def reason(self, key: Key) -> str | None:
        """Return why (seed, step), or a probe of it, failed or is missing; not what is next."""
        if key in self.failures:
            return self.failures[key].error
        return self.errors.get(key) or self._of_probes(key, lambda failure: failure.error) or None

    def probe_trouble(self, key: Key) -> str:
        """Return which probes of (seed, step) failed, why, and what is next; empty: none."""
        return self._of_probes(key, lambda failure: f"{failure.error} ({failure.fate})")

    def _of_probes(self, key: Key, tell: Callable[[Failure], str]) -> str:
        return "; ".join(
            f"probe {probe} failed: {tell(failure)}"
            for (probe, *where), failure in self.probe_failures.items()
            if tuple(where) == key
        )

    @cached_property
    def marked(self) -> NDArray[np.uint8]:
        """`state`, (step, seed), with `State.DUPLICATE` for what is done and one of those."""
        marked = self.state.copy()
        rows = {int(step): row for row, step in enumerate(self.steps)}
        for seed, step in self.duplicates:
            cell = rows[step], self.seeds.index(seed)
            if marked[cell] in (State.DONE, State.PRUNED):
                marked[cell] = State.DUPLICATE
        return marked

    @cached_property
    def n_pairs(self) -> NDArray[np.int64]:
        """Ordered pairs of seeds that were reduced to a finite KL at each step, (step,)."""
        count: NDArray[np.int64] = np.isfinite(self.kl).sum(axis=(1, 2))
        return count

    @cached_property
    def n_left_out(self) -> NDArray[np.int64]:
        """Ordered pairs that were reduced and whose KL is not finite, (step,); means lack them."""
        reduced = ~np.isnan(self.kl) if self.reduced is None else self.reduced
        count: NDArray[np.int64] = (reduced & ~np.isfinite(self.kl)).sum(axis=(1, 2))
        return count

    @cached_property
    def expected_kl(self) -> NDArray[np.float64]:
        """Mean KL over tokens and ordered pairs of different seeds, (step,), nats."""
        return over_pairs(self.kl, np.mean)

    @cached_property
    def floor(self) -> NDArray[np.float64]:
        """KL that rounding alone makes, in storage or in scoring, (step,), nats."""
        return np.fmax(self.storage_floor, self.noise_floor)

    @cached_property
    def pair_std(self) -> NDArray[np.float64]:
        """Standard deviation over ordered pairs (divisor n), (step,), nats."""
        return over_pairs(self.kl, np.std)

    @cached_property
    def n_seeds(self) -> NDArray[np.int64]:
        """Seeds that take part in at least one reduced pair at each step, (step,)."""
        count: NDArray[np.int64] = np.isfinite(self.kl).any(axis=2).sum(axis=1)
        return count


@dataclass(frozen=True)
class Work:
    """The work that an engine has in hand."""

    model: str
    seed: str | None  # None while reducing: all seeds of the step
    step: int
    state: State  # READING, SCORING or REDUCING
    tokens_done: int
    tokens_total: int
    device: str = ""  # which one has it in hand, e.g. "cuda:1"
    paused: str = ""  # what it waits for, e.g. "GPU at 97 % by others"; empty while it goes on
    probe: str = ""  # what a scored checkpoint is being asked; empty: it is about the corpus


@dataclass(frozen=True)
class Gpu:
    """A GPU's load by all its users, as its driver reports it of the whole device."""

    device: str  # as in `Work`; several over which models are split are one: "cuda:0+cuda:1"
    utilisation: float | None  # share of the time in which a kernel ran, 0 to 1; None: not known
    memory_used: int | None  # bytes
    memory_total: int | None  # bytes


@dataclass(frozen=True)
class EngineStatus:
    """The last heartbeat of the engine process that coordinates (or last coordinated) the study."""

    writer: str
    host: str
    pid: int
    heartbeat: float  # unix time of the last heartbeat
    started: float  # unix time
    state: str  # "starting", "working", "waiting" (for checkpoints, or for others that use the
    # machine); or how it ended, "finished", "stopped" or "failed"
    message: str = ""  # why it failed, stopped or waits for others; empty otherwise
    blocked: str = ""  # why it cannot write to the study now, and what to do; empty: it can
    device: str = ""
    works: tuple[Work, ...] = ()  # one for each device that is busy
    tokens_per_second: float | None = None
    queued: int = 0  # checkpoints still to score
    eta_seconds: float | None = None
    summarised: int = 0  # steps, of those that are summarised again, or for the first time late
    to_summarise: int = 0  # all of those; 0: none
    bytes_written: int = 0  # by this process
    disk_free: int | None = None  # bytes free where the store lies
    bytes_projected: int | None = None  # about what log-probs will take; None: not known
    gpus: tuple[Gpu, ...] = ()  # those that the engine uses, as far as known
    # What is wrong as of its last look, a line each, other than failures, which the log has:
    # sources that cannot be asked, models with nothing to compare, pairs that cannot come
    amiss: tuple[str, ...] = ()

    @property
    def work(self) -> Work | None:
        """Return what is in hand, the first of it where several devices work."""
        return self.works[0] if self.works else None


@dataclass(frozen=True)
class JournalEntry:
    """One line of a journal."""

    time: float  # unix time
    level: str  # "info", "warning", "error"
    event: str  # machine-readable kind, e.g. "scored"
    text: str  # untrusted: may hold names and messages from outside


@dataclass(frozen=True)
class StudySnapshot:
    """The whole study as the screens show it."""

    path: Path | str  # an address where the study is remote
    name: str
    n_tokens: int
    vocab_size: int
    generation: int  # grows with every change; equal generations are equal results
    models: tuple[ModelSnapshot, ...] = ()
    engine: EngineStatus | None = None  # None: no engine ever ran
    journal: tuple[JournalEntry, ...] = ()  # oldest first, the last few hundred
    bytes_stored: int = 0  # that log-probs take
    seen: float | None = None  # unix time by this machine's clock of the engine's last sign of
    # life, as the file system knows it; None: as the heartbeat says
    divergences: tuple[str, ...] = USUAL  # of pairs of seeds, KL first
    replaced: int = 0  # how often its reader found another study, or an older copy, in its place
    asked_every: float | None = None  # seconds between two questions to its store, where seldom
