"""Facts about a tokenizer's files that no study changes; kept from one start to the next.

A start that finds all its text tokenised already needs no more of the tokenizer, and does not load
the libraries that read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.text.derived_cache import (
    as_array,
    as_value,
    digest_of,
    digest_of_code,
    digest_of_files,
    keep,
    recall,
)
from engine.text.tokenizer_files import SpecialTokens

SPACE_MARK = "\u2581"  # of SentencePiece
_KIND = "tokenizer"
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".distcp"}


@dataclass(frozen=True)
class TokenizerFacts:
    """A fast tokenizer's own settings."""

    vocabulary: dict[str, int]  # added tokens as well
    digest: str  # of the vocabulary
    bos: int | None
    eos: int | None
    cls: int | None
    sep: int | None
    pad: int | None
    mask: int | None
    marks: tuple[int, ...]  # ids of tokens that are the mark of a space alone, or nothing
    added: dict[int, tuple[str, bool]]  # the content of each, and whether it is special


def identity_of(folder: Path, special_tokens: SpecialTokens) -> str | None:
    """Return what is the same as long as a tokenizer is; None: it cannot be known.

    In addition, its files that may be weights of a model, which no tokenizer is made of.
    """
    code = digest_of_code("engine.text")
    try:
        files = sorted(
            file for file in folder.iterdir() if file.is_file() and file.suffix not in _WEIGHTS
        )
    except OSError:
        return None
    content = digest_of_files(files)
    if code is None or content is None:
        return None
    names = [file.name for file in files]
    versions = [version("transformers"), version("tokenizers")]
    return digest_of(code, content, names, versions, special_tokens)


def facts_of(identity: str | None, load: Callable[[], Any]) -> TokenizerFacts:
    """Return what is known of the tokenizer, or what one says that is loaded for it."""
    if (kept := recall(_KIND, identity)) is not None:
        fields = as_value(kept["facts"])
        added = {
            int(number): (name, special) for number, (name, special) in fields["added"].items()
        }
        return TokenizerFacts(**fields | {"added": added, "marks": tuple(fields["marks"])})
    backend = load()
    vocabulary = backend.get_vocab()
    ids = sorted(set(vocabulary.values()))
    names = zip(ids, backend.convert_ids_to_tokens(ids), strict=True)
    facts = TokenizerFacts(
        vocabulary=vocabulary,
        digest=vocabulary_digest(vocabulary),
        bos=backend.bos_token_id,
        eos=backend.eos_token_id,
        cls=backend.cls_token_id,
        sep=backend.sep_token_id,
        pad=backend.pad_token_id,
        mask=backend.mask_token_id,
        marks=tuple(number for number, name in names if not name.strip(SPACE_MARK)),
        added={
            number: (token.content, bool(token.special))
            for number, token in backend.added_tokens_decoder.items()
        },
    )
    keep(_KIND, identity, {"facts": as_array(asdict(facts))})
    return facts


def vocabulary_digest(vocabulary: dict[str, int]) -> str:
    """Return the identity of a vocabulary, whatever files it came from."""
    digest = hashlib.sha256()
    for token, number in sorted(vocabulary.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{number}\0{token}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
