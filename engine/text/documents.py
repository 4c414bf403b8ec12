"""The documents of a study: which files they are in, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from engine.errors import ConfigError, NotThereError
from engine.study_file.file import StudyFile
from engine.text.streams import Piece, read_pieces


def find_files(study: StudyFile, field: str, entries: Iterable[str]) -> list[Path]:
    """Find the files that entries of a field name, once each, in order; patterns by name.

    Raise NotThereError naming the entry that fits no file.
    """
    files: list[Path] = []
    for entry in entries:
        path = study.path(entry)
        found = [path] if path.exists() else sorted(_glob(path))
        if not found:
            where = f"under {study.folder.absolute()}"
            raise NotThereError(f"{field}: {entry!r}: there is no such file {where}")
        files += found
    return list(dict.fromkeys(files))


def read_text(field: str, file: Path) -> str:
    """Read all of a UTF-8 text file. Raise ConfigError naming field and file.

    That is NotThereError if it is not there.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{field}: {file}: byte {error.start} is not UTF-8") from None
    except FileNotFoundError:
        raise NotThereError(f"{field}: {file}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{field}: {file}: cannot be read: {error.strerror}") from None


def read_documents(
    study: StudyFile, field: str, entries: Iterable[str], separator: str
) -> Iterator[tuple[str, str]]:
    """Yield the documents that are not blank as (name, text), in the order of the study file.

    Read as they are asked for: text files, split at `separator`, and JSON lines. Raises
    ConfigError naming the field and the file or pattern at fault.
    """
    found = stream_documents(study, field, entries, separator)
    for file, group in groupby(found, key=lambda document: document[0]):
        texts = ("".join(piece.text[piece.shared :] for piece in pieces) for _, pieces in group)
        yield from _named(file.name, texts)


def stream_documents(
    study: StudyFile,
    field: str,
    entries: Iterable[str],
    separator: str,
    fields: Sequence[str] = (),
) -> Iterator[tuple[Path, Iterator[Piece]]]:
    """Yield the documents that are not blank as (file, pieces); nothing is read before its time.

    The pieces of a document must be taken before the next document. They have what its record says
    in `fields`. Raise ConfigError naming the field and the file or pattern at fault.
    """
    for file in find_files(study, field, entries):
        stream = read_pieces([file], separator, fields=fields, where=f"{field}: ")
        for piece in stream:
            first = [piece]
            while first[-1].more and not first[-1].text.strip():
                first.append(next(stream))
            if first[-1].text.strip():
                yield file, _document(first, stream)


def _document(first: list[Piece], stream: Iterator[Piece]) -> Iterator[Piece]:
    """Yield the pieces of a document whose first ones were taken from the stream."""
    yield from first
    piece = first[-1]
    while piece.more:
        piece = next(stream)
        yield piece


def document_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Name documents by their files, in order: with a number where a file has several."""
    names: list[str] = []
    for file, group in groupby(files):
        n = len(list(group))
        names += [file.name] if n == 1 else [f"{file.name}:{number}" for number in range(n)]
    return tuple(names)


def _named(file: str, texts: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, text): a file's only document is called like the file, others have a number."""
    if (first := next(texts, None)) is None:
        return
    second = next(texts, None)
    yield (file if second is None else f"{file}:0"), first
    if second is not None:
        yield f"{file}:1", second
    yield from ((f"{file}:{n}", text) for n, text in enumerate(texts, 2))


def _glob(path: Path) -> Iterator[Path]:
    """Yield files that fit a pattern, below the folder before its first special character."""
    parts = path.parts
    plain = next((n for n, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    if plain == len(parts):
        return iter(())
    return (file for file in Path(*parts[:plain]).glob(str(Path(*parts[plain:]))) if file.is_file())
