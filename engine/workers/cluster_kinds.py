"""Clusters that can do the work, each with the option of `seedconv run` that asks for it.

The command line lists them, so nothing heavy is imported before one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.workers.executor import FoundDevices


@dataclass(frozen=True)
class Cluster:
    """A kind of cluster. Its name is that of the option, of the library and of the extra."""

    title: str
    option_help: str
    # Takes an address and `scoring.device`; raises ConfigError when either is of no use.
    find: Callable[[str, str], FoundDevices]


def _find_ray(address: str, setting: str) -> FoundDevices:
    from engine.workers.ray import find_cluster

    return find_cluster(address, setting)


CLUSTERS: Mapping[str, Cluster] = {
    "ray": Cluster(
        title="Ray",
        option_help='do the work on a Ray cluster: "auto" for the one of this machine, '
        "or host:port",
        find=_find_ray,
    ),
}


def find_in_cluster(name: str, address: str, setting: str) -> FoundDevices:
    """Connect to a cluster of `CLUSTERS` and find its devices.

    `setting` is `scoring.device`. Raise ConfigError when that cannot be, or the cluster's library
    is not installed.
    """
    cluster = CLUSTERS[name]
    try:
        return cluster.find(address, setting)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(
            f"--{name} needs {cluster.title}, which is not installed: "
            f"pip install 'seedconv-tui[engine,{name}]'"
        ) from None
