"""The documents of a study: which files they are in, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import ConfigError
from engine.study_file.file import StudyFile
from engine.text.streams import read_pieces, whole


def find_files(study: StudyFile, field: str, entries: Iterable[str]) -> list[Path]:
    """The files that entries of a field name, each once, in order; patterns sorted by name.

    Raises ConfigError naming the entry that fits no file.
    """
    files: list[Path] = []
    for entry in entries:
        path = study.path(entry)
        found = [path] if path.exists() else sorted(_glob(path))
        if not found:
            raise ConfigError(f"{field}: {entry!r}: there is no such file under {study.folder}")
        files += found
    return list(dict.fromkeys(files))


def read_text(field: str, file: Path) -> str:
    """All of a UTF-8 text file. Raises ConfigError naming field and file."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{field}: {file}: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{field}: {file}: cannot be read: {error.strerror}") from None


def read_documents(
    study: StudyFile, field: str, entries: Iterable[str], separator: str
) -> Iterator[tuple[str, str]]:
    """The documents that are not blank as (name, text), in the order of the study file.

    Read as they are asked for: text files, parted by `separator`, and JSON lines. Raises
    ConfigError naming the field and the file or pattern at fault.
    """
    for file in find_files(study, field, entries):
        pieces = read_pieces([file], separator, where=f"{field}: ")
        texts = (text for text, _ in whole(pieces) if text.strip())
        yield from _named(file.name, texts)


def _named(file: str, texts: Iterator[str]) -> Iterator[tuple[str, str]]:
    """A file's only document is called like the file, others have their number behind it."""
    if (first := next(texts, None)) is None:
        return
    second = next(texts, None)
    yield (file if second is None else f"{file}:0"), first
    if second is not None:
        yield f"{file}:1", second
    yield from ((f"{file}:{n}", text) for n, text in enumerate(texts, 2))


def _glob(path: Path) -> Iterator[Path]:
    """Files that fit a pattern; the folder before its first special character is where to look."""
    parts = path.parts
    plain = next((n for n, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    if plain == len(parts):
        return iter(())
    return (file for file in Path(*parts[:plain]).glob(str(Path(*parts[plain:]))) if file.is_file())
