"""Text from files and datasets: documents sampled for a corpus, tokens counted for `corpus.counts`.

Both read a stream of documents, keep a state file next to their output, and continue from it after
an interruption; the result is that of an uninterrupted run. A file continues at the byte; a dataset
is read again from its start, and what was done is skipped.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.text.counting import count_tokens
from engine.text.streams import (
    START,
    Fields,
    Piece,
    Position,
    fields_of,
    joined,
    read_pieces,
    text_of,
)
from store import write_file
from store.words import counted, quoted

SEPARATOR = "\n\f\n"  # between documents in one text file
_SHOWN = 5  # values of a field that a message has
_SAVE_SECONDS = 30.0  # between two saves of the state
_TABLES = {".parquet", ".arrow"}
_FILES = {".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".gz", ".zst", *_TABLES}
_Heap = list[tuple[int, int, str, Fields]]  # (-key, position, document): the largest key first

Report = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """An origin of documents: text, JSON lines, Parquet or Arrow files, or the Hub's dataset."""

    sources: tuple[str, ...]  # files, or one name on the Hub
    config: str | None = None  # of a dataset on the Hub
    split: str = "train"
    field: str = "text"  # of a record
    fields: tuple[str, ...] = ()  # others that documents bring along

    @property
    def on_hub(self) -> bool:
        """Return whether it is one name that is no file's and might be a dataset's."""
        name = self.sources[0]
        return (
            len(self.sources) == 1
            and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None
            and Path(name).suffix not in _FILES
            and not Path(name).exists()
        )

    def read(self, start: Position = START) -> Iterator[Piece]:
        """Yield documents in their order, from a position on; blank ones as well.

        A text file is one document, or several between lines that hold a form feed. Raises
        ConfigError naming the file and line, or dataset, at fault.
        """
        if self.on_hub:
            return self._records(self.sources[0], start, name=self.config, split=self.split)
        files = self._files()
        suffixes = {file.suffix for file in files}
        if not suffixes & _TABLES:
            return read_pieces(files, SEPARATOR, start=start, field=self.field, fields=self.fields)
        if len(suffixes) > 1:
            raise ConfigError(f"{', '.join(sorted(suffixes))}: are read one kind at a time")
        return self._records(
            suffixes.pop()[1:], start, data_files=list(self.sources), split="train"
        )

    def settings(self) -> dict[str, Any]:
        """Return what must be the same for going on, by its name. Raise ConfigError."""
        sizes = [] if self.on_hub else [file.stat().st_size for file in self._files()]
        own = asdict(self)
        if not self.fields:  # states of before there were any go on
            del own["fields"]
        return {**own, "sizes of the files": sizes}

    def _files(self) -> list[Path]:
        files = [Path(source) for source in self.sources]
        for file in files:
            if not file.is_file():
                what = "is a folder; name its files" if file.is_dir() else "there is no such file"
                raise ConfigError(f"{file}: {what}")
        return files

    def _records(self, source: str, start: Position, **options: Any) -> Iterator[Piece]:
        try:
            from datasets import load_dataset
        except ModuleNotFoundError:
            raise ConfigError(
                f"{source}: datasets is not installed: pip install 'seedconv-tui[datasets]'"
            ) from None
        name = source if self.on_hub else ", ".join(self.sources)
        try:
            stream = load_dataset(source, streaming=True, **options)
            for n, record in enumerate(stream.skip(start.offset), start.offset + 1):
                at = f"{name}: record {n}"
                text, fields = text_of(record, self.field, at), fields_of(record, self.fields, at)
                yield Piece(text, Position(0, n), fields=fields)
        except ConfigError:
            raise
        except Exception as error:  # of many libraries: files, Hub, formats
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if self.on_hub:
                reason = f"there is no such file, and as a dataset on the Hub: {reason}"
            raise ConfigError(f"{name}: cannot be read: {reason}") from None


