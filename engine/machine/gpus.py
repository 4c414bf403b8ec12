"""How GPUs fare while they work: as far as it can be known, and never in the way of the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from engine.machine.devices import name_devices
from store.schema import Gpu

T = TypeVar("T")


def read_gpus(devices: Sequence[torch.device]) -> tuple[Gpu, ...]:
    """Read utilisation and memory of those devices that are GPUs; None where unknown.

    Utilisation takes the driver's library (nvidia-ml-py, the extra `gpu`), and so does the memory
    of several: to ask CUDA would take some of each GPU for this process, which does not use them.
    """
    alone = len(devices) == 1
    return tuple(
        _read(name, device, alone=alone)
        for name, device in zip(name_devices(devices), devices, strict=True)
        if device.type == "cuda"
    )


def _read(name: str, device: torch.device, *, alone: bool) -> Gpu:
    percent = _known(lambda: torch.cuda.utilization(device))
    used = _known(lambda: torch.cuda.device_memory_used(device))
    total = _known(lambda: torch.cuda.get_device_properties(device).total_memory)
    if used is None and alone and (memory := _known(lambda: torch.cuda.mem_get_info(device))):
        used = memory[1] - memory[0]
    return Gpu(name, None if percent is None else percent / 100, used, total)


def _known(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Exception:  # the library or the driver is not there, or does not know this kind of GPU
        return None
