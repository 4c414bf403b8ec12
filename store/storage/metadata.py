"""Check `zarr.json` files, beyond what a reader of numbers has to check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype

from store.errors import DamagedError, lacks_files
from store.schema import layout
from store.schema.array_layout import ArrayLayout
from store.storage.arrays import Array
from store.storage.links import refuse_link


def model_groups(model: str, seeds: Iterable[str], *, probes: bool) -> dict[str, dict[str, Any]]:
    """Return the attributes of a model's groups by path, a group above those it holds."""
    group = layout.model_path(model)
    log_probs = f"{group}/{layout.LOG_PROBS}"
    empty = [f"{group}/{name}" for name in (layout.LOG_PROBS, layout.SUMMARY, layout.CATEGORY)]
    empty.append(f"{group}/{layout.LOOSE}")
    if probes:
        empty += [f"{group}/{layout.PROBE}", f"{group}/{layout.LOOSE}/{layout.PROBE}"]
    of_seeds = {f"{log_probs}/{layout.safe_name(seed)}": {"seed": seed} for seed in seeds}
    return {group: {"model": model}, **{path: {} for path in empty}, **of_seeds}


def coordinates(steps: Mapping[int, int], seeds: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Return the values of a model's coordinate arrays."""
    number = np.arange(len(seeds))
    return {"step": np.array(list(steps), np.int64), "seed": number, "other_seed": number}


def coordinate_layout(name: str, size: int, attributes: dict[str, Any]) -> ArrayLayout:
    """Return what a coordinate array is made with."""
    return ArrayLayout((size,), (1024,), "int64", (name,), attributes)


def expect_group(root: Path, path: str, attributes: dict[str, Any]) -> None:
    """Raise DamagedError unless a group's metadata are exactly these attributes."""
    file = root / path / "zarr.json"
    if _load(root, file) != {"attributes": attributes, "zarr_format": 3, "node_type": "group"}:
        raise DamagedError(f"{file}: was altered")


def expect_nothing_else(root: Path, array: Array) -> None:
    """Raise DamagedError when an array's `zarr.json` says something that Zarr passed over."""
    file = root / array.path / "zarr.json"
    understood = array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"]
    if not _within(_load(root, file), json.loads(understood.to_bytes())):
        raise DamagedError(f"{file}: was altered")


def _load(root: Path, file: Path) -> Any:
    refuse_link(root, file)
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        if lacks_files(error):
            raise
        raise DamagedError(f"{file}: cannot be read ({error})") from error


def _within(part: Any, whole: Any) -> bool:
    """Return whether `whole` says everything that `part` says: a newer Zarr may write more."""
    match part, whole:
        case dict(), dict():
            return all(key in whole and _within(part[key], whole[key]) for key in part)
        case list(), list():
            return len(part) == len(whole) and all(map(_within, part, whole))
    return bool(part == whole)
