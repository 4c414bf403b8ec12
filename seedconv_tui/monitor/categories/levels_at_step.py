"""The levels of a category at one step: what the table holds, in which order, and its pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.chart import QUIET, Series
from seedconv_tui.monitor.categories.level_queries import counterpart
from seedconv_tui.tables.level_results import base
from seedconv_tui.text import counted, nats, quoted, signed
from store.schema import ENDS, ENSEMBLE_METRICS, REFERENCE_METRICS, Floats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seedconv_tui.tables.level_results import Levels

COLUMNS = ("level", "n", "KL", "change", "cross-entropy")
"""What the table can be sorted by; `level` is the category's own order."""

METRICS = ("expected KL", "cross-entropy", "KL to unigram", "KL to uniform")
"""What the curves can show."""

ALL_METRICS = (
    *METRICS,
    *(metric.title for metric in ENSEMBLE_METRICS),
    *(metric.title for metric in REFERENCE_METRICS),
)
"""With what they can show only of a study that keeps `kl_to_mean`, or has a reference."""

COMPARED = 5
"""Levels that can be kept in the chart in colours of their own."""

_QUIET = 12  # levels that are drawn next to those


@dataclass(frozen=True, eq=False)
class StepOfLevels:
    """All levels at one step; everything is (level,), in nats, NaN where it is not known."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    kl: Floats
    low: Floats  # 95 % interval
    high: Floats
    change: Floats  # of the KL since the summarised step before
    cross_entropy: Floats

    def order(self, column: int, *, backwards: bool = False, pattern: str = "") -> list[int]:
        """Return levels whose label has `pattern` in it (in any case), sorted by a column.

        The category's own order goes up, numbers go down, unless `backwards`. Then come levels
        whose value is not known, then those without tokens, in the category's own order.
        """
        places = np.arange(len(self.labels))
        value = (-places.astype(np.float64), self.counts, self.kl, self.change, self.cross_entropy)
        key = value[column] if backwards else -value[column]
        order = np.lexsort((places, np.nan_to_num(key), np.isnan(key), self.counts == 0))
        sought = pattern.casefold()
        return [n for n in order.tolist() if sought in self.labels[n].casefold()]


def at_step(levels: Levels, step: int | None) -> StepOfLevels:
    """Return the levels at a step that is summarised; None: their tokens alone."""
    nothing = np.full(len(levels.labels), np.nan)
    if step is None:
        return StepOfLevels(levels.labels, levels.counts, *(nothing,) * 5)
    at = int(np.searchsorted(levels.steps, step))
    return StepOfLevels(
        levels.labels,
        levels.counts,
        levels.kl[at],
        levels.kl_low[at],
        levels.kl_high[at],
        levels.kl[at] - levels.kl[at - 1] if at else nothing,
        levels.cross_entropy[at],
    )


def offers(levels: Levels | None, metric: int) -> bool:
    """Return whether the curves can show a metric, by its place in `ALL_METRICS`."""
    if metric < len(METRICS):
        return True
    if levels is None:
        return False
    reference = _reference(metric)
    return levels.has_ensemble if reference is None else reference in levels.to_reference


def _reference(metric: int) -> str | None:
    """Return the name of the reference that a metric is of; None: of none."""
    place = metric - len(METRICS) - len(ENSEMBLE_METRICS)
    return REFERENCE_METRICS[place].name if place >= 0 else None


def _with_interval(levels: Levels, metric: int) -> Floats:
    """Return a metric of all seeds together with its interval, (step, 3, level)."""
    reference = _reference(metric)
    if reference is None:
        first = len(ENDS) * (metric - len(METRICS))
        return levels.ensemble[:, first : first + len(ENDS)]
    nothing = np.full((len(levels.steps), len(ENDS), len(levels.labels)), np.nan)
    return levels.to_reference.get(reference, nothing)


def curves(levels: Levels, metric: int) -> Floats:
    """Return what one of the metrics is of every level over the steps, (step, level), nats."""
    if metric >= len(METRICS):
        return _with_interval(levels, metric)[:, 0]
    return (levels.kl, levels.cross_entropy, levels.kl_unigram, levels.kl_uniform)[metric]


def interval(levels: Levels, metric: int) -> tuple[Floats, Floats] | None:
    """Return the ends of the metric's 95 % interval, (step, level) each; None: it has none."""
    if metric >= len(METRICS):
        found = _with_interval(levels, metric)
        return found[:, 1], found[:, 2]
    return None if metric else (levels.kl_low, levels.kl_high)


def drawn(
    levels: Levels, order: Sequence[int], compared: Sequence[str], chosen: int | None
) -> dict[int, int]:
    """Return the levels in the chart from the bottom up, each with its colour.

    Of those in the table the ones with most tokens, which look alike; then those that are compared;
    then the chosen one.
    """
    largest = sorted(order, key=lambda n: -levels.counts[n])[:_QUIET]
    kept = {
        levels.labels.index(label): at
        for at, label in enumerate(compared, 1)
        if label in levels.labels
    }
    colors = {n: QUIET for n in reversed(largest) if levels.counts[n]} | kept
    if chosen is not None:
        colors.pop(chosen, None)
        colors[chosen] = kept.get(chosen, 0)
    return {n: color for n, color in colors.items() if color == QUIET} | {
        n: color for n, color in colors.items() if color != QUIET
    }


def series(levels: Levels, metric: int, colors: Mapping[int, int], *, band: bool) -> list[Series]:
    """Return the curves of these levels; with `band`, the last one has its 95 % interval."""
    steps, values = levels.steps.astype(np.float64), curves(levels, metric)
    lines = [Series(levels.labels[n], steps, values[:, n], color=colors[n]) for n in colors]
    if band and lines and (ends := interval(levels, metric)):
        n = list(colors)[-1]
        lines[-1] = replace(lines[-1], low=ends[0][:, n], high=ends[1][:, n])
    return lines


def category_words(levels: Levels) -> str:
    """Return the category, and its token, where it may be of either."""
    name = levels.category
    if name != base(name):
        return f"{base(name)} of the token before"
    return f"{name} of the target" if counterpart(name, levels.categories) else name


def category_facts(levels: Levels, step: int | None) -> list[str]:
    """Return what a category is and what its numbers stand on, in words."""
    facts = [levels.description]
    if levels.step_of_levels is not None:
        facts.append(f"levels of step {levels.step_of_levels:,}")
    if step is None:
        facts.append("nothing is summarised yet")
    else:
        n = int(levels.n_seeds[np.searchsorted(levels.steps, step)])
        facts.append(counted(n, "seed") + ("; an interval needs 3" if n < 3 else ""))
    facts.append(
        f"{counted(len(levels.labels), 'level')}, {counted(int(levels.counts.sum()), 'token')}"
    )
    return facts


def level_facts(at: StepOfLevels, level: int) -> list[str]:
    """Return everything that is known of a level at a step, in words."""
    n, tokens = int(at.counts[level]), max(int(at.counts.sum()), 1)
    facts = [quoted(at.labels[level]), f"{n:,} token{'s' * (n != 1)} ({n / tokens:.1%})"]
    if not n:
        return facts
    facts.append(f"KL {nats(float(at.kl[level]))}")
    if np.isfinite(at.low[level]):
        facts.append(f"95 % {nats(float(at.low[level]))} to {nats(float(at.high[level]))}")
    if np.isfinite(at.change[level]):
        facts.append(f"{signed(float(at.change[level]))} since the step before")
    facts.append(f"cross-entropy {nats(float(at.cross_entropy[level]))}")
    return facts
