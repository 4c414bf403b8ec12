"""Tables written as CSV, JSON lines or Parquet, batch by batch."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from seedconv_tui.tables.long_tables import Column
from seedconv_tui.tables.rows import Batch
from seedconv_tui.text import finite
from store import UnsupportedError

_ROW_GROUP = 65_536  # rows of Parquet that are kept until they are written
_QUOTED = re.compile(r'[",\r\n]|^\s|\s$|^$')

Clean = Callable[[str], str]


class Writer(Protocol):
    """Writes batches, of columns that were named when it was made."""

    def write(self, batch: Batch) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """Write what is not yet written; the file itself stays open."""
        ...


def encodable(text: str) -> str:
    """Return `text` with what UTF-8 cannot hold (lone surrogates) replaced by `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


class CsvWriter:
    """RFC 4180, but that a line feed ends a row: text unchanged, quoted where it must be.

    Missing values are empty, empty text is `""`. Python's `csv` leaves a lone carriage return
    unquoted (before 3.13), at which readers end the row, and writes both of these alike.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[Column], clean: Clean = encodable) -> None:
        self._file, self._columns, self._clean = file, columns, clean
        self._write_rows([[self._quoted(column.name)] for column in columns])

    def write(self, batch: Batch) -> None:
        """See `Writer`."""
        self._write_rows([self._cells(column, batch[column.name]) for column in self._columns])

    def close(self) -> None:
        """See `Writer`."""

    def _cells(self, column: Column, values: Any) -> list[str]:
        found = _plain(values)
        if column.dtype == "str":
            cells = {v: "" if v is None else self._quoted(v) for v in set(found)}  # they recur
            return [cells[v] for v in found]
        if column.dtype == "bool":
            return ["" if v is None else "true" if v else "false" for v in found]
        return ["" if v is None else repr(v) for v in found]

    def _quoted(self, text: str) -> str:
        text = self._clean(text)
        return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text

    def _write_rows(self, columns: list[list[str]]) -> None:
        rows = zip(*columns, strict=True)
        self._file.write("".join(",".join(row) + "\n" for row in rows).encode())


class JsonWriter:
    """JSON lines: one object per row, null where a value is missing."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column], clean: Clean = encodable) -> None:
        self._file, self._columns, self._clean = file, columns, clean
        self.n_infinite = 0  # values that are null because JSON has no infinity

    def write(self, batch: Batch) -> None:
        """See `Writer`."""
        names = [column.name for column in self._columns]
        columns = [self._cells(column, batch[column.name]) for column in self._columns]
        lines = (
            json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n"
            for row in zip(*columns, strict=True)
        )
        self._file.write("".join(lines).encode())

    def close(self) -> None:
        """See `Writer`."""

    def _cells(self, column: Column, values: Any) -> list[Any]:
        found = _plain(values)
        if column.dtype == "str":
            return [None if v is None else self._clean(v) for v in found]
        kept = [finite(v) for v in found]
        self.n_infinite += kept.count(None) - found.count(None)
        return kept


class ParquetWriter:
    """Parquet, with units and descriptions as the columns' metadata. Needs `pyarrow`."""

    def __init__(
        self, file: BinaryIO, columns: Sequence[Column], about: dict[str, str] | None = None
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
        self._columns, self._pa = columns, pa
        self._schema = pa.schema(
            [
                pa.field(
                    column.name,
                    types[column.dtype],
                    metadata={"units": column.units, "description": column.description},
                )
                for column in columns
            ],
            metadata=about or {},
        )
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._tables: list[Any] = []  # that are not written yet

    def write(self, batch: Batch) -> None:
        """See `Writer`."""
        arrays = [
            self._pa.array(self._values(column, batch[column.name]), type=field.type)
            for column, field in zip(self._columns, self._schema, strict=True)
        ]
        self._tables.append(self._pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(table.num_rows for table in self._tables) >= _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """See `Writer`."""
        self._flush()
        self._writer.close()

    def _values(self, column: Column, values: Any) -> list[Any]:
        found = _plain(values)
        if column.dtype != "str":
            return found
        return [None if v is None else encodable(v) for v in found]

    def _flush(self) -> None:
        if any(table.num_rows for table in self._tables):
            self._writer.write_table(self._pa.concat_tables(self._tables))
        self._tables = []


def needs_pyarrow() -> None:
    """Raise UnsupportedError, which says what to install, where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "writing Parquet needs pyarrow: pip install 'seedconv-tui[analysis]'; CSV and JSON "
            "need nothing more"
        ) from error


def _plain(values: Any) -> list[Any]:
    """Return values as Python's own, None where one is missing."""
    found: list[Any] = values if isinstance(values, list) else values.tolist()
    return [None if value != value else value for value in found]  # NaN alone differs from itself


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name once it is whole; what has the name stays until then.

    A pipe or a device is written to as it is. Errors of writing name the file.
    """
    path = path.resolve()  # a link stays one
    in_place = path.exists() and not path.is_file()
    written = path if in_place else path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with _naming(path), written.open("wb") as file:
            yield file
        if not in_place:
            written.replace(path)
    finally:
        if not in_place:
            written.unlink(missing_ok=True)


@contextmanager
def stdout() -> Iterator[BinaryIO]:
    """Return standard output, for bytes."""
    sys.stdout.flush()
    with _naming("stdout"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


@contextmanager
def _naming(where: Path | str) -> Iterator[None]:
    """Errors of writing do not name the file; add it."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(where)
        raise
