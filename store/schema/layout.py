"""Names, shapes and encodings inside a study, as in `docs/store-format.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from urllib.parse import quote

from store.schema.ensemble import ENDS, STATISTICS, SUMMARY_ARRAYS, TO_MEAN
from store.schema.pair_metrics import PAIR_METRICS, metrics_of
from store.schema.reference import REFERENCE_METRICS
from store.schema.variable import PERCENTILES, Variable

FORMAT = 5
MIGRATED = (3, 4)  # earlier ones that `seedconv migrate` brings to this one

CORPUS = "corpus"
MODELS = "models"
LOG_PROBS = "log_probs"
SUMMARY = "summary"
LOOSE = "loose"  # of a model: results per token, and answers to probes, that are not packed yet
CATEGORY = "category"
COMMITS = "commits"
STATUS = "status"
JOURNAL = "journal"
PROBES = "probes"  # of the study: what their items are
PROBE = "probe"  # of a model: what it says of them

_CHUNK_BYTES = 8 * 2**20  # log-probs: uncompressed bytes a chunk


def safe_name(label: str) -> str:
    """Return `label` as one path component that cannot leave its folder or meet a reserved name.

    Percent-encoded, so that different labels have different names. Labels longer than 200 bytes
    once encoded raise ValueError.
    """
    try:
        name = quote(label, safe="-_+=,@ ~").replace("~", "%7E")
    except UnicodeEncodeError:
        raise ValueError(f"{label[:60]!r} cannot name a folder: it is not Unicode text") from None
    if name.startswith((".", "__", " ")) or name == "zarr.json":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if not name or len(name) > 200:
        raise ValueError(f"{label[:60]!r} cannot name a folder: it must be 1 to 200 bytes long")
    return name


def model_path(model: str) -> str:
    """Return the path of a model's group inside the store."""
    return f"{MODELS}/{safe_name(model)}"


def log_probs_path(model: str, seed: str, step: int) -> str:
    """Return the path of the array that holds one checkpoint's log-probs."""
    return str(PurePosixPath(model_path(model), LOG_PROBS, safe_name(seed), str(step)))


def log_prob_rows(vocab_size: int) -> int:
    """Return tokens per chunk of log-probs: a power of two near 8 MiB of float16, at least 1."""
    return rows_near(_CHUNK_BYTES, 2 * vocab_size)


