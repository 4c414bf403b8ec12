"""How alike the seeds' hidden states are over training: as recorded, or from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.parts import MODEL, STEP, Figure, Omitted, gathered, text, whole
from seedconv_tui.report.result_cache import ResultCache
from seedconv_tui.report.study_data import StudyData, few_words, spread
from seedconv_tui.tables.long_tables import Column
from seedconv_tui.text import counted
from store.analysis import hidden_alignment, hidden_seeds
from store.schema import CKA, ESTIMATES, Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

_STEPS = 40  # at most, of a model
_NAME, _TITLE = "hidden_states", "Similarity of the seeds' hidden states over training"
PANELS = ("CKA", "CKA, debiased")


def recorded(source: StudyData) -> Iterator[Figure]:
    """Yield the figure of a study that has `cka`, at all steps. Raise DamagedError."""
    if CKA not in source.study.divergences:
        return
    both = {model: recorded_pairs(source, model, CKA) for model in source.models}
    there = {model: seeds for model, (seeds, _) in both.items() if seeds}
    if there:
        yield _figure(source, there, {model: both[model][1] for model in there})


def recorded_pairs(
    source: StudyData, model: str, choice: str
) -> tuple[dict[int, tuple[str, ...]], dict[int, Floats]]:
    """Return, of steps that have them, the seeds and both estimates of each two, (estimate, pair).

    Raise DamagedError.
    """
    known, there, found = source.study.ledger(model), dict[int, tuple[str, ...]](), {}
    both = np.stack([source.study.means(model, name) for name in ESTIMATES[choice]])
    for at, step in enumerate(sorted(known.steps)):
        seeds = tuple(seed for seed in known.seeds if seed in known.reduced.get(step, ()))
        index = [known.seeds[seed] for seed in seeds]
        of = np.array([both[:, at, i, j] for i, j in combinations(index, 2)]).T
        if np.isfinite(of).any():
            there[step], found[step] = seeds, of
    return there, found


def figures(
    source: StudyData, kept: ResultCache, progress: Callable[[str, float], None]
) -> Iterator[Figure | Omitted]:
    """Yield the one of this family, unless it was recorded. Raise StoreError, DamagedError."""
    if CKA in source.study.divergences:
        return
    there = {model: hidden_seeds(source.study, model) for model in source.models}
    there = {model: of for model, of in there.items() if of}
    if not there:
        why = (
            "hidden states of two seeds are stored at no step; set log_probs.representation to "
            '"factored" in the study file'
        )
        yield Omitted(_NAME, why)
        return
    found: dict[str, dict[int, Floats]] = {}  # of (estimate, pair)
    for model, by_step in there.items():
        found[model] = {
            step: _pairs(source, kept, progress, model, step, by_step[step])
            for step in spread([*by_step], _STEPS)
        }
    yield _figure(source, there, found)


def _pairs(
    source: StudyData,
    kept: ResultCache,
    progress: Callable[[str, float], None],
    model: str,
    step: int,
    seeds: tuple[str, ...],
) -> Floats:
    """Return both estimates of each two seeds, (estimate, pair), as kept or computed."""
    study = source.study
    records = [study.ledger(model).scored[seed, step] for seed in seeds]
    made_of = (study.name, study.n_tokens, study.identity, records)
    found = kept.get("hidden", *made_of)
    if found is None:
        what = f"hidden states: {model}, step {step}"
        of = hidden_alignment(
            study, [(model, seed, step) for seed in seeds], lambda share: progress(what, share)
        )
        index = np.triu_indices(len(seeds), 1)
        found = [values[index].tolist() for values in of]
        kept.put(found, "hidden", *made_of)
    return np.array(found, np.float64)


def over_pairs(by_step: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """Return mean, lowest and highest of the pairs, (step,) each; NaN where a step has none."""
    known = [of[np.isfinite(of)] for of in by_step]
    mean, low, high = (
        np.array([over(of) if of.size else np.nan for of in known])
        for over in (np.mean, np.min, np.max)
    )
    return mean, low, high


def _figure(
    source: StudyData,
    there: dict[str, dict[int, tuple[str, ...]]],
    found: dict[str, dict[int, Floats]],
) -> Figure:
    columns = (
        MODEL,
        STEP,
        text("seed", "label of one training run"),
        text("other_seed", "label of the other"),
        whole("n", "tokens", "tokens whose hidden states are compared"),
        Column("cka", "float", "1", "linear CKA of their final hidden states"),
        Column("cka_debiased", "float", "1", "its debiased estimate"),
    )
    n_tokens = source.study.n_tokens
    rows: list[tuple[Any, ...]] = [
        (model, step, *pair, n_tokens, *values)
        for model, by_step in found.items()
        for step, of in by_step.items()
        for pair, values in zip(combinations(there[model][step], 2), of.T.tolist(), strict=True)
    ]
    drawn = [model for model in source.drawn if model in found]
    steps = sorted({step for of in found.values() for step in of})
    every = sorted({step for of in there.values() for step in of})
    caption = (
        "Linear CKA of the final hidden states (the input of the output layer) of each two seeds, "
        f"of all {counted(n_tokens, 'token')}, by model: mean over pairs. Bands: from the "
        "lowest to the highest pair, no intervals. (a) The usual estimate, too high unless tokens "
        f"are many more than units. (b) Debiased. {few_words(steps, every)} {source.settings} "
        f"{source.undrawn}"
    ).rstrip()

    def draw() -> Drawing:
        figure, axes = style.grid(1, 2, width=style.TWO_COLUMNS, height=2.4)
        lines: list[Line2D] = []
        for place, (panel, title) in enumerate(zip(axes[0], PANELS, strict=True)):
            lines = []
            looks = style.ordinal(len(drawn))
            for at, (model, look) in enumerate(zip(drawn, looks, strict=True)):
                mean, low, high = over_pairs([pairs[place] for pairs in found[model].values()])
                x = np.array([*found[model]])
                lines.append(
                    style.curve(panel, x, mean, look, low=low, high=high, at=at, name=model)
                )
            style.step_axis(panel, steps)
            panel.set_ylim(min(0.0, panel.get_ylim()[0]) if place else 0.0, 1.02)
            panel.set_ylabel(title)
            style.letter(panel, place, title, of=len(PANELS))
        style.legend(figure, lines, width=style.TWO_COLUMNS)
        return figure

    return Figure(_NAME, _TITLE, caption, columns, gathered(columns, rows), draw)
