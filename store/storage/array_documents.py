"""The `zarr.json` of this project's arrays: as Zarr writes it, and as Zarr understands it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from store.storage.direct_chunks import CLEVEL, CNAME


def made_by_zarr(
    store: Store,
    path: str,
    *,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    dims: tuple[str, ...],
    attributes: dict[str, Any],
    shards: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Make an array by Zarr; see `store.storage.arrays.create_array`."""
    floating = np.issubdtype(np.dtype(dtype), np.floating)
    return zarr.create_array(
        store,
        name=path,
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        chunk_key_encoding={"name": "default", "separator": "." if shards else "/"},
        fill_value=np.nan if floating else (0 if dtype.startswith("uint") else -1),
        compressors=[BloscCodec(cname=CNAME, clevel=CLEVEL, shuffle="bitshuffle"), Crc32cCodec()],
        dimension_names=dims,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )


def metadata(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    dims: tuple[str, ...],
    attributes: dict[str, Any],
    shards: tuple[int, ...] | None = None,
) -> bytes:
    """Return the `zarr.json` of such an array."""
    return as_written(document_of(shape, chunks, dtype, dims, attributes, shards))


def as_written(document: dict[str, Any]) -> bytes:
    """Return the bytes of a `zarr.json`, as Zarr writes them."""
    return json.dumps(document, indent=2).encode()


def document_of(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    dims: tuple[str, ...],
    attributes: dict[str, Any],
    shards: tuple[int, ...] | None,
) -> dict[str, Any]:
    """Return the contents of the `zarr.json` of such an array."""
    made: dict[str, Any] = json.loads(_template(chunks, dtype, dims, shards))
    return made | {"shape": [*shape], "attributes": attributes}


@lru_cache(maxsize=256)
def _template(
    chunks: tuple[int, ...], dtype: str, dims: tuple[str, ...], shards: tuple[int, ...] | None
) -> bytes:
    memory = MemoryStore()
    made_by_zarr(
        memory, "a", shape=chunks, chunks=chunks, dtype=dtype, dims=dims, attributes={},
        shards=shards,
    )  # fmt: skip
    document = memory.get_sync("a/zarr.json", prototype=default_buffer_prototype())
    assert document is not None
    return document.to_bytes()


@lru_cache(maxsize=256)
def as_understood(
    chunks: tuple[int, ...],
    dtype: str,
    dims: tuple[str, ...],
    attributes: str,
    shards: tuple[int, ...] | None,
) -> dict[str, Any]:
    """Return what Zarr makes of the `zarr.json` of such an array, given its attributes as JSON."""
    array = made_by_zarr(
        MemoryStore(), "a", shape=chunks, chunks=chunks, dtype=dtype, dims=dims,
        attributes=json.loads(attributes), shards=shards,
    )  # fmt: skip
    return dict(array.metadata.to_dict())
