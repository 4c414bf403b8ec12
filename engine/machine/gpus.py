"""The load of GPUs, as far as it can be known; reading it never delays the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from engine.machine.devices import DeviceGroup, name_devices
from store.schema import Gpu

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Number = TypeVar("Number", int, float)


def read_gpus(groups: Sequence[DeviceGroup]) -> tuple[Gpu, ...]:
    """Read utilisation and memory of those groups that are GPUs; None where unknown.

    Of several GPUs over which models are split it is the mean utilisation, and all their memory.

    Utilisation takes the driver's library (nvidia-ml-py, the extra `gpu`), and so does the memory
    of several: to ask CUDA would take some of each GPU for this process, which does not use them.
    """
    alone = len(groups) == 1
    return tuple(
        _together(name, [_read(name, gpu, alone=alone) for gpu in group.gpus])
        for name, group in zip(name_devices(groups), groups, strict=True)
        if group.has_gpus
    )


def _together(name: str, gpus: Sequence[Gpu]) -> Gpu:
    utilisation = _sum([gpu.utilisation for gpu in gpus])
    return Gpu(
        name,
        None if utilisation is None else utilisation / len(gpus),
        _sum([gpu.memory_used for gpu in gpus]),
        _sum([gpu.memory_total for gpu in gpus]),
    )


def _sum(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    first, *others = known
    return sum(others, first)


def _read(name: str, device: torch.device, *, alone: bool) -> Gpu:
    import torch

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
