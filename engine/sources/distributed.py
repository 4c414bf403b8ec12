"""Distributed checkpoints of PyTorch (DCP): what their table of contents, `.metadata`, says.

Each rank has written its parts of the tensors into files of its own, `__0_0.distcp` and so on, one
after the other, each part as a file of torch.save. `.metadata`, which is written last, says which
parts a tensor has and where they are. It is a pickle, and read as data: it may name the classes of
such a table and nothing else.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, reading
from engine.sources.file_versions import Version, once_a_version, version_of
from engine.sources.inert_pickle import Inert, InertPickleError, check_length, read_pickle
from engine.sources.stored_tensors import (
    ChosenWeights,
    Chunk,
    ChunkedTensor,
    FoundWeights,
    Tree,
    Unreadable,
    choose_weights,
    item_size,
    sizes_of,
    tensor_bytes,
)
from seedconv_tui.training.weight_files import METADATA

_MODULES = (
    "torch.distributed.checkpoint.", "torch.distributed._shard.", "torch.distributed.tensor.",
    "pathlib.", "collections.",
)  # fmt: skip
_NAMES = frozenset({"torch.Size", "torch.serialization._get_layout", "torch.device"})


@dataclass(frozen=True)
class DistributedWeights(FoundWeights[ChunkedTensor]):
    """The weights of a distributed checkpoint, whose parts are all there."""

    versions: Mapping[str, Version]  # of the files that hold them, by name
    kind = ChunkedTensor

    def files(self) -> tuple[Path, ...]:
        """Return the files that hold them."""
        return tuple(self.file.with_name(name) for name in sorted(self.versions))

    def reading_bytes(self) -> int:
        """Return the memory that reading them takes at its height: all, and the largest part."""
        tensors = self.tensors.values()
        parts = [chunk.n_bytes for tensor in tensors for chunk in tensor.chunks]
        return sum(map(tensor_bytes, tensors)) + max(parts, default=0)

    def is_settled(self) -> bool:
        """Return whether no part was written after the table, which is written last."""
        written = version_of(self.file)[1]
        return all(time <= written for _, time, _ in self.versions.values())


def look_at_distributed(folder: Path) -> DistributedWeights:
    """Return the weights of the distributed checkpoint in a folder, once every part is there.

    Raise CheckpointError, in one line: it is not whole, not one, or has no weights.
    """
    file = folder / METADATA
    found, _ = _look(file)
    ends, claimed = defaultdict[str, int](int), 0
    for tensor in found.tensors.values():
        for chunk in tensor.chunks if isinstance(tensor, ChunkedTensor) else ():
            ends[chunk.file] = max(ends[chunk.file], chunk.place + chunk.n_bytes)
            claimed += chunk.n_bytes
    versions = {}
    for name, end in sorted(ends.items()):
        part = folder / name
        with reading(part):
            versions[name] = version_of(part)
        if versions[name][0] < end:
            raise CheckpointError(
                f"{part}: is {versions[name][0]:,} bytes long, {METADATA} says at least {end:,}"
            )
    if claimed > sum(size for size, _, _ in versions.values()):
        raise CheckpointError(f"{file}: its tensors claim more bytes than their files have")
    return DistributedWeights(file, found, versions)


@once_a_version(most=16, missing="is missing; it is written last")
def _look(file: Path, version: Version) -> ChosenWeights:
    try:
        check_length(version[0])
        return choose_weights(file, _tree(read_pickle(file.read_bytes(), allowed=_is_allowed)))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}") from None


def _is_allowed(name: str) -> bool:
    plain = name.removeprefix("torch.")
    is_word = name.startswith("torch.") and plain.isidentifier() and plain.islower()  # float32
    return name in _NAMES or name.startswith(_MODULES) or is_word


def _tree(table: object) -> Tree:
    """Return the tensors under the keys with which they were saved. Raise ValueError."""
    if not isinstance(table, Inert) or not table.name.endswith(".Metadata"):
        raise InertPickleError("is not the table of contents of a distributed checkpoint")
    fields = table.fields()
    entries, stored, paths = (
        fields.get(name) or {} for name in ("state_dict_metadata", "storage_data", "planner_data")
    )
    if not isinstance(entries, dict) or not isinstance(stored, dict):
        raise InertPickleError("is not the table of contents of a distributed checkpoint")
    places = _places(stored)
    tree: Tree = {}
    for name, entry in entries.items():
        if not isinstance(name, str) or not isinstance(entry, Inert):
            raise InertPickleError("is not the table of contents of a distributed checkpoint")
        if not entry.name.endswith(".TensorStorageMetadata"):
            continue
        path = paths.get(name) if isinstance(paths, dict) else None
        keys: Sequence[Any] = path if isinstance(path, tuple) and path else (name,)
        if any("optim" in str(key).lower() for key in (keys[0], name.partition(".")[0])):
            continue
        _put(tree, keys, _tensor(name, entry.fields(), places))
    return tree


def _put(tree: Tree, keys: Sequence[Any], tensor: object) -> None:
    for key in keys[:-1]:
        inside = tree.setdefault(str(key), {})
        if not isinstance(inside, dict):
            raise InertPickleError(f"has {str(key)[:80]} twice")
        tree = inside
    tree[str(keys[-1])] = tensor


def _places(stored: Mapping[Any, Any]) -> dict[tuple[str, tuple[int, ...]], tuple[str, int, int]]:
    """Return the file, first byte and bytes of each part, by tensor and offsets."""
    found = {}
    for index, info in stored.items():
        if not isinstance(index, Inert) or not isinstance(info, Inert):
            raise InertPickleError("does not say where its tensors are")
        which, where = index.fields(), info.fields()
        name, offset = which.get("fqn"), which.get("offset")
        if offset is None:  # of something else than a tensor
            continue
        if where.get("transform_descriptors"):
            raise InertPickleError(
                f"{str(name)[:80]} was compressed or encrypted, which is not read"
            )
        file = where.get("relative_path")
        if not isinstance(file, str) or Path(file).name != file or not isinstance(name, str):
            raise InertPickleError(f"{str(name)[:80]} is in a file outside of the checkpoint")
        place, n_bytes = sizes_of((where.get("offset"), where.get("length")), name)
        found[name, _sizes(offset, name)] = (file, place, n_bytes)
    return found


def _tensor(
    name: str,
    fields: Mapping[str, Any],
    places: Mapping[tuple[str, tuple[int, ...]], tuple[str, int, int]],
) -> ChunkedTensor | Unreadable:
    properties = fields.get("properties")
    state = properties.state if isinstance(properties, Inert) else None
    kind = state[0] if isinstance(state, tuple) and state else None
    if kind is None and isinstance(properties, Inert):
        kind = properties.fields().get("dtype")
    dtype = str(getattr(kind, "name", "")).removeprefix("torch.")
    shape = _sizes(fields.get("size"), name)
    chunks = []
    for part in fields.get("chunks") or ():
        at = part.fields() if isinstance(part, Inert) else {}
        offsets, sizes = _sizes(at.get("offsets"), name), _sizes(at.get("sizes"), name)
        if len(offsets) != len(shape) or len(sizes) != len(shape):
            raise InertPickleError(f"{name[:80]} has a part of other dimensions than its own")
        if any(o + n > all_ for o, n, all_ in zip(offsets, sizes, shape, strict=True)):
            raise InertPickleError(f"{name[:80]} has a part that lies outside of it")
        if not math.prod(sizes):
            continue
        if (name, offsets) not in places:
            raise InertPickleError(f"does not say where a part of {name[:80]} is")
        chunks.append(Chunk(offsets, sizes, *places[name, offsets]))
    try:
        size = item_size(dtype, name)
    except ValueError:
        return Unreadable(f"{dtype[:40] or 'of an unknown type'}, which is not read")
    if any(size * math.prod(chunk.sizes) > chunk.n_bytes for chunk in chunks):
        raise InertPickleError(f"{name[:80]} has a part with too few bytes")
    covered = sum(math.prod(chunk.sizes) for chunk in chunks)
    if covered != math.prod(shape) or not _are_apart(chunks):
        raise InertPickleError(f"{name[:80]} has parts that do not cover it, or do so twice")
    return ChunkedTensor(dtype, shape, tuple(chunks))


def _sizes(value: object, name: str) -> tuple[int, ...]:
    if isinstance(value, Inert) and value.name == "torch.Size":
        value = value.args[0] if value.args else ()
    return sizes_of(value, name)


def _are_apart(chunks: Sequence[Chunk], dimension: int = 0, tried: int = 0) -> bool:
    """Return whether no two blocks overlap; False also for patterns that no saw could cut."""
    if len(chunks) < 2:
        return True
    n = len(chunks[0].offsets)
    if tried == n:
        return False
    groups: list[list[Chunk]] = []
    end = -1
    for chunk in sorted(chunks, key=lambda it: it.offsets[dimension]):
        if chunk.offsets[dimension] >= end:
            groups.append([])
        groups[-1].append(chunk)
        end = max(end, chunk.offsets[dimension] + chunk.sizes[dimension])
    if len(groups) == 1:
        return _are_apart(chunks, (dimension + 1) % n, tried + 1)
    return all(_are_apart(group, (dimension + 1) % n) for group in groups)
