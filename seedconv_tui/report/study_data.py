"""The study as figures and tables read it: what was chosen of it, each summary read once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.report import bands
from seedconv_tui.report.choices import PAPER
from seedconv_tui.report.parts import LINES, nats
from seedconv_tui.tables.band_names import INTERVAL, SIMULTANEOUS
from seedconv_tui.tables.level_results import Levels, base, levels_of
from seedconv_tui.tables.long_tables import Column
from seedconv_tui.tables.selection import Choice, chosen_categories, chosen_models
from seedconv_tui.text import count, counted
from store import Study, Summary
from store.analysis import simultaneous_band, simultaneous_means
from store.schema import (
    ALL,
    CATEGORIES,
    CONTEXT,
    UNDECIDED,
    Floats,
    Phase,
    Schedule,
    Schedules,
    of_model,
)
from store.statistics import Estimate, at_steps

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([kmb])(?![A-Za-z0-9])", re.IGNORECASE)
_FACTOR = {"k": 1e3, "m": 1e6, "b": 1e9}
_NOT_USUAL = {ALL, *(name for name, of in CATEGORIES.items() if not of.in_reports)}

NUMERALS = {
    "uniform": "I",
    "sharp convergence": "II",
    "sharp divergence": "III",
    "slow reconvergence": "IV",
    UNDECIDED: "?",
}
"""What phases are marked with."""

_SEEDS_BAND = (
    "Bands: 95 % intervals over seeds (Student's t), of this text alone; none below three."
)
_SEEDS_TOGETHER = (
    "Bands: simultaneous 95 % bands over the steps, over seeds, of this text alone; none below "
    "three."
)


class StudyData:
    """A study, with the models and categories that were chosen."""

    def __init__(
        self,
        study: Study,
        models: Sequence[str] | None,
        categories: Sequence[str] | None,
        levels: Sequence[str] | None = None,
        *,
        schedules: Schedules | None = None,
        band: str = INTERVAL,
    ) -> None:
        """`schedules` of learning rates stand in for the study's; `band` is one of `BANDS`.

        Raise ChoiceError for what the study does not have.
        """
        self.study, self._schedules = study, schedules
        self.band, self.paper = band, band == PAPER
        self.categories_chosen = categories is not None
        self.levels_chosen = None if levels is None else frozenset(levels)
        choice = Choice(models, categories)
        self.models = in_order_of_size(
            [
                model
                for model in chosen_models(study, choice)
                if ALL in study.categories(model) and study.ledger(model).summaries
            ]
        )
        default = None if categories is None else frozenset(map(base, categories))
        there = chosen_categories(study, Choice(models, categories, levels=levels))
        names = dict.fromkeys(base(name) for of in there.values() for name in of)
        if default is None:
            default = frozenset(names if levels is not None else names.keys() - _NOT_USUAL)
        wanted = default - {ALL}
        self.categories = tuple(name for name in names if name in wanted)
        self._steps = {model: frozenset(study.ledger(model).summaries) for model in self.models}
        self._summaries: dict[tuple[str, str], Summary] = {}
        self._levels: dict[tuple[str, str], Levels] = {}
        self._together: dict[tuple[str, str], Estimate] = {}
        self._means_together: dict[str, dict[str, Estimate]] = {}

    def levels(self, model: str, category: str = ALL) -> Levels | None:
        """Return the model by the levels of a category, at summarised steps.

        None where there are none, and where no level has a token.
        """
        names = self.study.categories(model)
        if category not in names:
            return None
        if (model, category) not in self._levels:
            self._levels[model, category] = levels_of(self.summary(model, category), names)
        found = self._levels[model, category]
        return found if len(found.steps) and found.counts.any() else None

    @property
    def drawn(self) -> tuple[str, ...]:
        """Models that have a line of their own where all are in one panel; the others have not."""
        at = np.linspace(0, len(self.models) - 1, min(len(self.models), LINES)).round()
        return tuple(self.models[int(place)] for place in at)

    def is_chosen(self, label: str) -> bool:
        """Return whether a level is among those that were chosen, or none were."""
        return self.levels_chosen is None or label in self.levels_chosen

    def over_seeds(self, model: str, field: str, category: str = ALL) -> Estimate:
        """Average a field of `Summary` over seeds, at the steps of `levels`: (step, level) each."""
        found = self.summary(model, category)
        values = getattr(found, field)[found.n_seeds > 0].swapaxes(0, 1)
        if self.paper and category != ALL:
            return bands.over_seeds_of_pairs(values)
        return bands.over_seeds(values, self.band)

    def expected_kl(self, model: str, category: str = ALL) -> Estimate:
        """Return expected KL with the band that is drawn, (step, level) each.

        Raise DamagedError.
        """
        of = self.levels(model, category)
        assert of is not None
        if self.band == SIMULTANEOUS:
            return self._over_all_steps(model, of)
        if not self.paper:
            return Estimate(of.kl, of.kl_low, of.kl_high)
        steps = of.steps.tolist()
        if category == ALL:
            return bands.around(of.kl, bands.over_tokens(self.study, model, steps)[:, None])
        return bands.around(of.kl, bands.over_pairs(self.study, model, category, steps))

    def _over_all_steps(self, model: str, of: Levels) -> Estimate:
        key = model, of.category
        if key not in self._together:
            found, band = simultaneous_band(self.study, *key, of.steps.tolist())
            # An engine may be summarising a step once more: it is not among those found.
            low, high = (at_steps(of.steps, found, end) for end in (band.low, band.high))
            self._together[key] = Estimate(of.kl, low, high)
        return self._together[key]

    def mean_together(self, model: str, name: str) -> Floats:
        """Return a mean of `simultaneous_means` with its band, (step, end), at the model's steps.

        Raise DamagedError.
        """
        steps = self.steps(model)
        if model not in self._means_together:
            self._means_together[model] = simultaneous_means(self.study, model, steps)
        found = self._means_together[model].get(name)
        return np.full((len(steps), 3), np.nan) if found is None else np.stack(found, axis=-1)

    def summary(self, model: str, category: str = ALL) -> Summary:
        """Return it as the study has it, read once, without steps that came since the beginning."""
        if (model, category) not in self._summaries:
            found = self.study.summary(model, category)
            known = np.isin(found.steps, sorted(self._steps[model]))
            found = replace(found, n_seeds=np.where(known, found.n_seeds, 0))
            self._summaries[model, category] = found
        return self._summaries[model, category]

    def whole(self, model: str) -> Levels:
        """Return the same of all tokens, which each of `models` has."""
        found = self.levels(model)
        assert found is not None
        return found

    def variants(self, category: str) -> tuple[str, ...]:
        """Return the category, and the same of the token before where there is one."""
        wanted = (category, category + CONTEXT)
        return tuple(name for name in wanted if any(self.levels(m, name) for m in self.models))

    def steps(self, model: str) -> list[int]:
        """Return those that are summarised, ascending."""
        return [int(step) for step in self.whole(model).steps]

    def phases(self, model: str) -> tuple[Phase, ...]:
        """Return them as the engine found them."""
        return self.study.ledger(model).phases

    def learning_rate(self, model: str) -> Schedule | None:
        """Return the learning rate over training, where it is known."""
        if self._schedules is not None:
            return of_model(self._schedules, model)
        return self.study.learning_rate(model)

    # -- what captions say -----------------------------------------------------------------------

    @property
    def settings(self) -> str:
        """The study, its text and how it was scored, in one sentence."""
        study, identity = self.study, self.study.identity
        documents = len(study.corpus.document_name)
        words = [
            f"Study {study.name}: {count(study.n_tokens)} tokens of {count(documents)} "
            f"document{'s' * (documents != 1)}, vocabulary of {count(study.vocab_size)}"
        ]
        scoring = {
            key.removeprefix("scoring."): value
            for key, value in identity.items()
            if key.startswith("scoring.")
        }
        if scoring:
            words.append(", ".join(f"{key} {value}" for key, value in scoring.items()))
        return "; ".join(words) + "."

    def band_words(
        self, otherwise: str = "", paper: str = bands.OVER_SEEDS, together: str = ""
    ) -> str:
        """Return what bands are: what `over_seeds` makes, or these.

        `together` are simultaneous ones; where there are none, `otherwise` says what is drawn.
        """
        if self.band == SIMULTANEOUS:
            return together or otherwise or _SEEDS_TOGETHER
        return paper if self.paper else otherwise or _SEEDS_BAND

    def ends(self, name: str) -> tuple[Column, Column]:
        """Return the columns of a band's ends."""
        if self.paper:
            return (
                nats(f"{name}_minus", "the value less the paper's band"),
                nats(f"{name}_plus", "the value and the paper's band"),
            )
        if self.band == SIMULTANEOUS:
            return (
                nats(f"{name}_band_low", "lower end of its simultaneous 95 % band over the steps; "
                     "missing below three seeds"),
                nats(f"{name}_band_high", "upper end of its simultaneous 95 % band"),
            )  # fmt: skip
        return interval_ends(name)

    @property
    def interval(self) -> str:
        """Return what the intervals and bands of expected KL are of."""
        lone = len(np.unique(self.study.corpus.document)) == 1
        of_text = "runs of tokens of its one document" if lone else "document cluster"
        return f"seed jackknife and {of_text}"

    def seeds(self, models: Sequence[str] | None = None) -> str:
        """Return how many seeds each model has at its summarised steps."""
        each = {}
        for model in self.models if models is None else models:
            n = self.whole(model).n_seeds
            each[model] = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
        if len(set(each.values())) == 1:
            every = " of each model" if len(each) > 1 else ""
            return f"Seeds: {next(iter(each.values()))}{every}."
        return "Seeds: " + ", ".join(f"{model} {n}" for model, n in each.items()) + "."

    @property
    def undrawn(self) -> str:
        """Return a sentence on models without a line where all are in one panel; empty: none."""
        left = [model for model in self.models if model not in self.drawn]
        if not left:
            return ""
        return f"Drawn: {LINES} of {len(self.models)} models; in the data alone: {', '.join(left)}."

    def gaps(self, models: Sequence[str] | None = None) -> str:
        """Return at which steps expected KL is not finite, in a sentence; empty: at none."""
        found = []
        for model in self.models if models is None else models:
            of = self.whole(model)
            if len(odd := of.steps[~np.isfinite(of.kl[:, 0])]):
                more = f" and {count(len(odd) - 1)} more" if len(odd) > 1 else ""
                found.append(f"{model} at step {count(int(odd[-1]))}{more}")
        if not found:
            return ""
        return f"Not finite, as the KL of some pair is not: {', '.join(found)}."

    def steps_words(self, models: Sequence[str] | None = None) -> str:
        """Return how many steps there are, and from where to where."""
        known = sorted({s for m in (self.models if models is None else models)
                        for s in self.steps(m)})  # fmt: skip
        if len(known) == 1:
            return f"Step: {count(known[0])}."
        return f"Steps: {count(len(known))}, {count(known[0])} to {count(known[-1])}."

    def phase_words(self, model: str) -> str:
        """Return the phases of a model with their numerals and starts."""
        phases = self.phases(model)
        if not phases:
            return f"Phases of {model} are not known (they need six reduced steps)."
        marks = [
            f"{NUMERALS.get(phase.name, '?')} {phase.name} from {count(phase.start)}"
            for phase in phases
        ]
        return f"Phases of {model} (dotted): " + ", ".join(marks) + "."


