"""The questions on categories and their levels that screens ask the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.tables.level_results import Levels, base, read_levels
from store import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store import Study
    from store.schema import Corpus

RANKS = ("KL", "surprisal", "place in the text")


@dataclass(frozen=True)
class LevelSummary:
    """A model's levels of a category; where it has no such category, of its first.

    After another commit (`generation`), the answer is another.
    """

    model: str
    category: str
    generation: int

    KEEP: ClassVar[int] = 6

    def read(self, study: Study) -> Levels:
        """Read the summary and take the means over seeds."""
        from store.schema import ALL  # zarr: only once there is something to read

        study.refresh()  # to what the generation has
        names = study.categories(self.model)
        if not names:
            nothing, none = np.empty((0, 0)), np.empty(0, np.int64)
            return Levels((), "", "", None, (), none, none, none, *(nothing,) * 7, {})
        others = [name for name in names if name != ALL]
        category = self.category if self.category in names else (*others, ALL)[0]
        return read_levels(study, self.model, category)


def counterpart(category: str, categories: Sequence[str]) -> str:
    """Return the same of the token before instead of the target, or the reverse; empty: none."""
    alike = (name for name in categories if base(name) == base(category) and name != category)
    return next(alike, "")


def neighbour(category: str, categories: Sequence[str], count: int) -> str:
    """Return the category that many places on, after the last the first again.

    Target or token before stays unchanged where the other category has both.
    """
    bases = list(dict.fromkeys(map(base, categories)))
    name = bases[(bases.index(base(category)) + count) % len(bases)]
    there = [other for other in categories if base(other) == name]
    alike = [other for other in there if (other == name) == (category == base(category))]
    return (alike or there)[0]


@dataclass(frozen=True, eq=False)
class Ranked:
    """The tokens of a level in order; everything is (n,)."""

    tokens: NDArray[np.int64]  # index in the corpus
    kl: NDArray[np.float32]  # mean over pairs, nats
    surprisal: NDArray[np.float32]  # mean over the seeds of these pairs, nats


@dataclass(frozen=True)
class LevelTokens:
    """The tokens of a level, ranked at a step."""

    model: str
    category: str
    level: str
    made_at: int | None  # `Levels.step_of_levels`
    step: int
    n_seeds: int  # whose pairs were taken so far
    rank: int = 0  # index into RANKS: the highest first, but in the text from its beginning
    upwards: bool = False  # the other way round
    pattern: str = ""  # only tokens with this in their text; capitals do not count

    KEEP: ClassVar[int] = 8

    def read(self, study: Study) -> Ranked:
        """Read levels, KL and surprisal of all tokens and take those of the level."""
        found = study.category(self.model, self.category)
        if self.level not in found.labels:
            raise StoreError(f"{self.category} has no level {self.level!r} any more")
        tokens = np.flatnonzero(found.level == found.labels.index(self.level))
        if self.pattern:
            corpus, sought = study.corpus, self.pattern.casefold()
            tokens = tokens[[sought in corpus.token_text(t).casefold() for t in tokens.tolist()]]
        kl = study.token_kl(self.model, self.step)[tokens]
        seeds = study.ledger(self.model).summaries[self.step].seeds
        total = np.zeros(study.n_tokens)
        for seed in seeds:
            total += study.values(self.model, "surprisal", seed, self.step)
        surprisal = (total[tokens] / max(len(seeds), 1)).astype(np.float32)
        order = np.argsort((-kl, -surprisal, tokens)[self.rank], kind="stable")
        order = order[::-1] if self.upwards else order
        return Ranked(tokens[order], kl[order], surprisal[order])


@dataclass(frozen=True)
class CorpusText:
    """The evaluation text."""

    KEEP: ClassVar[int] = 1

    def read(self, study: Study) -> Corpus:
        """Read it, once."""
        return study.corpus
