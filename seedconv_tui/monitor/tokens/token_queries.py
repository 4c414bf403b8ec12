"""The questions that screens ask the store (`seedconv_tui.monitor.data.details`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, permutations
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.monitor.common.reflow import TextRows, reflow
from store import StoreError, from_extra
from store.schema import TOP, ResultPart

if TYPE_CHECKING:
    from store import Study
    from store.analysis import EntryMeans

_MOST_FOUND = 100_000


@dataclass(frozen=True)
class Reflowed:
    """The text, broken into rows of a width."""

    width: int
    ascii: bool
    keep_lines: bool

    KEEP: ClassVar[int] = 2

    def read(self, study: Study) -> TextRows:
        """Read the corpus, once, and break it again."""
        return reflow(study.corpus, self.width, self.ascii, keep_lines=self.keep_lines)


@dataclass(frozen=True)
class PatternMatches:
    """Occurrences of a text, in the order of the tokens; capitals count only if it has some."""

    text: str

    KEEP: ClassVar[int] = 2

    def read(self, study: Study) -> Spans:
        """Search the corpus."""
        corpus = study.corpus
        flags = re.IGNORECASE if self.text == self.text.lower() else re.NOFLAG
        places = re.finditer(re.escape(self.text), corpus.text, flags)
        spans = [place.span() for place in islice(places, _MOST_FOUND)]
        at = np.array(spans, np.int64).reshape(-1, 2)
        ends = np.maximum.accumulate(corpus.char_end)
        first = np.searchsorted(ends, at[:, 0], "right")
        inside = first < len(corpus)  # the text may go on after the last token
        last = np.searchsorted(ends, at[:, 1] - 1, "right")
        return Spans(first[inside], np.minimum(last[inside], len(corpus) - 1))


@dataclass(frozen=True, eq=False)
class Spans:
    """First and last token of each occurrence, (n,) each."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]


@dataclass(frozen=True)
class TokenValues:
    """One number for every token at a step: `kl` over pairs, or `surprisal` over seeds, nats."""

    name: str
    model: str
    step: int
    n: int  # pairs or seeds that there are so far

    KEEP: ClassVar[int] = 12

    def parts(self, study: Study) -> list[ResultPart]:
        """Return the results that it reads."""
        if self.name == "kl":
            return [ResultPart(self.model, "token_kl", self.step)]
        seeds = _scored(study, self.model, self.step)
        return [ResultPart(self.model, "surprisal", self.step, seed) for seed in seeds]

    def read(self, study: Study) -> NDArray[np.float32]:
        """Read them: (token,)."""
        if self.name == "kl":
            return _token_kl(study, self.model, self.step, slice(None))
        seeds = _scored(study, self.model, self.step)
        total = np.zeros(study.n_tokens, np.float64)
        for seed in seeds:
            total += study.values(self.model, "surprisal", seed, self.step)
        return (total / max(len(seeds), 1)).astype(np.float32)


@dataclass(frozen=True)
class EntryValues:
    """Means over the occurrences of each vocabulary entry at a step."""

    model: str
    step: int
    n: int  # pairs that there are so far

    KEEP: ClassVar[int] = 4

    def read(self, study: Study) -> EntryMeans:
        """Read the KL and the surprisals of all tokens."""
        from store.analysis import entries_at

        _check_summarised(study, self.model, self.step)
        with from_extra("an interval", "analysis"):
            return entries_at(study, self.model, self.step)


@dataclass(frozen=True)
class Course:
    """The KL of a block of tokens at one step of many: over them, a token's KL over training."""

    model: str
    step: int
    n: int
    block: int

    KEEP: ClassVar[int] = 1024
    TOKENS: ClassVar[int] = 1024

    def parts(self, study: Study) -> list[ResultPart]:
        """Return the results that it reads."""
        part = _part(self.block, self.TOKENS)
        return [ResultPart(self.model, "token_kl", self.step, tokens=part)]

    def read(self, study: Study) -> NDArray[np.float32]:
        """Read them: (token of the block,), nats."""
        return _token_kl(study, self.model, self.step, _part(self.block, self.TOKENS))


