"""Which workers there are: each way to work, and the settings that ask for it."""

from __future__ import annotations

from functools import partial

from engine.machine.devices import choose_devices, describe_devices
from engine.machine.gate import gated
from engine.machine.gpus import read_gpus
from engine.machine.limits import refuse_other_gpus, refuse_too_little
from engine.models.spreading import require_accelerate
from engine.study_file.limits_section import LimitsSection
from engine.study_file.scoring_section import ScoringSection
from engine.workers.cluster_kinds import find_in_cluster
from engine.workers.executor import FoundDevices
from engine.workers.inline import InlineExecutor
from engine.workers.processes import ProcessExecutor


def find_devices(
    scoring: ScoringSection, cluster: tuple[str, str] | None, limits: LimitsSection
) -> FoundDevices:
    """Find the devices of `scoring.device`, here or in a cluster: its name and its address.

    Raise ConfigError when one is not there, the limits do not suit them, or a library is missing
    that spreads models over them.
    """
    if scoring.offload is not None:
        require_accelerate("scoring.offload")
    if cluster is not None:
        return find_in_cluster(*cluster, scoring.device)
    if "+" in scoring.device:
        require_accelerate("scoring.device")
    devices = choose_devices(scoring.device)
    refuse_other_gpus(limits, devices)
    refuse_too_little(limits, len(devices) + (len(devices) > 1))
    for group in devices:
        gated(limits, group, lambda work: None)  # or a process of its own would find it out
    if len(devices) > 1:
        executor = partial(ProcessExecutor, devices)
        return FoundDevices(describe_devices(devices), partial(read_gpus, devices), executor)
    inline = partial(InlineExecutor, devices[0])
    return FoundDevices(describe_devices(devices), partial(read_gpus, devices), inline)