@dataclass(frozen=True)
class Filter:
    """Conditions on sampled documents; the others are read, and passed over."""

    shortest: int | None = None  # characters
    longest: int | None = None
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by field: one of these

    def lacking(self, n: int, seen: Mapping[str, Collection[str]]) -> str:
        """Return that none of `n` documents is one of them, and some values that were seen."""
        if self == EVERY:
            return "holds no text"
        has = "; ".join(
            f"{name}: {', '.join(map(quoted, sorted(values))) or 'in no document'}"
            for name, values in seen.items()
        )
        return (
            f"none of {counted(n, 'document')} is of that length and those values; loosen "
            f"--shortest, --longest or --where" + f" (values found: {has})" * bool(has)
        )

    def takes(self, text: str, fields: Mapping[str, str | None]) -> bool:
        """Return whether a document is one of them."""
        return (
            len(text) >= (self.shortest or 0)
            and (self.longest is None or len(text) <= self.longest)
            and all(fields[name] in allowed for name, allowed in self.values.items())
        )

    def settings(self) -> dict[str, Any]:
        """Return what it goes by."""
        return {name: value for name, value in asdict(self).items() if value}


EVERY = Filter()


@dataclass(frozen=True)
class _Step:
    """A command's progress."""

    documents: int  # that were read to their end
    position: Position  # from where to go on
    kept: Any  # what was made of them


def sample(
    origin: Origin,
    target: Path,
    *,
    n: int,
    seed: int,
    among: int | None,
    report: Report,
    only: Filter = EVERY,
) -> int:
    """Sample documents, each equally likely, and write them in their order; return how many.

    `target` is one of three: a .jsonl file, which holds them exactly, with the origin's `fields`; a
    .txt file with a form feed between them; a folder that gets a file for each. Of the first
    `among` documents, or all. A document is taken by a hash of seed and position, so equal input
    gives equal output; what `only` passes over changes nothing for the others. Raise ConfigError.
    """
    if target.suffix not in ("", ".txt", ".jsonl"):
        raise ConfigError(f"{target}: should end in .txt or .jsonl, or be the name of a folder")

    seen: dict[str, set[str]] = {name: set() for name in only.values}  # a few values of each

    def take(step: _Step) -> Iterator[_Step]:
        # What was read after the state was saved is read again, and must not be there twice.
        kept: _Heap = [
            (-int(key), at, text, tuple(fields[0] if fields else ()))
            for key, at, text, *fields in step.kept or ()
            if at < step.documents
        ]
        heapq.heapify(kept)
        yield _Step(step.documents, step.position, kept)
        pieces = _first(origin.read(step.position), among, step.documents)
        for at, document in enumerate(joined(pieces), step.documents):
            text, fields = document.text, document.fields
            named = dict(zip(origin.fields, fields, strict=True))
            for name, values in seen.items():
                if len(values) < _SHOWN and (value := named[name]) is not None:
                    values.add(value)
            if text.strip() and only.takes(text, named):
                item = (-_key(seed, at), at, text, fields)
                if len(kept) < n:
                    heapq.heappush(kept, item)
                else:
                    heapq.heappushpop(kept, item)
            yield _Step(at + 1, document.position, kept)

    def finish(step: _Step) -> int:
        found = [item[2:] for item in sorted(step.kept, key=lambda item: item[1])]
        if found:
            _write(target, found, origin.fields)
        return len(found)

    return _gather(
        target,
        {**origin.settings(), "n": n, "seed": seed, "first": among, **only.settings()},
        take,
        finish,
        as_json=lambda kept: [(str(-key), *document) for key, *document in kept],
        lacking=lambda step: only.lacking(step.documents, seen),
        report=lambda step: report(f"{step.documents:,} documents read"),
    )


