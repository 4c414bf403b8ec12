"""The tables of a report: expected KL by step, phases, levels ranked, outliers, statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from seedconv_tui.report.parts import Block, PageTable
from seedconv_tui.report.study_data import StudyData
from seedconv_tui.tables.level_results import base
from seedconv_tui.tables.long_tables import TABLES
from seedconv_tui.tables.rows import PERCENTILE_COLUMNS
from seedconv_tui.tables.selection import Choice
from seedconv_tui.tables.step_ranges import Steps
from seedconv_tui.text import count, nats, quoted
from store.schema import (
    ALL,
    CONTEXT,
    ENSEMBLE_METRICS,
    KL,
    PERCENTILES,
    REFERENCE_METRICS,
    Floats,
    PairMetric,
    metrics_of,
)
from store.statistics import FEWEST_TO_COMPARE, extremes, outliers

_TURN = "sharp divergence"  # the phase that begins where the KL is lowest
_MEANS = {
    "pair_std": "std of pairs",
    "cross_entropy": "cross-entropy",
    "kl_unigram": "KL to unigram",
    "kl_uniform": "KL to uniform",
}
_LEVELS = 40  # of a category in a table
_MODELS = 5  # side by side in a table; of more, the smallest and the largest
_RUNS = 8  # steps of an outlier that are named


def tables(source: StudyData) -> Iterator[PageTable | Block]:
    """Yield all of them, in the order of the page. Raise StoreError, DamagedError."""
    yield expected_kl(source)
    yield phases(source)
    for category in source.categories:
        for variant in source.variants(category):
            yield levels(source, variant)
    yield outlier_seeds(source)
    yield tokens(source)
    yield entries(source)
    for model in source.models:
        yield statistics_of(source, model)


def expected_kl(source: StudyData) -> PageTable:
    """Return each model at its first step, where phases begin, and its last."""
    rows = []
    for model in source.models:
        known = source.steps(model)
        names = {known[0]: "first"}
        for phase in source.phases(model)[1:]:
            if phase.start in known:
                turn = ", the turn" if phase.name == _TURN else ""
                names[phase.start] = f"{phase.name} begins{turn}"
        names.setdefault(known[-1], "last")
        chosen = Choice([model], [ALL], Steps(named=frozenset(names)))
        rows += [
            (
                model,
                names[row["step"]],
                count(row["step"]),
                str(row["n_seeds"]),
                nats(row["expected_kl"]),
                _interval(row["kl_low"], row["kl_high"]),
                *(nats(row[name]) for name in _MEANS),
            )
            for row in _rows(source, "levels", chosen)
        ]
    header = ("model", "where", "step", "seeds", "KL", "95 %", *_MEANS.values())
    note = (
        "Nats. KL: mean over all tokens and ordered pairs of seeds. "
        f"{_interval_words(source)} Std of pairs: over ordered pairs, divisor n. {source.settings} "
        f"{source.gaps()}"
    )
    return PageTable("Expected KL by model and step", header, rows, note.rstrip(), n_names=2)


def phases(source: StudyData) -> PageTable:
    """Return phases with break points, intervals and support."""
    rows = [
        (
            model,
            row["phase"],
            count(row["start"]),
            "-" if row["low"] is None else f"{count(row['low'])} to {count(row['high'])}",
            "-" if row["support"] is None else f"{row['support']:.0%}",
        )
        for model in source.models
        for row in _rows(source, "phases", Choice([model]))
    ]
    note = (
        "Interval: of the first step over draws of seeds, 90 %; support: share of the draws that "
        "have the phase."
        if rows
        else "None is known yet: they need six reduced steps."
    )
    header = ("model", "phase", "from step", "interval", "support")
    return PageTable("Phases of training", header, rows, note, n_names=2)


def levels(source: StudyData, category: str) -> PageTable:
    """Rank levels by the expected KL of the largest model at its newest step."""
    there = [model for model in source.models if source.levels(model, category)]
    models = there if len(there) <= _MODELS else [there[0], there[-1]]
    ranking = models[-1]
    found = {model: source.levels(model, category) for model in models}
    of = found[ranking]
    assert of is not None
    order = [
        n
        for n in np.argsort(-np.nan_to_num(of.kl[-1]), kind="stable")
        if of.counts[n] and source.is_chosen(of.labels[n])
    ]
    rows = []
    for place, n in enumerate(order[:_LEVELS], 1):
        row = [quoted(of.labels[n]), str(place), count(int(of.counts[n]))]
        for each in found.values():
            at = each.labels.index(of.labels[n]) if each and of.labels[n] in each.labels else None
            if each is None or at is None:
                row += ["-", "-"]
            else:
                low, high = float(each.kl_low[-1, at]), float(each.kl_high[-1, at])
                row += [nats(float(each.kl[-1, at])), _interval(low, high)]
        rows.append((*row, nats(float(of.cross_entropy[-1, n]))))
    which = f"{base(category)} of the token before" if category.endswith(CONTEXT) else category
    steps = ", ".join(f"{m} at step {count(int(f.steps[-1]))}" for m, f in found.items() if f)
    own = f" The levels are of {ranking}'s own results; other models have other tokens in them." \
        if of.step_of_levels is not None and len(models) > 1 else ""  # fmt: skip
    note = (
        f"Nats; ranked by the KL of {ranking}. {steps}. {of.description}. "
        f"{_interval_words(source)} "
        f"Cross-entropy: of {ranking}.{own} {source.seeds(models)}"
    )
    if len(there) > len(models):
        note += f" Of {len(there)} models, the smallest and the largest."
    if len(order) > _LEVELS:
        note += f" The first {_LEVELS} of {len(order)} levels with tokens."
    columns = [cell for model in models for cell in (f"KL {model}", "95 %")]
    header = ("level", "rank", "tokens", *columns, "cross-entropy")
    return PageTable(f"Levels ranked by expected KL: {which}", header, rows, note)


def outlier_seeds(source: StudyData) -> PageTable:
    """Return seeds that stand apart from the others, with the steps at which they do."""
    rows, few = [], []
    for model in source.models:
        snapshot = source.study.model_snapshot(model)
        found = outliers(snapshot.kl)
        for at, seed in enumerate(snapshot.seeds):
            steps = snapshot.steps[found[:, at]].tolist()
            if steps:
                named = ", ".join(map(count, steps[:_RUNS]))
                more = f", ... to {count(steps[-1])}" if len(steps) > _RUNS else ""
                rows.append((model, seed, str(len(steps)), named + more))
        if snapshot.n_seeds.max(initial=0) < FEWEST_TO_COMPARE:
            few.append(model)
    note = "A seed's mean KL to and from the others is beyond what chance gives, at these steps."
    if not rows:
        note = "No seed stands apart from the others at any step."
    if few:
        note += f" Fewer than {FEWEST_TO_COMPARE} seeds, too few to find one: {', '.join(few)}."
    return PageTable("Outlier seeds", ("model", "seed", "n steps", "steps"), rows, note, n_names=2)


def tokens(source: StudyData) -> PageTable:
    """List the tokens with the lowest, middle and highest KL of the largest model, in text."""
    model = source.models[-1]
    rows = [
        (
            row["kind"],
            f"{row['before'][-30:]}«{row['text']}»{row['after'][:15]}",
            nats(float(row["kl"])),
            nats(float(row["surprisal"])),
        )
        for row in _rows(source, "extremes", Choice(models=[model], count=5))
    ]
    step = count(source.steps(model)[-1])
    note = f"{model} at step {step}; nats, KL as mean over pairs, surprisal over seeds."
    header = ("", "token in its text", "KL", "surprisal")
    return PageTable("Tokens with the lowest, middle and highest KL", header, rows, note, n_names=2)


def entries(source: StudyData) -> PageTable:
    """List the vocabulary entries with the lowest, middle and highest KL of the largest model."""
    model = source.models[-1]
    known = list(_rows(source, "entries", Choice(models=[model])))
    of = extremes(np.array([row["kl"] for row in known]), 10)
    rows = [
        (
            kind,
            row["text"],
            count(row["n"]),
            nats(float(row["kl"])),
            _interval(row["kl_low"], row["kl_high"]),
            nats(float(row["cross_entropy"])),
        )
        for kind, places in of._asdict().items()
        for row in (known[place] for place in places.tolist())
    ]
    step = count(source.steps(model)[-1])
    note = (
        f"{model} at step {step}; nats. Means over the n occurrences of an entry as a target, and "
        "over pairs or seeds, as the paper lists tokens. 95 %: over documents, of these seeds; "
        "none where all are in one document."
    )
    header = ("", "entry", "n", "KL", "95 %", "cross-entropy")
    title = "Vocabulary entries with the lowest, middle and highest KL"
    return PageTable(title, header, rows, note, n_names=2)


def statistics_of(source: StudyData, model: str) -> Block:
    """Return what is known of a model at its newest step, as people paste it into an issue."""
    step = source.steps(model)[-1]
    (row,) = _rows(source, "levels", Choice([model], [ALL], Steps(named=frozenset([step]))))
    kl = source.study.token_kl(model, step)
    n = row["n_seeds"]
    lines = [
        f"{model}, step {count(step)}: {n} seeds, {n * (n - 1)} ordered pairs, "
        f"{count(source.study.n_tokens)} tokens",
        _line(
            KL.in_report,
            row["expected_kl"],
            "" if np.isnan(row["kl_low"]) else f"95 % {_interval(row['kl_low'], row['kl_high'])}",
        ),
        _line("Maximum KLD", row["kl_max"]),
        *(
            _line(f"{q:5.1f} % KLD" if q != 50 else "Median  KLD", row[column])
            for column, q in sorted(
                zip(PERCENTILE_COLUMNS, PERCENTILES, strict=True), key=lambda each: -each[1]
            )
            if q != 100
        ),
        _line("Minimum KLD", float(kl.min())),
        _line("Std of pairs' KLD", row["pair_std"]),
        *(
            _pair_line(metric, source.study.pair_means(model, metric.array, step))
            for metric in metrics_of(source.study.divergences)
            if metric != KL
        ),
        *(
            _line(
                metric.in_report,
                row[metric.name],
                f"95 % {_interval(row[f'{metric.name}_low'], row[f'{metric.name}_high'])}",
            )
            for metric in ENSEMBLE_METRICS
            if metric.name in row
        ),
        *(
            _line(
                metric.in_report,
                row[metric.mean],
                f"95 % {_interval(row[f'{metric.mean}_low'], row[f'{metric.mean}_high'])}",
            )
            for metric in REFERENCE_METRICS
            if metric.mean in row
        ),
        _line("Cross-entropy", row["cross_entropy"]),
        _line("Entropy", row["entropy"]),
        _line("KL to unigram", row["kl_unigram"]),
        _line("KL to uniform", row["kl_uniform"]),
        _line("Rounding alone", row["floor"]),
    ]
    return Block(f"Statistics of the KL: {model}", tuple(lines))


def _line(name: str, value: float, more: str = "", unit: str = "nats") -> str:
    number = "-" if np.isnan(value) else f"{value:.6f}"
    return f"{name:<18}: {number:>12} {unit:<4} {more}".rstrip()


def _pair_line(metric: PairMetric, values: Floats) -> str:
    """Return the mean and the span of a step's pairs; shares and probabilities in percent."""
    percent = metric.units == "1" and not metric.choice
    known = values[np.isfinite(values)] * (100 if percent else 1)
    if not known.size:
        return _line(metric.in_report, np.nan)
    span = f"pairs {known.min():.6f} to {known.max():.6f}{' %' if percent else ''}"
    unit = "%" if percent else "" if metric.units == "1" else metric.units
    return _line(metric.in_report, float(known.mean()), span, unit)


def _interval(low: float, high: float) -> str:
    return "-" if np.isnan(low) else f"[{nats(low)}, {nats(high)}]"


def _interval_words(source: StudyData) -> str:
    return f"[ ]: 95 % interval ({source.interval}); there is none below 3 seeds."


def _rows(source: StudyData, what: str, choice: Choice) -> Iterator[dict[str, Any]]:
    """Yield rows of one of `long_tables.TABLES`."""
    for batch in TABLES[what].batches(source.study, choice):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))
