"""Lets others go first: scoring rests while training on the same machine has much to do.

A GPU's driver reports the share of time in which anybody's kernel ran, ours included. So the
gate reads it only when the engine has let the GPU rest for longer than the driver looks back: then
it is the others' alone. This asks nothing of the driver but the one number that it has for every
GPU; what it has for each process goes by numbers that are others inside a container. Of the CPU it
is known what each process took, and what the engine's did is subtracted.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import psutil

from engine.errors import ConfigError
from engine.machine.devices import DeviceGroup
from engine.study_file.limits_section import LimitsSection
from store.schema import Work

if TYPE_CHECKING:
    import torch

EVERY_SECONDS = 30.0  # of work between two looks at what others do
REST_SECONDS = 1.5  # the driver looks back one second at most
READ_SECONDS = 1.0  # between two readings
LOW_AT_FIRST = 3  # readings in a row that must be low before work begins,
LOW_TO_GO_ON = 2  # when it is looked whether work may go on,
LOW_AFTER_WAIT = 5  # and to begin again: longer than training takes to save or to load
_SLICE_SECONDS = 0.2  # within which a request to stop is noticed

Report = Callable[[Work], None]


@dataclass(frozen=True)
class Meter:
    """Something that others use."""

    name: str
    read: Callable[[], float | None]  # percent that others use; None: not known just now
    below: float  # percent
    rest: bool = False  # whether `read` is about others alone only when we do nothing


class Gate:
    """Stands between the work and its reports: each report returns once work may go on."""

    def __init__(
        self,
        meters: Sequence[Meter],
        report: Report,
        settle: Callable[[], None] = lambda: None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take `report`, which may raise to stop the work; `settle` waits for the device."""
        self._meters, self._report, self._settle = meters, report, settle
        self._sleep, self._clock = sleep, clock
        self._due: float | None = None

    def __call__(self, work: Work) -> None:
        """Report, and wait if it is time to look and others are busy."""
        self._report(work)
        if self._due is None or self._clock() >= self._due:
            self._wait(work, LOW_AT_FIRST if self._due is None else LOW_TO_GO_ON)
            self._due = self._clock() + EVERY_SECONDS

    def _wait(self, work: Work, needed: int) -> None:
        """Return once that many readings in a row were low; more after one that was not."""
        if any(meter.rest for meter in self._meters):
            self._settle()
            self._pass_time(REST_SECONDS, work)
        low, shown = 0, work
        while True:
            if (busy := self._busy()) is None:
                low += 1
                if low >= needed:
                    break
            else:
                low, needed = 0, LOW_AFTER_WAIT
                shown = replace(work, paused=busy)
            self._pass_time(READ_SECONDS, shown)
        if shown is not work:
            self._report(work)

    def _busy(self) -> str | None:
        """Return what others use too much of; None: nothing. Every meter is read, to keep up."""
        found = [(meter, meter.read()) for meter in self._meters]
        for meter, percent in found:
            if percent is None:
                return f"use of the {meter.name} cannot be read"
            if percent >= meter.below:
                return f"{meter.name} at {percent:.0f} % by others"
        return None

    def _pass_time(self, seconds: float, shown: Work) -> None:
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            self._report(shown)
            self._sleep(min(left, _SLICE_SECONDS))


def gated(limits: LimitsSection, devices: DeviceGroup, report: Report) -> Report:
    """Return the report, or one that waits for others where the limits say so.

    Raise ConfigError when what they use cannot be measured.
    """
    meters = []
    if limits.gpu_below is not None:
        for gpu in devices.gpus:
            _refuse_unmeasurable(gpu)
            name = f"GPU {gpu}" if devices.splits else "GPU"
            meters.append(Meter(name, partial(_gpu_percent, gpu), limits.gpu_below, rest=True))
    if limits.cpu_below is not None:
        meters.append(Meter("CPU", OthersOnCpu().percent, limits.cpu_below))
    if not meters:
        return report

    def settle() -> None:
        import torch

        for gpu in devices.gpus:
            torch.cuda.synchronize(gpu)

    return Gate(meters, report, settle)


def _gpu_percent(device: torch.device) -> float | None:
    import torch

    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # the driver's library has errors of its own
        return None


def _refuse_unmeasurable(device: torch.device) -> None:
    import torch

    try:
        torch.cuda.utilization(device)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = "; that needs nvidia-ml-py: pip install 'seedconv-tui[gpu]'"
        raise ConfigError(
            f"limits.gpu_below: the utilisation of {device} cannot be read: {reason}{hint}"
        ) from None


class OthersOnCpu:
    """The share of all cores' time that processes took which are not the engine's."""

    def __init__(self) -> None:
        parent = multiprocessing.parent_process()
        self._engine = psutil.Process(os.getpid() if parent is None else parent.pid)
        self._before = self._now()

    def percent(self) -> float | None:
        """Return the share since it was asked last; None: no time has passed."""
        before, self._before = self._before, self._now()
        total, busy, ours = (now - then for now, then in zip(self._before, before, strict=True))
        return None if total <= 0 else 100 * max(0.0, busy - max(0.0, ours)) / total

    def _now(self) -> tuple[float, float, float]:
        """Return seconds of all cores so far: all, those not idle, and those the engine took."""
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        # A guest's time is in `user` too.
        total = sum(machine) - getattr(machine, "guest", 0.0) - getattr(machine, "guest_nice", 0.0)
        ours = 0.0
        for process in (self._engine, *self._engine.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # just ended: its parent has its time
                ours += sum(process.cpu_times()[:4])  # its own, and of children that have ended
        return total, total - idle, ours
