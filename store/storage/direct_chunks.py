"""Chunks of a local study's arrays without Zarr, whose event loop costs more than the work.

Everything is checked that Zarr and its stores check: links, sizes and commits by the caller that
gets the bytes; the checksum here. What is written is what Zarr writes, byte by byte.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import Blosc, blosc
from numpy.typing import NDArray

from store.schema.packed import CHECKSUM_BYTES

Selection = tuple[int | slice, ...]
Part = int | slice | NDArray[np.integer[Any]]
Parts = tuple[Part, ...]  # each along its own axis
GetChunk = Callable[[str], NDArray[np.uint8]]  # its key -> the bytes of its file
FindChunk = Callable[[str], NDArray[np.uint8] | None]  # the same; None: there is none
PutChunk = Callable[[str, bytes], None]

CNAME: Final = "lz4"  # of Blosc, with bit shuffle
CLEVEL: Final = 5

# Unpacked, of several chunks: for more, Zarr's threads are worth what they cost.
_MOST_BYTES = 2**24
MOST_CHUNKS: Final = 2**17  # that are read at once: each takes memory before the first is read


class AlteredChunkError(ValueError):
    """A chunk is not what its checksum says. `key` names it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"stored and computed checksum do not match in {key}")
        self.key = key


@dataclass(frozen=True)
class ChunkGrid:
    """The division of an array into chunks."""

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]


def read_directly(
    grid: ChunkGrid, selection: Selection, get: FindChunk, fill: Any = None
) -> NDArray[Any] | None:
    """Return part of an array, `fill` where there is no chunk; None for what is left to Zarr.

    Raise AlteredChunkError, ValueError or RuntimeError for a chunk that does not unpack, and what
    `get` raises.
    """
    within_one = _within_one(grid, selection)
    if within_one is not None:  # as nearly always
        which, within = within_one
        chunk = _chunk(grid, which, get, fill)
        found = chunk[within]
        return found if found.size == chunk.size else found.copy()  # else it holds all of it
    slices = _slices(grid, selection)
    if slices is None:
        return None
    along = _along(grid, slices)
    n_chunks, chunk_bytes = math.prod(map(len, along)), math.prod(grid.chunks) * grid.dtype.itemsize
    if n_chunks > MOST_CHUNKS or n_chunks * chunk_bytes > _MOST_BYTES:
        return None
    values = np.empty([part.stop - part.start for part in slices], grid.dtype)
    for index in itertools.product(*along):
        chunk = _chunk(grid, index, get, fill)
        inside, place = [], []
        for at, size, part in zip(index, grid.chunks, slices, strict=True):
            first, last = max(part.start, at * size), min(part.stop, (at + 1) * size)
            inside.append(slice(first - at * size, last - at * size))
            place.append(slice(first - part.start, last - part.start))
        values[tuple(place)] = chunk[tuple(inside)]
    return values[tuple(0 if isinstance(part, int) else slice(None) for part in selection)]


def chunk_keys(grid: ChunkGrid, selection: Selection) -> list[str]:
    """Return the keys of the chunks that hold part of an array; none: it is better left to Zarr."""
    slices = _slices(grid, selection)
    if slices is None:
        return []
    return [_key(grid, index) for index in itertools.product(*_along(grid, slices))]


def _key(grid: ChunkGrid, index: Iterable[int]) -> str:
    return "/".join((grid.path, "c", *map(str, index)))


def _within_one(
    grid: ChunkGrid, selection: Selection
) -> tuple[list[int], tuple[int | slice, ...]] | None:
    """Return which chunk holds the whole selection, and where in it; None: no single one does."""
    if len(selection) > len(grid.shape):
        return None
    index: list[int] = []
    within: list[int | slice] = []
    for axis, (n, size) in enumerate(zip(grid.shape, grid.chunks, strict=True)):
        part = selection[axis] if axis < len(selection) else slice(None)
        if isinstance(part, int):
            if not 0 <= part < n:
                return None
            at = part // size
            within.append(part - at * size)
        else:
            start, stop, stride = part.indices(n)
            at = start // size
            if stride != 1 or not start < stop <= (at + 1) * size:
                return None
            within.append(slice(start - at * size, stop - at * size))
        index.append(at)
    return index, tuple(within)


