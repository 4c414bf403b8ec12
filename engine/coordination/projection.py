"""How much disk the log-probs of a study will take, before any are made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.coordination.planner import Step
from engine.coordination.session import disk_free
from engine.errors import CheckpointError, ConfigError
from engine.sources.base import Checkpoint, Source
from engine.sources.captures import read_capture
from engine.study_file.file import StudyFile
from store import REPRESENTATIONS, Ledger

_WIDEST = 2**18  # no model is so wide; what says so is broken
_WIDTHS = (
    "hidden_size",
    "n_embd",
    "d_model",
    "dim",
)  # what configurations call the number of units


def projected_bytes(
    config: Path | None, representation: str, n_tokens: int, vocab_size: int
) -> int:
    """Return how many bytes the log-probs of one checkpoint will take.

    The width of a model is read from its config.json. One that cannot be read is taken as 0 wide:
    such a checkpoint will not be scored either.
    """
    kept = REPRESENTATIONS[representation]
    units = _width(config) if config else 0
    return 0 if kept is None else int(kept.projected_bytes(n_tokens, vocab_size, units))


def captured_bytes(checkpoint: Checkpoint, model: str) -> int:
    """Return how many bytes log-probs take that were captured in training: kept as they came."""
    try:
        files = read_capture(checkpoint.fetch(), model).files
    except CheckpointError:  # it will not be scored either
        return 0
    return sum(file.bytes for name, file in files.items() if not name.startswith("probe"))


def _width(file: Path) -> int:
    try:
        config = json.loads(file.read_bytes())
        config = config.get("text_config", config)
        width = next(int(config[name]) for name in _WIDTHS if name in config)
    except Exception:  # anybody wrote it
        return 0
    return width if 0 < width <= _WIDEST else 0


def describe_sizes(sizes: Mapping[str, int], chosen: str, unknown: Collection[str] = ()) -> str:
    """Write the projected sizes in one line, the chosen representation first and named so.

    `unknown` are those of which some checkpoints do not say how wide their model is.
    """
    others = [
        f"{name} {size_text(size)}"
        for name, size in sizes.items()
        if name != chosen and name not in unknown
    ]
    first = "what hidden states take" if chosen in unknown else size_text(sizes[chosen])
    return f"{first} ({chosen}; as {' or '.join(others)})"


def size_text(n_bytes: float) -> str:
    """Write bytes for people: three digits and a unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 999.5:  # rounds to three digits
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB" if n_bytes < 1000 else f"{n_bytes:,.0f} TB"


def bytes_to_come(ledger: Ledger, retention: str) -> int | None:
    """Return the bytes of log-probs to come of planned checkpoints, going by the same model's.

    None while a model that has any planned has none that was scored.
    """
    of_steps = [0.0]
    for known in ledger.models.values():
        left = Counter(
            step for _, step in known.planned - known.scored.keys() - known.failed.keys()
        )
        if left and not known.scored:
            return None
        total = sum(int(record.get("bytes", 0)) for record in known.scored.values())
        of_steps += [n * total / len(known.scored) for n in left.values()]
    return int(sum(of_steps) if retention == "all" else max(of_steps))


@dataclass(frozen=True)
class Projection:
    """What the log-probs of a study will take."""

    sizes: dict[str, int]  # bytes, as each would take
    free: int  # bytes where the study lies
    text: str  # the same in one line


def project(
    study: StudyFile,
    sources: Mapping[str, Source],
    steps: Sequence[Step],
    n_tokens: int,
    vocab_size: int,
    stored: int,
) -> Projection:
    """Return how much log-probs the work ahead will write; `stored` bytes are there already.

    Raise ConfigError when that is more than is free, or than the study's budget.
    """
    settings, sizes = study.log_probs, dict.fromkeys(REPRESENTATIONS, 0)
    unknown = set[str]()
    for representation, kept in REPRESENTATIONS.items():
        of_steps = [0]
        for step in steps:
            size = 0
            if step.score:
                checkpoint = sources[step.model].checkpoint((step.score[0], step.step))
                if step.model in study.captured:
                    size = captured_bytes(checkpoint, step.model)
                elif kept is not None:
                    config = checkpoint.config() if kept.has_factors else None
                    if kept.has_factors and config is None:  # a loader knows more
                        unknown.add(representation)
                    size = projected_bytes(config, representation, n_tokens, vocab_size)
            of_steps.append(len(step.score) * size)
        sizes[representation] = sum(of_steps) if settings.retention == "all" else max(of_steps)
    needed, free = sizes[settings.representation], disk_free(study.store)
    text = (
        f"{n_tokens:,} tokens x {vocab_size:,} entries; log-probs to come take about "
        f"{describe_sizes(sizes, settings.representation, unknown)}; {size_text(free)} are free"
    )
    if needed > free:
        raise ConfigError(
            f"{study.store}: {text}; free some space, lower corpus.max_tokens, or set "
            'log_probs.representation or log_probs.retention = "until_reduced"'
        )
    if settings.budget_gb is not None and stored + needed > settings.budget_gb * 1e9:
        raise ConfigError(
            f"{study.store}: {text}; with {size_text(stored)} stored already that is more than "
            f"log_probs.budget_gb = {settings.budget_gb:g}; raise it, lower corpus.max_tokens, or "
            'set log_probs.representation or retention = "until_reduced"'
        )
    return Projection(sizes, free, text)
