"""A view as a file: what is on the screen as SVG or text, or the data behind it as CSV."""

from __future__ import annotations

import re
import time
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from textual.message import Message

from seedconv_tui.monitor.data.feed import Crashed
from seedconv_tui.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from textual.strip import Strip

SUFFIXES = {"SVG": "svg", "CSV": "csv", "text": "txt"}
"""What a view can be saved as."""

_LONGEST = 40  # characters of a study's name in a file's


class Saved(Message):
    """A view was saved, or could not be."""

    def __init__(self, words: str, *, bad: bool = False) -> None:
        self.words, self.bad = words, bad
        super().__init__()


def file_name(study: str, screen: str, now: float, suffix: str) -> str:
    """Return a plain name: `my-study-curves-20250131-235959.svg`, in local time."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", study)[:_LONGEST].strip("-.") or "study"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{plain}-{screen.lower()}-{stamp}.{suffix}"


def write_new(folder: Path, name: str, data: bytes) -> Path:
    """Write a file that was not there; if one was, its number is added to the name.

    Raise OSError where nothing can be written, and leaves no part of a file.
    """
    for number in count(1):
        path = folder / name
        if number > 1:
            path = path.with_stem(f"{path.stem}-{number}")
        try:
            file = path.open("xb")
        except FileExistsError:
            continue
        try:
            with file:
                file.write(data)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
    raise AssertionError  # there are as many numbers as it takes


def save(
    name: str,
    make: Callable[[], bytes],
    post: Callable[[Message], object],
    send: Callable[[BinaryIO], object] | None = None,
) -> None:
    """Write what `make` makes into the working directory; runs in a thread, posts the outcome.

    Where the monitor is on a page, `send` it to the browser instead.
    """
    try:
        if send is not None:
            send(BytesIO(make()))
            message: Message = Saved(f"sent {name} to the browser")
        else:
            folder = Path.cwd()
            path = write_new(folder, name, make())
            message = Saved(f"wrote {path.name} in {folder}")
    except OSError as error:
        message = Saved(f"{name} was not written: {error.strerror or error}", bad=True)
    except Exception as error:  # a bug of ours: the app ends with its traceback
        message = Crashed(error)
    try:
        post(message)
    except RuntimeError:  # the event loop ended while the file was being written
        return


def text_of(strips: Iterable[Strip]) -> bytes:
    """Return the characters of a screen, in rows; blanks at their ends are left out."""
    return "".join(strip.text.rstrip() + "\n" for strip in strips).encode("utf-8", "replace")


def csv_of(columns: Mapping[str, Any]) -> bytes:
    """Return a table as `seedconv export` writes it, but with controls in its text made visible.

    Columns are lists or arrays, all of one length; None and NaN are missing.
    """
    from seedconv_tui.tables.long_tables import Column
    from seedconv_tui.tables.writers import CsvWriter  # late: it brings what reads the store

    file = BytesIO()
    heads = [Column(name, _dtype(values), "", "") for name, values in columns.items()]
    CsvWriter(file, heads, visible).write(dict(columns))
    return file.getvalue()


def _dtype(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return {"b": "bool", "i": "int", "u": "int", "f": "float"}[values.dtype.kind]
    kinds = {type(value) for value in values if value is not None}
    return "str" if str in kinds else "bool" if bool in kinds else "float"
