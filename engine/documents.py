"""The documents of a study: which files they are in, and where one ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import ConfigError
from engine.study_file import StudyFile


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


def split_documents(study: StudyFile, text: str) -> list[str]:
    """The documents in the text of one file, without those that are blank."""
    parts = text.split(study.corpus.separator) if study.corpus.separator else [text]
    return [part for part in parts if part.strip()]


def read_documents(study: StudyFile) -> list[tuple[str, str]]:
    """The documents of the corpus as (name, text), in the order of the study file.

    Raises ConfigError naming the file or pattern at fault.
    """
    documents: list[tuple[str, str]] = []
    for file in find_files(study, "corpus.files", study.corpus.files):
        parts = split_documents(study, read_text("corpus.files", file))
        names = [file.name if len(parts) == 1 else f"{file.name}:{n}" for n in range(len(parts))]
        documents += zip(names, parts, strict=True)
    if not documents:
        raise ConfigError("corpus.files: hold no text")
    return documents


def _glob(path: Path) -> Iterator[Path]:
    """Files that fit a pattern; the folder before its first special character is where to look."""
    parts = path.parts
    plain = next((n for n, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    if plain == len(parts):
        return iter(())
    return (file for file in Path(*parts[:plain]).glob(str(Path(*parts[plain:]))) if file.is_file())
