"""Keep results that take long to compute from text, from one start to the next.

It lies in `$XDG_CACHE_HOME/seedconv`, or `~/.cache/seedconv`, each thing under a digest of
everything it depends on: an entry cannot be out of date, only unused. No entry is ever needed: one
that is missing, damaged, another user's or cannot be written is computed. Any may be deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import write_file

MOST_BYTES = 2**29  # in all; what was not used for longest goes first
MOST_FILES = 1000
_MOST_OF_ONE = MOST_BYTES // 4  # what is larger is not kept
_ABANDONED_SECONDS = 3600.0  # since a file was begun that never got its name
_DIGEST = 16  # bytes, before what they are of
_NAME = re.compile(r"[a-z]+-[0-9a-f]{32}\.npz")

Arrays = Mapping[str, NDArray[Any]]


def digest_of(*parts: object) -> str:
    """Return the digest of values: text, bytes, numbers, arrays, and what JSON can hold."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        if isinstance(part, np.ndarray):
            head, data = f"{part.dtype.str} {part.shape}", memoryview(part.tobytes())
        elif isinstance(part, bytes):
            head, data = "bytes", memoryview(part)
        elif isinstance(part, str):
            head, data = "text", memoryview(part.encode("utf-8", "surrogatepass"))
        else:
            head, data = "json", memoryview(json.dumps(part).encode())
        digest.update(f"{head} {data.nbytes}\0".encode())
        digest.update(data.cast("B") if data.nbytes else b"")
    return digest.hexdigest()


def digest_of_files(files: Iterable[Path]) -> str | None:
    """Return the digest of what is in files, in their order; None: it cannot be known.

    What can be read once only, as a pipe, is not read.
    """
    digests = []
    try:
        for path in files:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST))
                digests.append(found.hexdigest())
    except OSError:
        return None
    return digest_of(digests)


@cache
def digest_of_code(package: str) -> str | None:
    """Return the digest of one of our packages: what it computes is another's when that changes."""
    folder = Path(__file__).resolve().parents[2].joinpath(*package.split("."))
    files = sorted(folder.rglob("*.py"))
    return digest_of_files(files) if files else None


def recall(kind: str, key: str | None) -> dict[str, NDArray[Any]] | None:
    """Return what was kept under a key; None: nothing, or nothing that can be trusted."""
    if key is None or (path := _path(kind, key)) is None:
        return None
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_OF_ONE or not _is_own(found):
            return None
        data = memoryview(path.read_bytes())
        if _seal(path, data[_DIGEST:]) != data[:_DIGEST]:
            return None
        with np.load(io.BytesIO(data[_DIGEST:]), allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
    except Exception:  # anybody may have written there
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was of use now
    return kept


def keep(kind: str, key: str | None, arrays: Arrays) -> None:
    """Keep something under a key, as far as there is room and it can be written."""
    if key is None or (path := _path(kind, key)) is None:
        return
    if sum(array.nbytes for array in arrays.values()) > _MOST_OF_ONE:
        return
    buffer = io.BytesIO(bytes(_DIGEST))
    buffer.seek(_DIGEST)
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    data = buffer.getbuffer()
    data[:_DIGEST] = _seal(path, data[_DIGEST:])
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, data, durable=False)
        _make_room(path.parent)


def as_array(value: object) -> NDArray[np.uint8]:
    """Return what JSON can hold as an array, (byte,)."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def as_value(array: NDArray[Any]) -> Any:
    """Return what `as_array` was given."""
    return json.loads(array.tobytes())


def _path(kind: str, key: str) -> Path | None:
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # there is no home
        return None
    return folder / "seedconv" / f"{kind}-{key}.npz"


def _seal(path: Path, data: memoryview) -> bytes:
    """Return the digest of what is kept under a name: under another it is worth nothing."""
    digest = hashlib.blake2b(path.name.encode(), digest_size=_DIGEST)
    digest.update(data)
    return digest.digest()


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest, and what was never finished. Raise OSError."""
    ours = list[tuple[float, int, Path]]()
    for file in folder.iterdir():
        name = _NAME.match(file.name)
        with contextlib.suppress(OSError):  # another process removed it
            found = file.lstat()
            if name is None or not stat.S_ISREG(found.st_mode):
                continue  # whatever it is, it is not ours
            if name.end() == len(file.name):
                ours.append((found.st_mtime, found.st_size, file))
            elif time.time() - found.st_mtime > _ABANDONED_SECONDS:
                file.unlink()
    total, left = sum(size for _, size, _ in ours), len(ours)
    for _, size, file in sorted(ours):
        if total <= MOST_BYTES and left <= MOST_FILES:
            return
        file.unlink(missing_ok=True)
        total, left = total - size, left - 1
