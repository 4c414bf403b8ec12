"""How much disk the log-probs of a study will take, before any are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from store import Representation

REPRESENTATIONS: tuple[Representation, ...] = get_args(Representation)

DENSE_BYTES = 1.3  # per log-prob on disk; measured by benchmarks/codecs.py
_FACTOR_BYTES = 4.0  # per number of a factor; weights trained in half precision take half
_WIDTHS = ("hidden_size", "n_embd", "d_model")  # what configurations call the number of units


def projected_bytes(
    config: Path | None, representation: Representation, n_tokens: int, vocab_size: int
) -> int:
    """Bytes that the log-probs of one checkpoint will take.

    The width of a model is read from its config.json. One that cannot be read is taken as 0 wide:
    such a checkpoint will not be scored either.
    """
    if representation == "none":
        return 0
    if representation == "dense":
        return int(DENSE_BYTES * n_tokens * vocab_size)
    return int(_FACTOR_BYTES * (n_tokens + vocab_size) * (_width(config) if config else 0))


def _width(file: Path) -> int:
    try:
        config = json.loads(file.read_bytes())
        config = config.get("text_config", config)
        return next(int(config[name]) for name in _WIDTHS if name in config)
    except (OSError, ValueError, TypeError, AttributeError, StopIteration):
        return 0


def describe_sizes(sizes: Mapping[Representation, int], chosen: Representation) -> str:
    """The projected sizes in one line, the chosen representation first and named so."""
    others = [f"{name} {size_text(size)}" for name, size in sizes.items() if name != chosen]
    return f"{size_text(sizes[chosen])} ({chosen}; as {' or '.join(others)})"


def size_text(n_bytes: float) -> str:
    """Bytes for people: three digits and a unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 999.5:  # rounds to three digits
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB" if n_bytes < 1000 else f"{n_bytes:,.0f} TB"
