"""From the device to the host, during the computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self._pinned: tuple[dict[tuple[int, str], torch.Tensor], ...] = ({}, {})
        self._turn = 0

    def start(
        self, groups: Sequence[Mapping[str, torch.Tensor]]
    ) -> Callable[[], list[dict[str, NDArray[Any]]]]:
        """Begin to copy groups of tensors, such as those of a seed.

        Return a function that waits for the copies and gives them as arrays, in the same groups.
        """
        if self._stream is None:
            return lambda: [{name: tensor.numpy() for name, tensor in g.items()} for g in groups]
        self._turn = 1 - self._turn
        pinned = self._pinned[self._turn]
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        copies: list[dict[str, torch.Tensor]] = [{} for _ in groups]
        with torch.cuda.stream(self._stream):
            for group, tensors in enumerate(groups):
                for name, tensor in tensors.items():
                    buffer = pinned.get((group, name))
                    n, dtype = tensor.numel(), tensor.dtype
                    if buffer is None or buffer.dtype != dtype or len(buffer) < n:
                        buffer = torch.empty(n, dtype=dtype, pin_memory=True)
                        pinned[group, name] = buffer
                    copy = copies[group][name] = buffer[:n].view(tensor.shape)
                    copy.copy_(tensor, non_blocking=True)
                    tensor.record_stream(self._stream)
            done = self._stream.record_event()

        def fetch() -> list[dict[str, NDArray[Any]]]:
            done.synchronize()
            return [{name: copy.numpy() for name, copy in group.items()} for group in copies]

        return fetch
