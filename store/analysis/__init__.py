"""What is computed from a study on request: steps, models and tokens compared, probes, claims."""

from store.analysis.between import kl_between, mean_kl_between
from store.analysis.claims import FEWEST_TOKENS, Finding, find, verdict
from store.analysis.difference import Difference, read_difference
from store.analysis.level_means import summarise
from store.analysis.probe_scores import (
    ALL_TASKS,
    PROBE_KINDS,
    Blimp,
    Icl,
    blimp,
    blimp_summary,
    good_probability,
    icl,
    icl_summary,
    probe_summary,
    probed_seeds,
    probed_steps,
    two_way_kl,
)
from store.analysis.token_regression import (
    COUNT,
    FEW_CLUSTERS,
    INTERCEPT,
    MODEL,
    Regression,
    Term,
    common_steps,
    regression,
    regressions,
)

__all__ = [
    "ALL_TASKS",
    "COUNT",
    "FEWEST_TOKENS",
    "FEW_CLUSTERS",
    "INTERCEPT",
    "MODEL",
    "PROBE_KINDS",
    "Blimp",
    "Difference",
    "Finding",
    "Icl",
    "Regression",
    "Term",
    "blimp",
    "blimp_summary",
    "common_steps",
    "find",
    "good_probability",
    "icl",
    "icl_summary",
    "kl_between",
    "mean_kl_between",
    "probe_summary",
    "probed_seeds",
    "probed_steps",
    "read_difference",
    "regression",
    "regressions",
    "summarise",
    "two_way_kl",
    "verdict",
]
