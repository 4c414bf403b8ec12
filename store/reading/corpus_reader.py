"""The corpus of a study and its vocabulary: how they lie on disk, and are read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from store.errors import DamagedError, lacks_files
from store.schema import layout
from store.schema.array_layout import ArrayLayout
from store.schema.checksums import corpus_checksum, vocabulary_checksum
from store.schema.corpus import Corpus, Vocabulary
from store.schema.from_json import loads
from store.storage.arrays import Array, expect, fetch, open_array, read
from store.storage.places import Files

CORPUS_ARRAYS = {  # name -> dtype, dimension, description
    "token_id": ("int32", "token", "vocabulary id of the target"),
    "context_id": ("int32", "token", "vocabulary id of the token before the target"),
    "document": ("int32", "token", "index of the document"),
    "char_start": ("int64", "token", "offset of the first character in text"),
    "char_end": ("int64", "token", "offset past the last character in text"),
    "text": ("uint32", "char", "Unicode code points of the documents, one after the other"),
    "document_start": ("int64", "document", "offset in text"),
    "vocabulary": ("uint8", "byte", "UTF-8 text of the vocabulary's entries, one after the other"),
    "vocabulary_end": ("int64", "vocab", "offset past an entry's last byte in vocabulary"),
    "unigram_count": ("int64", "vocab", "occurrences of the entry in the reference text"),
}

_OF_TOKENS = ("token_id", "context_id", "document", "char_start", "char_end")
_EVERYTHING = (slice(None),)


def corpus_layout(name: str, size: int) -> ArrayLayout:
    """Return what an array of the corpus is made with."""
    dtype, dim, description = CORPUS_ARRAYS[name]
    return ArrayLayout.of_one_axis(size, dtype, dim, {"description": description})


def _within(values: NDArray[Any], n: int) -> bool:
    return not values.size or (int(values.min()) >= 0 and int(values.max()) < n)


class CorpusReader:
    """Reads what was written when the study was made; nothing of it ever changes."""

    def __init__(self, files: Files, store: Store, root: Mapping[str, Any]) -> None:
        """Read below `files`; `root` are the study's attributes."""
        self._files, self._store, self._root = files, store, root

    def _load(self, *names: str) -> Iterator[NDArray[Any]]:
        """Yield arrays of the corpus."""
        arrays = [self._open(name) for name in names]
        fetch(((array, _EVERYTHING) for array in arrays), soon=True)
        for array in arrays:
            yield read(array, _EVERYTHING)

    def _open(self, name: str) -> Array:
        path, dim = f"{layout.CORPUS}/{name}", CORPUS_ARRAYS[name][1]
        size = {"token": self._root["n_tokens"], "vocab": self._root["vocab_size"]}.get(dim)
        made = corpus_layout(name, size) if size else None
        array = open_array(self._store, path, made)
        return expect(array, corpus_layout(name, array.size))

    def _corpus_attributes(self) -> dict[str, Any]:
        group = loads(self._files.read(f"{layout.CORPUS}/zarr.json"))
        return dict(group["attributes"])

    def corpus(self) -> Corpus:
        """Return tokens and text.

        Raise DamagedError when they are not what the study was made with.
        """
        where = f"{self._files}/{layout.CORPUS}"
        try:
            names = self._corpus_attributes()["document_names"]
            code_points, *arrays = self._load("text", *_OF_TOKENS, "document_start")
            text = code_points.tobytes().decode("utf-32-le", "surrogatepass")
        except (OSError, ValueError, KeyError, TypeError) as error:
            if lacks_files(error):
                raise
            raise DamagedError(f"{where}: the corpus cannot be read ({error})") from error
        corpus = Corpus(
            **dict(zip((*_OF_TOKENS, "document_start"), arrays, strict=True)),
            text=text,
            document_name=tuple(names),
        )
        if corpus_checksum(corpus) != self._root["corpus_crc32"]:
            raise DamagedError(f"{where}: is not the corpus that the study was made with")
        if not self._fits(corpus):
            raise DamagedError(f"{where}: holds tokens that lie outside of its text")
        return corpus

    def _fits(self, corpus: Corpus) -> bool:
        """Return whether every index leads to something: who made the store is not known."""
        n_tokens, vocab_size = self._root["n_tokens"], self._root["vocab_size"]
        n_chars, n_documents = len(corpus.text), len(corpus.document_start)
        bounds = (
            (corpus.token_id, vocab_size),
            (corpus.context_id, vocab_size),
            (corpus.document, n_documents),
            (corpus.char_start, n_chars + 1),
            (corpus.char_end, n_chars + 1),
        )
        starts = corpus.document_start
        return (
            all(len(values) == n_tokens and _within(values, n) for values, n in bounds)
            and bool((corpus.char_start <= corpus.char_end).all())
            and _within(starts, n_chars + 1)
            and bool((np.diff(starts) >= 0).all())
            and len(corpus.document_name) == n_documents
            and all(isinstance(name, str) for name in corpus.document_name)
        )

    def vocabulary(self) -> Vocabulary:
        """Return entries and counts. Raise DamagedError as `corpus` does."""
        where = f"{self._files}/{layout.CORPUS}"
        ends, counts, found = self._load("vocabulary_end", "unigram_count", "vocabulary")
        joined = found.tobytes()
        starts = np.concatenate([[0], ends[:-1]])
        try:
            source = str(self._corpus_attributes()["unigram_source"])
            text = tuple(
                joined[start:end].decode("utf-8", "surrogatepass")
                for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if lacks_files(error):
                raise
            raise DamagedError(f"{where}: the vocabulary cannot be read ({error})") from error
        vocabulary = Vocabulary(text, counts, source)
        if not len(text) == len(counts) == self._root["vocab_size"]:
            raise DamagedError(f"{where}: the vocabulary is not as large as zarr.json says")
        if vocabulary_checksum(vocabulary) != self._root["vocabulary_crc32"]:
            raise DamagedError(f"{where}: is not the vocabulary that the study was made with")
        return vocabulary
