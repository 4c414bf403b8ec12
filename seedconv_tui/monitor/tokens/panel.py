"""The panel of the chosen token: predictions, pairs, and its course over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from textual.containers import Container

from seedconv_tui import chart
from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.common.pairs import PairMatrix, PairTable
from seedconv_tui.monitor.tokens.predictions import Prediction, PredictionTable
from store.statistics import distance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.widget import Widget

    from store.schema import Floats

PANELS = ("predictions", "pairs", "training", "text alone")
"""What a narrow terminal shows one at a time, in the order in which the key goes through it."""

_WIDE = 132  # columns from which on all of it is side by side
_LINES = 12  # the target, the ten most probable tokens, and a heading


class TokenPanel(Container):
    """Three views of one token, side by side or one at a time."""

    def compose(self) -> Iterable[Widget]:
        yield PredictionTable()
        yield PairMatrix()
        yield ChartView()

    def share_room(self, size: tuple[int, int], seeds: Sequence[str], panel: int) -> bool:
        """Take the size of the terminal and what was chosen; say whether all is seen at once."""
        width, height = size
        wide = width >= _WIDE
        self.display = PANELS[panel] != "text alone"
        self.set_class(wide, "-wide")
        self.styles.height = min(_LINES, (height - 4) * 6 // 10)
        pairs = self.query_one(PairMatrix)
        wanted = min(pairs.wanted_width(tuple(seeds)), width * 3 // 10)
        pairs.styles.width = wanted if wide else "100%"
        self.query_one(ChartView).styles.width = width * 3 // 10 if wide else "100%"
        for number, view in enumerate(
            (self.query_one(PredictionTable), pairs, self.query_one(ChartView))
        ):
            view.display = wide or number == panel
        return wide

    def show_predictions(self, prediction: Prediction | None, seed: int, words: str) -> None:
        """Take what each seed predicted; `words` if that is not there."""
        self.query_one(PredictionTable).show(prediction, seed, words)

    def show_pairs(self, seeds: tuple[str, ...], kl: Floats | None, seed: int) -> None:
        """Take the token's KL, (seed, other_seed); None while it is not there."""
        values = np.full((len(seeds), len(seeds)), np.nan) if kl is None else kl
        nobody = np.zeros(len(seeds), np.bool_)  # one token makes no outlier
        other = (0 if seed else min(1, len(seeds) - 1)) if seeds else 0
        table = PairTable(seeds, values, values, distance(values), nobody, seed, other)
        self.query_one(PairMatrix).show(table)

    def show_course(
        self, steps: Floats, kl: Floats, marks: Sequence[chart.Mark], step: int
    ) -> None:
        """Take the token's KL over training, (step,) each; NaN: not read, or not known."""
        series = [chart.Series("", steps, kl)]
        view = chart.fit(series)
        label = "this token's KL, nats"
        course = self.query_one(ChartView)
        course.show(series, view, marks=marks, cursor=float(step), label=label)
