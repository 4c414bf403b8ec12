"""Check that a checkpoint has the study's vocabulary: as many entries, of the same tokens."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import CheckpointError
from engine.machine.faults import is_fault
from engine.text.tokenizer import Tokenizer, entry_names
from engine.text.tokenizer_files import MOST_IDS

USUAL_PADDING = 1024  # rows beyond the tokenizer, for fast kernels
_MOST_KEPT = 4  # vocabularies of different content: mostly all checkpoints of a study have one


def check_vocabulary(place: Path, config: Any, tokenizer: Tokenizer, beside: Path) -> None:
    """Raise CheckpointError unless a checkpoint's log-probs are of the study's entries.

    Rows of the model past the tokenizer's entries are padding, however many they are. Where there
    is a vocabulary in the folder `beside`, that of its config.json, every id that both have must
    stand for the same token; a token that only one of them has must be an added one that the
    study's texts do not use. How text is split into tokens is the study's to say: not compared.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(rows, int):
        kind = type(config).__name__
        raise CheckpointError(f"{place}: {kind} has no vocabulary: it is no language model")
    if rows < tokenizer.size:
        raise CheckpointError(f"{place}: {too_few(rows, tokenizer)}")
    if (file := _vocabulary_file(beside)) is None:
        return
    stat = file.stat()
    theirs = _entries(file, stat.st_size, stat.st_mtime_ns)
    if theirs is None:
        return
    if (what := _difference(tokenizer, _with_added(theirs, beside))) is not None:
        raise CheckpointError(f"{file}: is another tokenizer than the study's: {what}")


def doubtful_padding(beside: Path, rows: int, tokenizer: Tokenizer) -> str | None:
    """Return what to know of more padding than is usual and nothing to compare it with, or None."""
    size = tokenizer.size
    if rows - size <= USUAL_PADDING or _vocabulary_file(beside) is not None:
        return None
    return (
        f"{rows - size:,} of the model's {rows:,} rows are taken as padding, as the study's "
        f"tokenizer has {size:,} entries; no tokenizer.json next to the weights "
        "could confirm it"
    )


def too_few(rows: int, tokenizer: Tokenizer) -> str:
    """Return why a model with fewer rows than the tokenizer has entries cannot be compared."""
    text = f"has a vocabulary of {rows:,}, the study's tokenizer has {tokenizer.size:,} entries"
    beyond = range(rows, tokenizer.size)
    if rows >= tokenizer.least:
        return (
            f"{text}: {_name(tokenizer, rows)} was added to it and is not in the model. The text "
            "does not use it: a new store leaves it out"
        )
    if all(number in tokenizer.added for number in beyond):
        used = next(number for number in beyond if number not in tokenizer.spare)
        return f"{text}: {_name(tokenizer, used)} was added to it and is not in the model"
    return f"{text}: another tokenizer, so its log-probs cannot be compared"


def _name(tokenizer: Tokenizer, number: int) -> str:
    return f"{tokenizer.names[number]!r} (id {number})"


@dataclass(frozen=True)
class _Entries:
    """The vocabulary of a tokenizer."""

    names: tuple[str | None, ...]  # by id; None: there is none of that id
    added: frozenset[int]  # ids of added tokens
    whole: bool = True  # whether added tokens are all there


def _difference(tokenizer: Tokenizer, theirs: _Entries) -> str | None:
    """Return the first id that stands for something else in both, in words; None: there is none."""
    if theirs.names == tokenizer.names:
        return None
    for number in range(max(tokenizer.size, len(theirs.names))):
        here = tokenizer.names[number] if number < tokenizer.size else None
        there = theirs.names[number] if number < len(theirs.names) else None
        if here == there:
            continue
        if there is None:
            if number in tokenizer.spare or (number in tokenizer.added and not theirs.whole):
                continue
            return f"it has no id {number}, which is {here!r} in the study's"
        if here is not None:
            return f"id {number} is {here!r} in the study's and {there!r} in this one"
        if number not in theirs.added:
            return f"it has an id {number}, {there!r}, which the study's has not"
    return None


@functools.lru_cache(maxsize=64)
def _entries(file: Path, size: int, time: int) -> _Entries | None:
    """Return a file's entries, None if it holds none; size and time notice a new file.

    Raise OSError when it cannot be read.
    """
    data, parse = file.read_bytes(), _FORMATS[file.name]
    key = file.name, hashlib.blake2b(data, digest_size=16).digest()
    if key not in _KEPT:
        _KEPT[key] = _parsed(parse, data)
        while len(_KEPT) > _MOST_KEPT:
            _KEPT.popitem(last=False)
    return _KEPT[key]


_KEPT: OrderedDict[tuple[str, bytes], _Entries | None] = OrderedDict()


class _Read(NamedTuple):
    """A tokenizer file's entries."""

    ids: dict[str, int]  # by token
    added: frozenset[int] = frozenset()
    whole: bool = False  # as in `_Entries`


def _parsed(parse: Callable[[bytes], _Read | None], data: bytes) -> _Entries | None:
    """Return what a file holds; None for what is no vocabulary.

    Raise ValueError for ids that no vocabulary has.
    """
    try:
        found = parse(data)
    except BaseException as error:  # the library raises plain Exception, and panics
        if not is_fault(error):
            raise
        return None
    return found and _Entries(entry_names(found.ids), found.added, found.whole)


def _of_tokenizer(data: bytes) -> _Read:
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_buffer(data)
    added = frozenset(backend.get_added_tokens_decoder())
    return _Read(backend.get_vocab(with_added_tokens=True), added, whole=True)


def _of_json(data: bytes) -> _Read | None:
    ids = json.loads(data)
    plain = all(type(number) is int and number >= 0 for number in ids.values())
    return _Read(ids) if plain else None


def _of_lines(data: bytes) -> _Read | None:
    names = [line.removesuffix("\r") for line in data.decode().removesuffix("\n").split("\n")]
    if any(name.split() != [name] for name in names):  # as where counts follow the tokens
        return None
    return _Read({name: number for number, name in enumerate(names)})


_FORMATS: Mapping[str, Callable[[bytes], _Read | None]] = {
    "tokenizer.json": _of_tokenizer,
    "vocab.json": _of_json,
    "vocab.txt": _of_lines,
}
"""The files that hold a vocabulary, the one that says most first, and how each is read."""


def _vocabulary_file(beside: Path) -> Path | None:
    return next((file for name in _FORMATS if (file := beside / name).is_file()), None)


def _with_added(entries: _Entries, beside: Path) -> _Entries:
    """Return the entries with the tokens that were added to them in other files."""
    names, added = list(entries.names), set(entries.added)
    for number, token in _added_beside(beside):
        if number > MOST_IDS or token in entries.names:
            continue
        names += [None] * (number + 1 - len(names))
        if names[number] is None:
            names[number] = token
            added.add(number)
    return _Entries(tuple(names), frozenset(added), entries.whole)


def _added_beside(beside: Path) -> Iterator[tuple[int, str]]:
    """Yield ids and tokens of `added_tokens.json` and `tokenizer_config.json`, what is odd not."""
    for name, token_first in (("added_tokens.json", True), ("tokenizer_config.json", False)):
        try:
            found = json.loads((beside / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        fields = found if token_first or not isinstance(found, dict) else found.get(_DECODER)
        for key, value in fields.items() if isinstance(fields, dict) else ():
            token = key if token_first else value.get("content") if type(value) is dict else None
            number = value if token_first else int(key) if key.isdecimal() else None
            if type(number) is int and number >= 0 and type(token) is str:
                yield number, token


_DECODER = "added_tokens_decoder"
