"""Figures of tokens: how KL varies over contexts; the lowest, middle and highest at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.report import style
from seedconv_tui.report.parts import MODEL, STEP, Figure, Omitted, gathered, nats, text, whole
from seedconv_tui.report.study_data import StudyData, few_words, spread
from seedconv_tui.tables.long_tables import TABLES, Column
from seedconv_tui.tables.selection import Choice
from seedconv_tui.text import count, quoted
from store import statistics
from store.analysis import entries_at
from store.schema import PERCENTILES, Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

OFTEN = 10  # occurrences as target from which on the contexts of a token say something
_STEPS = 40  # at most, at which tokens are read
_SHOWN = [PERCENTILES.index(q) for q in (50.0, 90.0, 99.0)]
_EACH = 5  # lowest, middle and highest tokens
_BEFORE = 14  # characters of context in a legend


def figures(source: StudyData) -> Iterator[Figure | Omitted]:
    """Yield those of this family. Raise StoreError, DamagedError."""
    yield contexts(source)
    yield extremes(source)
    yield entries(source)


class Variation(NamedTuple):
    """Spread of the KL (mean over pairs) over the tokens that occur often."""

    within: float  # standard deviation around the mean of the same target, nats
    between: float  # standard deviation of these means, over tokens, nats

    @property
    def share(self) -> float:
        """Share of the variance that contexts make; NaN where nothing varies."""
        total = self.within**2 + self.between**2
        return self.within**2 / total if total > 0 else float("nan")


def variation(kl: Floats, kind: NDArray[np.int64]) -> Variation:
    """Return the variance over tokens in two parts, which add up to it (divisor n, both).

    Args:
        kl: (token,) nats.
        kind: (token,) which target it is, from 0, without gaps.
    """
    n = np.bincount(kind)
    mean = np.bincount(kind, kl) / n
    within = float(np.mean((kl - mean[kind]) ** 2))
    between = float(np.mean((mean[kind] - kl.mean()) ** 2))
    return Variation(within**0.5, between**0.5)


def contexts(source: StudyData) -> Figure | Omitted:
    """Show how far a token's KL differs between its contexts, and all tokens' from each other."""
    ids = source.study.corpus.token_id
    occurs = np.bincount(ids)
    often = np.flatnonzero(occurs[ids] >= OFTEN)
    if not len(often):
        why = f"no token occurs {OFTEN} times as target; it takes a longer corpus"
        return Omitted("contexts", why)
    kind = np.unique(ids[often], return_inverse=True)[1].astype(np.int64)
    columns = (
        MODEL,
        STEP,
        nats("std_contexts", "standard deviation over the contexts of the same target"),
        nats("std_targets", "standard deviation between targets, of their means"),
        Column("share_contexts", "float", "1", "share of the variance that contexts make"),
        nats("kl_p50", "median over all tokens of the KL, mean over pairs"),
        nats("kl_p90", "percentile 90, likewise"),
        nats("kl_p99", "percentile 99, likewise"),
    )
    rows, steps_words = [], {}
    for model in source.models:
        summary, known = source.summary(model), source.steps(model)
        steps_words[model] = few_words(taken := spread(known, _STEPS), known)
        for step in taken:
            found = variation(source.study.token_kl(model, step)[often].astype(np.float64), kind)
            at = int(np.searchsorted(summary.steps, step))
            percentiles = summary.kl_percentile[at, _SHOWN, 0].tolist()
            rows.append((model, step, *found, found.share, *percentiles))
    if len(alike := set(steps_words.values())) == 1:
        steps = alike.pop()
    else:
        steps = " ".join(f"{model}: {words}" for model, words in steps_words.items())
    caption = (
        f"Variation of the KL (mean over pairs of seeds) over tokens and contexts. (a) Standard "
        f"deviation over the contexts of the same target token, of the {count(kind.max() + 1)} "
        f"targets that occur at least {OFTEN} times ({count(len(often))} tokens). (b) Share of the "
        "variance over these tokens that contexts make; the rest is between targets. (c) "
        f"Percentiles of the KL over all tokens, {source.models[-1]}. No interval is drawn. "
        f"{steps} {source.seeds()} {source.settings} {source.undrawn}".rstrip()
    )
    return Figure(
        "contexts",
        "Variation of the KL over contexts",
        caption,
        columns,
        gathered(columns, rows),
        lambda: _draw_contexts(source.drawn, rows),
    )


def _draw_contexts(models: Sequence[str], rows: Sequence[Sequence[object]]) -> Drawing:
    figure, axes = style.grid(1, 3, width=style.TWO_COLUMNS, height=2.5)
    steps_of = {model: np.array([row[1] for row in rows if row[0] == model]) for model in models}

    def column(model: str, at: int) -> Floats:
        return np.array([row[at] for row in rows if row[0] == model], np.float64)

    everything = sorted({int(step) for steps in steps_of.values() for step in steps})
    lines = []
    for at, (model, look) in enumerate(zip(models, style.ordinal(len(models)), strict=True)):
        steps = steps_of[model]
        lines.append(style.curve(axes[0][0], steps, column(model, 2), look, at=at, name=model))
        style.curve(axes[0][1], steps, column(model, 4), look, at=at)
    last = models[-1]
    shown = [
        style.curve(axes[0][2], steps_of[last], column(last, 5 + at), look, at=at, name=name)
        for at, (name, look) in enumerate(
            zip(("median", "90 %", "99 %"), style.nominal(3), strict=True)
        )
    ]
    titles = ("std over contexts (nats)", "share of variance", "KL (nats)")
    names = ("same target", "share of contexts", "percentiles over tokens")
    for index, (panel, title, name) in enumerate(zip(axes[0], titles, names, strict=True)):
        style.step_axis(panel, everything)
        panel.set_ylabel(title)
        panel.set_ylim(bottom=0, top=1 if index == 1 else None)
        style.letter(panel, index, name, of=3)
    style.legend(axes[0][2], shown, width=style.TWO_COLUMNS / 3)
    style.legend(figure, lines, width=style.TWO_COLUMNS)
    return figure


def extremes(source: StudyData) -> Figure:
    """Show the tokens with the lowest, middle and highest KL at the end, over training."""
    study, model = source.study, source.models[-1]
    choice = Choice(models=[model], count=_EACH)
    chosen: list[tuple[str, int, str, str]] = []  # kind, token, text, text before
    for batch in TABLES["extremes"].batches(study, choice):
        chosen += zip(batch["kind"], batch["token"].tolist(), batch["text"], batch["before"],
                      strict=True)  # fmt: skip
    steps = spread(source.steps(model), _STEPS)
    tokens = [token for _, token, _, _ in chosen]
    kl = np.stack([study.token_kl(model, step)[tokens] for step in steps]).astype(np.float64)
    columns = (
        MODEL,
        STEP,
        text("kind", "lowest, middle or highest at the newest step"),
        whole("token", "", "index of the token in the corpus, from 0"),
        text("text", "the characters that it covers"),
        text("before", "the characters of the document before it"),
        nats("kl", "KL, mean over ordered pairs of seeds"),
    )
    rows = [
        (model, step, kind, token, word, before, float(kl[at, index]))
        for index, (kind, token, word, before) in enumerate(chosen)
        for at, step in enumerate(steps)
    ]
    caption = (
        f"KL of single tokens over training ({model}): the {_EACH} with the lowest, around the "
        f"median, and with the highest KL at step {count(steps[-1])}, each with what stands before "
        "it. Mean over ordered pairs of seeds; they are chosen by the values that are drawn, so at "
        f"that step they are more extreme than other seeds would have them. No interval is drawn. "
        f"{few_words(steps, source.steps(model))} {source.seeds([model])} {source.settings}"
    )

    def draw_one(panel: Axes, n: int, look: style.Look, at: int) -> Line2D:
        name = f"{chosen[n][3][-_BEFORE:]}«{chosen[n][2]}»"
        return style.curve(panel, np.array(steps), kl[:, n], look, at=at, name=name)

    def scale(panel: Axes, of: Sequence[int]) -> None:
        panel.set_ylim(bottom=min(0.0, float(kl[:, of].min())) if of else 0.0)

    kinds = ("lowest", "middle", "highest")
    places = {kind: [n for n, each in enumerate(chosen) if each[0] == kind] for kind in kinds}

    return Figure(
        "tokens",
        "Tokens with the lowest, middle and highest KL",
        caption,
        columns,
        gathered(columns, rows),
        lambda: _by_kind(places, steps, draw_one, scale),
    )


def entries(source: StudyData) -> Figure:
    """Show the vocabulary entries with the lowest, middle and highest KL at the end."""
    study, model = source.study, source.models[-1]
    steps = spread(source.steps(model), _STEPS)
    found = [entries_at(study, model, step) for step in steps]
    last = found[-1]
    chosen = {
        kind: places.tolist()
        for kind, places in statistics.extremes(last.kl.value, _EACH)._asdict().items()
    }
    names = [quoted(study.vocabulary.text[number]) for number in last.token_id.tolist()]
    columns = (
        MODEL,
        STEP,
        text("kind", "lowest, middle or highest at the newest step"),
        whole("token_id", "", "id of the entry in the vocabulary"),
        text("text", "what it stands for"),
        whole("n", "tokens", "occurrences as a target"),
        nats("kl", "KL, mean over occurrences and ordered pairs of seeds"),
        nats("kl_low", "lower end of its 95 % interval over documents; missing below two"),
        nats("kl_high", "upper end of its 95 % interval"),
        nats("cross_entropy", "surprisal, mean over occurrences and seeds"),
    )
    rows = [
        (
            model,
            step,
            kind,
            int(at.token_id[n]),
            study.vocabulary.text[at.token_id[n]],
            int(at.n[n]),
            *(float(values[n]) for values in at.kl),
            float(at.cross_entropy[n]),
        )
        for kind, places in chosen.items()
        for n in places
        for step, at in zip(steps, found, strict=True)
    ]
    caption = (
        f"KL by vocabulary entry over training ({model}): mean over all occurrences of an entry as "
        f"a target and over ordered pairs of seeds; in brackets how many there are, and their "
        f"cross-entropy at the end. The {_EACH} entries with "
        f"the lowest, around the median, and with the highest KL at step {count(steps[-1])}, of "
        f"{count(len(last.n))}. Bars at the end: 95 % intervals over documents, of these seeds; "
        "none where all occurrences are in one. They are chosen by the values that are drawn, so "
        "at that step they are more extreme than other seeds or text would have them. "
        f"{few_words(steps, source.steps(model))} {source.seeds([model])} {source.settings}"
    )

    def draw_one(panel: Axes, n: int, look: style.Look, at: int) -> Line2D:
        kl = np.array([of.kl.value[n] for of in found])
        name = f"{names[n]} ({count(last.n[n])}; {last.cross_entropy[n]:.2f})"
        line = style.curve(panel, np.array(steps), kl, look, at=at, name=name)
        style.end_interval(panel, steps, last.kl.low[n], last.kl.high[n], look, at=at)
        return line

    def scale(panel: Axes, of: Sequence[int]) -> None:
        style.kl_axis(panel, max(float(np.nanmax(at.kl.value[of], initial=0)) for at in found))

    return Figure(
        "entries",
        "Vocabulary entries with the lowest, middle and highest KL",
        caption,
        columns,
        gathered(columns, rows),
        lambda: _by_kind(chosen, steps, draw_one, scale),
    )


def _by_kind(
    places: Mapping[str, Sequence[int]],
    steps: Sequence[int],
    draw_one: Callable[[Axes, int, style.Look, int], Line2D],
    scale: Callable[[Axes, Sequence[int]], None],
) -> Drawing:
    """Draw a panel for each kind of extreme, a curve over training for each of its places."""
    figure, axes = style.grid(1, 3, width=style.TWO_COLUMNS, height=2.9)
    for index, (kind, of) in enumerate(places.items()):
        panel, looks = axes[0][index], style.nominal(len(of))
        lines = [
            draw_one(panel, n, look, at) for at, (n, look) in enumerate(zip(of, looks, strict=True))
        ]
        style.step_axis(panel, steps)
        scale(panel, of)
        panel.set_ylabel("KL (nats)" if index == 0 else "")
        style.letter(panel, index, f"{kind} at the end", of=3)
        style.legend(panel, lines, width=style.TWO_COLUMNS / 3)
    return figure
