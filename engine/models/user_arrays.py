"""Turn a user function's results into tensors: from torch, numpy, or what shares its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack


class WrongOutputError(Exception):
    """A user's model returned what are no logits, or no hidden states."""


def to_tensor(value: Any, what: str) -> torch.Tensor:
    """Return floating-point numbers as a tensor, on the device where they are if torch knows it.

    `what` names them. Raise WrongOutputError.
    """
    tensor = _as_tensor(value, what)
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise WrongOutputError(f"{what} should be floating-point numbers, found {kind}")
    return tensor.detach()


def _as_tensor(value: Any, what: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if not isinstance(value, np.ndarray):
        if hasattr(value, "__dlpack__"):
            try:
                return from_dlpack(value)
            except (BufferError, RuntimeError, TypeError):  # as of memory that torch cannot reach
                if not hasattr(value, "__array__"):
                    raise
        if not hasattr(value, "__array__"):
            kind = type(value).__name__
            raise WrongOutputError(f"{what} should be an array or a tensor, found {kind}")
        value = np.asarray(value)
    if not value.flags.writeable:  # torch would warn of it
        value = value.copy()
    try:
        return torch.from_numpy(np.ascontiguousarray(value))
    except TypeError:
        raise WrongOutputError(
            f"{what} should be of a type that torch has, found {value.dtype}"
        ) from None


def check_shape(found: torch.Tensor, ids: tuple[int, ...], what: str, last: str) -> None:
    """Raise WrongOutputError unless a tensor is (batch, position, ...) of the ids."""
    if found.ndim != 3 or tuple(found.shape[:2]) != tuple(ids):
        raise WrongOutputError(
            f"{what} should have the shape (batch, position, {last}), {ids[0]} x {ids[1]} x ..., "
            f"found {' x '.join(map(str, found.shape)) or 'a single number'}"
        )