def count(
    origin: Origin,
    backend: Any,
    size: int,
    digest: str,
    target: Path,
    *,
    among: int | None,
    report: Report,
    special_tokens: str = "tokens",
) -> int:
    """Count tokens, without special ones, into a .npy file, (size,) int64; return the total.

    `backend` is a fast tokenizer, `digest` its vocabulary's; `special_tokens` says what it takes
    special tokens for that are spelt out. Raise ConfigError.
    """
    # States of before there was a choice go on.
    chosen = {} if special_tokens == "tokens" else {"special_tokens": special_tokens}

    def take(step: _Step) -> Iterator[_Step]:
        totals = np.zeros(size, np.int64) if step.kept is None else np.array(step.kept, np.int64)
        done = step.documents
        yield _Step(done, step.position, totals)
        for part in count_tokens(backend, _first(origin.read(step.position), among, done), size):
            totals, done = totals + part.count, done + part.documents  # never changed in place
            yield _Step(done, part.position, totals)

    def finish(step: _Step) -> int:
        totals: NDArray[np.int64] = step.kept
        if totals.any():
            buffer = io.BytesIO()
            np.save(buffer, totals)
            write_file(target, buffer.getvalue())
        return int(totals.sum())

    return _gather(
        target,
        {**origin.settings(), "tokenizer": digest, "first": among, **chosen},
        take,
        finish,
        as_json=lambda totals: totals.tolist(),
        lacking=lambda _: "holds no text",
        report=lambda step: report(
            f"{step.documents:,} documents read, {step.kept.sum():,} tokens"
        ),
    )


def _gather(
    target: Path,
    settings: dict[str, Any],
    take: Callable[[_Step], Iterator[_Step]],
    finish: Callable[[_Step], int],
    *,
    as_json: Callable[[Any], Any],
    lacking: Callable[[_Step], str],
    report: Callable[[_Step], None],
) -> int:
    """Go through all steps from where the last run came to, then write `target`.

    What a step has kept is saved as `as_json` gives it, every now and then and when interrupted.
    `finish` writes, unless there is nothing, and returns how much there was. What is then
    `lacking` is raised, and no state stays: other settings may begin.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another place")
    state_file = target.with_name(f"{target.name}.state")
    settings = json.loads(json.dumps(settings))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{target.parent}: cannot be made: {error.strerror}") from None
    begin = step = _saved(state_file, settings)

    def save() -> None:
        fields = {"documents": step.documents, "place": step.position, "kept": as_json(step.kept)}
        write_file(state_file, json.dumps({"settings": settings, **fields}).encode())

    saved = time.monotonic()
    try:
        for step in take(begin):
            if time.monotonic() - saved > _SAVE_SECONDS:
                save()
                saved = time.monotonic()
                report(step)
        result = finish(step)
    except BaseException:
        if step.position != START:
            save()
        raise
    state_file.unlink(missing_ok=True)
    if not result:
        raise ConfigError(f"{', '.join(settings['sources'])}: {lacking(step)}")
    return result


def _saved(file: Path, settings: dict[str, Any]) -> _Step:
    """Return how far an earlier run came. Raise ConfigError if it was about something else."""
    try:
        fields = json.loads(file.read_bytes())
        found, position = fields["settings"], Position(*fields["place"])
        step = _Step(int(fields["documents"]), position, fields["kept"])
    except FileNotFoundError:
        return _Step(0, START, None)
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{file}: is damaged; remove it to start again") from None
    if found != settings:
        other = ", ".join(name for name in settings if found.get(name) != settings[name])
        raise ConfigError(f"{file}: was begun with other {other}; remove it to start again")
    return step


def _first(pieces: Iterator[Piece], among: int | None, done: int) -> Iterator[Piece]:
    """Yield pieces up to the end of that many documents; some are done."""
    for piece in pieces if among is None or among > done else ():
        yield piece
        done += not piece.more
        if done == among:
            return


def _key(seed: int, position: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {position}".encode(), digest_size=8).digest())


def _write(target: Path, found: list[tuple[str, Fields]], names: Sequence[str]) -> None:
    texts = [text for text, _ in found]
    if target.suffix == ".jsonl":
        records = (
            {"text": text} | {k: v for k, v in zip(names, fields, strict=True) if v is not None}
            for text, fields in found
        )
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_file(target, lines.encode())
    elif target.suffix == ".txt":  # as it will be read: with plain newlines, split nowhere else
        plain = (text.replace("\r\n", "\n").replace("\r", "\n") for text in texts)
        apart = (re.sub(r"(?m)^\f$", "", text) for text in plain)
        write_file(target, SEPARATOR.join(apart).encode())
    else:
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for at, text in enumerate(texts):
            write_file(partial / f"{at:06}.txt", text.encode(), durable=False)
        partial.rename(target)
