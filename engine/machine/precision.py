"""Products of float32 in full, whatever the user's code has chosen for the process."""

from __future__ import annotations

from typing import Any

import torch


def multiply_in_full() -> None:
    """Allow neither TF32 nor bfloat16 in products of float32, on GPUs and on CPUs."""
    backends: Any = torch.backends
    # Set and not asked for: torch refuses to answer where old and new settings were mixed.
    backends.cuda.matmul.allow_tf32 = False
    backends.cudnn.allow_tf32 = False
    for name in ("matmul", "conv", "rnn"):
        place: Any = getattr(backends.mkldnn, name, None)
        if hasattr(place, "fp32_precision"):  # since torch 2.9
            place.fp32_precision = "ieee"
