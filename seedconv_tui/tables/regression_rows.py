"""Coefficients of regressions in long form; docs/method.md describes the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from seedconv_tui.tables.long_tables import Column
from seedconv_tui.text import finite

if TYPE_CHECKING:
    from store.analysis import Regression

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
    Column("n_tokens", "int", "tokens", "tokens of each model"),
    Column("n_clusters", "int", "", "documents, or runs of tokens of a lone one"),
    Column("left_out", "int", "tokens", "tokens of all models whose KL is not finite"),
    Column("r2", "float", "1", "share of the variance"),
)


def regression_rows(found: Sequence[Regression]) -> Iterator[dict[str, Any]]:
    """Yield a row for each step and term; None where a number is not known."""
    for at in found:
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
                "n_tokens": at.n_tokens,
                "n_clusters": at.n_clusters,
                "left_out": at.left_out,
                "r2": finite(at.r2),
            }