def rows_near(chunk_bytes: int, row_bytes: int) -> int:
    """Return rows per chunk: the largest power of two that fits, at least 1."""
    return 1 << (max(1, chunk_bytes // row_bytes).bit_length() - 1)


_CHECKPOINT = ("step", "seed")
_PAIR = ("step", "seed", "other_seed")

VARIABLES: dict[str, Variable] = {
    "surprisal": Variable(
        "float32", (*_CHECKPOINT, "token"), "nats", "-log p(target | context)", per_token=True
    ),
    "entropy": Variable(
        "float32", (*_CHECKPOINT, "token"), "nats", "entropy of the prediction", per_token=True
    ),
    "top_id": Variable(
        "int32",
        (*_CHECKPOINT, "token", "rank"),
        "token id",
        "vocabulary ids of the most probable tokens, best first",
        per_token=True,
    ),
    "top_log_prob": Variable(
        "float32",
        (*_CHECKPOINT, "token", "rank"),
        "nats",
        "log-probs of the most probable tokens, best first",
        per_token=True,
    ),
    "kl_unigram": Variable(
        "float32",
        (*_CHECKPOINT, "token"),
        "nats",
        "KL divergence from the prediction to the unigram distribution of the corpus's counts",
        per_token=True,
    ),
    **{
        metric.name: Variable(
            "float32",
            (*_PAIR, "token"),
            metric.units,
            metric.token_description,
            per_token=True,
            symmetric=metric.symmetric,
        )
        for metric in PAIR_METRICS
        if metric.is_divergence
    },
    TO_MEAN: Variable(
        "float32",
        (*_CHECKPOINT, "compared", "token"),
        "nats",
        "KL divergence from seed to the mean distribution of the compared seeds; there is one "
        "more of them than the index `compared`",
        per_token=True,
    ),
    **{
        metric.name: Variable(
            "float32",
            (*_CHECKPOINT, "compared", "token"),
            "nats",
            metric.description,
            per_token=True,
        )
        for metric in REFERENCE_METRICS
    },
    **{
        metric.array: Variable(
            "float64", _PAIR, metric.units, metric.array_description, per_token=False
        )
        for metric in PAIR_METRICS
    },
    "cross_entropy": Variable(
        "float64", _CHECKPOINT, "nats", "surprisal, mean over tokens", per_token=False
    ),
    "mean_entropy": Variable(
        "float64", _CHECKPOINT, "nats", "entropy, mean over tokens", per_token=False
    ),
    "mean_kl_unigram": Variable(
        "float64", _CHECKPOINT, "nats", "kl_unigram, mean over tokens", per_token=False
    ),
    "storage_floor": Variable(
        "float64",
        _CHECKPOINT,
        "nats",
        "error of one token's KL from storing log-probs in float16, root mean square over tokens, "
        "for seeds that nearly agree",
        per_token=False,
    ),
    "noise_floor": Variable(
        "float64",
        _CHECKPOINT,
        "nats",
        "KL of the checkpoint with itself at another batch shape, mean over the first tokens",
        per_token=False,
    ),
    "expected_kl": Variable(
        "float64",
        ("step",),
        "nats",
        "kl, mean over tokens and ordered pairs of the seeds reduced so far",
        per_token=False,
    ),
}

SUMMARIES: dict[str, Variable] = {  # in a model's group `summary`; all derived from the above
    "token_kl": Variable(
        "float32", ("step", "token"), "nats", "kl, mean over ordered pairs of seeds", per_token=True
    ),
    "kl": Variable(
        "float64", (*_PAIR, "level"), "nats", "kl, mean over the level's tokens", per_token=False
    ),
    "expected_kl": Variable(
        "float64",
        ("step", "level"),
        "nats",
        "kl, mean over the level's tokens and ordered pairs of seeds",
        per_token=False,
    ),
    "kl_low": Variable(
        "float64", ("step", "level"), "nats", "lower end of its 95 % interval", per_token=False
    ),
    "kl_high": Variable(
        "float64", ("step", "level"), "nats", "upper end of its 95 % interval", per_token=False
    ),
    "kl_percentile": Variable(
        "float64",
        ("step", "percentile", "level"),
        "nats",
        "percentiles over the level's tokens of token_kl: "
        + ", ".join(f"{q:g}" for q in PERCENTILES),
        per_token=False,
    ),
    "cross_entropy": Variable(
        "float64",
        (*_CHECKPOINT, "level"),
        "nats",
        "surprisal, mean over the level's tokens",
        per_token=False,
    ),
    "entropy": Variable(
        "float64",
        (*_CHECKPOINT, "level"),
        "nats",
        "entropy, mean over the level's tokens",
        per_token=False,
    ),
    "kl_unigram": Variable(
        "float64",
        (*_CHECKPOINT, "level"),
        "nats",
        "kl_unigram, mean over the level's tokens",
        per_token=False,
    ),
    TO_MEAN: Variable(
        "float64",
        (*_CHECKPOINT, "level"),
        "nats",
        "kl_to_mean, mean over the level's tokens",
        per_token=False,
    ),
    "ensemble": Variable(
        "float64",
        ("step", "statistic", "level"),
        "nats",
        "of the seeds' mean distribution: " + ", ".join(STATISTICS),
        per_token=False,
    ),
    **{
        name: Variable("float64", (*dims, "level"), "nats", description, per_token=False)
        for metric in REFERENCE_METRICS
        for name, dims, description in (
            (metric.name, _CHECKPOINT, f"{metric.name}, mean over the level's tokens"),
            (
                metric.mean,
                ("step", "end"),
                f"{metric.name}, mean over seeds and the level's tokens: " + ", ".join(ENDS),
            ),
        )
    },
}

SET_OF_SUMMARY = {  # summaries of results that depend on all seeds of a step -> these results
    **dict.fromkeys(SUMMARY_ARRAYS, TO_MEAN),
    **{name: metric.name for metric in REFERENCE_METRICS for name in (metric.name, metric.mean)},
}

PER_TOKEN = {name: variable for name, variable in VARIABLES.items() if variable.per_token}
"""Those of `VARIABLES` that are kept loose, and packed once their step is complete."""

ARRAYS: dict[str, Variable] = {  # every array of a model but log-probs and coordinates, by path
    **{name: replace(variable, packed=variable.per_token) for name, variable in VARIABLES.items()},
    **{f"{LOOSE}/{name}": variable for name, variable in PER_TOKEN.items()},
    **{f"{SUMMARY}/{name}": variable for name, variable in SUMMARIES.items()},
}


@cache
def variables_of(divergences: tuple[str, ...]) -> Mapping[str, Variable]:
    """Return the results arrays of a study that has these divergences, by name."""
    lacking = set(PAIR_METRICS) - set(metrics_of(divergences))
    names = {name for metric in lacking for name in (metric.name, metric.array)}
    names |= {name for name in SET_OF_SUMMARY.values() if name not in divergences}
    return {name: variable for name, variable in VARIABLES.items() if name not in names}


@cache
def summaries_of(divergences: tuple[str, ...]) -> Mapping[str, Variable]:
    """Return those of `SUMMARIES` that a study with these divergences has."""
    lacking = {name for name, of in SET_OF_SUMMARY.items() if of not in divergences}
    return {name: variable for name, variable in SUMMARIES.items() if name not in lacking}


@cache
def arrays_of(divergences: tuple[str, ...]) -> Mapping[str, Variable]:
    """Return those of `ARRAYS` that a study with these divergences has."""
    names = VARIABLES.keys() - variables_of(divergences).keys()
    lacking = names | {f"{LOOSE}/{name}" for name in names}
    lacking |= {f"{SUMMARY}/{name}" for name in SUMMARIES.keys() - summaries_of(divergences).keys()}
    return {path: variable for path, variable in ARRAYS.items() if path not in lacking}


def array_path(name: str) -> str:
    """Return the path below a model's group at which the chunks of an array are asked for.

    Results per token are asked for where they are loose; what is not there is in a pack.
    """
    return f"{LOOSE}/{name}" if name in PER_TOKEN else name
