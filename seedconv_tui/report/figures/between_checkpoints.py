"""Heat maps of the KL between steps of a model, and between models, from stored log-probs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.parts import LINES, Figure, Omitted, gathered, nats, text, whole
from seedconv_tui.report.result_cache import ResultCache
from seedconv_tui.report.study_data import StudyData, model_pairs, spread
from seedconv_tui.text import count, counted, step_label
from store.analysis import mean_kl_between
from store.schema import CheckpointName, Floats
from store.statistics import ordered_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

Progress = Callable[[str, float], None]  # what is computed, and the share that is done

_STEPS = 12  # at most, of a model
_MODEL_STEPS = 6  # at most, of two models; each is computed for each of their seeds
_MODELS = 8  # up to this many, cells have their numbers
_ROW = 3  # heat maps side by side
_TICKS = 6  # labels on an axis
_NONE_STORED = (
    "of no two steps are log-probs stored; `[log_probs] representation` in its study file"
)


def figures(source: StudyData, kept: ResultCache, progress: Progress) -> Iterator[Figure | Omitted]:
    """Yield those of this family. Raise StoreError, DamagedError."""
    yield between_steps(source, kept, progress)
    if len(source.models) > 1:
        yield between_models(source, kept, progress)
        yield models_over_steps(source, kept, progress)
    else:
        yield Omitted("kl_between_models", "there is one model")


def between_steps(source: StudyData, kept: ResultCache, progress: Progress) -> Figure | Omitted:
    """Return KL from each of a few steps to each other, of the same seed."""
    columns = (
        text("model", "name of the model"),
        text("seed", "label of the training run"),
        whole("from_step", "training steps", "step whose predictions the KL is taken over"),
        whole("to_step", "training steps", "step that they are compared with"),
        nats("kl", "KL from the one to the other, mean over tokens"),
    )
    rows: list[tuple[Any, ...]] = []
    maps: dict[str, tuple[list[int], Floats, int]] = {}
    for model in source.models:
        seeds, steps = _stored(source, model)
        if len(steps) < 2:
            continue
        found = []
        for seed in seeds:
            of = [(model, seed, step) for step in steps]
            kl = _matrix(source, kept, progress, f"{model}, seed {seed}", of, of)
            found.append(kl)
            rows += [
                (model, seed, a, b, float(kl[i, j]))
                for i, a in enumerate(steps)
                for j, b in enumerate(steps)
            ]
        maps[model] = steps, np.mean(found, axis=0), len(seeds)
    if not maps:
        return Omitted("kl_between_steps", _NONE_STORED)
    taken = "; ".join(
        f"{model}: {counted(len(steps), 'step')}, {counted(n, 'seed')}"
        for model, (steps, _, n) in maps.items()
    )
    caption = (
        "KL between steps of the same training run, from the step of the row to that of the "
        "column: mean over tokens and over seeds, each with itself, from stored log-probs. "
        f"{taken}. White: zero. No interval is drawn. {source.settings}"
    )
    return Figure(
        "kl_between_steps",
        "KL between steps of a model",
        caption,
        columns,
        gathered(columns, rows),
        lambda: _draw_steps({model: (steps, kl) for model, (steps, kl, _) in maps.items()}),
    )


def between_models(source: StudyData, kept: ResultCache, progress: Progress) -> Figure | Omitted:
    """Compare each model with each other at the newest step that all have, seeds of one label."""
    stored = [source.study.ledger(model).stored for model in source.models]
    common = frozenset.intersection(*map(frozenset, stored))
    if not common:
        why = "no seed and step has stored log-probs of all models"
        return Omitted("kl_between_models", why)
    step = max(step for _, step in common)
    seeds = sorted(seed for seed, at in common if at == step)
    columns = (
        text("seed", "label of the training run, the same in both models"),
        whole("step", "training steps", "training step"),
        text("from_model", "model whose predictions the KL is taken over"),
        text("to_model", "model that they are compared with"),
        nats("kl", "KL from the one to the other, mean over tokens"),
    )
    rows, found = [], []
    for seed in seeds:
        of = [(model, seed, step) for model in source.models]
        kl = _matrix(source, kept, progress, f"models, seed {seed}", of, of)
        found.append(kl)
        rows += [
            (seed, step, a, b, float(kl[i, j]))
            for i, a in enumerate(source.models)
            for j, b in enumerate(source.models)
        ]
    caption = (
        f"KL between models at step {count(step)}, from the model of the row to that of the "
        f"column: mean over tokens and over {counted(len(seeds), 'seed')} of the "
        f"same label, from stored log-probs. White: zero. No interval is drawn. {source.settings}"
    )
    return Figure(
        "kl_between_models",
        "KL between models",
        caption,
        columns,
        gathered(columns, rows),
        lambda: _draw_models(source.models, np.mean(found, axis=0)),
    )


def models_over_steps(source: StudyData, kept: ResultCache, progress: Progress) -> Figure | Omitted:
    """Return KL from one model to another over training, seeds of one label."""
    columns = (
        text("from_model", "model whose predictions the KL is taken over"),
        text("to_model", "model that they are compared with"),
        whole("step", "training steps", "training step"),
        text("seed", "label of the training run, the same in both models"),
        nats("kl", "KL from the one to the other, mean over tokens"),
    )
    rows: list[tuple[Any, ...]] = []
    pairs = [pair for of in model_pairs(source.models).values() for pair in of]
    for a, b in pairs:
        seeds_at: dict[int, list[str]] = {}
        for seed, step in sorted(set.intersection(*(
            set(source.study.ledger(model).stored) for model in (a, b)
        ))):  # fmt: skip
            seeds_at.setdefault(step, []).append(seed)
        for step in spread(sorted(seeds_at), _MODEL_STEPS):
            for seed in seeds_at[step]:
                what = f"from {a} to {b}, seed {seed}, step {step}"
                kl = _matrix(source, kept, progress, what, [(a, seed, step)], [(b, seed, step)])
                rows.append((a, b, step, seed, float(kl[0, 0])))
    lines = {pair: [row for row in rows if row[:2] == pair] for pair in pairs}
    shown = [pair for pair, of in lines.items() if len({row[2] for row in of}) > 1][:LINES]
    if not shown:
        why = "no two steps have stored log-probs of two models, for seeds of one label"
        return Omitted("kl_between_models_by_step", why)
    caption = (
        "KL from one model to another over training: mean over tokens and over seeds of the same "
        f"label, from stored log-probs, at up to {_MODEL_STEPS} steps. No interval is drawn; seeds "
        f"are in the data. {source.settings}"
    )

    def draw() -> Drawing:
        figure, axes = style.grid(1, 1, width=style.ONE_COLUMN, height=2.5)
        panel, drawn = axes[0][0], []
        for at, (pair, look) in enumerate(zip(shown, style.nominal(len(shown)), strict=True)):
            of = lines[pair]
            steps = sorted({row[2] for row in of})
            kl = [np.mean([row[4] for row in of if row[2] == step]) for step in steps]
            name = f"{pair[0]} to {pair[1]}"
            drawn.append(style.curve(panel, np.array(steps), np.array(kl), look, at=at, name=name))
        style.step_axis(panel, sorted({row[2] for row in rows}))
        panel.set_ylim(0, 1.1 * max(panel.get_ylim()[1], 1e-12))
        panel.set_ylabel("KL (nats)")
        style.legend(figure, drawn, width=style.ONE_COLUMN)
        return figure

    return Figure(
        "kl_between_models_by_step", "KL between models over training", caption, columns,
        gathered(columns, rows), draw,
    )  # fmt: skip


def _stored(source: StudyData, model: str) -> tuple[list[str], list[int]]:
    """Return seeds, and steps (two at least) at which the log-probs of all of these are stored.

    As many seeds as make for most checkpoints: where one has far fewer steps than the others, it
    is left out.
    """
    by_seed: dict[str, set[int]] = {}
    for seed, step in source.study.ledger(model).stored:
        by_seed.setdefault(seed, set()).add(step)
    order = sorted(by_seed, key=lambda seed: (-len(by_seed[seed]), seed))
    found: tuple[list[str], set[int]] = [], set()
    for n in range(1, len(order) + 1):
        seeds, common = order[:n], set.intersection(*map(by_seed.__getitem__, order[:n]))
        if len(common) > 1 and n * len(common) >= len(found[0]) * len(found[1]):
            found = seeds, common
    return sorted(found[0]), spread(sorted(found[1]), _STEPS)


def _matrix(
    source: StudyData,
    kept: ResultCache,
    progress: Progress,
    what: str,
    a: Sequence[CheckpointName],
    b: Sequence[CheckpointName],
) -> Floats:
    """Return KL from each of `a` to each of `b`, mean over tokens, as it was kept or computed."""
    study = source.study
    records = [study.ledger(model).scored[seed, step] for model, seed, step in (*a, *b)]
    made_of = (study.name, study.n_tokens, study.identity, records)
    found = kept.get("between", *made_of)
    if found is None:
        what = f"KL between checkpoints: {what}"
        found = mean_kl_between(study, a, b, lambda share: progress(what, share)).tolist()
        kept.put(found, "between", *made_of)
    return np.array(found, np.float64)


# -- drawing -------------------------------------------------------------------------------------


def _draw_steps(maps: dict[str, tuple[list[int], Floats]]) -> Drawing:
    n = min(len(maps), _ROW)
    n_rows = -(-len(maps) // _ROW)
    width = style.ONE_COLUMN if len(maps) == 1 else style.TWO_COLUMNS
    height = (2.6 if n == 1 else 2.3 if n == 3 else 3.0) * n_rows
    figure, axes = style.grid(n_rows, n, width=width, height=height)
    panels = [panel for row in axes for panel in row]
    for index, panel in enumerate(panels):
        if index >= len(maps):
            panel.set_visible(False)
            continue
        model, (steps, kl) = list(maps.items())[index]
        _heat(figure, panel, kl, [step_label(step) for step in steps])
        panel.set_xlabel("to step")
        panel.set_ylabel("from step" if index % n == 0 else "")
        panel.tick_params(axis="x", rotation=90)
        style.letter(panel, index, style.label(model, 24 if n < _ROW else 16), of=len(maps))
    return figure


def _draw_models(models: Sequence[str], kl: Floats) -> Drawing:
    figure, axes = style.grid(1, 1, width=style.ONE_COLUMN, height=2.9)
    panel = axes[0][0]
    _heat(figure, panel, kl, [style.label(model, 16) for model in models], few=len(models))
    panel.tick_params(axis="x", rotation=45)
    panel.set_xlabel("to")
    panel.set_ylabel("from")
    if len(models) <= _MODELS:
        half = np.nanmax(kl) / 2
        for i, j in np.ndindex(*kl.shape):
            ink = "black" if i == j or kl[i, j] > half else "white"
            cell = "0" if i == j else f"{kl[i, j]:.2f}" if kl[i, j] >= 0.01 else f"{kl[i, j]:.0e}"
            panel.text(j, i, cell, ha="center", va="center", color=ink, fontsize=7)
    return figure


def _heat(
    figure: Drawing, axes: Axes, kl: Floats, labels: Sequence[str], few: int = _TICKS
) -> None:
    shown = np.where(ordered_pairs(len(kl)), kl, np.nan)  # the diagonal is zero
    image = axes.imshow(shown, cmap="viridis", aspect="equal", vmin=0)
    ticks = sorted({round(at) for at in np.linspace(0, len(labels) - 1, min(few, len(labels)))})
    axes.set_xticks(ticks, [labels[at] for at in ticks])
    axes.set_yticks(ticks, [labels[at] for at in ticks])
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.03)
    bar.set_label("KL (nats)")
    bar.outline.set_linewidth(0.4)
