"""Locate a checkpoint's tensors in its files, without reading them.

What is found is a tree of dictionaries as they were saved, with one of these in place of each
tensor. So the model's tensors can be chosen, and counted, while an optimizer's stay on disk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from engine.errors import CheckpointError

Tree = dict[Any, Any]  # of trees, tensors and whatever else was saved

# Bytes of each element, by torch's name. Quantised ones are refused where weights are read.
ITEM_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip

# Under which of several keys the weights are that are meant; earlier ones first.
_KEYS = (
    "model", "state_dict", "model_state_dict", "module", "net", "network", "weights", "params",
)  # fmt: skip
# Parts of the names of weights other than the model's, which are taken where there are no others.
_BESIDE = ("ema", "swa", "avg", "averag", "teacher")
_DEEPEST = 4  # dictionary in which weights are looked for


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file of torch.save: some elements of a storage."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # in elements
    start: int  # first element
    place: int  # where the storage begins in the file, in bytes
    n_bytes: int  # of the storage


@dataclass(frozen=True)
class Chunk:
    """A block of a tensor, which is in a file of its own inside a file of several."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    place: int  # where it begins, in bytes
    n_bytes: int


@dataclass(frozen=True)
class ChunkedTensor:
    """A tensor of a distributed checkpoint, in blocks that cover it."""

    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Unreadable:
    """Stands in for a tensor of a kind that is not read."""

    what: str


Tensor = StoredTensor | ChunkedTensor


@dataclass(frozen=True)
class ChosenWeights:
    """The weights that were chosen of everything that was saved."""

    tensors: dict[str, Tensor]
    key: str  # under which they are; "" at the top
    others: tuple[str, ...] = ()  # keys under which there are other ones

    def note(self, file: Path) -> str | None:
        """Return which weights of a file these are, where there are others."""
        if not self.others:
            return None
        named = ", ".join(other[:60] or "the top" for other in self.others[:3])
        key = self.key or "the top"
        return f"{file}: the weights under {key} were read, and not those under {named}"


_Kind = TypeVar("_Kind", StoredTensor, ChunkedTensor)


@dataclass(frozen=True)
class FoundWeights(Generic[_Kind]):
    """The weights of a checkpoint, each of the kind of tensor that its files hold."""

    file: Path  # that says which there are
    chosen: ChosenWeights
    kind: ClassVar[type[Any]]

    @property
    def tensors(self) -> dict[str, _Kind]:
        """Return them by name."""
        return {n: it for n, it in self.chosen.tensors.items() if isinstance(it, self.kind)}

    @property
    def note(self) -> str | None:
        """Return which weights these are, where there are others."""
        return self.chosen.note(self.file)


def choose_weights(file: Path, tree: object) -> ChosenWeights:
    """Return the model's weights of what was saved in `file`: the dictionary that holds matrices.

    What an optimizer keeps is left out. Where several could be meant, the usual key decides. Raise
    CheckpointError when there are none, or it is not known which.
    """
    if not isinstance(tree, dict):
        of = f" but an object of {str(name)[:80]}" if (name := getattr(tree, "name", "")) else ""
        raise CheckpointError(f"{file}: holds no state dict{of}; save model.state_dict() instead")
    found = dict(_candidates(tree, (), Tensor, {}))
    unread = dict(_candidates(tree, (), Unreadable, {}))
    # Where the usual key has weights that are not read, no others are meant.
    found |= {path: it for path, it in unread.items() if not found or _rank(path)[:2] == (0, 0)}
    if not found:
        raise CheckpointError(f"{file}: holds no weights; save model.state_dict() instead")
    paths = sorted(found, key=_rank)
    best = paths[0]
    others = [path for path in paths if found[path] is not found[best]]
    if others and _rank(best) == _rank(others[0]):
        names = ", ".join(".".join(path)[:60] for path in paths[:5])
        raise CheckpointError(
            f"{file}: holds several sets of weights ({names}), and it is not known which is meant; "
            "save the one alone, or under the key model"
        )
    tensors = {}
    for name, value in found[best].items():
        if isinstance(value, Unreadable):
            raise CheckpointError(f"{file}: {str(name)[:80]} is {value.what}")
        if isinstance(name, str) and isinstance(value, Tensor):
            tensors[name] = value
    return ChosenWeights(tensors, ".".join(best), tuple(".".join(path) for path in others))


def _rank(path: tuple[str, ...]) -> tuple[int, int, int, int]:
    """Return how likely the weights under some keys are meant: least is most."""
    if not path:
        return 0, 1, 0, 0
    words = re.split(r"[^a-z]+", ".".join(path).lower())
    beside = any(word.startswith(_BESIDE) for word in words)
    known = path[-1] in _KEYS
    index = _KEYS.index(path[-1]) if known else 0
    return int(beside), 0 if known else 2, len(path), index


def _candidates(
    tree: Tree, path: tuple[str, ...], kind: Any, seen: dict[int, int]
) -> Iterable[tuple[Any, Tree]]:
    """Yield the dictionaries that hold matrices of a kind, with the keys they are under.

    `seen` has how deep each was looked at: what is there countless times is soon looked through.
    """
    if seen.get(id(tree), _DEEPEST + 1) <= len(path):
        return
    seen[id(tree)] = len(path)
    if any(_is_matrix(value, kind) for value in tree.values()):
        yield path, tree
    for key, value in tree.items():
        inside = isinstance(value, dict) and isinstance(key, str) and len(path) < _DEEPEST
        if inside and "optim" not in key.lower():
            yield from _candidates(value, (*path, key), kind, seen)


def _is_matrix(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and len(getattr(value, "shape", (0, 0))) > 1


def sizes_of(value: object, name: str) -> tuple[int, ...]:
    """Return a shape or the like, checked. Raise ValueError, without a file's name."""
    if not isinstance(value, tuple | list) or len(value) > 32 or not all(map(_is_count, value)):
        raise ValueError(f"{name[:80]} has the sizes {str(value)[:40]}")
    return tuple(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def item_size(dtype: str, name: str) -> int:
    """Return the bytes of each element. Raise ValueError for a type that is not read."""
    if dtype not in ITEM_SIZES:
        raise ValueError(f"{name[:80]} is {dtype[:40]}, which is not read")
    return ITEM_SIZES[dtype]


def tensor_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements."""
    return math.prod(tensor.shape) * ITEM_SIZES[tensor.dtype]
