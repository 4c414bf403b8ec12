"""Parts of speech of a corpus: tagged once, and kept from one start to the next.

What tags them takes a second to import alone: it is imported when something is tagged.
"""

from __future__ import annotations

import importlib.metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from engine.categories.tagging import OURS, Tags, TagSet, choose, tag
from engine.text.derived_cache import (
    Arrays,
    as_array,
    as_value,
    digest_of,
    digest_of_code,
    digest_of_files,
    keep,
    recall,
)
from store.schema import Corpus

_KIND = "tags"
# What pipelines are made of: with another version of these their tags may be others.
_LIBRARIES = (
    *("spacy", "thinc", "numpy", "torch", "transformers"),
    *("curated-transformers", "spacy-curated-transformers", "spacy-transformers"),
)


def tags_of(corpus: Corpus, tagger: str) -> Tags:
    """Return the tags of a corpus, as `tagging.tag` gives them. Raise ConfigError."""
    tagger = choose(tagger)
    identity = _identity(tagger)
    key = identity and digest_of(
        identity,
        corpus.text,
        corpus.char_start,
        corpus.char_end,
        corpus.document,
        corpus.document_start,
    )
    if (kept := recall(_KIND, key)) is not None:
        return _unpacked(kept)
    tags = tag(corpus, tagger)
    if _identity(tagger) == identity:
        keep(_KIND, key, _packed(tags))
    return tags


def _identity(tagger: str) -> str | None:
    """Return what is the same as long as a tagger says the same; None: it cannot be known."""
    code = digest_of_code("engine.categories")
    if tagger == OURS:
        return code and digest_of(code, tagger, _version("spacy"))
    if (folder := _folder(tagger)) is None:
        return None
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    )
    content = digest_of_files(files)
    names = [str(file.relative_to(folder)) for file in files]
    versions = [_version(name) for name in _LIBRARIES]
    return code and content and digest_of(code, tagger, versions, _extensions(), content, names)


def _extensions() -> list[str]:
    """Return what packages bring that pipelines may be made of, with their versions."""
    return sorted(
        f"{point.group} {point.name} {point.value} {package.version}"
        for package in importlib.metadata.distributions()
        for point in package.entry_points
        if point.group.startswith("spacy")
    )


def _folder(tagger: str) -> Path | None:
    """Return the folder of a pipeline, or of the package that is one; nothing is imported."""
    if Path(tagger).is_dir():
        return Path(tagger)
    if not tagger.isidentifier():
        return None
    try:
        spec = find_spec(tagger)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packed(tags: Tags) -> Arrays:
    sets = {"universal": tags.universal} | ({"fine": tags.fine} if tags.fine else {})
    arrays = {"tagger": as_array(tags.tagger)}
    for name, found in sets.items():
        arrays |= {f"{name}_labels": as_array(found.labels), name: found.level.astype(np.int16)}
    return arrays


def _unpacked(kept: Arrays) -> Tags:
    universal, *fine = (
        TagSet(tuple(as_value(kept[f"{name}_labels"])), kept[name].astype(np.int32))
        for name in ("universal", "fine")
        if name in kept
    )
    return Tags(as_value(kept["tagger"]), universal, *fine or (None,))
