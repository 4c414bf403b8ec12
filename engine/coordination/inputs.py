"""The inputs of a study besides its checkpoints: tokenizer, text and probes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.coordination.identity import as_before, header_of
from engine.coordination.patience import Patience
from engine.errors import ConfigError
from engine.events import Event, Listener
from engine.probes.questions import Questions, build_probes
from engine.sources.base import Source
from engine.sources.hub_client import HubClient
from engine.study_file.file import StudyFile
from engine.text.counts import Counts
from engine.text.documents import find_files
from engine.text.evaluation_text import EvaluationText, build_text
from engine.text.language import not_english
from engine.text.orders import make_order, publish_order
from engine.text.tokenizer import Tokenizer, load_tokenizer
from seedconv_tui.training.spool import remove_abandoned
from seedconv_tui.training.work_order import WorkOrder
from store import read_root
from store.schema import TOP, Key
from store.words import counted
from store.writing import refuse_mismatch

_MOST_TRIED = 20  # checkpoints of a model whose configuration is read, until one has a vocabulary
_STUCK_SECONDS = 60.0  # after which checkpoints without a readable configuration are not waited for


@dataclass(frozen=True)
class Inputs:
    """The text and vocabulary with which checkpoints are scored."""

    tokenizer: Tokenizer
    text: EvaluationText
    probes: tuple[Questions, ...]
    warnings: tuple[tuple[str, str], ...]  # kinds of event, and what the user should know


_ENGLISH_TAGGERS = {"auto", "rules"}
_TAGGED = {"pos", "word_class"}  # categories that are made of tags
_MANY = 0.1  # share of documents in another language from which on it is said


def read_inputs(
    study: StudyFile, hub: HubClient, sources: Mapping[str, Source], patience: Patience
) -> Inputs:
    """Load the tokenizer and tokenise all texts; choose how many entries the vocabulary has.

    Raise ConfigError, NotThereError among them unless that is waited for, and Interrupted.
    """
    folder = study.path(study.tokenizer.source)
    tokenizer = patience.until_there(
        lambda: load_tokenizer(study, hub),
        lambda: sorted(folder.iterdir()) if folder.is_dir() else (),
        folder.exists,
    )
    text = patience.until_there(
        lambda: build_text(study, tokenizer),
        lambda: find_files(study, "corpus.files", study.corpus.files),
    )
    probes, notes = patience.until_there(lambda: build_probes(study, tokenizer))
    warnings = [("probe", note) for note in notes]
    tokenizer = replace(tokenizer, used=_used(study, tokenizer, text, probes))
    new = not study.store.exists()
    if new and text.special:
        warnings.append(("corpus", _spelt_out(text.special)))
    if note := _other_language(study, text):
        warnings.append(("tagger", note))
    if tokenizer.least < tokenizer.size:
        if new:
            waits = patience.waiting and not study.captured  # which come after the work order
            tokenizer = tokenizer.cut(_choose_size(tokenizer, sources, patience, waits=waits))
        elif (
            tokenizer.least <= (size := int(read_root(study.store)["vocab_size"])) <= tokenizer.size
        ):
            tokenizer = tokenizer.cut(size)
        counts = Counts(text.counts.count[: tokenizer.size], text.counts.source)
        text = replace(text, counts=counts, pad=tokenizer.pad)
    if tokenizer.size < TOP:
        raise ConfigError(
            f"tokenizer.source: {study.tokenizer.source!r} has {tokenizer.size} entries; at least "
            f"{TOP} are needed, because seedconv keeps that many predictions of each token"
        )
    return Inputs(tokenizer, text, probes, tuple(warnings))


def order_of(study: StudyFile, inputs: Inputs) -> WorkOrder:
    """Return what training runs are asked to capture.

    Raise ConfigError when no model is captured, StoreError when the study's store is of another
    text or tokenizer: nothing that is captured by this order could be adopted.
    """
    if study.store.exists():
        header = header_of(study, inputs.tokenizer, inputs.text)
        refuse_mismatch(study.store, read_root(study.store), header)
    probes = {questions.probe.name: questions.ordered for questions in inputs.probes}
    return make_order(as_before(study), inputs.tokenizer, inputs.text, probes)


def publish(
    study: StudyFile, inputs: Inputs, listener: Listener, clock: Callable[[], float]
) -> None:
    """Write the work order for training runs where it changed, and report it.

    What a training run that died has begun to hand over is removed.

    Raise ConfigError when it cannot be written: nothing would ever be captured.
    """
    path, new = publish_order(study, order_of(study, inputs))
    remove_abandoned(study.announcements)
    if new:
        with contextlib.suppress(OSError):  # a closed terminal must not end the work
            listener.on_event(Event(clock(), "info", "order", f"wrote the work order {path}"))


def _used(
    study: StudyFile, tokenizer: Tokenizer, text: EvaluationText, probes: Iterable[Questions]
) -> frozenset[int]:
    """Return the added tokens that models read or predict."""
    used = set(np.unique(text.corpus.token_id).tolist())
    for sequence in text.sequences:
        used.update(np.unique(sequence.inputs).tolist())
    for questions in probes:
        used.update(np.unique(questions.inputs).tolist())
        used.update(np.unique(questions.target).tolist())
    if study.scoring.prediction == "pseudo" and tokenizer.mask is not None:
        used.add(tokenizer.mask)
    return tokenizer.added & used


def _spelt_out(special: Mapping[str, int]) -> str:
    n = sum(special.values())
    of_each = ", ".join(f"{token!r} {count:,} times" for token, count in special.items())
    are, were = ("is", "was") if n == 1 else ("are", "were")
    return (
        f"corpus.files: {counted(n, 'special token')} {are} spelt out in the text "
        f"({of_each}) and {were} read as such. If that is plain text, set "
        'corpus.special_tokens = "text" and use a new store'
    )


def _other_language(study: StudyFile, text: EvaluationText) -> str:
    """Return what to say where English parts of speech are given to other text; else empty."""
    chosen = study.categories
    if chosen.tagger not in _ENGLISH_TAGGERS or _TAGGED.isdisjoint(chosen.include):
        return ""
    n, documents, seen = not_english(text.corpus)
    if n < _MANY * documents or not n:
        return ""
    does = "does" if n == 1 else "do"
    return (
        f"categories.tagger: {n:,} of {counted(documents, 'document')} {does} not look English "
        f"({seen.common / max(seen.words, 1):.0%} of the words are common English ones, "
        f"{seen.foreign / max(seen.letters, 1):.0%} of the letters outside ASCII), and "
        f'"{chosen.tagger}" tags English alone. Name a spaCy pipeline of the language, or take '
        "another tagger's labels (docs/text.md); where the text is English, pass over this"
    )


def _choose_size(
    tokenizer: Tokenizer, sources: Mapping[str, Source], patience: Patience, *, waits: bool
) -> int:
    """Return how many entries a new study has: everything that the models have.

    Tokens may have been added after the models were made, as `[PAD]` often is. Those at the end
    that no text uses are left out if the first checkpoint that is there has no rows for them.
    """
    least, size = tokenizer.least, tokenizer.size
    n = size - least
    tokens = counted(n, "token") if n > 1 else f"the token {tokenizer.names[least]!r}"
    since: float | None = None
    while True:
        there, rows = _rows_of_first(sources)
        if rows:
            return min(max(least, min(rows)), size)
        if not waits:
            return size
        since = (since or patience.clock()) if there else None
        if since is not None and patience.clock() - since >= _STUCK_SECONDS:
            return size
        patience.report(
            f"waiting for the first checkpoint: {tokens} that the text does not use "
            f"{'were' if n > 1 else 'was'} added to the tokenizer, and models may not have "
            f"{'them' if n > 1 else 'it'}"
        )
        patience.look_again()


def _rows_of_first(sources: Mapping[str, Source]) -> tuple[bool, list[int]]:
    """Return whether there are checkpoints, and the vocabulary of the first one of each model."""
    there, rows = False, list[int]()
    for source in sources.values():
        found = sorted(source.find().there, key=lambda key: (key[1], key[0]))
        there |= bool(found)
        for key in found[:_MOST_TRIED]:
            if (n := _rows(source, key)) is not None:
                rows.append(n)
                break
    return there, rows


def _rows(source: Source, key: Key) -> int | None:
    """Return how many entries a checkpoint's configuration says; None: it cannot be read."""
    from transformers import AutoConfig

    try:
        file = source.checkpoint(key).config()
        if file is None or not file.exists():
            return None
        config = AutoConfig.from_pretrained(file, trust_remote_code=False, local_files_only=True)
        rows = getattr(config.get_text_config(), "vocab_size", None)
    except Exception:  # reported when the checkpoint is read
        return None
    return rows if isinstance(rows, int) else None
