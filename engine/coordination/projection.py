"""Project the disk that the log-probs of a study will take, before any are made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.coordination.planner import Step
from engine.coordination.session import disk_free
from engine.errors import CheckpointError, ConfigError
from engine.sources.base import Checkpoint, Source
from engine.sources.captures import read_capture
from engine.study_file.file import StudyFile
from engine.study_file.scoring_section import Keep
from store import REPRESENTATIONS, Ledger
from store.schema import Representation

_WIDEST = 2**18  # no model is so wide; what says so is broken
_WIDTHS = (
    "hidden_size",
    "n_embd",
    "d_model",
    "dim",
)  # what configurations call the number of units
_FACTORED = {name for name, it in REPRESENTATIONS.items() if it and it.has_factors}
_SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap")  # of logits that are no product


def projected_bytes(
    config: Path | None, representation: str, n_tokens: int, vocab_size: int
) -> int:
    """Return how many bytes the log-probs of one checkpoint will take.

    The width of a model is read from its config.json. One that cannot be read is taken as 0 wide:
    such a checkpoint will not be scored either.
    """
    kept = REPRESENTATIONS[representation]
    if kept is None:
        return 0
    units = _width(config) if config and kept.has_factors else 0
    return int(kept.projected_bytes(n_tokens, vocab_size, units))


def expected(keep: Keep, config: Path | None) -> Representation:
    """Return how a checkpoint's log-probs will be kept, as its config.json has it."""
    if keep != "auto":
        return keep
    settings = _settings(config) if config else {}
    return "dense" if any(settings.get(name) for name in _SOFT_CAPS) else "factored"


def captured_bytes(checkpoint: Checkpoint, model: str) -> int:
    """Return how many bytes log-probs take that were captured in training: kept as they came."""
    try:
        files = read_capture(checkpoint.fetch(), model).files
    except CheckpointError:  # it will not be scored either
        return 0
    return sum(file.bytes for name, file in files.items() if not name.startswith("probe"))


def _settings(file: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(file.read_bytes())
        return dict(config.get("text_config", config))
    except Exception:  # anybody wrote it
        return {}


def _width(file: Path) -> int:
    config = _settings(file)
    try:
        width = next((int(config[name]) for name in _WIDTHS if name in config), 0)
    except (TypeError, ValueError, OverflowError):
        return 0
    return width if 0 < width <= _WIDEST else 0


def describe_sizes(
    sizes: Mapping[str, int], needed: int, chosen: Collection[str], unknown: Collection[str] = ()
) -> str:
    """Write the projected sizes in one line: what is needed, as the chosen representations take.

    `unknown` are those of which some checkpoints do not say how wide their model is.
    """
    others = [
        f"{name} {size_text(size)}"
        for name, size in sizes.items()
        if name not in chosen and name not in unknown
    ]
    first = "what hidden states take" if {*chosen} & {*unknown} else size_text(needed)
    return f"{first} ({' and '.join(sorted(chosen))}; {', '.join(others)})"


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
    """The disk that a study's log-probs will take."""

    sizes: dict[str, int]  # bytes, as each would take
    needed: int  # bytes, as they will be kept
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
    settings, chosen, unknown = study.log_probs, set[str](), set[str]()
    of_steps: dict[str, list[int]] = {name: [0] for name in REPRESENTATIONS}
    as_kept = [0]
    for step in steps:
        if not step.score:
            continue
        checkpoint = sources[step.model].checkpoint((step.score[0], step.step))
        if step.model in study.captured:  # as it came
            of_one = dict.fromkeys(REPRESENTATIONS, captured_bytes(checkpoint, step.model))
            config = None
        else:
            config = checkpoint.config()
            of_one = {
                name: projected_bytes(config, name, n_tokens, vocab_size)
                for name in REPRESENTATIONS
            }
            if config is None:  # a loader knows more
                unknown |= _FACTORED
        kept = expected(settings.representation, config)
        chosen.add(kept)
        as_kept.append(len(step.score) * of_one[kept])
        for name, size in of_one.items():
            of_steps[name].append(len(step.score) * size)
    total = sum if settings.retention == "all" else max
    sizes, needed = {name: total(each) for name, each in of_steps.items()}, total(as_kept)
    if chosen:  # where no checkpoint says how wide its model is
        unknown |= {name for name in _FACTORED if not sizes[name]}
    chosen = chosen or {expected(settings.representation, None)}
    free = disk_free(study.store)
    text = (
        f"{n_tokens:,} tokens, vocabulary {vocab_size:,}: log-probs will take about "
        f"{describe_sizes(sizes, needed, chosen, unknown)}; {size_text(free)} are free"
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
    return Projection(sizes, needed, free, text)
