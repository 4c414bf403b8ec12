"""Loading a tokenizer from its files, and what is wrong with those that are no tokenizer."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from engine.errors import CheckpointError, ConfigError, NotThereError, first_line
from engine.machine.faults import is_fault
from engine.sources.hub import VOCABULARIES, fetch_tokenizer
from engine.sources.hub_client import HubClient

MOST_IDS = 2**24  # lists of them are made
_STILL_SECONDS = 60.0  # a damaged file that was written since then may be in the making

SpecialTokens = Literal["tokens", "text"]


def load_backend(
    field: str,
    source: str,
    folder: Path,
    revision: str,
    hub: HubClient,
    special_tokens: SpecialTokens = "tokens",
) -> Any:
    """Load a fast transformers tokenizer: from `folder` if it exists, else from the Hub.

    Raise what `find_tokenizer` and `read_backend` raise.
    """
    folder = find_tokenizer(field, source, folder, revision, hub)
    return read_backend(field, source, folder, special_tokens)


def read_backend(
    field: str, source: str, folder: Path, special_tokens: SpecialTokens = "tokens"
) -> Any:
    """Load a fast transformers tokenizer from a folder that holds one.

    Special tokens that are spelt out in a text are those tokens, or with "text" text like any
    other. Raise ConfigError naming the field when it cannot be loaded or gives no character
    offsets, NotThereError when it may be in the making.
    """
    from transformers import AutoTokenizer

    name = f"{field}: {source!r}"
    options = {"split_special_tokens": True} if special_tokens == "text" else {}
    try:
        with _quiet():
            backend = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, **options
            )
    except BaseException as error:  # the libraries raise all kinds for files they do not expect
        if not is_fault(error):
            raise
        raise _trouble(name, folder, error) from None
    if not backend.is_fast:
        raise ConfigError(
            f"{name} gives no character offsets. It needs a tokenizer.json, which fast tokenizers "
            "have"
        )
    added = {token.content for token in backend.added_tokens_decoder.values()}
    vocabulary = backend.get_vocab()
    if (last := max(vocabulary.values(), default=0)) > MOST_IDS:
        raise ConfigError(f"{name} has an id {last:,}: no vocabulary is so large")
    if not vocabulary.keys() - added:
        raise ConfigError(
            f"{name} has a tokenizer without a vocabulary: it knows special tokens only. "
            "Save the tokenizer there again, with save_pretrained"
        )
    return backend


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have `transformers` raise what it has to say, and print nothing."""
    from transformers.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        set_verbosity(before)


def find_tokenizer(field: str, source: str, folder: Path, revision: str, hub: HubClient) -> Path:
    """Return the folder that holds a tokenizer's files: `folder` if it exists, else the Hub's.

    Raise ConfigError, and NotThereError when nothing is there that could be loaded.
    """
    name = f"{field}: {source!r}"
    if not folder.exists():
        if source.startswith(("/", ".", "~")) or source.count("/") > 1:  # no name on the Hub
            raise NotThereError(
                f"{name}: there is no such folder. Save the tokenizer there, with "
                'save_pretrained, or name another folder, or one on the Hub such as "gpt2"'
            )
        try:
            return fetch_tokenizer(hub, source, revision)
        except CheckpointError as error:
            raise NotThereError(
                f"{name}: there is no such folder, and as a name on the Hub: {error}"
            ) from None
    try:
        names = {file.name for file in folder.iterdir()}
    except NotADirectoryError:
        raise ConfigError(f"{name} is a file. Name the folder that holds tokenizer.json") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None
    if not names & VOCABULARIES:
        beside = ", which holds no vocabulary" if "tokenizer_config.json" in names else ""
        only = "only tokenizer_config.json" if beside else "no tokenizer.json"
        raise NotThereError(
            f"{name} has no tokenizer: {only} is there{beside}. "
            "Save the tokenizer there, with save_pretrained, or name another folder, or one on the "
            'Hub such as "gpt2"'
        )
    return folder


def _trouble(name: str, folder: Path, error: BaseException) -> ConfigError:
    """Say what is wrong with a tokenizer that `transformers` does not load."""
    for file in sorted(folder.glob("*.json")):
        if (reason := _damage(file)) is None:
            continue
        damaged = f"{name}: {file.name} is damaged ({reason})"
        if _age(file) < _STILL_SECONDS:
            return NotThereError(
                f"{damaged}. If it is being written, try again; else save it again"
            )
        return ConfigError(f"{damaged}. Save the tokenizer there again, with save_pretrained")
    reason = first_line(error).rstrip(" :.")
    if (folder / "tokenizer.json").exists():
        return ConfigError(f"{name}: cannot be loaded: {type(error).__name__}: {reason}")
    found = ", ".join(sorted(VOCABULARIES & {file.name for file in folder.iterdir()}))
    return ConfigError(
        f"{name} has {found} but no tokenizer.json, and cannot be converted here: {reason}. "
        "Load it once where it can be, with AutoTokenizer, and save it with save_pretrained"
    )


def _age(file: Path) -> float:
    """Return the seconds since a file was written; without end, if that cannot be known."""
    with contextlib.suppress(OSError):
        return time.time() - file.stat().st_mtime
    return math.inf


def _damage(file: Path) -> str | None:
    """Return why a file cannot be what its name says; None: it may be."""
    from tokenizers import Tokenizer as Backend

    try:
        if not isinstance(json.loads(file.read_bytes()), dict):
            return "it holds no JSON object"
        if file.name == "tokenizer.json":
            Backend.from_file(str(file))
    except OSError as error:
        return error.strerror or type(error).__name__
    except BaseException as error:  # the library raises plain Exception, and panics
        if not is_fault(error):
            raise
        return first_line(error).removeprefix("Exception: ")
    return None
