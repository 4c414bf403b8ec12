"""A file of torch.save: what is in it, and where, without a tensor being read.

It is a zip archive, in which nothing is compressed: `data.pkl` is a pickle of what was saved, in
which tensors refer to `data/0`, `data/1` and so on, the bytes of their storages.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import CheckpointError
from engine.sources.file_versions import Version, once_a_version
from engine.sources.inert_pickle import MOST_BYTES, Inert, InertPickleError, read_pickle
from engine.sources.stored_tensors import (
    ITEM_SIZES,
    ChosenWeights,
    FoundWeights,
    StoredTensor,
    Unreadable,
    choose_weights,
    item_size,
    sizes_of,
)


@dataclass(frozen=True)
class SavedWeights(FoundWeights[StoredTensor]):
    """The weights in a file of torch.save, and which version of the file they are in."""

    version: Version
    kind = StoredTensor

    def files(self) -> tuple[Path, ...]:
        """Return the file."""
        return (self.file,)

    def storages(self) -> dict[int, int]:
        """Return the bytes of each storage, by where it begins: tensors may share one."""
        return {tensor.place: tensor.n_bytes for tensor in self.tensors.values()}

    def reading_bytes(self) -> int:
        """Return the memory that the weights take; each is read to where it stays."""
        return sum(self.storages().values())


_TYPES = {
    "torch.DoubleStorage": "float64", "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16", "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64", "torch.IntStorage": "int32", "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8", "torch.ByteStorage": "uint8", "torch.BoolStorage": "bool",
    "torch.storage.UntypedStorage": "", "torch.UntypedStorage": "",
}  # fmt: skip
_BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number with which it began
_MOST_DEEP = 40  # dictionaries in one another


def look_at_saved(file: Path) -> SavedWeights:
    """Return the weights in a file of torch.save, and which version of the file that is.

    Raise CheckpointError, in one line: the file is not whole, of another format, or has no weights.
    """
    weights = SavedWeights(file, *_look(file))
    if weights.reading_bytes() > weights.version[0]:
        raise CheckpointError(f"{file}: its tensors claim more bytes than it has")
    return weights


@once_a_version(most=64)
def _look(file: Path, version: Version) -> ChosenWeights:
    with file.open("rb") as stream:
        return choose_weights(file, read_tree(file, stream, version[0]))


def read_tree(file: Path, stream: BinaryIO, size: int) -> Any:
    """Return what was saved, with a StoredTensor for each tensor; `file` is for messages.

    Raise CheckpointError, and OSError.
    """
    try:
        archive = _Archive(stream, size)
        data = archive.read("data.pkl")
        return archive.with_tensors(read_pickle(data, persistent=archive.storage))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}") from None


class _Archive:
    """The zip archive. Whatever is wrong with it is a ValueError without the file's name."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self._changed: dict[int, tuple[Any, Any]] = {}
        try:
            with zipfile.ZipFile(stream) as archive:
                self._entries = {entry.filename: entry for entry in archive.infolist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError):
            raise ValueError(_no_archive(stream)) from None
        roots = [name.removesuffix("data.pkl") for name in self._entries if _is_data(name)]
        if len(roots) != 1:
            raise ValueError("is a zip archive, but not one of torch.save")
        self._root = roots[0]
        if f"{self._root}constants.pkl" in self._entries:
            raise ValueError(
                "is a TorchScript archive, which is a program: it is not read; save "
                "model.state_dict() with torch.save instead"
            )
        order = f"{self._root}byteorder"
        if order in self._entries and self.read("byteorder", most=100) != b"little":
            raise ValueError("was written on a machine with another order of bytes")

    def _entry(self, name: str) -> tuple[int, int]:
        """Return where an entry's bytes begin, and how many they are."""
        entry = self._entries.get(f"{self._root}{name}")
        if entry is None:
            raise ValueError(f"has no entry {name[:40]}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(f"its entry {name[:40]} is compressed, as torch.save does not do")
        self._stream.seek(entry.header_offset)
        header = self._stream.read(30)
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise ValueError(f"its entry {name[:40]} is not where it should be")
        begin = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        if begin + entry.file_size > self._size:
            raise ValueError(f"is {self._size:,} bytes long, and its entry {name[:40]} goes beyond")
        return begin, entry.file_size

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Return an entry of the archive."""
        place, n_bytes = self._entry(name)
        if n_bytes > most:
            raise ValueError(f"its entry {name} of {n_bytes:,} bytes is too large to read")
        self._stream.seek(place)
        return self._stream.read(n_bytes)

    def storage(self, pid: Any) -> _Storage:
        """Return a storage that the pickle refers to."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise InertPickleError("refers to what is not a storage")
        kind, key = getattr(pid[1], "name", ""), str(pid[2])
        if kind not in _TYPES:
            return _Storage(kind.rpartition(".")[2] or "an unknown storage", None, 0)
        return _Storage(_TYPES[kind], *self._entry(f"data/{key}"))

    def with_tensors(self, value: Any, deep: int = 0) -> Any:
        """Return a tree with tensors in place of the calls that would make them.

        What is in it several times is changed once: a few dictionaries can make endless ones.
        """
        if isinstance(value, Inert):
            return _tensor(value)
        if not isinstance(value, dict) or deep > _MOST_DEEP:
            return value
        if id(value) not in self._changed:
            changed: Any = {}
            self._changed[id(value)] = value, changed  # both stay, so that numbers stay theirs
            for key, one in value.items():
                changed[key] = self.with_tensors(one, deep + 1)
        return self._changed[id(value)][1]


class _Storage:
    """The bytes of some tensors, of a type or (of an empty one) of any."""

    def __init__(self, dtype: str, place: int | None, n_bytes: int) -> None:
        self.dtype, self.place, self.n_bytes = dtype, place, n_bytes


def _is_data(name: str) -> bool:
    return name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)


