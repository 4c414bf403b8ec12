"""Takes no more of a machine than a study's [limits] allow: priority, threads, a GPU's memory."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from engine.errors import ConfigError
from engine.machine.devices import DeviceGroup
from engine.machine.host_memory import resident_bytes
from engine.study_file.limits_section import LimitsSection
from store import limit_threads

if TYPE_CHECKING:
    import torch

_TASKS = Path("/proc/self/task")
_POOLS = ("OMP", "OPENBLAS", "MKL", "BLIS", "RAYON")  # of torch, numpy, spaCy, tokenizers


def limit_process(limits: LimitsSection) -> None:
    """Hold this process, and everything that it starts, to priority and threads.

    To be called before there is much work, and again once torch is imported: pools of threads that
    some libraries make at their first use take their size from the environment.
    """
    if limits.nice is not None:
        _be_nice(limits.nice)
    if limits.threads is not None:
        _limit_threads(limits.threads)


def _be_nice(nice: int) -> None:
    """Take at least this niceness. Linux gives each thread its own; new ones inherit it.

    The kernel derives the priority of a thread's disk accesses from it, where a disk has any.
    """
    tasks = [int(task.name) for task in _TASKS.iterdir()] if _TASKS.exists() else [0]
    for task in tasks:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            if os.getpriority(os.PRIO_PROCESS, task) < nice:
                os.setpriority(os.PRIO_PROCESS, task, nice)


def _limit_threads(threads: int) -> None:
    for pool in _POOLS:
        name = f"{pool}_NUM_THREADS"
        own = os.environ.get(name, "")
        most = int(own) if own.isdecimal() and int(own) else os.cpu_count() or 1
        os.environ[name] = str(min(threads, most))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(min(threads, torch.get_num_threads()))
    with warnings.catch_warnings(action="ignore"):  # of two OpenMP libraries in one process
        threadpool_limits(threads)  # of libraries that are loaded already
    limit_threads(threads)


def refuse_other_gpus(limits: LimitsSection, groups: Sequence[DeviceGroup]) -> None:
    """Raise ConfigError when a limit is about GPUs that are not there, or not as it takes them."""
    if limits.gpu_memory_gb is None and limits.gpu_below is None:
        return
    gpus = [gpu for group in groups for gpu in group.gpus]
    for name in ("gpu_memory_gb", "gpu_below"):
        if getattr(limits, name) is not None and not gpus:
            instead = ", or use limits.cpu_below" if name == "gpu_below" else ""
            raise ConfigError(
                f"limits.{name}: the study is scored on the CPU (scoring.device); leave it out"
                f"{instead}"
            )
    often = Counter(_index(gpu) for gpu in gpus)
    if limits.gpu_below is not None and max(often.values()) > 1:
        raise ConfigError(
            "limits.gpu_below: scoring.device names a GPU twice, and the two would wait for each "
            "other; name it once"
        )
    import torch

    for gpu in gpus:
        total = torch.cuda.get_device_properties(gpu).total_memory / 1e9
        if limits.gpu_memory_gb is not None and limits.gpu_memory_gb > total:
            raise ConfigError(
                f"limits.gpu_memory_gb: {gpu} has {total:.3g} GB, found {limits.gpu_memory_gb:g}"
            )


def refuse_too_little(limits: LimitsSection, processes: int) -> None:
    """Raise ConfigError when these processes alone, without any model, take more memory."""
    if limits.memory_gb is not None:
        import transformers  # noqa: F401  which passes need, and torch; most of what is taken

        needed = processes * resident_bytes() / 1e9
        if needed >= limits.memory_gb:
            raise ConfigError(
                f"limits.memory_gb: the engine alone takes {needed:.2g} GB in {processes} "
                f"process{'es' * (processes > 1)}, before any model; found {limits.memory_gb:g}"
            )


def limit_gpus(limits: LimitsSection, devices: DeviceGroup) -> None:
    """Have torch take no more of each GPU: beyond it memory counts as run out; work is halved.

    The driver's own, some 0.3 to 0.6 GB for each process, comes on top.
    """
    if limits.gpu_memory_gb is None:
        return
    import torch

    for gpu in devices.gpus:
        total = torch.cuda.get_device_properties(gpu).total_memory
        fraction = min(1.0, limits.gpu_memory_gb * 1e9 / total)
        torch.cuda.set_per_process_memory_fraction(fraction, _index(gpu))


def _index(device: torch.device) -> int:
    import torch

    return torch.cuda.current_device() if device.index is None else device.index
