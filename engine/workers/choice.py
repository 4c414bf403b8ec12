"""Who works on a study: one device in this process, several in processes, or a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from engine.machine.devices import choose_devices, describe_devices, name_devices
from engine.machine.gate import gated
from engine.machine.gpus import read_gpus
from engine.machine.limits import limit_gpu, refuse_other_gpus, refuse_too_little
from engine.sources.base import Source
from engine.study_file.limits_section import LimitsSection
from engine.workers.executor import Board, Executor, InlineExecutor
from engine.workers.messages import Job
from engine.workers.processes import ProcessExecutor
from engine.workers.worker import Worker
from store.schema.snapshot import Gpu
from store.writing.cells import CellWriter


class Crew(Protocol):
    """Devices that were found to be there. Nothing works yet."""

    @property
    def description(self) -> str:
        """All devices in one line, for people."""

    def gpus(self) -> tuple[Gpu, ...]:
        """How its GPUs fare just now; none of which that cannot be told. Never raises."""

    def executor(
        self,
        job: Job,
        sources: Mapping[str, Source],
        results: CellWriter,
        board: Board,
    ) -> Executor:
        """Have them work. `sources` are those that look for what is there."""


class LocalCrew:
    """Devices of this machine."""

    def __init__(self, setting: str, limits: LimitsSection) -> None:
        """Take the devices of `scoring.device`.

        Raises ConfigError when one is not there, or the limits do not suit them.
        """
        self._devices = choose_devices(setting)
        refuse_other_gpus(limits, self._devices)
        workers = len(self._devices)
        refuse_too_little(limits, workers + (workers > 1))
        for device in self._devices:
            gated(limits, device, lambda work: None)  # or a process of its own would find it out
        self.description = describe_devices(self._devices)

    def gpus(self) -> tuple[Gpu, ...]:
        """How the GPUs of this machine that work on the study fare."""
        return read_gpus(self._devices)

    def executor(
        self,
        job: Job,
        sources: Mapping[str, Source],
        results: CellWriter,
        board: Board,
    ) -> Executor:
        """One device works in this process, several in one process each."""
        if len(self._devices) > 1:
            return ProcessExecutor(self._devices, job, sources, results, board)
        (device,), (name,) = self._devices, name_devices(self._devices)
        limits = job.study.limits
        limit_gpu(limits, device)
        report = gated(limits, device, lambda work: board.show(name, work))
        worker = Worker(
            job.study, job.text, job.tokenizer, sources, device, results, report, job.probes
        )
        return InlineExecutor(worker)


def choose_crew(device: str, ray: str | None, limits: LimitsSection) -> Crew:
    """The devices of `scoring.device`, here or, with an address, in a Ray cluster.

    Raises ConfigError when they are not there, ModuleNotFoundError when Ray is not installed.
    """
    if ray is None:
        return LocalCrew(device, limits)
    from engine.workers.ray import RayCrew

    return RayCrew(ray, device)
