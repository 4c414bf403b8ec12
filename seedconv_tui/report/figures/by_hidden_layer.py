"""How alike the seeds' hidden states are by layer over training, as recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.figures.by_hidden_state import PANELS, over_pairs, recorded_pairs
from seedconv_tui.report.parts import MODEL, STEP, Figure, gathered, text, whole
from seedconv_tui.report.study_data import StudyData
from seedconv_tui.tables.long_tables import Column
from seedconv_tui.text import counted
from store.schema import CKA, DEPTHS, Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

_PERCENT = {**DEPTHS, CKA: 100}
_Recorded = tuple[dict[int, tuple[str, ...]], dict[int, Floats]]  # seeds and values by step


def figures(source: StudyData) -> Iterator[Figure]:
    """Yield the figure of a study that has inner layers. Raise DamagedError."""
    asked = [choice for choice in _PERCENT if choice in source.study.divergences]
    if not set(asked) & set(DEPTHS):
        return
    found = {}
    for model in source.models:
        of = {choice: recorded_pairs(source, model, choice) for choice in asked}
        if of := {choice: both for choice, both in of.items() if both[0]}:
            found[model] = of
    if found:
        yield _figure(source, found)


def _figure(source: StudyData, found: Mapping[str, Mapping[str, _Recorded]]) -> Figure:
    columns = (
        MODEL,
        STEP,
        text("seed", "label of one training run"),
        text("other_seed", "label of the other"),
        whole("percent", "%", "of the layers that have computed the states; 0: embeddings, 100: "
              "the final ones, after the last normalisation"),
        Column("cka", "float", "1", "linear CKA of these hidden states"),
        Column("cka_debiased", "float", "1", "its debiased estimate"),
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = [
        (model, step, *pair, _PERCENT[choice], *values)
        for model, by_choice in found.items()
        for choice, (there, of) in by_choice.items()
        for step in of
        for pair, values in zip(combinations(there[step], 2), of[step].T.tolist(), strict=True)
    ]
    drawn = [model for model in source.drawn if model in found]
    percents = [
        _PERCENT[choice] for choice in _PERCENT if any(choice in of for of in found.values())
    ]
    caption = (
        "Linear CKA of the hidden states of each two seeds, of all "
        f"{counted(source.study.n_tokens, 'token')}, by the share of the layers that have computed "
        "them (0 %: the embeddings; 100 %: the input of the output layer): mean over pairs. Bands: "
        "from the lowest to the highest pair, no intervals. Left: the usual estimate, too high "
        f"unless tokens are many more than units. Right: debiased. {source.settings} "
        f"{source.undrawn}"
    ).rstrip()

    def draw() -> Drawing:
        height = 1.9 * len(drawn) + 0.5
        figure, axes = style.grid(
            len(drawn), 2, width=style.TWO_COLUMNS, height=height, sharey="row"
        )
        lines: dict[int, Line2D] = {}
        looks = dict(zip(percents, style.ordinal(len(percents)), strict=True))
        for row, model in enumerate(drawn):
            for place, (panel, title) in enumerate(zip(axes[row], PANELS, strict=True)):
                for at, (choice, (_, of)) in enumerate(found[model].items()):
                    percent = _PERCENT[choice]
                    mean, low, high = over_pairs([pairs[place] for pairs in of.values()])
                    lines[percent] = style.curve(
                        panel, np.array([*of]), mean, looks[percent], low=low, high=high, at=at,
                        name=f"{percent} % of the layers",
                    )  # fmt: skip
                style.step_axis(panel, sorted({s for _, of in found[model].values() for s in of}))
                if row < len(drawn) - 1:
                    panel.set_xlabel("")
                style.letter(
                    panel, 2 * row + place, f"{style.label(model, 24)}, {title}", of=2 * len(drawn)
                )
            bottom = min(0.0, *(panel.get_ylim()[0] for panel in axes[row]))
            axes[row][0].set_ylim(bottom, 1.02)
            axes[row][0].set_ylabel("CKA")
        style.legend(figure, [lines[percent] for percent in percents], width=style.TWO_COLUMNS)
        return figure

    return Figure(
        "hidden_layers",
        "Similarity of the seeds' hidden states by layer over training",
        caption,
        columns,
        gathered(columns, rows),
        draw,
    )