def _along(grid: ChunkGrid, slices: list[slice]) -> list[range]:
    """Return which chunks these runs meet along each axis."""
    return [
        range(part.start // size, -(-part.stop // size))
        for part, size in zip(slices, grid.chunks, strict=True)
    ]


def _slices(grid: ChunkGrid, selection: Selection) -> list[slice] | None:
    """Return what is selected of each axis, as runs that are not empty; None: it is not such."""
    if len(selection) > len(grid.shape):
        return None
    slices = []
    wanted = (*selection, *(slice(None),) * (len(grid.shape) - len(selection)))
    for part, n in zip(wanted, grid.shape, strict=True):
        start, stop, stride = (part, part + 1, 1) if isinstance(part, int) else part.indices(n)
        if stride != 1 or not 0 <= start < stop <= n:
            return None
        slices.append(slice(start, stop))
    return slices


def is_sound(packed: NDArray[np.uint8] | bytes) -> bool:
    """Return whether a chunk ends with the `crc32c` of the rest."""
    found = google_crc32c.value(packed[:-CHECKSUM_BYTES]).to_bytes(CHECKSUM_BYTES, "little")
    return bool(found == bytes(packed[-CHECKSUM_BYTES:]))


def _chunk(grid: ChunkGrid, index: Iterable[int], find: FindChunk, fill: Any) -> NDArray[Any]:
    key = _key(grid, index)
    packed = find(key)
    return np.full(grid.chunks, fill, grid.dtype) if packed is None else _unpack(key, packed, grid)


def _unpack(key: str, packed: NDArray[np.uint8], grid: ChunkGrid) -> NDArray[Any]:
    if not is_sound(packed):
        raise AlteredChunkError(key)
    data = packed[:-CHECKSUM_BYTES]
    chunk = np.empty(grid.chunks, grid.dtype)
    if int.from_bytes(data[4:8].tobytes(), "little") != chunk.nbytes:  # else some were left empty
        raise ValueError(f"{key} unpacks to another size than its array's chunks have")
    blosc.decompress(data, chunk)
    return chunk


def write_directly(
    grid: ChunkGrid, fill: Any, selection: Selection, values: NDArray[Any], put: PutChunk
) -> bool:
    """Write part of an array that fills chunks up to the array's end; False: it does not.

    `fill` stands where a chunk reaches beyond the end. Raise what `put` raises.
    """
    slices = _slices(grid, selection)
    if slices is None or not all(
        part.start % size == 0 and (part.stop % size == 0 or part.stop == n)
        for part, size, n in zip(slices, grid.chunks, grid.shape, strict=True)
    ):
        return False
    lengths = [part.stop - part.start for part in slices]
    values = np.asarray(values, grid.dtype).reshape(lengths)
    along = [range(0, n, size) for n, size in zip(lengths, grid.chunks, strict=True)]
    for at in itertools.product(*along):
        chunk = values[tuple(slice(i, i + n) for i, n in zip(at, grid.chunks, strict=True))]
        if chunk.shape != grid.chunks:
            whole = np.full(grid.chunks, fill, grid.dtype)
            whole[tuple(map(slice, chunk.shape))] = chunk
            chunk = whole
        places = zip(slices, at, grid.chunks, strict=True)
        index = ((part.start + i) // size for part, i, size in places)
        put(_key(grid, index), _pack(chunk))
    return True


def change_directly(
    grid: ChunkGrid, fill: Any, selection: Parts, values: Any, find: FindChunk, put: PutChunk
) -> bool:
    """Write part of an array, and leave the rest of the chunks unchanged; False: Zarr has to.

    Raise AlteredChunkError for a chunk of which something stays, and what `find` and `put` raise.
    """
    parts = (*selection, *(slice(None),) * (len(grid.shape) - len(selection)))
    if len(parts) > len(grid.shape):
        return False
    along = [_places(part, n) for part, n in zip(parts, grid.shape, strict=True)]
    if any(at is None for at in along):
        return False
    places = [at for at in along if at is not None]
    lengths = [len(at) for at, part in zip(places, parts, strict=True) if not _is_number(part)]
    values = np.broadcast_to(np.asarray(values, grid.dtype), lengths)
    values = values.reshape([len(at) for at in places])
    sizes = list(zip(places, grid.chunks, strict=True))
    for index in itertools.product(*(np.unique(at // size).tolist() for at, size in sizes)):
        axes = list(zip(sizes, index, grid.shape, strict=True))
        chosen = [np.flatnonzero(at // size == i) for (at, size), i, _ in axes]
        within = [at[of] % size for (at, size), of in zip(sizes, chosen, strict=True)]
        there = [min(size, n - i * size) for (_, size), i, n in axes]
        whole = [len(at) for at in within] == there
        chunk = _chunk(grid, index, _nothing if whole else find, fill)
        chunk[np.ix_(*within)] = values[np.ix_(*chosen)]
        put(_key(grid, index), _pack(chunk))
    return True


def _nothing(key: str) -> None:
    """Find no chunk."""


def _places(part: Part, n: int) -> NDArray[np.intp] | None:
    """Return the numbers along an axis, ascending, none twice; None: they are not such."""
    if isinstance(part, slice):
        at = np.arange(n)[part]
    else:
        at = np.array([part] if _is_number(part) else part, np.intp)
    fits = len(at) and at[0] >= 0 and at[-1] < n and (np.diff(at) > 0).all()
    return at if fits else None


def _is_number(part: Part) -> bool:
    return isinstance(part, int | np.integer)


def _pack(chunk: NDArray[Any]) -> bytes:
    packed = bytes(_BLOSC.encode(np.ascontiguousarray(chunk)))
    return b"".join((packed, google_crc32c.value(packed).to_bytes(CHECKSUM_BYTES, "little")))


_BLOSC = Blosc(cname=CNAME, clevel=CLEVEL, shuffle=Blosc.BITSHUFFLE)
