"""A store from somebody else: whatever lies in it takes bounded time and memory, and one line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from numcodecs import Blosc

from store import DamagedError, Study, open_study
from store.schema.checksums import checksum
from store.storage import durable
from tests.support.loose import loosen
from tests.support.made_store import committed, fill, open_writer

MODEL = "models/m"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", ("1", "2"), (0, 8))
    writer.close("finished")
    return path


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return loosen(Path(shutil.copytree(template, tmp_path / "study.zarr")))


def read_all(path: Path) -> None:
    """Read everything that a reader can."""
    study = open_study(path)
    committed(study)
    assert study.corpus.text
    assert study.vocabulary.text


def packed(n_bytes: int) -> bytes:
    """A chunk of zeros with the right checksum that unpacks to that many bytes."""
    data = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE).encode(
        np.zeros(n_bytes, np.uint8)
    )
    return data + struct.pack("<I", google_crc32c.value(data))


FILES = ["zarr.json", "commits/1.log", "commits/1.end", "corpus/zarr.json", "corpus/text/zarr.json",
         "corpus/text/c/0", f"{MODEL}/loose/surprisal/c/0/0/0", f"{MODEL}/mean_kl/zarr.json",
         f"{MODEL}/mean_kl/c/0/0/0", f"{MODEL}/log_probs/1/0/c/0/0",
         f"{MODEL}/summary/expected_kl/zarr.json"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_pipe_or_a_device_is_never_read(study: Path, name: str, kind: str) -> None:
    path = study / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DamagedError, match=r"is no file|is a symbolic link"):
        read_all(study)


@pytest.mark.long
@pytest.mark.parametrize("name", FILES[::3])
def test_a_file_of_a_gigabyte_is_not_read(study: Path, name: str) -> None:
    """Sparse here; the memory that reading takes is bounded all the same."""
    with (study / name).open("r+b") as file:
        file.truncate(2**30)
    expect_little_memory(study)


@pytest.mark.parametrize(
    "name",
    [f"{MODEL}/loose/surprisal/c/0/0/0", f"{MODEL}/mean_kl/c/0/0/0", f"{MODEL}/log_probs/1/0/c/0/0",
     "corpus/text/c/0", "corpus/vocabulary_end/c/0", f"{MODEL}/summary/token_kl/c/0/0"],
)  # fmt: skip
@pytest.mark.parametrize("n_bytes", [4, 2**22])
def test_a_chunk_that_unpacks_to_another_size_is_not_unpacked(
    study: Path, name: str, n_bytes: int
) -> None:
    (study / name).write_bytes(packed(n_bytes))
    with pytest.raises(DamagedError, match="unpacks to another size"):
        read_all(study)


@pytest.mark.parametrize("kind", ["pipe", "another size"])
def test_the_engine_reads_no_more_than_readers(study: Path, kind: str) -> None:
    """What it reads to add to it: the chunk of means that a further step is written into."""
    path = study / f"{MODEL}/mean_kl/c/0/0/0"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(packed(2**22))
    writer = open_writer(study)
    with pytest.raises(DamagedError, match=r"is no file|unpacks to another size"):
        fill(writer, "m", ("1", "2"), (16,))
    writer.close("failed")


def change(path: Path, **fields: Any) -> None:
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | fields))


def grid(size: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": [size]}}


CATEGORY = "corpus/category/third/zarr.json"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("corpus/text/zarr.json", {"shape": [10**12]}),
        ("corpus/token_id/zarr.json", {"shape": [10**12], "chunk_grid": grid(2**18)}),
        (CATEGORY, {"shape": [10**12]}),
        (CATEGORY, {"shape": [10**9], "chunk_grid": grid(1)}),
        (CATEGORY, {"shape": [10**12], "chunk_grid": grid(10**12)}),
        (f"{MODEL}/loose/surprisal/zarr.json", {"shape": [10**6, 10**6, 10**12]}),
        (f"{MODEL}/log_probs/1/0/zarr.json", {"shape": [10**12, 64]}),
        (CATEGORY, {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}},
                               {"name": "zstd", "configuration": {"level": 0}}]}),
    ],
)  # fmt: skip
def test_arrays_larger_than_any_are_refused(study: Path, name: str, fields: dict[str, Any]) -> None:
    change(study / name, **fields)
    expect_little_memory(study)


def expect_little_memory(study: Path) -> None:
    """Read everything in a process that may take no more than 2 GB: one line says what is wrong."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.store.test_foreign_store import read_all\n"
        "from store import StoreError\n"
        "try: read_all(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)\n"
        "else: print('nothing is wrong')\n"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-c", code, str(study)], capture_output=True, text=True, preexec_fn=limit
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert str(study) in line


@pytest.mark.parametrize(
    ("name", "values"),
    [("token_id", np.full(300, 64)), ("document", np.full(300, 9)), ("char_end", np.zeros(300)),
     ("char_start", np.full(300, -2)), ("document_start", np.array([9, 0]))],
)  # fmt: skip
def test_a_corpus_that_leads_nowhere_is_refused(
    study: Path, name: str, values: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the right checksum."""
    monkeypatch.setattr(
        "store.reading.corpus_reader.corpus_checksum", lambda _: root["corpus_crc32"]
    )
    root = json.loads((study / "zarr.json").read_bytes())["attributes"]["seedconv"]
    assert root["crc32"] == checksum(root)
    import zarr

    zarr.open_array(str(study / "corpus" / name), mode="r+")[:] = values
    with pytest.raises(DamagedError, match="outside of its text"):
        _ = Study(study).corpus


def test_a_new_study_has_the_users_rights_and_every_new_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    sync: Callable[[Any], None] = durable.sync_folders

    def sync_folders(folders: Any) -> None:
        folders = list(folders)
        synced.extend(folders)
        sync(folders)

    monkeypatch.setattr("store.writing.create.sync_folders", sync_folders)
    before = os.umask(0o027)
    try:
        path = tmp_path / "a" / "b" / "study.zarr"
        writer = open_writer(path)
        fill(writer, "m", ("1", "2"), (0,))
        writer.close("finished")
    finally:
        os.umask(before)
    assert {path.parent, tmp_path / "a", tmp_path} <= set(synced)
    for found in [tmp_path / "a", *(tmp_path / "a").rglob("*")]:
        assert found.stat().st_mode & 0o777 == (0o750 if found.is_dir() else 0o640), found
