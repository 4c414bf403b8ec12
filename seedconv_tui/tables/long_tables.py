"""A study's results as tables in long form: the one place that `export` and reports take them from.

`docs/export.md` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from seedconv_tui.tables import rows, token_rows
from seedconv_tui.tables.band_names import SIMULTANEOUS
from seedconv_tui.tables.group_rows import group_rows
from seedconv_tui.tables.hidden_rows import hidden_rows
from seedconv_tui.tables.probe_rows import probes
from seedconv_tui.tables.rows import PERCENTILE_COLUMNS, Batch, only_levels
from seedconv_tui.tables.selection import Choice
from seedconv_tui.tables.token_rows import CONTEXT
from store import Study
from store.analysis import KL_MEASURES, PROBE_KINDS
from store.schema import (
    ENSEMBLE_METRICS,
    KL,
    MORE_METRICS,
    PERCENTILES,
    REFERENCE_METRICS,
    TO_MEAN,
    EnsembleMetric,
    PairMetric,
    ReferenceMetric,
)


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    dtype: Literal["str", "int", "float", "bool"]
    units: str  # empty: none
    description: str
    divergence: str = ""  # only of studies that have it


@dataclass(frozen=True)
class LongTable:
    """One table. `takes` are the fields of `Choice` that mean something to it."""

    about: str
    fixed: tuple[Column, ...]
    read: Callable[[Study, Choice], Iterator[Batch]]
    takes: frozenset[str]
    more: Callable[[Study, Choice], tuple[Column, ...]] = lambda study, choice: ()

    def columns(self, study: Study, choice: Choice) -> tuple[Column, ...]:
        """Return its columns for this choice, in order. Raise ChoiceError."""
        there = {"", *study.divergences}
        fixed = tuple(column for column in self.fixed if column.divergence in there)
        return fixed + self.more(study, choice)

    def batches(self, study: Study, choice: Choice) -> Iterator[Batch]:
        """Yield rows by model, category and step. Raise ChoiceError, StoreError, DamagedError."""
        found = self.read(study, choice)
        return found if choice.levels is None else (only_levels(b, choice.levels) for b in found)


def _token_labels(study: Study, choice: Choice) -> tuple[Column, ...]:
    return tuple(
        Column(column, "str", "", f"label of the token in {name}; missing: in none")
        for name, column in token_rows.label_columns(study, choice).items()
    )


def _bands(study: Study, choice: Choice) -> tuple[Column, ...]:
    return _BAND if choice.band == SIMULTANEOUS else ()


_MODEL = Column("model", "str", "", "name of the model")
_STEP = Column("step", "int", "training steps", "training step")
_SEED = Column("seed", "str", "", "label of the training run")
_LEVEL = (
    Column("category", "str", "", "the category; `all`: all tokens together"),
    Column("label", "str", "", "the category's level"),
    Column("n", "int", "tokens", "tokens of the level"),
)
_TOKEN = (
    Column("token", "int", "", "index of the token in the corpus, from 0"),
    Column("token_id", "int", "", "its id in the vocabulary"),
)
_TEXT = Column("text", "str", "", "the characters that it covers, spaces included")
_DOCUMENT = Column("document", "str", "", "name of the document it is in")


def _nats(name: str, description: str) -> Column:
    return Column(name, "float", "nats", description)


def _baselines(over: str) -> tuple[Column, ...]:
    return (
        _nats("cross_entropy", f"surprisal, mean over the level's tokens{over}"),
        _nats("entropy", f"entropy of the prediction, mean over the level's tokens{over}"),
        _nats("kl_uniform", "KL from the prediction to the uniform distribution, likewise"),
        _nats("kl_unigram", "KL from the prediction to the unigram distribution, likewise"),
    )


def _of_all_tokens(metric: PairMetric) -> Column:
    said = f"{metric.column_description}; only for `all`"
    if metric.choice:
        said = f"{said}, if the study has it"
    return Column(metric.name, "float", metric.units, said, divergence=metric.choice)


def _together(metric: EnsembleMetric) -> Iterator[Column]:
    said = f"{metric.description}; of the level's tokens, if the study has `{TO_MEAN}`"
    yield Column(metric.name, "float", "nats", said, TO_MEAN)
    for end, which in (("low", "lower"), ("high", "upper")):
        said = f"{which} end of its 95 % interval"
        yield Column(f"{metric.name}_{end}", "float", "nats", said, TO_MEAN)


_BAND = (
    _nats("kl_band_low", "lower end of the 95 % band of expected KL over all chosen steps; missing "
          "below three seeds"),
    _nats("kl_band_high", "upper end of that band"),
)  # fmt: skip


def _to_reference(metric: ReferenceMetric) -> Iterator[Column]:
    said = f"{metric.description}; mean over seeds and the level's tokens, if the study has it"
    yield Column(metric.mean, "float", "nats", said, metric.name)
    for end, which in (("low", "lower"), ("high", "upper")):
        said = f"{which} end of its 95 % interval"
        yield Column(f"{metric.mean}_{end}", "float", "nats", said, metric.name)


_CHECKPOINT_KL = (
    _nats("kl", "KL, mean over ordered pairs of seeds"),
    _nats("surprisal", "surprisal, mean over seeds"),
)

TABLES: dict[str, LongTable] = {
    "levels": LongTable(
        "One row for each level of each category at each summarised step: the curves. With "
        "`--band simultaneous` also `kl_band_low` and `kl_band_high`, in nats: the ends of a 95 % "
        "band that covers at all chosen steps of a level at once.",
        (
            _MODEL,
            _STEP,
            *_LEVEL,
            Column("n_seeds", "int", "seeds", "seeds whose pairs were taken"),
            Column("seeds_left_out", "int", "seeds", "seeds for which one of the means over seeds "
                   "is not finite, which is without them"),
            _nats("expected_kl", "KL, mean over the level's tokens and ordered pairs of seeds"),
            _nats("kl_low", "lower end of its 95 % interval; missing below three seeds"),
            _nats("kl_high", "upper end of its 95 % interval"),
            _nats("pair_std", "standard deviation over ordered pairs of seeds, divisor n"),
            _nats("floor", "KL that rounding alone makes at this step; a smaller KL cannot be "
                  "distinguished from zero"),
            *_baselines(" and seeds"),
            *(
                _nats(
                    name,
                    "highest KL of a token, mean over pairs"
                    if q == 100
                    else f"percentile {q:g} over the level's tokens of the KL, mean over pairs",
                )
                for name, q in zip(PERCENTILE_COLUMNS, PERCENTILES, strict=True)
            ),
            *(column for metric in ENSEMBLE_METRICS for column in _together(metric)),
            *(column for metric in REFERENCE_METRICS for column in _to_reference(metric)),
        ),
        rows.levels,
        frozenset({"models", "categories", "levels", "steps", "band"}),
        _bands,
    ),
    "seeds": LongTable(
        "One row for each seed, by level and summarised step: which seed stands apart.",
        (
            _MODEL,
            _STEP,
            _SEED,
            *_LEVEL,
            *_baselines(""),
            Column(TO_MEAN, "float", "nats", "KL from it to the mean distribution of all seeds, "
                   "mean over the level's tokens, if the study has it", TO_MEAN),
            *(
                Column(metric.name, "float", "nats", f"{metric.description}; mean over the "
                       "level's tokens, if the study has it", metric.name)
                for metric in REFERENCE_METRICS
            ),
            _nats("kl_to", "KL from it to the other seeds, mean over the level's tokens"),
            _nats("kl_from", "KL from the other seeds to it, likewise"),
            Column("outlier", "bool", "", "farther from the others than chance; only for `all`"),
        ),
        rows.seeds,
        frozenset({"models", "categories", "levels", "steps"}),
    ),
    "pairs": LongTable(
        "One row for each ordered pair of seeds at each summarised step, of all tokens unless "
        "categories are chosen.",
        (
            _MODEL,
            _STEP,
            _SEED,
            Column("other_seed", "str", "", "the seed it is compared with"),
            *_LEVEL,
            Column(KL.name, "float", KL.units, KL.column_description),
            *map(_of_all_tokens, MORE_METRICS),
        ),
        rows.pairs,
        frozenset({"models", "categories", "levels", "steps"}),
    ),
    "tokens": LongTable(
        "One row for each token, at the newest summarised step of each model unless steps are "
        "chosen. A column `category_NAME` for each category has the token's label.",
        (_MODEL, _STEP, *_TOKEN, _TEXT, _DOCUMENT, *_CHECKPOINT_KL),
        token_rows.tokens,
        frozenset({"models", "categories", "levels", "steps"}),
        _token_labels,
    ),
    "extremes": LongTable(
        "The tokens with the lowest, middle and highest KL, with their context, at the newest "
        "summarised step of each model unless steps are chosen.",
        (
            _MODEL,
            _STEP,
            Column("kind", "str", "", "`lowest`, `middle` (around the median) or `highest`"),
            Column("rank", "int", "", "1, 2, ...: outermost first, the middle ascending"),
            *_TOKEN,
            *_CHECKPOINT_KL,
            _DOCUMENT,
            Column("before", "str", "", f"up to {CONTEXT} characters of the document before it"),
            _TEXT,
            Column("after", "str", "", f"up to {CONTEXT} characters of the document after it"),
        ),
        token_rows.extremes,
        frozenset({"models", "steps", "count"}),
    ),
    "entries": LongTable(
        "One row for each vocabulary entry that occurs as a target, from the lowest KL on: means "
        "over its occurrences (the paper's tokens), at the newest summarised step of each model "
        "unless steps are chosen.",
        (
            _MODEL,
            _STEP,
            _TOKEN[1],
            Column("text", "str", "", "what the entry stands for"),
            Column("n", "int", "tokens", "occurrences as a target"),
            Column("n_documents", "int", "", "documents that it occurs in, or runs of tokens of a "
                   "lone one"),
            _nats("kl", "KL, mean over occurrences and ordered pairs of seeds"),
            _nats("kl_low", "lower end of its 95 % interval over documents; missing below two"),
            _nats("kl_high", "upper end of its 95 % interval"),
            _nats("cross_entropy", "surprisal, mean over occurrences and seeds"),
        ),
        token_rows.by_entry,
        frozenset({"models", "steps"}),
    ),
    "groups": LongTable(
        "One row for each group of seeds, one for all pairs within groups and one for the pairs of "
        "two groups, at each summarised step of models with `groups`; of all tokens unless "
        "categories are chosen. `share` times `kl`, added over `within` and `between`, is the "
        "expected KL of these seeds.",
        (
            _MODEL,
            _STEP,
            *_LEVEL,
            Column("pairs", "str", "", "`group`: pairs within this group; `within`: within some "
                   "group; `between`: of two groups"),
            Column("group", "str", "", "name of the group; missing: all"),
            Column("n_seeds", "int", "seeds", "seeds of the group, or of all groups"),
            _nats("kl", "KL, mean over these ordered pairs and the level's tokens"),
            Column("share", "float", "1", "share of `within` and `between` in all pairs"),
            Column("p", "float", "1", "of `between`: that between less within is as large, if "
                   "groups were drawn by lot; of `within`: that groups differ as much from each "
                   "other"),
            Column("arrangements", "int", "", "of the seeds in groups of these sizes: p is their "
                   "share"),
            Column("exact", "bool", "", "whether these are all there are"),
        ),
        group_rows,
        frozenset({"models", "categories", "steps"}),
    ),
    "cka": LongTable(
        "One row for each two seeds at each step where log-probs of both are stored `factored`: "
        "linear CKA of their final hidden states over all tokens, computed for the export.",
        (
            _MODEL,
            _STEP,
            _SEED,
            Column("other_seed", "str", "", "the seed it is compared with"),
            Column("n", "int", "tokens", "tokens of the corpus"),
            Column("units", "int", "", "units of a hidden state; where tokens are not many more, "
                   "`cka` is too high"),
            Column("cka", "float", "1", "linear CKA, 0 to 1; missing where states do not vary"),
            Column("cka_debiased", "float", "1", "its debiased estimate, which may be below 0"),
        ),
        hidden_rows,
        frozenset({"models", "steps"}),
    ),
    "phases": LongTable(
        "One row for each phase of training of each model.",
        (
            _MODEL,
            Column("phase", "str", "", "its name; the last may be `undecided`"),
            Column("start", "int", "training steps", "its first step"),
            Column("low", "int", "training steps", "lower end of the start's 90 % interval; "
                   "missing below three seeds"),
            Column("high", "int", "training steps", "upper end of the start's 90 % interval"),
            Column("support", "float", "1", "share of the draws of seeds that have the phase"),
        ),
        rows.phases,
        frozenset({"models"}),
    ),
    "checkpoints": LongTable(
        "One row for each checkpoint, scored or not.",
        (
            _MODEL,
            _SEED,
            _STEP,
            Column("state", "str", "", "queued, reading, scoring, scored, reducing, done, "
                   "failed, missing or pruned"),
            _nats("cross_entropy", "surprisal, mean over tokens"),
            _nats("entropy", "entropy of the prediction, mean over tokens"),
            _nats("kl_unigram", "KL from the prediction to the unigram distribution, mean over "
                  "tokens"),
            _nats("storage_floor", "error of one token's KL from storing log-probs in float16"),
            _nats("noise_floor", "KL of the checkpoint with itself at another batch shape"),
            Column("error", "str", "", "why it failed or is missing"),
        ),
        rows.checkpoints,
        frozenset({"models", "steps"}),
    ),
    "probes": LongTable(
        "One row for each value that a probe comes to at a step: of a seed, or of all pairs of "
        "seeds.",
        (
            _MODEL,
            _STEP,
            Column("probe", "str", "", "name of the probe"),
            Column("kind", "str", "", " or ".join(f"`{kind}`" for kind in PROBE_KINDS)),
            Column("seed", "str", "", "label of the training run; missing: of all seeds that "
                   "answered"),
            Column("label", "str", "", "task of minimal pairs, `all` for every one; a loss, or a "
                   "difference of two losses"),
            Column("term", "str", "", "linguistic term of the task"),
            Column("measure", "str", "", "of minimal pairs `accuracy`, `probability` (of the good "
                   "sentence, mean), "
                   + ", ".join(f"`{name}` ({said})" for name, said in KL_MEASURES.items())
                   + "; of long documents `loss` or `score`"),
            Column("n", "int", "", "items, or documents, that it is a mean over"),
            Column("value", "float", "nats", "the value; accuracy and probability have no unit"),
            Column("low", "float", "nats", "lower end of its 95 % interval: of a KL over seeds, of "
                   "a score over documents"),
            Column("high", "float", "nats", "upper end of its 95 % interval"),
        ),
        probes,
        frozenset({"models", "steps"}),
    ),
}  # fmt: skip


def markdown() -> str:
    """Return all tables and their columns, as `docs/export.md` has them."""
    parts = []
    for name, table in TABLES.items():
        lines = [
            f"### `{name}`",
            "",
            table.about,
            "",
            "| column | type | units | |",
            "|---|---|---|---|",
        ]
        lines += [f"| `{c.name}` | {c.dtype} | {c.units} | {c.description} |" for c in table.fixed]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
