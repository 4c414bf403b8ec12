"""Which devices of this machine work on a study, and how they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.errors import ConfigError
from store.words import counted


@dataclass(frozen=True)
class DeviceGroup:
    """What one worker works on: a device, or several over which each model's layers are split."""

    devices: tuple[torch.device, ...]

    @classmethod
    def parse(cls, setting: str) -> DeviceGroup:
        """Return the group that a setting such as "cuda:0" or "cuda:0+cuda:1" names."""
        return cls(tuple(torch.device(part) for part in setting.split("+")))

    def __str__(self) -> str:
        return "+".join(map(str, self.devices))

    @property
    def output(self) -> torch.device:
        """Return the device on which log-probs are computed: the last, where the layers end."""
        return self.devices[-1]

    @property
    def gpus(self) -> tuple[torch.device, ...]:
        """Return those of its devices that are GPUs."""
        return tuple(device for device in self.devices if device.type == "cuda")

    @property
    def splits(self) -> bool:
        """Return whether a model's layers lie on several devices."""
        return len(self.devices) > 1


def choose_devices(setting: str) -> tuple[DeviceGroup, ...]:
    """Return the devices of a setting such as "auto" or "cuda:0,cuda:1", in its order.

    "cuda:0+cuda:1" is one group of two. Raise ConfigError naming one that is not there, or that a
    group names twice.
    """
    return tuple(_choose(part.strip()) for part in setting.split(","))


def _choose(setting: str) -> DeviceGroup:
    if setting == "auto":
        return DeviceGroup.parse("cuda" if torch.cuda.is_available() else "cpu")
    group = DeviceGroup.parse(setting)
    found = torch.cuda.device_count()
    indices = [gpu.index or 0 for gpu in group.gpus]
    if len(set(indices)) < len(indices):
        raise ConfigError(
            f'scoring.device: found "{setting}", which names a GPU twice; layers are split over '
            "different ones"
        )
    if any(index >= found for index in indices):
        raise ConfigError(f'scoring.device: found "{setting}", but this machine has {found} GPUs')
    return group


def name_devices(groups: Sequence[DeviceGroup]) -> tuple[str, ...]:
    """Name each: "cuda:1"; numbered where one is named more than once: "cpu (2)"."""
    often, seen = Counter(map(str, groups)), Counter[str]()
    names = []
    for name in map(str, groups):
        seen[name] += 1
        names.append(f"{name} ({seen[name]})" if often[name] > 1 else name)
    return tuple(names)


def describe_devices(groups: Sequence[DeviceGroup]) -> str:
    """Describe all of them in one line, for people."""
    threads = threads_each(groups)
    found = Counter(_describe(group, threads) for group in groups)
    return "; ".join(f"{n} x {name}" if n > 1 else name for name, n in found.items())


def _describe(group: DeviceGroup, threads: int) -> str:
    if not group.gpus:
        return f"CPU, {counted(threads, 'thread')}"
    kinds = Counter(map(torch.cuda.get_device_name, group.gpus))
    names = " + ".join(f"{n} {name}" if n > 1 else name for name, n in kinds.items())
    return f"({names})" if group.splits else names


def threads_each(groups: Sequence[DeviceGroup]) -> int:
    """Return threads of each worker on the CPU: they share those that torch would use."""
    workers = sum(not group.gpus for group in groups)
    return max(1, torch.get_num_threads() // max(1, workers))
