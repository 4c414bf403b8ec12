"""Regress a token's convergence at a step on its frequency, part of speech and model.

Ordinary least squares by `statsmodels` (extra `analysis`); docs/comparisons.md, *Regression*.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.errors import StoreError, UnsupportedError, from_extra
from store.reading.study_reader import StudyReader
from store.schema.array_types import Floats
from store.schema.category import CONTEXT, Category
from store.statistics.clusters import token_clusters

INTERCEPT, COUNT, MODEL = "intercept", "log10_count", "model"  # factors that are no category

FEW_CLUSTERS = 20  # with fewer, intervals may be too narrow
_MOST_LEVELS = 64  # with tokens: a column of the design each
_PREFERRED = "NOUN"  # reference level, where it is one
_DEPENDENT = 1e-10  # of a column's square, what is left of it once the others are taken out


class Term(NamedTuple):
    """One column of the design."""

    factor: str  # INTERCEPT, COUNT, MODEL or the name of a category
    level: str  # untrusted; empty where the factor has none

    def __str__(self) -> str:
        return f"{self.factor}[{self.level}]" if self.level else self.factor


@dataclass(frozen=True)
class Regression:
    """Convergence (minus KL, nats) of tokens at one step, explained. (term,) each."""

    step: int
    models: tuple[str, ...]
    terms: tuple[Term, ...]
    n: NDArray[np.int64]  # tokens of the level, of one model; all where there is none
    coefficient: Floats  # nats; of a level: against its factor's reference
    low: Floats  # 95 % interval; NaN where it cannot be told: tokens in one cluster alone
    high: Floats
    p: Floats  # of no effect
    references: Mapping[str, str]  # factor -> the level that the others are held against
    dropped: Mapping[Term, str]  # what has no coefficient, and why
    n_tokens: int  # of each model
    n_clusters: int  # documents, or runs of tokens of a lone one
    r2: float  # share of the variance
    shares: Floats  # (cluster, term) added to the deviation: squares sum to the variance
    left_out: int = 0  # tokens of all models together whose KL is not finite


def regression(
    study: StudyReader,
    step: int,
    *,
    models: Sequence[str] | None = None,
    category: str = "pos",
    context: bool = False,
) -> Regression:
    """Explain the convergence of tokens at one step.

    Args:
        study: where they are.
        step: at which all models are summarised.
        models: which take part, the first as reference (all, in the study's order).
        category: whose levels are distinguished, in addition to the frequency.
        context: also by the level of the token before.

    Tokens whose KL is not finite are left out. Raise StoreError when a model is not summarised at
    the step or there is no such category. Raise UnsupportedError when the levels do not fit a
    regression, too few tokens have a finite KL or `statsmodels` is not installed. Raise
    DamagedError.
    """
    names = _models(study, models)
    for name in names:
        if step not in study.ledger(name).summaries:
            raise StoreError(f"{study.path}: {name}, step {step}: not summarised (yet)")
    return _Design(study, names, category, context).fit(step)


def regressions(
    study: StudyReader,
    *,
    models: Sequence[str] | None = None,
    category: str = "pos",
    context: bool = False,
    steps: Collection[int] | None = None,
) -> tuple[Regression, ...]:
    """Explain the same at every step at which all the models are summarised, ascending.

    Given `steps`, only at those among them. Raise StoreError also where there is no such step.
    """
    names = _models(study, models)
    there = common_steps(study, names)
    steps = there if steps is None else [step for step in there if step in steps]
    if not steps:
        raise StoreError(f"{study.path}: no step at which all of {', '.join(names)} are summarised")
    design = _Design(study, names, category, context)
    return tuple(design.fit(step) for step in steps)


def common_steps(study: StudyReader, models: Sequence[str]) -> list[int]:
    """Return the steps at which all these models are summarised, ascending. Raise StoreError."""
    known = [study.ledger(name).summaries.keys() for name in models]
    return sorted(set(known[0]).intersection(*known)) if known else []


def _models(study: StudyReader, models: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(study.models if models is None else models))
    if not names:
        raise StoreError(f"{study.path}: no models yet")
    return names


class _Design:
    """The columns, which are the same at every step: those of the tokens, then the models."""

    def __init__(
        self, study: StudyReader, models: tuple[str, ...], category: str, context: bool
    ) -> None:
        self._study, self._models = study, models
        found = [_category(study, models, category)]
        if context:
            found.append(_category(study, models, category + CONTEXT))
        corpus = study.corpus
        self._used = np.logical_and.reduce([part.level >= 0 for part in found])
        self._clusters = np.unique(token_clusters(corpus)[self._used], return_inverse=True)[1]
        self._n_clusters = len(np.unique(self._clusters))
        count = study.vocabulary.count[corpus.token_id[self._used]]
        n_tokens = len(count)
        self._terms = [Term(INTERCEPT, ""), Term(COUNT, "")]
        self._n = [n_tokens, n_tokens]
        self._sure = [True, True]  # whether the interval means anything
        self._columns = [np.ones(n_tokens), np.log10(1.0 + count)]
        self._references: dict[str, str] = {}
        self._dropped: dict[Term, str] = {}
        for part in found:
            self._add(part)
        self._drop_dependent()
        n_terms = len(self._terms) + len(models) - 1
        if n_tokens * len(models) <= n_terms:
            raise UnsupportedError(
                f"{study.path}: {n_tokens} tokens are too few to distinguish {n_terms} terms"
            )

    def _add(self, part: Category) -> None:
        """Add a column for each level that has tokens, except the reference."""
        level = part.level[self._used]
        n = np.bincount(level, minlength=len(part.labels))
        if np.count_nonzero(n) > _MOST_LEVELS:
            raise UnsupportedError(
                f"{self._study.path}: {part.name} has {np.count_nonzero(n)} levels with tokens; "
                f"a regression takes {_MOST_LEVELS} at most"
            )
        pairs = np.unique(np.stack([level, self._clusters]), axis=1)[0]
        in_clusters = np.bincount(pairs, minlength=len(part.labels))
        usual = int(np.argmax(np.where(in_clusters > 1, n, 0) if (in_clusters > 1).any() else n))
        nouns = part.labels.index(_PREFERRED) if _PREFERRED in part.labels else usual
        reference = nouns if in_clusters[nouns] > 1 else usual
        self._references[part.name] = part.labels[reference]
        self._sure[0] &= bool(in_clusters[reference] > 1)  # the intercept is of these tokens
        for index, label in enumerate(part.labels):
            term = Term(part.name, label)
            if not n[index]:
                self._dropped[term] = "no tokens"
            elif index != reference:
                self._terms.append(term)
                self._n.append(int(n[index]))
                self._sure.append(bool(min(in_clusters[index], in_clusters[reference]) > 1))
                self._columns.append((level == index).astype(np.float64))

    def _drop_dependent(self) -> None:
        """Leave out each column that is a sum of those before it."""
        columns = np.stack(self._columns, axis=1)
        products = columns.T @ columns
        kept: list[int] = []
        for index, term in enumerate(self._terms):
            with_kept = products[kept, index]
            explained = with_kept @ np.linalg.solve(products[np.ix_(kept, kept)], with_kept)
            if products[index, index] - explained > _DEPENDENT * products[index, index]:
                kept.append(index)
            else:
                self._dropped[term] = "follows from the terms before it"
        self._terms = [self._terms[index] for index in kept]
        self._n = [self._n[index] for index in kept]
        self._sure = [self._sure[index] for index in kept]
        self._of_tokens = columns[:, kept]

    def fit(self, step: int) -> Regression:
        """Fit least squares at a step that all models have."""
        ols = _ols()
        n_models, n_tokens = len(self._models), len(self._of_tokens)
        of_models = np.repeat(np.eye(n_models)[:, 1:], n_tokens, axis=0)  # the first is reference
        design = np.hstack([np.tile(self._of_tokens, (n_models, 1)), of_models])
        kl = [self._study.token_kl(model, step)[self._used] for model in self._models]
        convergence = -np.concatenate(kl).astype(np.float64)
        there = np.isfinite(convergence)
        for name, known in zip(self._models, np.split(there, n_models), strict=True):
            if np.count_nonzero(known) <= design.shape[1]:
                raise UnsupportedError(
                    f"{self._study.path}: {name}, step {step}: {np.count_nonzero(known)} tokens "
                    f"have a finite KL, too few for {design.shape[1]} terms"
                )
        design, convergence = design[there], convergence[there]
        model = ols(convergence, design, hasconst=True)
        groups = np.tile(self._clusters, n_models)[there]
        several = len(np.unique(groups)) > 1
        sure = np.array([*self._sure, *[True] * (n_models - 1)]) & several & design.any(axis=0)
        if several:
            found = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        else:
            found = model.fit()
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = found.conf_int(alpha=0.05).T
            p, r2 = found.pvalues, float(found.rsquared)
        references = {**self._references, **({MODEL: self._models[0]} if n_models > 1 else {})}
        return Regression(
            step=step,
            models=self._models,
            terms=(*self._terms, *(Term(MODEL, name) for name in self._models[1:])),
            n=np.array([*self._n, *[n_tokens] * (n_models - 1)], np.int64),
            coefficient=np.where(design.any(axis=0), found.params, np.nan),
            low=np.where(sure, low, np.nan),
            high=np.where(sure, high, np.nan),
            p=np.where(sure, p, np.nan),
            references=references,
            dropped=dict(self._dropped),
            n_tokens=n_tokens,
            n_clusters=self._n_clusters,
            r2=r2,
            shares=_shares(
                design, found.resid, found.normalized_cov_params, groups, self._n_clusters
            ),
            left_out=int(np.count_nonzero(~there)),
        )


def _shares(
    design: Floats, residual: Floats, inverse: Floats, groups: NDArray[np.int64], n_clusters: int
) -> Floats:
    """Return what each cluster adds to the deviation of each coefficient, (cluster, term)."""
    (n_rows, n_terms), n_groups = design.shape, len(np.unique(groups))
    if n_groups < 2:
        return np.zeros((n_clusters, n_terms))
    scores = np.zeros((n_clusters, n_terms))
    np.add.at(scores, groups, design * residual[:, None])
    factor = n_groups / (n_groups - 1) * (n_rows - 1) / (n_rows - n_terms)
    return np.asarray(np.sqrt(factor) * scores @ inverse)


def _category(study: StudyReader, models: tuple[str, ...], name: str) -> Category:
    """Return a category of the same tokens for all models. Raise StoreError."""
    found = study.category(models[0], name)
    if len(models) > 1 and any(name in study.own_categories(model) for model in models):
        raise UnsupportedError(
            f"{study.path}: {name} splits the tokens by each model's own results, "
            "so it allows only one model. Choose one"
        )
    return found


def _ols() -> type:
    with from_extra("regression", "analysis"):
        from statsmodels.regression.linear_model import OLS  # takes a second to import
    made: type = OLS
    return made
