"""Two sets of weights in one checkpoint: a single file, and an index of several files next to it.

`transformers` reads the single file and ignores the others. They may be left from an
earlier save, and hold other numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterable
from pathlib import Path

from engine.errors import CheckpointError

Shapes = dict[str, tuple[int, ...]]  # of each tensor, by name


def single_was_read(single: Path, index: Path) -> str:
    """Return what is to be reported where the single file is read."""
    return f"{single} was read, as transformers does, and not the files that {index.name} names"


def refuse_other_names(
    single: Path, index: Path, names: Collection[str], of: Iterable[str]
) -> None:
    """Raise CheckpointError unless both sets name the same weights: `names` the single file's."""
    listed = set(of)
    if differing := sorted(listed.symmetric_difference(names)):
        where = single.name if differing[0] in names else index.name
        raise _differ(single, index, f"{differing[0]} is in {where} only")


def refuse_other_shapes(single: Path, index: Path, others: Iterable[Path]) -> None:
    """Raise CheckpointError where a weight has another shape in other safetensors files.

    All files are whole: their headers were checked.
    """
    shapes = read_shapes(single)
    for other in others:
        for name, shape in read_shapes(other).items():
            if name not in shapes:
                raise _differ(single, index, f"{name} is in {other.name} only")
            if shapes[name] != shape:
                found = f"{name} has shape {_written(shapes[name])} and {_written(shape)}"
                raise _differ(single, index, found)


def read_shapes(file: Path) -> Shapes:
    """Return the shapes in the header of a safetensors file that was checked."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def _differ(single: Path, index: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"{single}: holds other weights than the files that {index.name} names: {how}. "
        "Delete those that are not of this checkpoint."
    )


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
