"""Tokens by vocabulary entry: what its occurrences as a target come to, on average."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from store.reading.study_reader import StudyReader
from store.schema.array_types import Floats, Ints
from store.schema.category import Category
from store.schema.corpus import Corpus
from store.statistics.clusters import cluster_cells, token_clusters
from store.statistics.intervals import Estimate, documents_interval


@dataclass(frozen=True, eq=False)
class EntryMeans:
    """The entries that occur as targets, (entry,) each, by id."""

    token_id: Ints
    n: Ints  # occurrences
    n_documents: Ints  # documents that it occurs in; runs of tokens of a lone one
    kl: Estimate  # mean over occurrences, nats; 95 % interval over documents, NaN below two
    cross_entropy: Floats  # surprisal, mean over occurrences, nats
    place: Ints  # (token,) index of its entry

    @cached_property
    def kl_of_token(self) -> NDArray[np.float32]:
        """The KL of each token's entry, (token,)."""
        return self.kl.value[self.place].astype(np.float32)


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def entries(kl: Floats, surprisal: Floats, corpus: Corpus) -> EntryMeans:
    """Return the entries of a corpus by (token,) KL and surprisal, nats."""
    token_id, place, n = np.unique(corpus.token_id, return_inverse=True, return_counts=True)
    level = place.astype(np.int32)
    category = Category("entry", ("",) * len(token_id), level, "")
    cells = cluster_cells(kl.astype(np.float64), token_clusters(corpus), category)
    mean = np.bincount(place, kl, minlength=len(n)) / n
    return EntryMeans(
        token_id=token_id.astype(np.int64),
        n=n.astype(np.int64),
        n_documents=np.bincount(cells.level, minlength=len(n)),
        kl=Estimate(mean, *documents_interval(cells, len(n))),
        cross_entropy=np.bincount(place, surprisal, minlength=len(n)) / n,
        place=place.astype(np.int64),
    )


def entries_at(study: StudyReader, model: str, step: int) -> EntryMeans:
    """Return entries by the results of a step. Raise StoreError, DamagedError."""
    return entries(*kl_and_surprisal(study, model, step), study.corpus)


def kl_and_surprisal(study: StudyReader, model: str, step: int) -> tuple[Floats, Floats]:
    """Return means over the pairs and seeds of a summarised step, (token,) each, nats.

    Raise StoreError, DamagedError.
    """
    kl = study.token_kl(model, step).astype(np.float64)
    seeds = sorted(study.ledger(model).summaries[step].seeds)
    total = np.zeros(study.n_tokens)
    for seed in seeds:
        total += study.values(model, "surprisal", seed, step)
    return kl, total / len(seeds)
