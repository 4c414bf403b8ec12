"""Probes: what a model says of given items, such as minimal pairs, in addition to the corpus.

Items and variants are the same for a whole study. The values of a checkpoint are one array over
(item, variant): log-probs of sentences, or surprisals, in nats.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

GOOD, BAD = 0, 1  # variants of minimal pairs


@dataclass(frozen=True)
class Probe:
    """A question to every checkpoint."""

    name: str
    kind: str  # a name in `store.analysis.probe_scores.PROBE_KINDS`
    variants: tuple[str, ...]  # what is asked of each item, in the order of the values
    tasks: tuple[str, ...]  # labels that differ; untrusted
    task: NDArray[np.int32]  # (item,) index of its label among `tasks`
    terms: tuple[str, ...]  # (task,) what the task is about, perhaps empty; untrusted
    content: str  # digest of what the models read

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label of each item: the paradigm of a minimal pair, the name of a document."""
        return tuple(self.tasks[code] for code in self.task)

    @property
    def shape(self) -> tuple[int, int]:
        """Items, variants."""
        return len(self.task), len(self.variants)

    @cached_property
    def digest(self) -> str:
        """Identity: equal digests mean the same questions."""
        head = json.dumps(
            [self.name, self.kind, self.variants, self.tasks, self.terms, self.content]
        )
        values = np.ascontiguousarray(self.task, "<i4").tobytes()
        return hashlib.sha256(head.encode() + b"\0" + values).hexdigest()[:16]


@dataclass(frozen=True)
class ProbeValues:
    """One checkpoint's answers, not committed yet."""

    probe: str
    digest: str
    seed: str
    values: NDArray[np.float32]  # (item, variant) nats
