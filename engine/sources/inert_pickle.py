"""Pickles read as data: nothing that they name is ever imported, made or called.

A pickle is a program that names classes and functions and has them called. Here each name becomes
an inert class of that name. What would call it makes an inert object, which keeps the arguments;
who reads the pickle knows which of them mean something. The interpreter is the one in Python, not
the one in C: it reserves no memory by numbers that a pickle claims.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

MOST_BYTES = 2**28  # of a pickle without its tensors; the largest known are some 30 MB

# What runs commands, or other code. No object of a checkpoint comes from there, so such a pickle
# is not read for what else it holds. It would not be run even so.
_RUNS = frozenset({
    "asyncio", "builtins.__import__", "builtins.compile", "builtins.eval", "builtins.exec",
    "builtins.open", "code", "commands", "ctypes", "importlib", "nt", "os", "pdb",
    "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "webbrowser",
})  # fmt: skip


class InertPickleError(ValueError):
    """A pickle that is not read; the message has no file's name."""


class Inert:
    """An object of a class that a pickle names, or what a function that it names would return."""

    name: ClassVar[str] = ""  # of the class or function, with its module
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> Inert:
        """Keep the arguments."""
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state

    def __call__(self, *args: Any, **_: Any) -> Inert:
        """Stand for the result, too."""
        return Inert(*args)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep nothing: it is of no use."""

    def append(self, value: Any) -> None:
        """Keep nothing."""

    add = extend = append

    def fields(self) -> dict[str, Any]:
        """Return its attributes, as far as the pickle sets them by name."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        found: dict[str, Any] = {}
        for part in parts:
            found |= part if isinstance(part, dict) else {}
        return found


class _Mapping(dict[Any, Any]):
    """A dictionary of another class, such as OrderedDict."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keep no attributes, only the entries."""


_MAPPINGS = frozenset({"collections.OrderedDict", "collections.defaultdict"})


def read_pickle(
    data: bytes,
    *,
    allowed: Callable[[str], bool] = lambda name: True,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Return what a pickle holds, with `Inert` for every object of a class.

    `allowed` says which names may occur at all, each with its module; `persistent` returns what
    stands for what the pickle refers to outside of itself. Raise InertPickleError.
    """
    check_length(len(data))
    try:
        return _Reader(data, allowed, persistent).load()
    except InertPickleError:
        raise
    except Exception as error:  # whatever a broken pickle makes the interpreter raise
        what = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        raise InertPickleError(f"holds a broken pickle ({what})") from None


def check_length(n_bytes: int) -> None:
    """Raise InertPickleError when a pickle is too long to be one of a checkpoint."""
    if n_bytes > MOST_BYTES:
        raise InertPickleError(f"holds a pickle of {n_bytes:,} bytes, which is too large to read")


class _Reader(pickle._Unpickler):
    """The interpreter, without what resolves names, makes sets or reserves memory."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]  # to the stack
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        data: bytes,
        allowed: Callable[[str], bool],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(io.BytesIO(data), encoding="latin-1")
        self._allowed, self._persistent = allowed, persistent
        self._classes: dict[str, type] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        """Return an inert class. Raise InertPickleError for a name that is not allowed."""
        module = "builtins" if module == "__builtin__" else module
        full = f"{module}.{name}"
        if {module, module.partition(".")[0], full} & _RUNS or not self._allowed(full):
            raise InertPickleError(
                f"names {ascii(full)[1:-1][:80]}, which no such file has to: it is not read, and "
                "nothing of it was run"
            )
        if full not in self._classes:
            kind = _Mapping if full in _MAPPINGS else Inert
            self._classes[full] = type(name, (kind,), {"name": full})
        return self._classes[full]

    def persistent_load(self, pid: Any) -> Any:
        """Return what stands for something outside of the pickle."""
        if self._persistent is None:
            raise InertPickleError("refers to what is not in it")
        return self._persistent(pid)

    def _set_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_plain(key)] = value

    def _set_several(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        for n in range(0, len(items), 2):
            target[_plain(items[n])] = items[n + 1]

    def _push_set(self) -> None:
        self.append(Inert())

    def _push_frozen_set(self) -> None:
        self.append(Inert(self.pop_mark()))

    dispatch[pickle.SETITEM[0]] = _set_one
    dispatch[pickle.SETITEMS[0]] = _set_several
    dispatch[pickle.EMPTY_SET[0]] = _push_set
    dispatch[pickle.FROZENSET[0]] = _push_frozen_set
    for _code in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.DICT):
        del dispatch[_code[0]]


def _plain(key: Any) -> Any:
    """Return a key that is hashed in no time, as tuples of tuples of one tuple are not."""
    if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
        return repr(id(key))
    return key
