"""From the device to the host, beside the computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from numpy.typing import NDArray


class HostCopies:
    """Copies results to the host. On a GPU through two sets of pinned buffers and its own stream.

    A copy that was started must be fetched before the second one after it is started, because that
    reuses its buffers.
    """

    def __init__(self, device: torch.device) -> None:
        new_stream: Any = torch.cuda.Stream
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = new_stream(device)
        self._pinned: tuple[dict[str, torch.Tensor], ...] = ({}, {})
        self._turn = 0

    def start(self, tensors: Mapping[str, torch.Tensor]) -> Callable[[], dict[str, NDArray[Any]]]:
        """Begin; what is returned waits for the copies and gives them as arrays."""
        if self._stream is None:
            return lambda: {name: tensor.numpy() for name, tensor in tensors.items()}
        self._turn = 1 - self._turn
        pinned = self._pinned[self._turn]
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        copies: dict[str, torch.Tensor] = {}
        with torch.cuda.stream(self._stream):
            for name, tensor in tensors.items():
                buffer = pinned.get(name)
                if buffer is None or buffer.dtype != tensor.dtype or len(buffer) < tensor.numel():
                    buffer = torch.empty(tensor.numel(), dtype=tensor.dtype, pin_memory=True)
                    pinned[name] = buffer
                copies[name] = buffer[: tensor.numel()].view(tensor.shape)
                copies[name].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._stream)
            done = self._stream.record_event()

        def fetch() -> dict[str, NDArray[Any]]:
            done.synchronize()
            return {name: copy.numpy() for name, copy in copies.items()}

        return fetch