def _no_archive(stream: BinaryIO) -> str:
    """Say what a file is that is not a zip archive."""
    stream.seek(0)
    start = stream.read(512)
    if start.startswith(_BEFORE_ZIP):
        return (
            "is of the format of torch.save before 1.6, which is not read; load it with "
            "torch.load(weights_only=True) and save it again"
        )
    if start.startswith(b"GGUF"):
        return "is a GGUF file, a quantised model: it is not read; name the weights it was made of"
    if start[:1] == b"\x80":
        return "is a mere pickle: it is not read; save model.state_dict() with torch.save instead"
    return "is no whole file of torch.save; it may be half written"


def _tensor(made: Inert) -> Any:
    """Return the tensor that a call would make; what it is where it is of a kind not read."""
    args = made.args
    if made.name in ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter") or (
        made.name == "torch._utils._rebuild_parameter_with_state"
    ):
        return _tensor(args[0]) if args and isinstance(args[0], Inert) else made
    if made.name not in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"):
        kind = made.name.rpartition(".")[2]
        if made.name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            named = [str(getattr(arg, "name", "")) for arg in args if isinstance(arg, type)]
            return Unreadable(_kind(named[-1] if named else kind))  # the last one is its class
        return made
    if len(args) < 6 or not isinstance(args[0], _Storage):
        raise ValueError("holds a tensor without a storage")
    storage, start = args[0], args[1]
    dtype = storage.dtype
    if made.name.endswith("v3"):
        dtype = str(getattr(args[6], "name", "") if len(args) > 6 else "").removeprefix("torch.")
    if storage.place is None or dtype not in ITEM_SIZES:
        return Unreadable(_kind(dtype or "an unknown type"))
    shape, stride = _sizes(args[2]), _sizes(args[3])
    (start,) = sizes_of((start,), "a tensor")
    size = item_size(dtype, "a tensor")
    elements = storage.n_bytes // size
    n, last = 1, start
    for many, by in zip(shape, stride, strict=True):
        n, last = n * many, last + (many - 1) * by
    if n and (last >= elements or n > elements):
        raise ValueError(
            f"holds a tensor of {'x'.join(map(str, shape))}, and only {elements:,} elements for it"
        )
    return StoredTensor(dtype, shape, stride, start, storage.place, storage.n_bytes)


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Inert) and value.name == "torch.Size" and value.args:
        value = value.args[0]
    return sizes_of(value, "a tensor")


def _kind(name: str) -> str:
    plain = name.removeprefix("torch.").rpartition(".")[2]
    if plain == "DTensor":
        return (
            "a part of a distributed tensor (DTensor); save the whole one, with "
            "full_state_dict=True, or all parts with torch.distributed.checkpoint"
        )
    if plain.lower().startswith(("q", "_rebuild_q", "float8", "float4", "int4", "uint4")):
        return f"{plain}: quantised weights are not read; dequantize them, then save again"
    return f"no plain tensor ({plain}), and is not read"


def read_block(data: bytes, file: Path) -> tuple[StoredTensor, memoryview]:
    """Return the one tensor that torch.save wrote into `data`, and its storage's bytes.

    Raise CheckpointError, which names `file`.
    """
    tree = read_tree(file, io.BytesIO(data), len(data))
    if not isinstance(tree, StoredTensor):
        raise CheckpointError(f"{file}: holds something else where a tensor should be")
    return tree, memoryview(data)[tree.place : tree.place + tree.n_bytes]
