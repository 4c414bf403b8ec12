"""Zarr as this project uses it: opening, creating and reading arrays with errors that name them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal, cast

import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.codecs.bytes import Endian
from zarr.core.buffer import default_buffer_prototype
from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding
from zarr.storage import LocalStore, StorePath

from store.errors import DamagedError, StoreError, lacks_files
from store.schema.array_layout import ArrayLayout
from store.schema.layout import LOOSE
from store.storage.array_documents import (
    as_understood,
    as_written,
    document_of,
    made_by_zarr,
    metadata,
)
from store.storage.checked_stores import CheckedStore, CommittedStore, FarStore, Opened
from store.storage.direct_chunks import (
    MOST_CHUNKS,
    AlteredChunkError,
    ChunkGrid,
    GetChunk,
    Parts,
    Selection,
    change_directly,
    chunk_keys,
    read_directly,
    write_directly,
)
from store.storage.durable_store import DurableStore

Array = zarr.Array[Any]

_KEYS = DefaultChunkKeyEncoding(separator="/")


def limit_threads(threads: int) -> None:
    """Have chunks packed and unpacked by no more threads. To be called before there are any."""
    zarr.config.set({"threading.max_workers": threads})
    blosc.set_nthreads(min(threads, blosc.get_nthreads()))


def create_array(store: Store, path: str, made: ArrayLayout) -> Array:
    """Make an array: blosc (lz4, bitshuffle) and crc32c, NaN or -1 where nothing was written."""
    if isinstance(store, DurableStore) and not (store.root / path / "zarr.json").exists():
        for above in reversed(PurePosixPath(path).parents[:-1]):
            create_group(store, str(above), {})
        return _written(store, path, document_of(made))
    return made_by_zarr(store, path, made)


def _written(store: DurableStore, path: str, document: dict[str, Any]) -> Array:
    """Write the metadata of an array as Zarr does, without its event loop, and return it."""
    store.put(f"{path}/zarr.json", as_written(document))
    array = zarr.Array.from_dict(StorePath(store, path), document)
    return array.with_config({"write_empty_chunks": True})


def create_group(store: DurableStore, path: str, attributes: dict[str, Any]) -> None:
    """Make a group unless there is one."""
    if not (store.root / path / "zarr.json").exists():
        document = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
        store.put(f"{path}/zarr.json", as_written(document))


def resized(array: Array, shape: tuple[int, ...]) -> Array:
    """Give an array this shape, and return it."""
    grows = all(n >= before for n, before in zip(shape, array.shape, strict=True))
    if not (grows and isinstance(array.store, DurableStore)):
        array.resize(shape)  # which removes chunks
        return array
    document = array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"]
    return _written(array.store, array.path, json.loads(document.to_bytes()) | {"shape": [*shape]})


def open_array(store: Store, path: str, made: ArrayLayout | None = None) -> Array:
    """Open an array. Raise DamagedError when there is none that can be read.

    Given what it was made with, see `create_array`, a remote store is not asked for that.
    """
    if isinstance(store, CommittedStore):
        return store.opened.get(path, lambda path: Opened.of(_open(store, path))).array
    if isinstance(store, FarStore) and made is not None:
        document = partial(metadata, made)
        return store.open_as(path, made.shape, document, lambda: _open(store, path)).array
    return _open(store, path)


def _open(store: Store, path: str) -> Array:
    try:
        mode: Literal["r", "r+"] = "r" if store.read_only else "r+"
        if isinstance(store, CommittedStore):  # quicker than Zarr's event loop
            document = store.document(f"{path}/zarr.json")
            array = zarr.Array.from_dict(StorePath(store, path), document)
        else:
            array = zarr.open_array(store, path=path, mode=mode, zarr_format=3)
        if isinstance(store, CheckedStore):
            _refuse_codecs(array)
            store.sizes.know(Opened.of(array).grid, place(array))
        return array.with_config({"write_empty_chunks": True})  # it is not kept with the array
    except StoreError:
        raise
    except Exception as error:  # altered metadata fail anywhere in Zarr, and with any error
        if lacks_files(error):
            raise
        where = store.root if isinstance(store, LocalStore) else store
        raise DamagedError(f"{where}/{path}: no readable array ({error})") from error


def _refuse_codecs(array: Array) -> None:
    """Raise DamagedError for a codec that is not ours: some unpack without a limit."""
    codecs: Any = getattr(array.metadata, "codecs", ())
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):  # packed: never read by Zarr here
        codecs = codecs[0].codecs
    found = [type(codec) for codec in codecs]
    if found != [BytesCodec, BloscCodec, Crc32cCodec]:
        raise DamagedError(f"{place(array)}: codecs in its zarr.json were altered")


def expect(array: Array, made: ArrayLayout, growing: Collection[int] = ()) -> Array:
    """Return `array` if it is as `create_array` makes it, else raise DamagedError.

    Zarr keeps no checksum of metadata, so an altered shape, chunk or codec would be served as other
    numbers. The axes `growing` may be longer than its shape: an engine may be adding to them.
    """
    expected = as_understood(made)
    for name, found in _known(array).document.items():
        if name != "shape" and found != expected.get(name):
            raise DamagedError(f"{place(array)}: {name} in its zarr.json was altered")
    fits = len(array.shape) == len(made.shape) and all(
        n == wanted or (n > wanted and axis in growing)
        for axis, (n, wanted) in enumerate(zip(array.shape, made.shape, strict=True))
    )
    if not fits:
        raise DamagedError(f"{place(array)}: has shape {array.shape} where {made.shape} belongs")
    return array


def _known(array: Array) -> Opened:
    """Return an array with its properties, without asking it once more if that was done."""
    store = array.store
    if isinstance(store, CommittedStore) and (found := store.opened.known(array)):
        return found
    if isinstance(store, FarStore) and (found := store.known(array)):
        return found
    return Opened.of(array)


def place(array: Array) -> str:
    """Return where an array lies: a path, or a remote address."""
    return str(array.store_path).removeprefix("file://")


def _named(array: Array) -> str:
    """Return where an array lies, of one that is read through its loose chunks the array itself."""
    above, loose, name = array.path.rpartition(f"/{LOOSE}/")
    return place(array).removesuffix(array.path) + (f"{above}/{name}" if loose else name)


def read(array: Array, selection: Selection, get: GetChunk | None = None) -> NDArray[Any]:
    """Read part of an array. Raise DamagedError for a chunk that is missing or altered.

    One that is missing is no damage in an array that is being written. `get` reads chunks in place
    of a `CommittedStore`.
    """
    store = array.store
    try:
        if isinstance(store, DurableStore) and (grid := _plain_grid(array)) is not None:
            found = read_directly(grid, selection, partial(_find, store), array.fill_value)
            if found is not None:
                return found
        opened = _known(array)
        if opened.plain and isinstance(store, CommittedStore):
            found = read_directly(opened.grid, selection, get or store.get_bytes)
            if found is not None:
                return found
        if _count_chunks(opened.grid, selection) > MOST_CHUNKS:
            raise DamagedError(f"{place(array)}: has more chunks than any array of a study")
        if opened.plain and isinstance(store, FarStore):
            store.fetch(chunk_keys(opened.grid, selection))
            found = read_directly(opened.grid, selection, store.get_bytes)
            if found is not None:
                return found
        return np.asarray(array[selection])
    except StoreError:
        raise
    except AlteredChunkError as error:
        file = store.file_of(error.key) if isinstance(store, CommittedStore) else error.key
        where = place(array).removesuffix(array.path) + file
        raise DamagedError(f"{where}: cannot be read (its checksum does not match)") from error
    except MemoryError as error:
        raise DamagedError(f"{_named(array)}: is larger than the memory ({error})") from error
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        if lacks_files(error):
            raise
        raise DamagedError(f"{_named(array)}: cannot be read ({error})") from error


def read_in_a_row(array: Array, selections: Iterable[Selection]) -> Iterator[NDArray[Any]]:
    """Yield parts of an array as `read` gives them; a pack is opened once for its chunks.

    What it yielded holds once it has ended. Raise as `read`.
    """
    store, opened = array.store, _known(array)
    if not (opened.plain and isinstance(store, CommittedStore)):
        yield from (read(array, selection) for selection in selections)
        return
    with store.in_a_row() as get:
        for selection in selections:
            yield read(array, selection, get)


def fetch(parts: Iterable[tuple[Array, Selection]], *, soon: bool = False) -> None:
    """Have what will be read of these arrays at hand: a remote store is asked for all at once.

    Chunks of which the log has no checksum may be others by the time they are read: only `soon`.
    """
    keys: list[str] = []
    far: FarStore | None = None  # all lie in one study
    for array, selection in parts:
        if isinstance(array.store, FarStore):
            far = array.store
            keys += chunk_keys(_known(array).grid, selection)
    if far is not None:
        far.fetch([key for key in keys if soon or far.expected(key) is not None])


def _count_chunks(grid: ChunkGrid, selection: Selection) -> int:
    count = 1
    for part, n, size in zip(selection, grid.shape, grid.chunks, strict=False):
        if isinstance(part, slice):
            start, stop, _ = part.indices(n)
            count *= max(1, -(-(stop - start) // size))
    for n, size in list(zip(grid.shape, grid.chunks, strict=True))[len(selection) :]:
        count *= -(-n // size)
    return count


def write(array: Array, selection: Parts, values: Any) -> None:
    """Write part of an array of ours, without Zarr's event loop where that can be.

    Raise what the store raises, OSError, and ValueError for an altered chunk of which a part stays.
    """
    store = array.store
    if isinstance(store, DurableStore) and (grid := _plain_grid(array)) is not None:
        find = partial(_find, store)
        if change_directly(grid, array.fill_value, selection, values, find, store.put):
            return
    array.oindex[cast(Any, selection)] = values


def _plain_grid(array: Array) -> ChunkGrid | None:
    """Return how an array is cut; None: numbers and keys are not as is usual, see `Opened`."""
    made: Any = array.metadata
    plain = array.dtype.kind in "iuf" and made.chunk_key_encoding == _KEYS
    plain = plain and getattr(made.codecs[0], "endian", None) is Endian.little
    return ChunkGrid(array.path, array.shape, array.chunks, array.dtype) if plain else None


def _find(store: DurableStore, key: str) -> NDArray[np.uint8] | None:
    found = store.get_sync(key, prototype=default_buffer_prototype())
    return None if found is None else np.asarray(found.as_numpy_array(), np.uint8)


def writer_of(array: Array) -> Callable[[Selection, NDArray[Any]], None]:
    """Return what writes parts of an array of ours, with Zarr where they are not whole chunks.

    It raises what the store raises, and OSError.
    """
    opened, store = Opened.of(array), array.store

    def write(selection: Selection, values: NDArray[Any]) -> None:
        if not (
            isinstance(store, DurableStore)
            and opened.plain
            and write_directly(opened.grid, array.fill_value, selection, values, store.put)
        ):
            array[selection] = values

    return write


def read_cells(array: Array, committed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Read the cells that are committed, NaN for others. Raise DamagedError.

    For small arrays with many cells to a chunk. Chunks without a committed cell may not exist yet
    and are not asked for.
    """
    values = np.full(committed.shape, np.nan)
    for box in _joined([b for b in boxes(committed.shape, array.chunks) if committed[b].any()]):
        inside, found = committed[box], read(array, box)
        if found.shape != inside.shape:
            raise DamagedError(f"{place(array)}: smaller than what was committed to it")
        values[box] = np.where(inside, found, np.nan)
    return values


def _joined(parts: list[tuple[slice, ...]]) -> list[tuple[slice, ...]]:
    """Return these boxes, as one where they make up a box: Zarr reads it far faster."""
    if len(parts) < 2:
        return parts
    axes = [sorted({(run.start, run.stop) for run in axis}) for axis in zip(*parts, strict=True)]
    whole = tuple(slice(runs[0][0], runs[-1][1]) for runs in axes)
    adjoin = all(a[1] == b[0] for runs in axes for a, b in itertools.pairwise(runs))
    return [whole] if adjoin and len(parts) == math.prod(map(len, axes)) else parts


def boxes(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the part of each chunk that lies within `shape`."""
    runs = [
        [slice(start, min(start + size, n)) for start in range(0, n, size)]
        for n, size in zip(shape, chunks, strict=True)
    ]
    return itertools.product(*runs)
