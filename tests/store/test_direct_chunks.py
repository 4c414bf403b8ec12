"""Chunks that are read and written without Zarr are what Zarr reads and writes."""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from store.errors import DamagedError
from store.schema.array_layout import ArrayLayout
from store.storage.arrays import create_array, open_array, read, resized, write, writer_of
from store.storage.checked_stores import CommittedStore
from store.storage.direct_chunks import Parts
from store.storage.durable_store import DurableStore

SHAPE, CHUNKS, DIMS = (5, 3, 17), (1, 2, 8), ("a", "b", "c")


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def make(folder: Path, dtype: str = "float32") -> np.ndarray:
    values = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(dtype)
    array = create_array(LocalStore(folder), "x/y", ArrayLayout(SHAPE, CHUNKS, dtype, DIMS, {}))
    array[...] = values
    return values


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
def test_every_selection_is_what_zarr_reads(tmp_path: Path, dtype: str) -> None:
    values = make(tmp_path, dtype)
    store = CommittedStore(tmp_path)
    array = open_array(store, "x/y")
    random = np.random.default_rng(1)
    for _ in range(200):
        selection: list[int | slice] = []
        for n in SHAPE[: random.integers(0, 4)]:
            start, stop = sorted(random.integers(0, n + 1, 2).tolist())
            whole, single = random.random() < 0.2, random.random() < 0.4
            selection.append(
                slice(None) if whole else min(start, n - 1) if single else slice(start, stop)
            )
        found = read(array, tuple(selection))
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values[tuple(selection)])


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
def test_what_is_written_is_what_zarr_writes(tmp_path: Path, dtype: str) -> None:
    values = make(tmp_path / "zarr", dtype)
    (tmp_path / "ours").mkdir()
    store = DurableStore(tmp_path / "ours")
    array = create_array(store, "x/y", ArrayLayout(SHAPE, CHUNKS, dtype, DIMS, {}))
    write = writer_of(array)
    for step in range(SHAPE[0]):
        write((step, slice(0, 2), slice(0, 8)), values[step, :2, :8])
        write((step, slice(0, 2), slice(8, 17)), values[step, :2, 8:])
        write((step, slice(2, 3)), values[step, 2:])
    store.flush()
    files = [file for file in (tmp_path / "zarr/x/y/c").rglob("*") if file.is_file()]
    assert len(files) == 5 * 2 * 3
    for file in files:
        ours = tmp_path / "ours" / file.relative_to(tmp_path / "zarr")
        assert ours.read_bytes() == file.read_bytes()
        key = str(ours.relative_to(tmp_path / "ours"))
        assert store.take_checksums([key]) == file.read_bytes()[-4:].hex()


def test_arrays_are_made_grown_and_changed_as_zarr_does_it(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    stores = DurableStore(tmp_path / "ours"), LocalStore(tmp_path / "zarr")
    for store in stores:
        zarr.create_group(store)
    attributes = {"units": "\u00e9", "labels": ["1"]}
    made = ArrayLayout((7, 5, 9), (3, 2, 4), "float64", DIMS, attributes)
    ours, theirs = (create_array(store, "g/h/x", made) for store in stores)
    rng = np.random.default_rng(0)
    parts: list[Parts] = [
        (2,), (1, np.array([0, 3, 4])), (slice(None),), (slice(2, 6), 1), (6, 4, 8), (-1,),
        (3, slice(None), slice(1, 8)), (slice(0, 3), slice(0, 2), slice(0, 4)), (slice(5, 2),),
        (np.array([0, 6]), np.array([1]), slice(8, 9)), (np.array([6, 0]), 1),
    ]  # fmt: skip

    def write_all() -> None:
        for part in parts:
            values = rng.normal(size=theirs.oindex[part].shape)  # type: ignore[index]
            write(ours, part, values)
            theirs.oindex[part] = values  # type: ignore[index]
            assert files(tmp_path / "ours") == files(tmp_path / "zarr")
            for other in ((), (2,), (slice(1, 6), 1), (6, 4, slice(3, 9))):
                np.testing.assert_array_equal(read(ours, other), theirs[other])

    write_all()
    ours = resized(ours, (9, 6, 9))
    theirs.resize((9, 6, 9))
    write_all()
    ours = resized(ours, (7, 6, 9))
    theirs.resize((7, 6, 9))
    assert files(tmp_path / "ours") == files(tmp_path / "zarr")


def test_a_chunk_that_is_altered_is_not_changed(tmp_path: Path) -> None:
    make(tmp_path)
    file = tmp_path / "x/y/c/1/0/0"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    before = file.read_bytes()
    array = open_array(DurableStore(tmp_path), "x/y")
    with pytest.raises(ValueError, match="checksum do not match"):
        write(array, (1, 0, slice(0, 3)), 0)
    assert file.read_bytes() == before
    write(array, (1, slice(0, 2), slice(0, 8)), 0)  # all of it
    assert not read(array, (1, slice(0, 2), slice(0, 8))).any()


def test_what_is_no_whole_chunk_is_written_with_zarr(tmp_path: Path) -> None:
    values = make(tmp_path)
    array = zarr.open_array(DurableStore(tmp_path), path="x/y", mode="r+")
    writer_of(array)((1, slice(1, 3), slice(3, 11)), values[1, 1:, 3:11] + 1)
    values[1, 1:, 3:11] += 1
    np.testing.assert_array_equal(array[...], values)


def test_an_array_that_grew_is_opened_again(tmp_path: Path) -> None:
    values = make(tmp_path)
    store = CommittedStore(tmp_path)
    assert open_array(store, "x/y") is open_array(store, "x/y")
    writable = zarr.open_array(LocalStore(tmp_path), path="x/y", mode="r+")
    writable.resize((6, 3, 17))
    writable[5] = values[0] + 1
    np.testing.assert_array_equal(read(open_array(store, "x/y"), (5,)), values[0] + 1)


@pytest.mark.parametrize("place", [0, 20, -1], ids=["header", "data", "checksum"])
def test_an_altered_chunk_is_named(tmp_path: Path, place: int) -> None:
    make(tmp_path)
    chunk = tmp_path / "x/y/c/1/0/0"
    data = bytearray(chunk.read_bytes())
    data[place] ^= 1
    chunk.write_bytes(data)
    array = open_array(CommittedStore(tmp_path), "x/y")
    read(array, (0,))
    with pytest.raises(DamagedError, match=r"x/y"):
        read(array, (1,))


@pytest.mark.parametrize("without_zarr", [True, False])
def test_a_chunk_that_claims_what_lies_behind_it_is_named(
    tmp_path: Path, without_zarr: bool
) -> None:
    """Blosc copies what is not packed from wherever it would be."""
    make(tmp_path)
    chunk = tmp_path / "x/y/c/1/0/0"
    n_bytes = 2 * 8 * 4
    data = b"\x02\x01\x02\x04" + struct.pack("<iii", n_bytes, n_bytes, n_bytes + 16) + b"12345678"
    chunk.write_bytes(data + google_crc32c.value(data).to_bytes(4, "little"))
    array = open_array(CommittedStore(tmp_path), "x/y")
    with pytest.raises(DamagedError, match="is of another length than it says"):
        read(array, (1,) if without_zarr else (slice(1, 5, 2),))
