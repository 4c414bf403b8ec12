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

from store.schema.array_layout import ArrayLayout
from store.storage.direct_chunks import CLEVEL, CNAME


def made_by_zarr(store: Store, path: str, made: ArrayLayout) -> zarr.Array[Any]:
    """Make an array by Zarr; see `store.storage.arrays.create_array`."""
    floating = np.issubdtype(np.dtype(made.dtype), np.floating)
    return zarr.create_array(
        store,
        name=path,
        shape=made.shape,
        chunks=made.chunks,
        shards=made.shards,
        dtype=made.dtype,
        chunk_key_encoding={"name": "default", "separator": "." if made.shards else "/"},
        fill_value=np.nan if floating else (0 if made.dtype.startswith("uint") else -1),
        compressors=[BloscCodec(cname=CNAME, clevel=CLEVEL, shuffle="bitshuffle"), Crc32cCodec()],
        dimension_names=made.dims,
        attributes=dict(made.attributes),
        config={"write_empty_chunks": True},
    )


def metadata(made: ArrayLayout) -> bytes:
    """Return the `zarr.json` of such an array."""
    return as_written(document_of(made))


def as_written(document: dict[str, Any]) -> bytes:
    """Return the bytes of a `zarr.json`, as Zarr writes them."""
    return json.dumps(document, indent=2).encode()


def document_of(made: ArrayLayout) -> dict[str, Any]:
    """Return the contents of the `zarr.json` of such an array."""
    document: dict[str, Any] = json.loads(
        _template(made.chunks, made.dtype, made.dims, made.shards)
    )
    return document | {"shape": [*made.shape], "attributes": {**made.attributes}}


@lru_cache(maxsize=256)
def _template(
    chunks: tuple[int, ...], dtype: str, dims: tuple[str, ...], shards: tuple[int, ...] | None
) -> bytes:
    memory = MemoryStore()
    made_by_zarr(memory, "a", ArrayLayout(chunks, chunks, dtype, dims, {}, shards))
    document = memory.get_sync("a/zarr.json", prototype=default_buffer_prototype())
    assert document is not None
    return document.to_bytes()


def as_understood(made: ArrayLayout) -> dict[str, Any]:
    """Return what Zarr makes of the `zarr.json` of such an array, its shape apart."""
    return _understood(
        made.chunks, made.dtype, made.dims, json.dumps({**made.attributes}), made.shards
    )


@lru_cache(maxsize=256)
def _understood(
    chunks: tuple[int, ...],
    dtype: str,
    dims: tuple[str, ...],
    attributes: str,
    shards: tuple[int, ...] | None,
) -> dict[str, Any]:
    made = ArrayLayout(chunks, chunks, dtype, dims, json.loads(attributes), shards)
    return dict(made_by_zarr(MemoryStore(), "a", made).metadata.to_dict())