def interval_ends(name: str) -> tuple[Column, Column]:
    """Return the columns of the ends of an interval, whatever bands were chosen."""
    return (
        nats(f"{name}_low", "lower end of its 95 % interval; missing below three seeds"),
        nats(f"{name}_high", "upper end of its 95 % interval"),
    )


def in_order_of_size(models: Sequence[str]) -> tuple[str, ...]:
    """Return models by size where all names have one (`14m`, `1.4b`), else in the given order."""
    sizes = [size_of(model) for model in models]
    if None in sizes:
        return tuple(models)
    known = {model: size for model, size in zip(models, sizes, strict=True) if size is not None}
    return tuple(sorted(models, key=known.__getitem__))


SAME, AGAINST, OTHERS = "of one size", "against the smallest", "against the first"


def model_pairs(models: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return which models are held against which, by what that shows; {} where there is one.

    Those of one size, such as duped and deduped, against each other, and of each size one against
    the smallest, where all names have a size; else all against the first.
    """
    if None in (sizes := [size_of(model) for model in models]):
        pairs = {OTHERS: [(models[0], model) for model in models[1:]]}
    else:
        of: dict[float | None, list[str]] = {}
        for model, size in zip(models, sizes, strict=True):
            of[size] = sorted([*of.get(size, ()), model], key=lambda name: (len(name), name))
        one = [names[0] for names in of.values()]
        pairs = {SAME: [(names[0], name) for names in of.values() for name in names[1:]],
                 AGAINST: [(one[0], name) for name in one[1:]]}  # fmt: skip
    return {what: found for what, found in pairs.items() if found}


def size_of(model: str) -> float | None:
    """Read the number of parameters from a name, `pythia-1.4b`; None where it has none."""
    found = _SIZE.findall(model)
    if len(found) != 1:
        return None
    return float(found[0][0]) * _FACTOR[found[0][1].lower()]


def spread(steps: Sequence[int], most: int) -> list[int]:
    """At most that many of the steps, evenly over log(step + 1), the first and the last among them.

    They ascend, as `steps` must.
    """
    if len(steps) <= most:
        return list(steps)
    place: NDArray[np.float64] = np.log1p(steps)
    aims = np.linspace(place[0], place[-1], most)
    return sorted({steps[int(np.abs(place - aim).argmin())] for aim in aims})


def few_words(taken: Sequence[int], of: Sequence[int]) -> str:
    """Return how many of the steps were taken."""
    if len(of) == 1:
        return f"Step: {count(of[0])}."
    if len(taken) == len(of):
        return f"All {counted(len(of), 'step')}."
    return f"{len(taken):,} of {counted(len(of), 'step')}, evenly over log(step + 1)."
