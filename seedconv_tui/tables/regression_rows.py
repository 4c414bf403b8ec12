"""Coefficients of regressions in long form; docs/comparisons.md describes the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.tables.long_tables import Column
from seedconv_tui.text import finite

if TYPE_CHECKING:
    from store.analysis import Regression
    from store.schema import Floats
    from store.statistics import Adjustment

REGRESSION_COLUMNS = (
    Column("step", "int", "training steps", "training step"),
    Column("factor", "str", "", "`intercept`, `log10_count`, a category or `model`"),
    Column("level", "str", "", "level of the factor"),
    Column("reference", "str", "", "level of the factor that it is held against"),
    Column("tokens", "int", "tokens", "tokens of the level, of one model"),
    Column("coefficient", "float", "nats", "of minus the KL; `log10_count`: per tenfold count"),
    Column("low", "float", "nats", "lower end of its 95 % interval"),
    Column("high", "float", "nats", "upper end of its 95 % interval"),
    Column("p", "float", "1", "of no effect"),
    Column("p_adjusted", "float", "1", "p, adjusted over the terms but the intercept, and steps"),
    Column("n_tokens", "int", "tokens", "tokens of each model"),
    Column("n_clusters", "int", "", "documents, or runs of tokens of a lone one"),
    Column("left_out", "int", "tokens", "tokens of all models whose KL is not finite"),
    Column("r2", "float", "1", "share of the variance"),
)


def adjusted_p(found: Sequence[Regression], how: Adjustment = "holm") -> list[Floats]:
    """Return p of each step's terms, adjusted over all terms but the intercept, and steps."""
    from store.analysis import INTERCEPT
    from store.statistics import adjusted

    asked = [[term.factor != INTERCEPT for term in at.terms] for at in found]
    every = [np.where(of, at.p, np.nan) for at, of in zip(found, asked, strict=True)]
    made = adjusted(np.concatenate([np.empty(0), *every]), how)
    return np.split(made, np.cumsum([len(of) for of in every])[:-1])


def regression_rows(
    found: Sequence[Regression], how: Adjustment = "holm"
) -> Iterator[dict[str, Any]]:
    """Yield a row for each step and term; None where a number is not known."""
    for at, p_adjusted in zip(found, adjusted_p(found, how), strict=True):
        for index, term in enumerate(at.terms):
            numbers = {
                name: finite(float(getattr(at, name)[index]))
                for name in ("coefficient", "low", "high", "p")
            }
            yield {
                "step": at.step,
                "factor": term.factor,
                "level": term.level,
                "reference": at.references.get(term.factor, ""),
                "tokens": int(at.n[index]),
                **numbers,
                "p_adjusted": finite(float(p_adjusted[index])),
                "n_tokens": at.n_tokens,
                "n_clusters": at.n_clusters,
                "left_out": at.left_out,
                "r2": finite(at.r2),
            }