@dataclass(frozen=True, eq=False)
class Guesses:
    """Each seed's predictions for the tokens of a block. NaN and -1: not scored."""

    top_id: NDArray[np.int32]  # (seed, token, rank)
    probability: NDArray[np.float64]  # (seed, token, rank)
    surprisal: NDArray[np.float64]  # (seed, token), nats
    texts: dict[int, str]  # what the ids stand for, untrusted; the targets too


@dataclass(frozen=True)
class TokenPredictions:
    """The most probable tokens of every seed, for a block of tokens at a step."""

    model: str
    step: int
    n: int
    block: int

    KEEP: ClassVar[int] = 64
    TOKENS: ClassVar[int] = 32

    def parts(self, study: Study) -> list[ResultPart]:
        """Return the results that it reads."""
        part = _part(self.block, self.TOKENS)
        return [
            ResultPart(self.model, name, self.step, seed, tokens=part)
            for seed in _scored(study, self.model, self.step)
            for name in ("top_id", "top_log_prob", "surprisal")
        ]

    def read(self, study: Study) -> Guesses:
        """Read them and look up their texts."""
        part = _part(self.block, self.TOKENS)
        target = study.corpus.token_id[part]
        seeds, scored = study.ledger(self.model).seeds, _scored(study, self.model, self.step)
        shape = (len(seeds), len(target))
        top_id = np.full((*shape, TOP), -1, np.int32)
        log_prob, surprisal = np.full((*shape, TOP), np.nan), np.full(shape, np.nan)
        into = {"top_id": top_id, "top_log_prob": log_prob, "surprisal": surprisal}
        for number, seed in enumerate(seeds):
            for name, values in into.items() if seed in scored else ():
                values[number] = study.values(self.model, name, seed, self.step, tokens=part)
        ids = np.union1d(top_id[top_id >= 0], target)
        entries = study.vocabulary.text
        texts = {
            int(number): entries[number] if 0 <= number < len(entries) else f"no entry {number}"
            for number in ids
        }
        return Guesses(top_id, np.exp(log_prob), surprisal, texts)


@dataclass(frozen=True)
class TokenPairs:
    """The KL of every pair for a block of tokens at a step."""

    model: str
    step: int
    n: int
    block: int

    KEEP: ClassVar[int] = 64
    TOKENS: ClassVar[int] = 32

    def parts(self, study: Study) -> list[ResultPart]:
        """Return the results that it reads."""
        members = study.ledger(self.model).reduced.get(self.step, frozenset())
        part = _part(self.block, self.TOKENS)
        return [
            ResultPart(self.model, "kl", self.step, seed, other, part)
            for seed, other in permutations(members, 2)
        ]

    def read(self, study: Study) -> NDArray[np.float64]:
        """Read them: (seed, other_seed, token), nats, NaN where not reduced."""
        known, part = study.ledger(self.model), _part(self.block, self.TOKENS)
        members = known.reduced.get(self.step, frozenset())
        n = len(range(*part.indices(study.n_tokens)))
        kl = np.full((len(known.seeds), len(known.seeds), n), np.nan)
        for i, seed in enumerate(known.seeds):
            for j, other in enumerate(known.seeds):
                if seed != other and {seed, other} <= members:
                    kl[i, j] = study.values(self.model, "kl", seed, self.step, other, tokens=part)
        return kl


def _part(block: int, size: int) -> slice:
    return slice(block * size, (block + 1) * size)


def _token_kl(study: Study, model: str, step: int, tokens: slice) -> NDArray[np.float32]:
    """Return the KL of tokens over all pairs that are reduced, not those of an earlier moment."""
    _check_summarised(study, model, step)
    return study.token_kl(model, step, tokens)


def _check_summarised(study: Study, model: str, step: int) -> None:
    known = study.ledger(model)
    summary = known.summaries.get(step)
    if summary is None or summary.seeds != known.reduced.get(step):
        raise StoreError(f"{model}, step {step}: not summarised over all its seeds yet")


def _scored(study: Study, model: str, step: int) -> frozenset[str]:
    return study.ledger(model).scored_at(step)
