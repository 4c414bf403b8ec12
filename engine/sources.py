"""Where checkpoints are: templates over {model}, {seed} and {step}, and what counts as finished."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
INCOMPLETE = "checkpoint-is-incomplete.txt"

_FIELD = re.compile(r"\{(\w*)\}")
_PATTERNS = {"seed": r"[^/]+?", "step": r"\d+"}


class Template:
    """A path with {model}, {seed} and {step}, e.g. `runs/{model}/seed{seed}/checkpoint-{step}`."""

    def __init__(self, text: str) -> None:
        """Raises ValueError when fields are unknown or missing."""
        fields = _FIELD.findall(text)
        unknown = sorted(set(fields) - {"model", "seed", "step"})
        if unknown or "{" in _FIELD.sub("", text) or "}" in _FIELD.sub("", text):
            raise ValueError("may hold only the fields {model}, {seed} and {step}")
        absent = [name for name in ("seed", "step") if name not in fields]
        if absent:
            raise ValueError(f"must hold {{{absent[0]}}}, or its checkpoints cannot be told apart")
        if "://" in text or "@" in text:
            raise ValueError("must be a local folder: this version reads checkpoints from disk")
        self.text = text

    def path(self, folder: Path, model: str, seed: str, step: int) -> Path:
        """The folder of one checkpoint, relative templates being below `folder`."""
        filled = _FIELD.sub(
            lambda match: {"model": model, "seed": seed, "step": str(step)}[match[1]], self.text
        )
        return folder / Path(filled).expanduser()

    def discover(self, folder: Path, model: str) -> Iterator[tuple[str, int]]:
        """Yield (seed, step) of every folder that fits, in no particular order."""
        text = self.text.replace("{model}", model)
        start = Path(text).expanduser()
        root = Path(start.anchor) if start.is_absolute() else folder
        parts = start.parts[1:] if start.is_absolute() else start.parts
        for found in _match(root, parts, {}):
            step = int(found["step"])
            if str(step) == found["step"]:  # a path with leading zeros is not what `path` makes
                yield found["seed"], step


def _match(folder: Path, parts: tuple[str, ...], found: dict[str, str]) -> Iterator[dict[str, str]]:
    if not parts:
        yield found
        return
    first, *rest = parts
    if not _FIELD.search(first):
        if (folder / first).is_dir():
            yield from _match(folder / first, tuple(rest), found)
        return
    seen: set[str] = set()

    def pattern(match: re.Match[str]) -> str:
        name = match[1]
        if name in found:
            return re.escape(found[name])
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{_PATTERNS[name]})"

    pieces = _FIELD.split(first)
    literal = [re.escape(piece) for piece in pieces[::2]]
    fields = [pattern(match) for match in _FIELD.finditer(first)]
    regex = re.compile("".join(a + b for a, b in zip(literal, [*fields, ""], strict=True)))
    try:
        entries = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return
    for entry in entries:
        if match := regex.fullmatch(entry):
            yield from _match(folder / entry, tuple(rest), {**found, **match.groupdict()})


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one finished checkpoint."""

    folder: Path
    weights: tuple[Path, ...]  # safetensors


def checkpoint_files(folder: Path) -> CheckpointFiles:
    """Look at a checkpoint without reading its weights.

    Raises CheckpointError, in one line, when it is unfinished, damaged or not in safetensors.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    if (folder / INCOMPLETE).exists():
        raise CheckpointError(f"{folder}: holds {INCOMPLETE}: it is still being written")
    _json(folder / "config.json")
    if (folder / "trainer_state.json").exists():
        _json(folder / "trainer_state.json")
    if (folder / INDEX).exists():
        weight_map = _json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{folder / INDEX}: names no weights")
        names = sorted({str(name) for name in weight_map.values()})
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"{folder / INDEX}: names a file outside the checkpoint")
        weights = tuple(folder / name for name in names)
    elif (folder / SINGLE).exists():
        weights = (folder / SINGLE,)
    elif any(folder.glob("*.bin")):
        raise CheckpointError(
            f"{folder}: has only pickled weights, which can run code when loaded; "
            "save the model with safe_serialization=True"
        )
    else:
        raise CheckpointError(f"{folder}: has no {SINGLE} and no {INDEX}")
    for file in weights:
        _check_safetensors(file)
    return CheckpointFiles(folder, weights)


def _json(file: Path) -> dict[str, object]:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file}: is missing") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"{file}: is not valid JSON; it may be half written") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: should hold a JSON object")
    return value


def _check_safetensors(file: Path) -> None:
    """Compare a file's size with what its header promises."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
            if not 2 <= length <= min(size - 8, 100 * 2**20):
                raise CheckpointError(f"{file}: has no valid safetensors header")
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
    except FileNotFoundError:
        raise CheckpointError(f"{file}: is missing") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise CheckpointError(f"{file}: has no valid safetensors header") from None
    if not ends:
        raise CheckpointError(f"{file}: holds no weights")
    expected = 8 + length + max(ends)
    if size != expected:
        raise CheckpointError(f"{file}: is {size:,} bytes long, its header says {expected:,}")


def signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file of a checkpoint: equal while nothing is being written."""
    try:
        entries = sorted(folder.iterdir())
        stats = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
