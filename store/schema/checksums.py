"""Checksums of what Zarr itself does not protect: the study's attributes and its corpus."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from store.schema.corpus import Corpus, Vocabulary


def checksum(root: Mapping[str, Any]) -> str:
    """Return the CRC-32 in eight hex digits of the study's attributes, without their own `crc32`.

    Taken over JSON with sorted keys and no spaces.
    """
    rest = {key: value for key, value in root.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def corpus_checksum(corpus: Corpus) -> str:
    """Return the CRC-32 in eight hex digits of everything that a corpus holds, lengths included."""
    crc = zlib.crc32(json.dumps([corpus.text, list(corpus.document_name)]).encode())
    for values in (
        corpus.token_id,
        corpus.context_id,
        corpus.document,
        corpus.char_start,
        corpus.char_end,
        corpus.document_start,
    ):
        crc = zlib.crc32(np.array([len(values)], "<i8").tobytes(), crc)
        crc = zlib.crc32(np.asarray(values, "<i8").tobytes(), crc)
    return f"{crc:08x}"


def vocabulary_checksum(vocabulary: Vocabulary) -> str:
    """Return the CRC-32 in eight hex digits of everything that a vocabulary holds."""
    crc = zlib.crc32(json.dumps([list(vocabulary.text), vocabulary.source]).encode())
    crc = zlib.crc32(np.asarray(vocabulary.count, "<i8").tobytes(), crc)
    return f"{crc:08x}"
