"""What a GPU did while something ran, from PyTorch's profiler."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

Span = tuple[float, float]  # start and end, microseconds


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the time that any of the spans covers, as spans that do not touch."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def common(a: list[Span], b: list[Span]) -> float:
    """Return for how long two unions cover the same time."""
    total, n, m = 0.0, 0, 0
    while n < len(a) and m < len(b):
        total += max(0.0, min(a[n][1], b[m][1]) - max(a[n][0], b[m][0]))
        if a[n][1] < b[m][1]:
            n += 1
        else:
            m += 1
    return total


def length(spans: list[Span]) -> float:
    """Return the time that a union covers."""
    return sum(end - start for start, end in spans)


class Trace:
    """A context; afterwards `summary`."""

    def __enter__(self) -> Trace:
        """Begin."""
        from torch.profiler import ProfilerActivity, profile

        self._profile = profile(activities=[ProfilerActivity.CUDA])
        self._profile.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self._profile.__exit__(kind, error, trace)

    def summary(self, n_log_probs: int) -> dict[str, Any]:
        """Return seconds of kernels and copies, and kernels for each million log-probs."""
        from torch.autograd import DeviceType

        kernels: list[Span] = []
        copies: list[Span] = []
        for event in self._profile.events():
            if event.device_type != DeviceType.CUDA:
                continue
            span = event.time_range.start, event.time_range.end
            if event.name.startswith("Memcpy DtoH"):
                copies.append(span)
            elif not event.name.startswith(("Memcpy", "Memset")):
                kernels.append(span)
        if not kernels:
            raise RuntimeError("the profiler saw no kernel")
        busy, copying = union(kernels), union(copies)
        whole = max(busy[-1][1], *(end for _, end in copying[-1:])) - busy[0][0]
        return {
            "seconds": round(whole / 1e6, 3),
            "kernels_seconds": round(length(busy) / 1e6, 3),
            "kernels_share": round(length(busy) / whole, 3),
            "kernels": len(kernels),
            "kernels_a_million_log_probs": round(1e6 * len(kernels) / n_log_probs, 2),
            "copies_seconds": round(length(copying) / 1e6, 3),
            "copies_beside_kernels_share": round(common(busy, copying) / length(copying), 3)
            if copying
            else None,
        }
