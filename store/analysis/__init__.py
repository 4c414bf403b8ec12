"""What is computed from a study on request: comparisons, bands over steps, probes, claims."""

from store.analysis.between import kl_between, mean_kl_between
from store.analysis.by_entry import EntryMeans, entries, entries_at, kl_and_surprisal
from store.analysis.claims import FEWEST_TOKENS, find
from store.analysis.difference import Difference
from store.analysis.finding import Finding, verdict
from store.analysis.halves_of_text import TextAgreement, text_agreement
from store.analysis.hidden_states import hidden_alignment, hidden_seeds
from store.analysis.level_means import summarise
from store.analysis.pilot import Pilot, read_pilots
from store.analysis.probe_scores import (
    ALL_TASKS,
    KL_MEASURES,
    PROBE_KINDS,
    blimp,
    blimp_summary,
    icl,
    icl_summary,
    probe_summary,
    probed_seeds,
    probed_steps,
)
from store.analysis.simultaneous_bands import (
    simultaneous_band,
    simultaneous_coefficients,
    simultaneous_differences,
    simultaneous_means,
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
    "KL_MEASURES",
    "MODEL",
    "PROBE_KINDS",
    "Difference",
    "EntryMeans",
    "Finding",
    "Pilot",
    "Regression",
    "Term",
    "TextAgreement",
    "blimp",
    "blimp_summary",
    "common_steps",
    "entries",
    "entries_at",
    "find",
    "hidden_alignment",
    "hidden_seeds",
    "icl",
    "icl_summary",
    "kl_and_surprisal",
    "kl_between",
    "mean_kl_between",
    "probe_summary",
    "probed_seeds",
    "probed_steps",
    "read_pilots",
    "regression",
    "regressions",
    "simultaneous_band",
    "simultaneous_coefficients",
    "simultaneous_differences",
    "simultaneous_means",
    "summarise",
    "text_agreement",
    "verdict",
]
