"""Text from files and datasets: documents sampled for a corpus, tokens counted for `corpus.counts`.

Both read a stream of documents by its position, keep a state file beside what they write, and go on
from there when they were interrupted; the result is that of an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from engine.counts import tally
from engine.errors import ConfigError
from store.durable import write_file

SEPARATOR = "\n\f\n"  # between documents in one text file
_SAVE_SECONDS = 30.0  # between two saves of the state
_FEW = 256  # documents taken at once


@dataclass(frozen=True)
class Origin:
    """Where documents come from: text, JSON lines, Parquet or Arrow files, or the hub's dataset."""

    places: tuple[str, ...]  # files, or one name on the hub
    config: str | None = None  # of a dataset on the hub
    split: str = "train"
    field: str = "text"  # of a record

    def documents(self, skip: int = 0) -> Iterator[str]:
        """Documents in their order, without the first `skip`; blank ones are counted and kept.

        A text file is one document, or several between lines that hold a form feed. Raises
        ConfigError naming the file and line, or dataset, at fault.
        """
        files = [Path(place) for place in self.places]
        if not any(file.exists() for file in files) and len(files) == 1 and not files[0].suffix:
            return self._records(self.places[0], skip, name=self.config, split=self.split)
        for file in files:
            if not file.is_file():
                raise ConfigError(f"{file}: there is no such file")
        suffixes = {file.suffix for file in files}
        if suffixes <= {".parquet", ".arrow"} and len(suffixes) == 1:
            kind = suffixes.pop()[1:]
            return self._records(kind, skip, data_files=list(self.places), split="train")
        return islice((text for file in files for text in self._of_file(file)), skip, None)

    def _of_file(self, file: Path) -> Iterator[str]:
        try:
            if file.suffix not in (".jsonl", ".json"):
                yield from file.read_text(encoding="utf-8").split(SEPARATOR)
                return
            with file.open(encoding="utf-8") as lines:
                for n, line in enumerate(lines, 1):
                    if line.strip():
                        yield self._text(json.loads(line), f"{file}, line {n}")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: byte {error.start} is not UTF-8") from None
        except json.JSONDecodeError as error:
            raise ConfigError(f"{file}: line {n} is not JSON: {error.msg}") from None
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None

    def _records(self, source: str, skip: int, **options: Any) -> Iterator[str]:
        try:
            from datasets import load_dataset
        except ModuleNotFoundError:
            raise ConfigError(
                f"{source}: datasets need an extra: pip install 'seedconv-tui[datasets]'"
            ) from None
        try:
            stream = load_dataset(source, streaming=True, **options)
            for n, record in enumerate(stream.skip(skip), skip):
                yield self._text(record, f"{source}, record {n}")
        except ConfigError:
            raise
        except Exception as error:  # of many libraries: files, hub, formats
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"{source}: cannot be read: {reason}") from None

    def _text(self, record: Any, where: str) -> str:
        text = record.get(self.field) if isinstance(record, dict) else None
        if not isinstance(text, str):
            there = ", ".join(map(str, record)) if isinstance(record, dict) else "no fields"
            raise ConfigError(f"{where}: has no text in {self.field!r}; it has: {there}")
        return text


