"""Arrays in .npy files, which are checked before anything of them is believed."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


def open_plain(path: Path, *, link: bool = False) -> BinaryIO:
    """Open a plain file to read it, by a `link` only if that is allowed. Raise OSError, ValueError.

    Opening a pipe would wait for its other end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if link else os.O_NOFOLLOW))
    stream = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        stream.close()
        raise ValueError(f"{path.name} is no plain file")
    return stream


def read_header(stream: BinaryIO, size: int, dtype: str, dims: int) -> tuple[int, ...]:
    """Return the shape of an array of this dtype in an .npy file of `size` bytes.

    The stream then stands at its first number. Raise ValueError when the file holds another kind
    of array, or more or fewer bytes than the shape asks for.
    """
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("is no array of .npy format 1.0")
    try:
        shape, fortran, found = npy.read_array_header_1_0(stream)
    except Exception:  # also of the tokenizer and parser of Python that numpy asks
        raise ValueError("has no header of .npy format 1.0 that can be read") from None
    if found != np.dtype(dtype) or fortran or len(shape) != dims:
        raise ValueError(f"should be {dims}-dimensional {np.dtype(dtype)}, found {found} {shape}")
    expected = stream.tell() + math.prod(shape) * found.itemsize
    if min(shape, default=0) < 0 or size != expected:
        raise ValueError(f"has {size} bytes, its header asks for {expected}")
    return shape


def read_flat(stream: BinaryIO, size: int, dtype: str) -> NDArray[np.generic]:
    """Return the one-dimensional array of an .npy file of `size` bytes. Raise ValueError."""
    (length,) = read_header(stream, size, dtype, 1)
    data = stream.read(length * np.dtype(dtype).itemsize)
    return np.frombuffer(data, np.dtype(dtype), length)


def write_header(stream: BinaryIO, shape: tuple[int, ...], dtype: str) -> None:
    """Begin an .npy file; the array's bytes, in order of rows, are to follow."""
    fields = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, fields)
