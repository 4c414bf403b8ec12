"""The study's tokenizer, and what its vocabulary stands for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, ConfigError
from engine.sources.hub import fetch_tokenizer
from engine.sources.hub_client import HubClient
from engine.study_file.file import StudyFile

_SPACE_MARK = "\u2581"  # of SentencePiece
_UNREADABLE = "\ufffd"  # what is decoded of part of a character


@dataclass(frozen=True)
class Tokenizer:
    """The study's tokenizer with what the engine needs to know of it."""

    backend: Any  # a fast transformers tokenizer
    size: int  # vocabulary entries: the width of all log-probs
    digest: str  # of the vocabulary: token -> id
    bos: int | None  # id before the first token
    end_of_text: int | None  # id between documents in a stream; after each for masked models
    pad: int  # id that fills a batch up
    mask: int | None  # id that stands for a token that is not shown


def vocabulary_digest(vocabulary: dict[str, int]) -> str:
    """Return the identity of a vocabulary, whatever files it came from."""
    digest = hashlib.sha256()
    for token, number in sorted(vocabulary.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{number}\0{token}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def load_tokenizer(study: StudyFile, hub: HubClient) -> Tokenizer:
    """Load the study's tokenizer, from a folder if there is one of that name, else from the hub.

    Raise ConfigError when it cannot be loaded, gives no character offsets, or has no mask token
    and the study needs one.
    """
    settings = study.tokenizer
    folder = study.path(settings.source)
    revision = settings.revision or "main"
    backend = load_backend("tokenizer.source", settings.source, folder, revision, hub)
    vocabulary = backend.get_vocab()
    masked = study.scoring.prediction != "causal"
    if study.scoring.prediction == "pseudo" and backend.mask_token_id is None:
        raise ConfigError(
            f"tokenizer.source: {settings.source!r} has no mask token, which "
            'scoring.prediction = "pseudo" needs'
        )
    bos, end = backend.bos_token_id, backend.eos_token_id
    first = _first_of(backend.cls_token_id, bos) if masked else _first_of(bos, end)
    return Tokenizer(
        backend=backend,
        size=max(vocabulary.values()) + 1,
        digest=vocabulary_digest(vocabulary),
        bos=_bos(settings.bos, first, vocabulary),
        end_of_text=_first_of(backend.sep_token_id, end) if masked else end,
        pad=_first_of(backend.pad_token_id, bos, end) or 0,
        mask=backend.mask_token_id,
    )


def load_backend(field: str, source: str, folder: Path, revision: str, hub: HubClient) -> Any:
    """Load a fast transformers tokenizer: from `folder` if it exists, else from the hub.

    Raise ConfigError naming the field when it cannot be loaded or gives no character offsets.
    """
    from transformers import AutoTokenizer

    there = folder.exists()
    try:
        if not there:
            folder = fetch_tokenizer(hub, source, revision)
        backend = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not there:
            reason = f"there is no such folder (yet), and as a name on the hub: {reason}"
        raise ConfigError(f"{field}: {source!r} cannot be loaded: {reason}") from None
    if not backend.is_fast:
        raise ConfigError(
            f"{field}: {source!r} gives no character offsets; it needs a tokenizer.json"
        )
    return backend


def _first_of(*ids: int | None) -> int | None:
    return next((number for number in ids if number is not None), None)


def _bos(setting: str, auto: int | None, vocabulary: dict[str, int]) -> int | None:
    if setting == "none":
        return None
    if setting == "auto":
        return auto
    if setting not in vocabulary:
        raise ConfigError(f'tokenizer.bos: should be "auto", "none" or a token, found {setting!r}')
    return vocabulary[setting]


def entry_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return what each vocabulary entry stands for, (vocab,); untrusted.

    The text it decodes to, with the space that it begins with; an entry that decodes to nothing
    readable, as one byte of a character does, is given by its name.
    """
    ids = range(tokenizer.size)
    names = tokenizer.backend.convert_ids_to_tokens(list(ids))
    texts = tokenizer.backend.batch_decode(
        [[number] for number in ids], clean_up_tokenization_spaces=False
    )
    return tuple(map(_entry_text, names, texts))


def _entry_text(name: str | None, text: str) -> str:
    if not text or _UNREADABLE in text:
        return name or ""
    begins = name is not None and name.startswith(_SPACE_MARK)
    return f" {text}" if begins and not text.startswith(" ") else text
