"""A partition of the corpus's tokens into levels: parts of speech, frequencies, documents."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

ALL = "all"  # the category of one level that holds every token
CONTEXT = "_context"  # ends the name of a partition by the token before the target


@dataclass(frozen=True)
class Category:
    """The level of each token. Of the target, or of the context where the name says so."""

    name: str  # e.g. "pos", "pos_context"
    labels: tuple[str, ...]  # (level,); untrusted where they come from the user or a tagger
    level: NDArray[np.int32]  # (token,) index of its label; -1: in none
    description: str  # one line: what is partitioned, and by what

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Tokens in each level, (level,)."""
        return np.bincount(self.level[self.level >= 0], minlength=len(self.labels))

    @cached_property
    def digest(self) -> str:
        """Identity of the partition: equal digests mean the same levels of the same tokens."""
        head = json.dumps([self.name, self.labels, self.description]).encode()
        values = np.ascontiguousarray(self.level, "<i4").tobytes()
        return hashlib.sha256(head + b"\0" + values).hexdigest()[:16]
