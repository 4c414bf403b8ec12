"""Names, shapes and encodings inside a study; `docs/store-format.md` tells the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

FORMAT = 2
TOP = 10  # predictions kept per token

CORPUS = "corpus"
MODELS = "models"
LOG_PROBS = "log_probs"
COMMITS = "commits"
STATUS = "status"
JOURNAL = "journal"

_CHUNK_TOKENS = 65_536  # per-token results: 256 kB of float32 a chunk
_CHUNK_BYTES = 8 * 2**20  # log-probs: uncompressed bytes a chunk
_CHUNK_STEPS, _CHUNK_SEEDS = 64, 16  # means: one chunk holds many checkpoints and is replaced whole


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
    """Path of a model's group inside the store."""
    return f"{MODELS}/{safe_name(model)}"


def log_probs_path(model: str, seed: str, step: int) -> str:
    """Path of the array that holds one checkpoint's log-probs."""
    return str(PurePosixPath(model_path(model), LOG_PROBS, safe_name(seed), str(step)))


def log_prob_rows(vocab_size: int) -> int:
    """Tokens per chunk of log-probs: a power of two near 8 MiB of float16, at least 1."""
    return rows_near(_CHUNK_BYTES, 2 * vocab_size)


def rows_near(chunk_bytes: int, row_bytes: int) -> int:
    """Rows per chunk: the largest power of two that fits, at least 1."""
    return 1 << (max(1, chunk_bytes // row_bytes).bit_length() - 1)


@dataclass(frozen=True)
class Variable:
    """One results array of a model."""

    dtype: str
    dims: tuple[str, ...]
    units: str
    description: str
    per_token: bool

    @property
    def attributes(self) -> dict[str, str]:
        """The array's attributes."""
        return {"units": self.units, "description": self.description}

    @property
    def growing(self) -> int:
        """How many of its axes, the first ones, get longer as checkpoints arrive."""
        return sum(dim in {"step", "seed", "other_seed"} for dim in self.dims)

    @property
    def by_pair(self) -> bool:
        """Whether it holds one value per ordered pair of seeds rather than per seed."""
        return "other_seed" in self.dims

    def shape(self, n_steps: int, n_seeds: int, n_tokens: int) -> tuple[int, ...]:
        """Shape for these sizes of the axes."""
        sizes = {"step": n_steps, "seed": n_seeds, "other_seed": n_seeds, "token": n_tokens}
        return tuple(sizes.get(dim, TOP) for dim in self.dims)

    def chunks(self, n_tokens: int) -> tuple[int, ...]:
        """Chunk shape: per-token data one checkpoint or pair a chunk, means many of them."""
        if self.per_token:
            sizes = {"token": min(max(n_tokens, 1), _CHUNK_TOKENS), "rank": TOP}
            return tuple(sizes.get(dim, 1) for dim in self.dims)
        return tuple(_CHUNK_STEPS if dim == "step" else _CHUNK_SEEDS for dim in self.dims)


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
    "kl": Variable(
        "float32",
        (*_PAIR, "token"),
        "nats",
        "KL divergence from seed to other_seed, sum_v p_seed(v) (log p_seed(v) - log p_other(v))",
        per_token=True,
    ),
    "js": Variable(
        "float32",
        (*_PAIR, "token"),
        "nats",
        "Jensen-Shannon divergence of seed and other_seed: mean KL to their even mixture",
        per_token=True,
    ),
    "mean_kl": Variable("float64", _PAIR, "nats", "kl, mean over tokens", per_token=False),
    "mean_js": Variable("float64", _PAIR, "nats", "js, mean over tokens", per_token=False),
    "top1_agreement": Variable(
        "float64",
        _PAIR,
        "1",
        "share of tokens at which both seeds have the same most probable token",
        per_token=False,
    ),
    "target_rms": Variable(
        "float64",
        _PAIR,
        "1",
        "difference of the target's probability, root mean square over tokens",
        per_token=False,
    ),
    "cross_entropy": Variable(
        "float64", _CHECKPOINT, "nats", "surprisal, mean over tokens", per_token=False
    ),
    "mean_entropy": Variable(
        "float64", _CHECKPOINT, "nats", "entropy, mean over tokens", per_token=False
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
