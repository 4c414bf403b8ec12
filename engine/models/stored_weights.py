"""Reads tensors of files that other trainers write, each to where it stays.

The model's alone are read: what an optimizer keeps is never in memory. Nothing is mapped: training
may write over a file that is being read, which would kill a process that maps it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import CheckpointError
from engine.sources.distributed import DistributedWeights
from engine.sources.file_versions import check_unchanged, open_at
from engine.sources.saved_file import SavedWeights, read_block
from engine.sources.stored_tensors import ITEM_SIZES, Chunk, ChunkedTensor, StoredTensor


def read_stored(stored: SavedWeights | DistributedWeights) -> tuple[dict[str, torch.Tensor], int]:
    """Return weights by name, and how many bytes they take.

    Raise CheckpointError where a file is not what it was when it was looked at, and OSError.
    """
    if isinstance(stored, SavedWeights):
        return _read_saved(stored), stored.reading_bytes()
    tensors = _read_distributed(stored)
    return tensors, sum(tensor.nbytes for tensor in tensors.values())


def _read_saved(saved: SavedWeights) -> dict[str, torch.Tensor]:
    """Read each storage once: tied weights share one, here as in the file."""
    storages: dict[int, torch.Tensor] = {}
    with open_at(saved.file, saved.version) as stream:
        for place, n_bytes in sorted(saved.storages().items()):
            storages[place] = torch.empty(n_bytes, dtype=torch.uint8)
            stream.seek(place)
            if stream.readinto(storages[place].numpy().data) != n_bytes:
                raise CheckpointError(f"{saved.file}: ends before its last tensor", passing=True)
        check_unchanged(saved.file, stream, saved.version)
    return {
        name: _view(storages[tensor.place], tensor, saved.file)
        for name, tensor in saved.tensors.items()
    }


def _read_distributed(stored: DistributedWeights) -> dict[str, torch.Tensor]:
    """Read part after part, in the order in which they lie in their files."""
    tensors = {
        name: torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
        for name, tensor in stored.tensors.items()
    }
    parts: dict[str, list[tuple[int, str, Chunk]]] = defaultdict(list)
    for name, tensor in stored.tensors.items():
        for chunk in tensor.chunks:
            parts[chunk.file].append((chunk.place, name, chunk))
    for file in stored.files():
        version = stored.versions[file.name]
        with open_at(file, version) as stream:
            for place, name, chunk in sorted(parts[file.name], key=lambda part: part[0]):
                stream.seek(place)
                at = zip(chunk.offsets, chunk.sizes, strict=True)
                where = tuple(slice(start, start + n) for start, n in at)
                # No name is given to what is read: it would stay while the next one is.
                _as_numbers(tensors[name])[where] = _block(
                    file, name, stream.read(chunk.n_bytes), chunk.sizes, stored.tensors[name]
                )
            check_unchanged(file, stream, version)
    return tensors


def _block(
    file: Path, name: str, data: bytes, sizes: tuple[int, ...], whole: ChunkedTensor
) -> np.ndarray[Any, Any]:
    """Return a part of a tensor, as numbers of as many bytes; it is a view of `data`."""
    tensor, storage = read_block(data, file)
    if tensor.shape != sizes or tensor.dtype != whole.dtype:
        raise CheckpointError(
            f"{file}: its part of {name} is {tensor.dtype} {tensor.shape}, .metadata says "
            f"{whole.dtype} {sizes}"
        )
    size = ITEM_SIZES[tensor.dtype]
    numbers = np.frombuffer(storage[: len(storage) // size * size], f"i{size}")[tensor.start :]
    strides = tuple(size * by for by in tensor.stride)
    return np.lib.stride_tricks.as_strided(numbers, sizes, strides, writeable=False)


def _as_numbers(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return the memory of a tensor as whole numbers: numpy has no bfloat16."""
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(kinds[tensor.element_size()]).numpy()


def _view(storage: torch.Tensor, tensor: StoredTensor, file: Path) -> torch.Tensor:
    """Return the tensor that lies in a storage of bytes."""
    dtype: torch.dtype = getattr(torch, tensor.dtype)
    if storage.numel() % dtype.itemsize:
        raise CheckpointError(f"{file}: holds a storage that is no whole number of {tensor.dtype}")
    return torch.as_strided(storage.view(dtype), tensor.shape, tensor.stride, tensor.start)
