"""The tokens of many texts, kept from one start to the next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from engine.text.derived_cache import digest_of, keep, recall
from engine.text.encoding import encode
from engine.text.tokenizer import Tokenizer

_KIND = "texts"


class TokenMemory:
    """Tokenises texts, a batch at a time, unless the very same batch was tokenised before."""

    def __init__(self, tokenizer: Tokenizer, purpose: object) -> None:
        """Take what the texts are for: what JSON can hold; batches of one purpose lie together."""
        self._tokenizer = tokenizer
        self._key = tokenizer.identity and digest_of(tokenizer.identity, purpose)
        self._known = _unpacked(recall(_KIND, self._key) or {})
        self._used = dict[str, list[NDArray[np.int32]]]()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens. Raise ConfigError."""
        batch = digest_of(*texts)
        found = self._known.get(batch)
        if found is None:
            encoded = encode(self._tokenizer.backend, list(texts))["input_ids"]
            found = [np.array(ids, np.int32) for ids in encoded]
        self._used[batch] = found
        return [ids.tolist() for ids in found]

    def save(self) -> None:
        """Keep the batches that were asked for, and no others."""
        if self._used.keys() != self._known.keys():
            keep(_KIND, self._key, _packed(self._used))


def _packed(batches: dict[str, list[NDArray[np.int32]]]) -> dict[str, NDArray[np.generic]]:
    every = [ids for texts in batches.values() for ids in texts]
    return {
        "batches": np.array(list(batches), np.str_),
        "texts": np.array([len(texts) for texts in batches.values()], np.int64),
        "lengths": np.array([len(ids) for ids in every], np.int64),
        "ids": np.concatenate(every) if every else np.zeros(0, np.int32),
    }


def _unpacked(kept: dict[str, NDArray[np.generic]]) -> dict[str, list[NDArray[np.int32]]]:
    if not kept:
        return {}
    every = np.split(kept["ids"].astype(np.int32), np.cumsum(kept["lengths"].astype(np.int64))[:-1])
    ends = list(accumulate(kept["texts"].tolist()))
    starts = [0, *ends[:-1]]
    names = kept["batches"].tolist()
    return {name: every[a:b] for name, a, b in zip(names, starts, ends, strict=True)}
