"""Recognise errors of a device: torch gives many of them in words only.

Nothing here imports torch: what reads text asks the same of its errors, where no device works.
"""

from __future__ import annotations

import sys

_MEMORY = (
    "out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory",
    "can't start new thread",  # nothing is left for its stack
    "RESOURCE_EXHAUSTED",  # of XLA, where a loader's model is one of JAX
)  # fmt: skip
_DEVICE = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "NCCL error")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device, or the host, had no memory left. It may have some later."""
    torch = sys.modules.get("torch")  # no error is one of its own before it is imported
    if isinstance(error, MemoryError):
        return True
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY)


def is_dead_device(error: BaseException) -> bool:
    """Return whether a device does not work any more in this process, whatever it is given."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    return type(error).__name__ == "AcceleratorError" or any(sign in str(error) for sign in _DEVICE)
