"""Whether halves of the text say the same of a model: what its documents come to, compared."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader
from store.schema.array_types import Floats
from store.schema.category import Category
from store.statistics.clusters import cluster_sums, token_clusters
from store.statistics.split_half import split_half

_DOCUMENT = "document"  # the category whose summaries hold means by document
_STEPS = 32  # that are compared at most, spread evenly


@dataclass(frozen=True)
class TextAgreement:
    """Split-half agreement of a model over documents; NaN where too little is compared."""

    documents: int  # or runs of tokens of a lone one
    n_steps: int  # whose expected KL is compared, if it is finite
    steps: float
    step: int  # the newest, at which pairs of seeds are compared
    n_pairs: int
    pairs: float


def text_agreement(study: StudyReader, model: str) -> TextAgreement | None:
    """Return how well halves of the documents agree on steps, and on pairs of seeds.

    From summaries by document where the study has these, else from results per token. None: no step
    is summarised. Raise StoreError, DamagedError.
    """
    steps = tuple(study.ledger(model).summaries)
    return study.consistent({model: steps}, lambda: _read(study, model))


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def _read(study: StudyReader, model: str) -> TextAgreement | None:
    known, reader = study.ledger(model), SummaryReader(study, model)
    documents = len(study.corpus.document_name) > 1 and _DOCUMENT in study.categories(model)
    there = reader.valid(_DOCUMENT) if documents else reader.summarised
    steps = reader.steps[there]
    if not len(steps):
        return None
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _STEPS)).astype(int))]
    newest = int(steps[-1])
    index = sorted(known.seeds[seed] for seed in known.summaries[newest].seeds)
    pairs = [*itertools.combinations(range(len(index)), 2)]
    if documents:
        n = study.category(model, _DOCUMENT).counts
        inside = n > 0
        n = n[inside]
        chosen = np.isin(reader.steps, steps)
        of_steps = reader.read("expected_kl", _DOCUMENT, chosen)[chosen][:, inside] * n
        kl = reader.at(newest, "kl", _DOCUMENT)[np.ix_(index, index)][..., inside] * n
        of_pairs = np.array([kl[i, j] + kl[j, i] for i, j in pairs])
    else:
        clusters = token_clusters(study.corpus)
        n = np.bincount(clusters)
        whole = Category("all", ("all",), np.zeros(len(clusters), np.int32), "")

        def of(values: NDArray[np.float32]) -> Floats:
            return cluster_sums(values.astype(np.float64), clusters, whole)[0][:, 0]

        seeds = [seed for seed in known.seeds if seed in known.summaries[newest].seeds]
        of_steps = np.array([of(study.token_kl(model, step)) for step in steps.tolist()])
        of_pairs = np.array(
            [
                of(study.values(model, "kl", seeds[i], newest, seeds[j]))
                + of(study.values(model, "kl", seeds[j], newest, seeds[i]))
                for i, j in pairs
            ]
        )
    return TextAgreement(
        documents=len(n),
        n_steps=_finite(of_steps),
        steps=split_half(of_steps, n),
        step=newest,
        n_pairs=_finite(of_pairs),
        pairs=split_half(of_pairs, n),
    )


def _finite(total: Floats) -> int:
    return int(np.isfinite(total).all(axis=1).sum()) if len(total) else 0
