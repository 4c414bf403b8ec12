"""A digest of whatever files a checkpoint is made of, without reading all of a large one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

_WHOLE = 2**26  # bytes of a file that is read as a whole
_PIECES, _PIECE = 64, 2**18  # of a larger one, evenly spaced, the first and the last among them
_MOST_FILES = 10_000


def files_of(place: Path) -> Iterator[Path]:
    """Yield the files of a checkpoint, a file or a folder with folders inside, in their order.

    Not those of folders that are linked to, nor what is no plain file.
    """
    if not place.is_dir():
        yield place
        return
    for entry in sorted(place.iterdir()):
        if entry.is_dir() and not entry.is_symlink():  # a link may lead back here
            yield from files_of(entry)
        elif entry.is_file():
            yield entry


def digest_files(place: Path) -> str:
    """Return a digest of names, sizes and contents: of a large file, of pieces of its contents.

    It is equal for copies, wherever they lie. Raise OSError.
    """
    digest = hashlib.blake2b(digest_size=12)
    for n, file in enumerate(files_of(place)):
        name = file.relative_to(place) if file != place else Path()
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            digest.update(f"{name.as_posix()}\0{size}\0".encode(errors="surrogateescape"))
            if n >= _MOST_FILES:
                continue
            for start, length in _pieces(size):
                stream.seek(start)
                digest.update(stream.read(length))
    return digest.hexdigest()


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    if size <= _WHOLE:
        yield 0, size
        return
    for n in range(_PIECES):
        yield n * (size - _PIECE) // (_PIECES - 1), _PIECE
