"""Metrics of an ordered pair of seeds, all in one table.

It gives the arrays of a store, the columns of `seedconv export`, the measures on the screen Seeds
and the statistics in a report, as far as the study has them. A new divergence takes
a row here, its kernel in `engine.scoring.divergence` and its float64 formula in
`store.analysis.again`; a new number made of the results of both seeds takes a row here and its
formula in `store.statistics.means.PAIR_OF`. Those of hidden states are made while log-probs are
compared (`engine.scoring.hidden_similarity`), and of nothing that is kept. A depth takes a number
in `_PERCENT`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from store.schema.ensemble import TO_MEAN
from store.schema.reference import REFERENCES


@dataclass(frozen=True)
class PairMetric:
    """One number of an ordered pair of seeds at a step, over all tokens."""

    name: str  # of its column in tables; of a divergence also of its array of values per token
    array: str  # of the values of all pairs, (step, seed, other_seed)
    units: str  # "nats", or "1"
    title: str  # in full, on a screen
    symbol: str  # in short, on a screen
    in_report: str  # in a report's statistics
    array_description: str  # as the store says it; part of the format
    column_description: str  # as the table `pairs` says it
    token_description: str = ""  # of its values per token in the store; empty: there are none
    symmetric: bool = True  # whether both orders of the pair have the same value
    larger_is_nearer: bool = False
    is_share: bool = False  # whether it is a share of tokens, which a screen shows in percent
    states: str = ""  # which hidden states of both seeds it is made of; empty: of none

    @property
    def is_divergence(self) -> bool:
        """Return whether it is computed at each token, from the log-probs of both seeds."""
        return bool(self.token_description)

    @property
    def choice(self) -> str:
        """What `scoring.divergences` must name for a study to have it; empty: every study has."""
        return self.states or (self.name if self.is_divergence else "")

    @property
    def factor(self) -> float:
        """Return what a screen multiplies it by."""
        return 100.0 if self.is_share else 1.0

    @property
    def title_with_unit(self) -> str:
        """Its title with the unit in which a screen shows it."""
        unit = "%" if self.is_share else "" if self.units == "1" else self.units
        return f"{self.title}, {unit}" if unit else self.title


CKA = "cka"
"""The name by which `scoring.divergences` asks for the similarity of hidden states."""

_PERCENT = (0, 25, 50, 75)  # of the layers, which have computed the states then; 0: embeddings

DEPTHS = {f"{CKA}_after_{percent}": percent for percent in _PERCENT}
"""The names that ask for the similarity of inner hidden states, each with its percent."""

KL = PairMetric(
    name="kl",
    array="mean_kl",
    units="nats",
    title="KL",
    symbol="KL",
    in_report="Mean    KLD",
    array_description="kl, mean over tokens",
    column_description="KL from seed to other_seed, mean over the level's tokens",
    token_description="KL divergence from seed to other_seed, "
    "sum_v p_seed(v) (log p_seed(v) - log p_other(v))",
    symmetric=False,
)
"""The one that every study has: curves, phases, outliers and categories are made of it."""


def _similarities(
    choice: str, of: str, in_title: str, in_short: str
) -> tuple[PairMetric, PairMetric]:
    """Return both estimates for some hidden states, which a study has by this choice."""
    usual = PairMetric(
        name=choice,
        array=choice,
        units="1",
        title=f"CKA {in_title}",
        symbol=f"CKA{in_short}",
        in_report=f"CKA{in_short}",
        array_description=f"linear CKA of {of} over all tokens",
        column_description=f"linear CKA of their {of}, 0 to 1",
        larger_is_nearer=True,
        states=choice,
    )
    debiased = replace(
        usual,
        name=f"{choice}_debiased",
        array=f"{choice}_debiased",
        title=f"{usual.title}, debiased",
        symbol=f"CKA debiased{in_short}",
        in_report=f"CKA debiased{in_short}",
        array_description=f"debiased estimate of {choice}",
        column_description=f"debiased estimate of `{choice}`, which may be below 0",
    )
    return usual, debiased


MORE_METRICS = (
    PairMetric(
        name="js",
        array="mean_js",
        units="nats",
        title="Jensen-Shannon divergence",
        symbol="JS",
        in_report="Mean JSD",
        array_description="js, mean over tokens",
        column_description="Jensen-Shannon divergence, mean over tokens",
        token_description="Jensen-Shannon divergence of seed and other_seed: "
        "mean KL to their even mixture",
    ),
    PairMetric(
        name="hellinger",
        array="mean_hellinger",
        units="1",
        title="Hellinger distance",
        symbol="Hellinger",
        in_report="Mean Hellinger",
        array_description="hellinger, mean over tokens",
        column_description="Hellinger distance, 0 to 1, mean over tokens",
        token_description="Hellinger distance of seed and other_seed, "
        "sqrt(1 - sum_v sqrt(p_seed(v) p_other(v)))",
    ),
    PairMetric(
        name="tv",
        array="mean_tv",
        units="1",
        title="total variation distance",
        symbol="TV",
        in_report="Mean TV",
        array_description="tv, mean over tokens",
        column_description="total variation distance, 0 to 1, mean over tokens",
        token_description="total variation distance of seed and other_seed, "
        "sum_v |p_seed(v) - p_other(v)| / 2",
    ),
    PairMetric(
        name="top1_agreement",
        array="top1_agreement",
        units="1",
        title="same top prediction",
        symbol="same top-1",
        in_report="Same top token",
        array_description="share of tokens at which both seeds have the same most probable token",
        column_description="share of tokens with the same most probable token",
        larger_is_nearer=True,
        is_share=True,
    ),
    PairMetric(
        name="target_rms",
        array="target_rms",
        units="1",
        title="target's probability, RMS difference",
        symbol="target RMS",
        in_report="RMS dp of target",
        array_description="difference of the target's probability, root mean square over tokens",
        column_description="difference of the target's probability, root mean square over tokens",
    ),
    *_similarities(CKA, "final hidden states", "of hidden states", ""),
    *(
        row
        for name, percent in DEPTHS.items()
        for row in _similarities(
            name,
            f"hidden states after {percent} % of the layers",
            f"after {percent} % of the layers",
            f" {percent} %",
        )
    ),
)
"""The others, of all tokens only."""

PAIR_METRICS = (KL, *MORE_METRICS)
"""All of them, in the order in which they are stored, shown and exported."""

DIVERGENCES = tuple(metric.name for metric in PAIR_METRICS if metric.is_divergence)
"""Names of those that may have an array of values per token, (step, seed, other_seed, token)."""

ESTIMATES = {
    choice: tuple(metric.array for metric in PAIR_METRICS if metric.states == choice)
    for choice in (CKA, *DEPTHS)
}
"""Arrays of what is made of hidden states, by choice: the usual estimate, and the debiased one."""

OF_STATES = tuple(array for both in ESTIMATES.values() for array in both)
"""All of these."""

CHOICES = (*DIVERGENCES, TO_MEAN, CKA, *DEPTHS)
"""What `scoring.divergences` may name: these, the KL of each seed to the mean of all, and CKA."""

USUAL = ("kl", "js")
"""The divergences that are computed unless the study file says otherwise."""


def in_order(divergences: Collection[str]) -> tuple[str, ...]:
    """Return these divergences in the order of the table; those that it lacks are left out.

    Those to a reference come last: a section of the study file asks for them.
    """
    return tuple(name for name in (*CHOICES, *REFERENCES) if name in divergences)


def metrics_of(divergences: Collection[str]) -> tuple[PairMetric, ...]:
    """Return the metrics of a study that has these divergences, in order, KL first."""
    return tuple(
        metric for metric in PAIR_METRICS if not metric.choice or metric.choice in divergences
    )
