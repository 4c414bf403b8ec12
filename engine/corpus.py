"""From text files to the fixed sequences that every checkpoint is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CheckpointError, ConfigError
from engine.hub import HubClient
from engine.hub_source import fetch_tokenizer
from engine.study_file import StudyFile
from store import Corpus


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


@dataclass(frozen=True)
class Sequence:
    """What a model reads at a stretch, and where in it a token of the corpus is predicted."""

    inputs: NDArray[np.int64]  # (n,) ids
    predicts: NDArray[np.bool_]  # (n,): causal models predict the next token, others this one


@dataclass(frozen=True)
class Text:
    """The evaluation text: sequences to feed, and the tokens predicted in them.

    The predictions of all sequences, in order, are of the tokens of `corpus`.
    """

    sequences: tuple[Sequence, ...]
    corpus: Corpus
    digest: str
    pad: int = 0  # id that fills a batch up
    mask: int | None = None  # id that stands for a token that is not shown


def vocabulary_digest(vocabulary: dict[str, int]) -> str:
    """Identity of a vocabulary, whatever files it came from."""
    digest = hashlib.sha256()
    for token, number in sorted(vocabulary.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{number}\0{token}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def load_tokenizer(study: StudyFile, hub: HubClient) -> Tokenizer:
    """Load the study's tokenizer, from a folder if there is one of that name, else from the hub.

    Raises ConfigError when it cannot be loaded, gives no character offsets, or has no mask token
    and the study needs one.
    """
    from transformers import AutoTokenizer

    settings = study.tokenizer
    folder = study.path(settings.source)
    try:
        if not folder.exists():
            folder = fetch_tokenizer(hub, settings.source, settings.revision or "main")
        backend = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"tokenizer.source: {settings.source!r} cannot be loaded: {reason}"
        ) from None
    if not backend.is_fast:
        raise ConfigError(
            f"tokenizer.source: {settings.source!r} gives no character offsets; "
            "it needs a tokenizer.json"
        )
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


def find_files(study: StudyFile, field: str, entries: Iterable[str]) -> list[Path]:
    """The files that entries of a field name, each once, in order; patterns sorted by name.

    Raises ConfigError naming the entry that fits no file.
    """
    files: list[Path] = []
    for entry in entries:
        path = study.path(entry)
        found = [path] if path.exists() else sorted(_glob(path))
        if not found:
            raise ConfigError(f"{field}: {entry!r}: there is no such file under {study.folder}")
        files += found
    return list(dict.fromkeys(files))


def read_text(field: str, file: Path) -> str:
    """All of a UTF-8 text file. Raises ConfigError naming field and file."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{field}: {file}: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{field}: {file}: cannot be read: {error.strerror}") from None


def split_documents(study: StudyFile, text: str) -> list[str]:
    """The documents in the text of one file, without those that are blank."""
    parts = text.split(study.corpus.separator) if study.corpus.separator else [text]
    return [part for part in parts if part.strip()]


def read_documents(study: StudyFile) -> list[tuple[str, str]]:
    """The documents of the corpus as (name, text), in the order of the study file.

    Raises ConfigError naming the file or pattern at fault.
    """
    documents: list[tuple[str, str]] = []
    for file in find_files(study, "corpus.files", study.corpus.files):
        parts = split_documents(study, read_text("corpus.files", file))
        names = [file.name if len(parts) == 1 else f"{file.name}:{n}" for n in range(len(parts))]
        documents += zip(names, parts, strict=True)
    if not documents:
        raise ConfigError("corpus.files: hold no text")
    return documents


def _glob(path: Path) -> Iterator[Path]:
    """Files that fit a pattern; the folder before its first special character is where to look."""
    parts = path.parts
    plain = next((n for n, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    if plain == len(parts):
        return iter(())
    return (file for file in Path(*parts[:plain]).glob(str(Path(*parts[plain:]))) if file.is_file())


def build_text(study: StudyFile, tokenizer: Tokenizer) -> Text:
    """Tokenise the corpus for the study's windowing.

    `stream` is one sequence: bos, then the documents with the end-of-text token between them (the
    paper's way). `document` is one sequence per document, each after bos. For masked models each
    document stands between bos and the end-of-text token (BERT: [CLS] and [SEP]), and neither is
    predicted. Raises ConfigError.
    """
    stream = study.scoring.windowing == "stream"
    masked = study.scoring.prediction != "causal"
    limit = study.corpus.max_tokens
    sequences: list[list[int]] = [[]]
    predicted: list[list[int]] = [[]]  # positions of the targets in each sequence
    columns: list[tuple[int, int, int, int, int]] = []  # id, context, document, start, end
    texts, starts, names = [], [], []
    offset = 0

    def feed(number: int, document: int, start: int, end: int) -> None:
        sequence = sequences[-1]
        if sequence:
            predicted[-1].append(len(sequence))
            columns.append((number, sequence[-1], document, start, end))
        sequence.append(number)

    def show(number: int | None) -> None:
        if number is not None:
            sequences[-1].append(number)

    show(tokenizer.bos)
    for index, (name, text) in enumerate(read_documents(study)):
        if limit is not None and len(columns) >= limit:
            break
        if index and masked:
            show(tokenizer.end_of_text)
        elif index and stream and tokenizer.end_of_text is not None:
            feed(tokenizer.end_of_text, index - 1, offset, offset)
        if index and not stream:
            sequences.append([])
            predicted.append([])
        if index and (masked or not stream):
            show(tokenizer.bos)
        encoded = tokenizer.backend(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        for number, (start, end) in zip(
            encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            if limit is not None and len(columns) >= limit:
                break
            feed(number, index, offset + start, offset + end)
        texts.append(text)
        starts.append(offset)
        names.append(name)
        offset += len(text)
    if masked:
        show(tokenizer.end_of_text)
    if not columns:
        raise ConfigError("corpus.files: hold fewer than two tokens, so there is none to predict")
    token_id, context_id, document, char_start, char_end = np.array(columns, np.int64).T
    corpus = Corpus(
        token_id=token_id.astype(np.int32),
        context_id=context_id.astype(np.int32),
        document=document.astype(np.int32),
        char_start=char_start,
        char_end=char_end,
        text="".join(texts),
        document_start=np.array(starts, np.int64),
        document_name=tuple(names),
    )
    digest, kept = hashlib.sha256(), []
    for numbers, targets in zip(sequences, predicted, strict=True):
        if targets:
            ids, predicts = np.array(numbers, np.int64), np.zeros(len(numbers), np.bool_)
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
            if masked:
                predicts[targets] = True
                kept.append(Sequence(ids, predicts))
            else:  # said at the token before; nothing is said after the last
                predicts[np.array(targets) - 1] = True
                kept.append(Sequence(ids[:-1], predicts[:-1]))
    return Text(tuple(kept), corpus, digest.hexdigest()[:16], tokenizer.pad, tokenizer.mask)
