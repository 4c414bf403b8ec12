r"""Documents in text files and JSON lines, read as a stream: memory does not grow with files.

A text file is one document, or several with a separator between them; newlines of all kinds are
read as `\n`. In a file that ends in .jsonl or .json each line is a record, and a field of it a
document, exactly as it stands there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from engine.errors import ConfigError

LONG = 2**17  # characters: a document that is longer comes in pieces of about this many
SHARED = 2**12  # characters that a piece has in common with the next one
_CHUNK = 2**16  # characters read at once


Fields = tuple[str | None, ...]  # what a record says in addition to its text; None: nothing


class Position(NamedTuple):
    """From where a list of files is read."""

    file: int = 0  # index
    offset: int = 0  # in it, as `seek` takes it; of a dataset: records before it
    skip: int = 0  # characters to pass over from there; of JSON lines: lines before it
    shared: int = 0  # of those that follow, how many the piece before has as well


START = Position()


@dataclass(frozen=True)
class Piece:
    """A document, or a part of a long one."""

    text: str
    position: Position  # from where what follows is read
    shared: int = 0  # characters at the start that the piece before has as well
    more: bool = False  # whether the document goes on
    fields: Fields = ()  # of its record, as many as were asked for


def is_json_lines(file: Path) -> bool:
    """Return whether a file's lines are records, going by its name."""
    return file.suffix in (".jsonl", ".json")


def read_pieces(
    files: Sequence[Path],
    separator: str,
    *,
    start: Position = START,
    field: str = "text",
    fields: Sequence[str] = (),
    where: str = "",
) -> Iterator[Piece]:
    """Yield the documents of files, in order, from a position on; blank ones as well.

    `separator` splits text files ("": each is one document). `field` is the text's in a record,
    `fields` are others that its piece brings along; text files have none. `where` comes before the
    name of the file in messages. Raise ConfigError naming file and line.
    """
    for index in range(start.file, len(files)):
        here = start if index == start.file else Position(index)
        file, name = files[index], f"{where}{files[index]}"
        try:
            with _open(file) as raw:
                if is_json_lines(file):
                    yield from _records(raw, name, field, fields, here)
                elif fields:
                    raise ConfigError(
                        f"{name}: is text, which has no field {fields[0]!r}; write it as JSON lines"
                    )
                else:
                    with TextIOWrapper(raw, encoding="utf-8") as stream:
                        yield from _parts(stream, name, separator, here)
        except OSError as error:
            raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None


def _open(file: Path) -> BinaryIO:
    """Open a file in which positions can be sought; a pipe is read to its end for that."""
    raw = file.open("rb")
    if raw.seekable():
        return raw
    with raw:
        return BytesIO(raw.read())


def whole(pieces: Iterable[Piece]) -> Iterator[tuple[str, Position]]:
    """Yield documents in one piece, and from where what follows each is read."""
    yield from ((document.text, document.position) for document in joined(pieces))


def joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield documents in one piece each."""
    parts: list[str] = []
    for piece in pieces:
        parts.append(piece.text[piece.shared :] if parts else piece.text)
        if not piece.more:
            yield Piece("".join(parts), piece.position, fields=piece.fields)
            parts.clear()


def _parts(
    stream: TextIOWrapper[BinaryIO], name: str, separator: str, start: Position
) -> Iterator[Piece]:
    stream.seek(start.offset)
    text, begin, shared = "", start.skip, start.shared
    searched = begin
    marks = [(0, start.offset)]  # where in `text` chunks begin, and where in the file

    def position_of(at: int, shared: int = 0) -> Position:
        position, offset = next(mark for mark in reversed(marks) if mark[0] <= at)
        return Position(start.file, offset, at - position, shared)

    while chunk := _read(stream, name):
        text += chunk
        while separator and (at := text.find(separator, searched)) >= 0:
            after = at + len(separator)
            yield Piece(text[begin:at], position_of(after), shared)
            begin, searched, shared = after, after, 0
        end = len(text) - max(0, len(separator) - 1)  # what follows may complete a separator
        searched = max(begin, end)
        if end - begin > LONG:
            yield Piece(text[begin:end], position_of(end - SHARED, SHARED), shared, more=True)
            begin, shared = end - SHARED, SHARED
        marks = [(position - begin, offset) for position, offset in marks]
        while len(marks) > 1 and marks[1][0] <= 0:
            marks.pop(0)
        text, searched, begin = text[begin:], searched - begin, 0
        marks.append((len(text), stream.tell()))
    yield Piece(text[begin:], Position(start.file + 1), shared)


def _read(stream: TextIOWrapper[BinaryIO], name: str) -> str:
    try:
        return stream.read(_CHUNK)
    except UnicodeDecodeError as error:
        at = stream.buffer.tell() - len(error.object) + error.start
        raise ConfigError(f"{name}: byte {at} is not UTF-8") from None


def _records(
    lines: BinaryIO, name: str, field: str, fields: Sequence[str], start: Position
) -> Iterator[Piece]:
    """Yield records of JSON lines; `skip` of their positions are lines that were read."""
    offset = lines.seek(start.offset)
    for number, line in enumerate(lines, start.skip + 1):
        offset += len(line)
        if not line.strip():
            continue
        at = f"{name}: line {number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{at}: byte {error.start} is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            raise ConfigError(f"{at}: is not JSON: {reason}") from None
        text, position = text_of(record, field, at), Position(start.file, offset, number)
        yield Piece(text, position, fields=fields_of(record, fields, at))


def text_of(record: Any, field: str, where: str) -> str:
    """Return the document in a record. Raise ConfigError, beginning with `where`."""
    text = record.get(field) if isinstance(record, dict) else None
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{where}: {field!r} should be text, found {str(text)[:40]!r}")
    if text is None:
        there = ", ".join(map(str, record)) if isinstance(record, dict) else "no fields"
        raise ConfigError(f"{where}: has no text in {field!r}; it has: {there}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{where}: {field!r} holds half a surrogate pair, which is no character")
    return text


def fields_of(record: Any, names: Sequence[str], where: str) -> Fields:
    """Return what a record says in its fields, as text; None where it has no such field.

    A name is that of a field or, where there is none, of fields within each other: `meta.source`.
    Raise ConfigError, beginning with `where`, for what is no text, number or truth value.
    """
    return tuple(_value(record, name, where) for name in names)


def _value(record: Any, name: str, where: str) -> str | None:
    found = record
    if name in record:
        found = record[name]
    else:
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    if found is not None and not isinstance(found, str | int | float):
        raise ConfigError(
            f"{where}: {name!r} should be text or a number, found {str(found)[:40]!r}"
        )
    text = json.dumps(found) if isinstance(found, bool) else "" if found is None else str(found)
    return text.strip() or None
