"""The devices of this machine that work on a study, and their names.

Torch is imported when it has to be asked: a CPU is there without it, and so are groups of names.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from store.words import counted

if TYPE_CHECKING:
    import torch

_DRIVERS = ("libcuda.so.1", "nvcuda.dll")  # without which CUDA finds no GPU
_ROCM_DEVICE = Path("/dev/kfd")


@dataclass(frozen=True)
class DeviceGroup:
    """The place of one worker: a device, or several over which each model's layers are split."""

    names: tuple[str, ...]  # as torch calls them

    @classmethod
    def parse(cls, setting: str) -> DeviceGroup:
        """Return the group that a setting such as "cuda:0" or "cuda:0+cuda:1" names."""
        return cls(tuple(setting.split("+")))

    def __str__(self) -> str:
        return "+".join(self.names)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Return its devices, in the order in which layers lie on them."""
        import torch

        return tuple(map(torch.device, self.names))

    @property
    def output(self) -> torch.device:
        """Return the device on which log-probs are computed: the last, where the layers end."""
        return self.devices[-1]

    @property
    def gpus(self) -> tuple[torch.device, ...]:
        """Return those of its devices that are GPUs."""
        if not self.has_gpus:
            return ()
        return tuple(device for device in self.devices if device.type == "cuda")

    @property
    def has_gpus(self) -> bool:
        """Return whether any of its devices is a GPU."""
        return any(name.startswith("cuda") for name in self.names)

    @property
    def splits(self) -> bool:
        """Return whether a model's layers lie on several devices."""
        return len(self.names) > 1


def choose_devices(setting: str) -> tuple[DeviceGroup, ...]:
    """Return the devices of a setting such as "auto" or "cuda:0,cuda:1", in its order.

    "cuda:0+cuda:1" is one group of two. Raise ConfigError naming one that is not there, or that a
    group names twice.
    """
    return tuple(_choose(part.strip()) for part in setting.split(","))


def _choose(setting: str) -> DeviceGroup:
    if setting == "auto":
        return DeviceGroup.parse("cuda" if _has_gpu() else "cpu")
    group = DeviceGroup.parse(setting)
    if not group.has_gpus:
        return group
    import torch

    found = torch.cuda.device_count()
    indices = [gpu.index or 0 for gpu in group.gpus]
    if len(set(indices)) < len(indices):
        raise ConfigError(
            f'scoring.device: found "{setting}", which names a GPU twice; layers are split over '
            "different ones"
        )
    if any(index >= found for index in indices):
        raise ConfigError(
            f'scoring.device: found "{setting}", but this machine has {counted(found, "GPU")} that '
            'PyTorch can use. Set it to "auto" or "cpu"'
        )
    return group


def _has_gpu() -> bool:
    """Return whether torch finds a GPU; it is not imported where it cannot."""
    if "torch" not in sys.modules and not _may_have_gpu():
        return False
    import torch

    return torch.cuda.is_available()


def _may_have_gpu() -> bool:
    """Return False where torch is made for CPUs alone, or there is no driver of a GPU."""
    try:
        spec = find_spec("torch")
        file = str(Path(spec.origin or "").with_name("version.py")) if spec is not None else ""
        loader = SourceFileLoader("torch_version", file)
        made_for = module_from_spec(spec_from_loader(loader.name, loader))  # type: ignore[arg-type]
        loader.exec_module(made_for)
        cuda, rocm = made_for.cuda is not None, made_for.hip is not None
    except Exception:  # it has no such file any more: torch knows
        return True
    return (cuda and any(map(_loads, _DRIVERS))) or (rocm and _ROCM_DEVICE.exists())


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def name_devices(groups: Sequence[DeviceGroup]) -> tuple[str, ...]:
    """Name each: "cuda:1"; numbered where one is named more than once: "cpu (2)"."""
    often, seen = Counter(map(str, groups)), Counter[str]()
    names = []
    for name in map(str, groups):
        seen[name] += 1
        names.append(f"{name} ({seen[name]})" if often[name] > 1 else name)
    return tuple(names)


def describe_devices(groups: Sequence[DeviceGroup]) -> str:
    """Describe all of them in one line, for people.

    How many threads work on a CPU is known once torch is imported.
    """
    threads = threads_each(groups) if "torch" in sys.modules else None
    found = Counter(_describe(group, threads) for group in groups)
    return "; ".join(f"{n} x {name}" if n > 1 else name for name, n in found.items())


def _describe(group: DeviceGroup, threads: int | None) -> str:
    if not group.has_gpus:
        return "CPU" if threads is None else f"CPU, {counted(threads, 'thread')}"
    import torch

    kinds = Counter(map(torch.cuda.get_device_name, group.gpus))
    names = " + ".join(f"{n} {name}" if n > 1 else name for name, n in kinds.items())
    return f"({names})" if group.splits else names


def threads_each(groups: Sequence[DeviceGroup]) -> int:
    """Return threads of each worker on the CPU: they share those that torch would use."""
    import torch

    workers = sum(not group.has_gpus for group in groups)
    return max(1, torch.get_num_threads() // max(1, workers))
