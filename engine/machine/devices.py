"""Which devices of this machine work on a study, and how they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from engine.errors import ConfigError


def choose_devices(setting: str) -> tuple[torch.device, ...]:
    """Return the devices of a setting such as "auto" or "cuda:0,cuda:1", in its order.

    Raise ConfigError naming one that is not there.
    """
    return tuple(_choose(part.strip()) for part in setting.split(","))


def _choose(setting: str) -> torch.device:
    """Return the device for "auto", "cpu", "cuda" or "cuda:<n>".

    Raise ConfigError when there is no such device.
    """
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(setting)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f'scoring.device: found "{setting}", but this machine has {found} GPUs')
    return device


def name_devices(devices: Sequence[torch.device]) -> tuple[str, ...]:
    """Name each: "cuda:1"; numbered where one is named more than once: "cpu (2)"."""
    often, seen = Counter(map(str, devices)), Counter[str]()
    names = []
    for device in map(str, devices):
        seen[device] += 1
        names.append(f"{device} ({seen[device]})" if often[device] > 1 else device)
    return tuple(names)


def describe_devices(devices: Sequence[torch.device]) -> str:
    """Describe all of them in one line, for people."""
    threads = threads_each(devices)
    found = Counter(
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {threads} thread{'s' * (threads != 1)}"
        for device in devices
    )
    return "; ".join(f"{n} x {name}" if n > 1 else name for name, n in found.items())


def threads_each(devices: Sequence[torch.device]) -> int:
    """Return threads of each worker on the CPU: they share those that torch would use."""
    workers = sum(device.type == "cpu" for device in devices)
    return max(1, torch.get_num_threads() // max(1, workers))
