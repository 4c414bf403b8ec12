"""The user's loader: a function that the study file names, imported from next to that file.

It is code that runs, like a training script. Nothing that lies with a checkpoint names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, first_line
from engine.machine.faults import is_fault
from engine.study_file.models_section import ModelSection


@dataclass(frozen=True)
class UserLoader:
    """A function `load(path, *, model, seed, step, device, cache)`, and where it comes from."""

    load: Callable[..., Any]
    name: str  # as in the study file
    digest: str  # of the file that defines it
    folder: Path  # of the study file


def import_loader(model: ModelSection, folder: Path) -> UserLoader:
    """Import the loader of a model, with modules next to the study file before installed ones.

    `folder` is the study file's. It stays on the path, behind everything else, for what the loader
    imports when it is called: nothing there can then hide what we import.

    Raise ConfigError that names the model when there is no such function, or importing it fails.
    """
    assert model.loader is not None
    where, (name, _, function) = f'model "{model.name}": loader', model.loader.partition(":")
    folder = folder.absolute()
    _refuse_taken(where, name, folder)
    try:
        with kept_settings(), _beside(folder):
            found: Any = importlib.import_module(name)
    except BaseException as error:
        if not is_fault(error):
            raise
        at = place_in(error, folder)
        text = f"{where}: {name} cannot be imported: {first_line(error)}{at}"
        if isinstance(error, ModuleNotFoundError) and (error.name or "") in _prefixes(name):
            text += f". It should be installed, or lie in {folder}"
        raise ConfigError(text) from error
    load = getattr(found, function, None)
    if not callable(load):
        what = "is no function" if hasattr(found, function) else "is not there"
        raise ConfigError(f"{where}: {function} {what} in {found.__file__ or name}")
    return UserLoader(load, model.loader, _digest(found.__file__), folder)


def _refuse_taken(where: str, name: str, folder: Path) -> None:
    """Raise ConfigError when what lies next to the study file is called like another module.

    That one is imported already, and would be taken in its place.
    """
    top = name.partition(".")[0]
    there, known = PathFinder.find_spec(top, [str(folder)]), sys.modules.get(top)
    if there is None or known is None:
        return
    place = there.origin or next(iter(there.submodule_search_locations or ()), top)
    taken = [getattr(known, "__file__", None), *getattr(known, "__path__", ())]
    if not any(other is not None and _same(place, other) for other in taken):
        raise ConfigError(
            f"{where}: the name {top!r} is taken by {taken[0] or 'a module of Python'}. Give "
            f"{place} another name"
        )


def _same(file: str, other: str) -> bool:
    try:
        return Path(file).samefile(other)
    except OSError:
        return False


def _prefixes(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts) + 1)}


def _digest(file: str | None) -> str:
    try:
        data = Path(file or "").read_bytes()
    except OSError:  # an extension, or in an archive
        return ""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Have imports look next to the study file first, as a script there would; afterwards last."""
    path = str(folder)
    sys.path.insert(0, path)
    importlib.invalidate_caches()  # its files may be newer than the last look
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(path)
        if path not in sys.path:
            sys.path.append(path)


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return None


def _handlers() -> tuple[Any, ...] | None:
    """Return what signals to stop do; None where this thread cannot change it."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return tuple(map(signal.getsignal, _STOPS))


def _set_handlers(handlers: tuple[Any, ...]) -> None:
    for number, handler in zip(_STOPS, handlers, strict=True):
        if handler is not None:  # else it is none of Python's
            signal.signal(number, handler)


_STOPS = (signal.SIGINT, signal.SIGTERM)


def _settings() -> Sequence[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return what user code may set for the whole process: how it is asked for, and set."""
    import torch  # only studies with such code need it before there is a pass

    return (
        (torch.get_default_dtype, torch.set_default_dtype),
        (
            torch.get_default_device,
            lambda device: torch.set_default_device(None if device.type == "cpu" else device),
        ),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (_folder, os.chdir),
        (_handlers, _set_handlers),
    )


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """Undo what the user's code sets for the whole process; what it prints goes to stderr."""
    from engine.machine.precision import multiply_in_full  # imports torch, as `_settings` does

    settings = _settings()
    before = [ask() for ask, _ in settings]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            yield
    finally:
        for (ask, put), value in zip(settings, before, strict=True):
            if value is not None and ask() != value:
                put(value)
        multiply_in_full()


def place_in(error: BaseException, folder: Path) -> str:
    """Return which line next to the study file raised an error, as ` (file, line n)`, or ""."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(folder):
            return f" ({Path(frame.filename).relative_to(folder)}, line {frame.lineno})"
    return ""
