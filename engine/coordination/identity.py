"""The properties that make two studies the same one, as their store records them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from engine.study_file.file import StudyFile
from engine.text.evaluation_text import EvaluationText
from engine.text.tokenizer import Tokenizer
from store import StoreError, read_root
from store.schema import in_order
from store.writing import Header

_version = cache(version)  # it parses all of a package's metadata


def header_of(study: StudyFile, tokenizer: Tokenizer, text: EvaluationText) -> Header:
    """Return what a store of this study is made with, and must agree with ever after."""
    scoring = study.scoring
    identity: dict[str, str | int] = {
        "tokenizer.vocabulary": tokenizer.digest,
        "scoring.prediction": scoring.prediction,
        "scoring.windowing": scoring.windowing,
        "scoring.window": scoring.window,
        "scoring.overlap": scoring.overlap,
        "scoring.dtype": scoring.dtype,
        "corpus.digest": text.digest,
        "corpus.counts": text.counts.digest,
    }
    if study.reference.end is not None:
        identity["reference.end"] = study.reference.end
    details = {
        "tokenizer": study.tokenizer.source,
        "study_file": study.model_dump(mode="json"),
        "versions": versions(),
    }
    divergences = in_order((*scoring.divergences, *study.reference.names))
    return Header(study.study.name, identity, details, divergences)


def as_before(study: StudyFile) -> StudyFile:
    """Return the study with log-probs kept as its store has them, where its file leaves it open.

    Stores of before `auto` keep them dense, unless their study file says otherwise.
    """
    if study.log_probs.representation != "auto" or not study.store.exists():
        return study
    try:
        made_with = read_root(study.store)["study_file"]["log_probs"]["representation"]
    except (StoreError, OSError, KeyError, TypeError):  # reported where the store is opened
        return study
    if made_with != "dense":
        return study
    kept = study.log_probs.model_copy(update={"representation": "dense"})
    return study.model_copy(update={"log_probs": kept})


def versions() -> dict[str, str]:
    """Return the versions of what results may depend on."""
    return {name: _version(name) for name in ("seedconv-tui", "torch", "transformers", "zarr")}
