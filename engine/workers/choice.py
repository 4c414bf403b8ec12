"""Choose the workers: a table of executors, and the settings that ask for each.

What works, torch among it, is imported when there is work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec

from engine.errors import ConfigError
from engine.machine.devices import DeviceGroup, choose_devices, describe_devices
from engine.machine.gate import gated
from engine.machine.gpus import read_gpus
from engine.machine.limits import refuse_other_gpus, refuse_too_little
from engine.sources.base import Source
from engine.study_file.limits_section import LimitsSection
from engine.study_file.scoring_section import ScoringSection
from engine.workers.cluster_kinds import find_in_cluster
from engine.workers.executor import Board, Executor, FoundDevices
from engine.workers.messages import Job
from store.writing import CellWriter


def find_devices(
    scoring: ScoringSection, cluster: tuple[str, str] | None, limits: LimitsSection
) -> FoundDevices:
    """Find the devices of `scoring.device`, here or in a cluster: its name and its address.

    Raise ConfigError when one is not there, the limits do not suit them, or a library is missing
    that spreads models over them.
    """
    if scoring.offload is not None:
        _require_accelerate("scoring.offload")
    if cluster is not None:
        return find_in_cluster(*cluster, scoring.device)
    if "+" in scoring.device:
        _require_accelerate("scoring.device")
    devices = choose_devices(scoring.device)
    refuse_other_gpus(limits, devices)
    refuse_too_little(limits, len(devices) + (len(devices) > 1))
    for group in devices:
        gated(limits, group, lambda work: None)  # or a process of its own would find it out
    return FoundDevices(
        partial(describe_devices, devices), partial(read_gpus, devices), partial(_executor, devices)
    )


def _require_accelerate(field: str) -> None:
    """Raise ConfigError that names a field of the study file which needs accelerate."""
    if find_spec("accelerate") is None:
        raise ConfigError(
            f"{field}: needs accelerate, which is not installed: "
            "pip install 'seedconv-tui[engine,accelerate]'"
        )


def _executor(
    devices: Sequence[DeviceGroup],
    job: Job,
    sources: Mapping[str, Source],
    results: CellWriter,
    board: Board,
) -> Executor:
    if len(devices) > 1:
        from engine.workers.processes import ProcessExecutor

        return ProcessExecutor(devices, job, sources, results, board)
    from engine.workers.inline import InlineExecutor

    return InlineExecutor(devices[0], job, sources, results, board)