def sample(
    origin: Origin,
    target: Path,
    *,
    n: int,
    seed: int,
    among: int | None,
    tell: Callable[[str], None],
) -> int:
    """Sample documents, each equally likely, and write them in their order; return how many.

    `target` is a .jsonl file, a .txt file with a form feed between documents, or a folder that gets
    a file for each. Of the first `among` documents, or all. A document is taken by a hash of seed
    and position, so equal input gives equal output. Raises ConfigError.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another place")
    state_file = target.with_name(f"{target.name}.state")
    settings = {"origin": asdict(origin), "n": n, "seed": seed, "among": among}
    state = _load_json(state_file, settings)
    kept = [(-int(key), at, text) for key, at, text in state.get("kept", [])]
    heapq.heapify(kept)
    position, saved = int(state.get("position", 0)), time.monotonic()

    def save() -> None:
        rows = [(str(-key), at, text) for key, at, text in kept]
        fields = {"settings": settings, "position": position, "kept": rows}
        write_file(state_file, json.dumps(fields).encode())

    stream = origin.documents(position)
    if among is not None:
        stream = islice(stream, max(0, among - position))
    try:
        for text in stream:
            if text.strip():
                item = (-_key(seed, position), position, text)
                if len(kept) < n:
                    heapq.heappush(kept, item)
                else:
                    heapq.heappushpop(kept, item)
            position += 1
            if time.monotonic() - saved > _SAVE_SECONDS:
                save()
                saved = time.monotonic()
                tell(f"{position:,} documents read")
    except BaseException:
        save()
        raise
    texts = [text for _, _, text in sorted(kept, key=lambda item: item[1])]
    if not texts:
        raise ConfigError(f"{', '.join(origin.places)}: holds no text")
    _write(target, texts)
    state_file.unlink(missing_ok=True)
    return len(texts)


def _key(seed: int, position: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {position}".encode(), digest_size=8).digest())


def _write(target: Path, texts: list[str]) -> None:
    if target.suffix == ".jsonl":
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        write_file(target, lines.encode())
    elif target.suffix == ".txt":
        apart = (text.replace(SEPARATOR, "\n\n") for text in texts)
        write_file(target, SEPARATOR.join(apart).encode())
    else:
        target.mkdir()
        for at, text in enumerate(texts):
            write_file(target / f"{at:06}.txt", text.encode(), durable=False)


def count(
    origin: Origin,
    backend: Any,
    size: int,
    digest: str,
    target: Path,
    *,
    among: int | None,
    tell: Callable[[str], None],
) -> int:
    """Count tokens, without special ones, into a .npy file, (size,) int64; return the total.

    `backend` is a fast tokenizer, `digest` its vocabulary's. Raises ConfigError.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another file")
    state_file = target.with_name(f"{target.name}.state")
    settings = {"origin": asdict(origin), "tokenizer": digest, "among": among}
    totals, position = np.zeros(size, np.int64), 0
    if state_file.exists():
        try:
            with np.load(state_file, allow_pickle=False) as state:
                _expect(state_file, json.loads(str(state["settings"])), settings)
                totals, position = state["count"], int(state["position"])
        except (OSError, ValueError, KeyError, EOFError):
            raise ConfigError(f"{state_file}: is damaged; remove it to begin anew") from None
    saved = time.monotonic()

    def save() -> None:
        buffer = io.BytesIO()
        np.savez(buffer, count=totals, position=position, settings=json.dumps(settings))
        write_file(state_file, buffer.getvalue())

    stream = origin.documents(position)
    if among is not None:
        stream = islice(stream, max(0, among - position))
    try:
        while texts := list(islice(stream, _FEW)):
            totals, position = totals + tally(backend, texts, size), position + len(texts)
            if time.monotonic() - saved > _SAVE_SECONDS:
                save()
                saved = time.monotonic()
                tell(f"{position:,} documents read, {totals.sum():,} tokens")
    except BaseException:
        save()
        raise
    if not totals.any():
        raise ConfigError(f"{', '.join(origin.places)}: holds no text")
    buffer = io.BytesIO()
    np.save(buffer, totals)
    write_file(target, buffer.getvalue())
    state_file.unlink(missing_ok=True)
    return int(totals.sum())


def _load_json(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(file.read_bytes())
        found = state["settings"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{file}: is damaged; remove it to begin anew") from None
    _expect(file, found, settings)
    return state


def _expect(file: Path, found: Any, settings: dict[str, Any]) -> None:
    if found != json.loads(json.dumps(settings)):
        raise ConfigError(f"{file}: is of other settings; give those, or remove it to begin anew")
