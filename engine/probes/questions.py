"""From minimal pairs and long documents to the sequences that checkpoints are asked about.

Conventions are those of the corpus (docs/probes.md): every sequence stands after what
`tokenizer.bos` says; for masked models between that and the end-of-text token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, NotThereError
from engine.study_file.file import StudyFile
from engine.study_file.probes_section import ProbeSection
from engine.text.documents import read_documents, read_text
from engine.text.evaluation_text import TokenSequence
from engine.text.token_memory import TokenMemory
from engine.text.tokenizer import Tokenizer
from seedconv_tui.training.work_order import Sequences
from store.schema import Probe

_AT_ONCE = 4096  # texts that are tokenised together


@dataclass(frozen=True)
class Questions:
    """A probe's sequences, as few arrays: they are sent to every process that works.

    Sequence n reads `inputs[ends[n - 1]:ends[n]]`; `predicts` says at which of these a token is
    predicted. What is predicted, of all sequences in order, are the tokens of `target`, and each
    belongs to an item and a variant, to whose value its log-prob is added.
    """

    probe: Probe
    inputs: NDArray[np.int32]
    ends: NDArray[np.int64]
    predicts: NDArray[np.bool_]
    target: NDArray[np.int32]
    item: NDArray[np.int32]
    variant: NDArray[np.int8]
    whole: bool  # what a model cannot read at a stretch is not asked
    surprisals: bool  # values are surprisals, minus log-probs

    @property
    def sequences(self) -> tuple[TokenSequence, ...]:
        """Return the sequences, as a scorer takes them."""
        cuts = self.ends[:-1]
        return tuple(
            TokenSequence(ids.astype(np.int64), predicts)
            for ids, predicts in zip(
                np.split(self.inputs, cuts), np.split(self.predicts, cuts), strict=True
            )
        )

    @property
    def ordered(self) -> Sequences:
        """Return the same sequences as a training run is asked to capture them."""
        return Sequences(self.inputs, np.diff(self.ends, prepend=0), self.predicts)


def build_probes(
    study: StudyFile, tokenizer: Tokenizer
) -> tuple[tuple[Questions, ...], tuple[str, ...]]:
    """Read and tokenise all probes of a study; and what the user should know of them.

    Raise ConfigError naming the probe and the file, and the line where that is known.
    """
    warnings: list[str] = []
    questions = []
    for probe in study.probes:
        memory = TokenMemory(tokenizer, [str(study.folder.absolute()), probe.name])
        questions.append(_BUILT_BY[probe.kind](study, probe, tokenizer, memory, warnings))
        memory.save()
    return tuple(questions), tuple(warnings)


class _Builder:
    """Collects sequences."""

    def __init__(self, tokenizer: Tokenizer, *, masked: bool) -> None:
        self._tokenizer, self._masked = tokenizer, masked
        self._sequences: list[tuple[list[int], list[int], int, int]] = []

    @property
    def skipped(self) -> int:
        """Count the first tokens of a sequence that are not predicted: one needs another before."""
        return 0 if self._masked or self._tokenizer.bos is not None else 1

    def add(
        self, ids: list[int], item: int, variant: int, *, first: int = 0, bare: bool = False
    ) -> None:
        """Ask for the tokens of `ids` from `first` on; `bare`: with nothing in front of them."""
        bos, end = self._tokenizer.bos, self._tokenizer.end_of_text
        before = [] if bos is None or bare else [bos]
        sequence = before + ids + ([end] if self._masked and end is not None else [])
        start = len(before) + max(first, self.skipped)
        places = list(range(start, len(before) + len(ids)))
        self._sequences.append((sequence, places, item, variant))

    def build(self, probe: ProbeSection, variants: Sequence[str], labels: Sequence[str],
              terms: dict[str, str], *, whole: bool, surprisals: bool) -> Questions:  # fmt: skip
        """Return what was added, the longest first: memory runs out at once or not at all."""
        tasks = tuple(dict.fromkeys(labels))
        code = {label: number for number, label in enumerate(tasks)}
        ordered = sorted(self._sequences, key=lambda entry: -len(entry[0]))
        inputs, predicts, ends, target, item, variant = ([] for _ in range(6))
        for sequence, places, of_item, of_variant in ordered:
            read = sequence if self._masked else sequence[:-1]
            shown = np.zeros(len(read), np.bool_)
            # A causal model says it at the token before.
            shown[np.array(places, np.int64) - (not self._masked)] = True
            inputs.append(np.array(read, np.int32))
            predicts.append(shown)
            ends.append(len(read))
            target += [sequence[place] for place in places]
            item += [of_item] * len(places)
            variant += [of_variant] * len(places)
        flat = np.concatenate(inputs)
        digest = hashlib.sha256()
        for values in (flat, ends, np.concatenate(predicts), target, item, variant):
            numbers = np.asarray(values, "<i8")
            digest.update(len(numbers).to_bytes(8, "little") + numbers.tobytes())
        made = Probe(
            name=probe.name,
            kind=probe.kind,
            variants=tuple(variants),
            tasks=tasks,
            task=np.array([code[label] for label in labels], np.int32),
            terms=tuple(terms.get(label, "") for label in tasks),
            content=digest.hexdigest()[:16],
        )
        return Questions(
            probe=made,
            inputs=flat,
            ends=np.cumsum(ends),
            predicts=np.concatenate(predicts),
            target=np.array(target, np.int32),
            item=np.array(item, np.int32),
            variant=np.array(variant, np.int8),
            whole=whole,
            surprisals=surprisals,
        )


def _tokenise(memory: TokenMemory, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), _AT_ONCE):
        yield from memory.ids(texts[start : start + _AT_ONCE])


# -- minimal pairs -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    file: Path
    line: int
    good: str
    bad: str
    task: str
    term: str


def _minimal_pairs(
    study: StudyFile,
    probe: ProbeSection,
    tokenizer: Tokenizer,
    memory: TokenMemory,
    warnings: list[str],
) -> Questions:
    assert probe.folder is not None
    folder, where = study.path(probe.folder), f"probes.{probe.name}.folder"
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        what = "holds no *.jsonl" if folder.is_dir() else "there is no such folder"
        raise NotThereError(f"{where}: {folder}: {what}; docs/probes.md says where BLiMP is")
    pairs, taken = [], dict[str, int]()
    for file in files:
        for pair in _read_pairs(where, file):
            taken[pair.task] = taken.get(pair.task, 0) + 1
            if probe.per_task is None or taken[pair.task] <= probe.per_task:
                pairs.append(pair)
    if not pairs:
        raise ConfigError(f"{where}: {folder}: its files hold no pairs")
    builder = _Builder(tokenizer, masked=study.scoring.prediction != "causal")
    texts = [text for pair in pairs for text in (pair.good, pair.bad)]
    for number, ids in enumerate(_tokenise(memory, texts)):
        item, variant = divmod(number, 2)
        if len(ids) <= builder.skipped:
            pair = pairs[item]
            field = ("sentence_good", "sentence_bad")[variant]
            raise ConfigError(
                f"{where}: {pair.file}: line {pair.line}: {field} {texts[number][:60]!r} has no "
                "token that is predicted"
            )
        builder.add(ids, item, variant)
    if few := sum(1 for n in taken.values() if n < (probe.per_task or 0)):
        warnings.append(
            f"probe {probe.name}: {few} of {len(taken)} tasks have fewer than "
            f"{probe.per_task} pairs"
        )
    terms = {pair.task: pair.term for pair in pairs}
    labels = [pair.task for pair in pairs]
    return builder.build(probe, ("good", "bad"), labels, terms, whole=False, surprisals=False)


def _read_pairs(where: str, file: Path) -> Iterator[_Pair]:
    """Yield the pairs of one file. Raise ConfigError naming the line."""
    for number, line in enumerate(read_text(where, file).split("\n"), 1):
        if not line.strip():
            continue
        at = f"{where}: {file}: line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            raise ConfigError(f"{at}: is not JSON: {line.strip()[:60]!r}") from None
        if not isinstance(fields, dict):
            raise ConfigError(f"{at}: should be a JSON object, found {line.strip()[:60]!r}")
        for name in ("sentence_good", "sentence_bad", "UID"):
            value = fields.get(name)
            if not _is_text(value):
                raise ConfigError(f"{at}: {name} should be text, found {str(value)[:60]!r}")
        term = fields.get("linguistics_term")
        yield _Pair(
            file,
            number,
            fields["sentence_good"],
            fields["sentence_bad"],
            fields["UID"],
            term if _is_text(term) else "",
        )


def _is_text(value: object) -> TypeGuard[str]:
    """Return whether it is text, not blank, and without the halves of characters JSON may have."""
    if not isinstance(value, str) or not value.strip():
        return False
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


# -- long documents ------------------------------------------------------------------------------


def _long_documents(
    study: StudyFile,
    probe: ProbeSection,
    tokenizer: Tokenizer,
    memory: TokenMemory,
    warnings: list[str],
) -> Questions:
    assert probe.files is not None
    where = f"probes.{probe.name}.files"
    places = probe.places
    (early, late), token, variants = places.positions, places.token, places.variants
    builder = _Builder(tokenizer, masked=False)
    least = max(early, builder.skipped + 1)  # tokens without which there is nothing to ask
    names: list[str] = []
    n_read, short = 0, [0, 0, 0]
    for name, text in read_documents(study, where, probe.files, probe.separator):
        if len(names) == probe.documents:
            break
        n_read += 1
        (ids,) = _tokenise(memory, [text])
        short[0] += len(ids) < least
        if len(ids) < least:
            continue
        item = len(names)
        names.append(name)
        for variant, place in ((0, early), (1, late)):
            if len(ids) >= place > builder.skipped:
                builder.add(ids[:place], item, variant, first=place - 1)
        if len(ids) >= token:
            for variant, context in enumerate(places.contexts, 2):
                part = ids[token - 1 - context : token]
                builder.add(part, item, variant, first=context, bare=not places.first_token)
        short[1] += len(ids) < late
        short[2] += len(ids) < token
    if not names:
        raise ConfigError(
            f"{where}: none of {n_read} documents has {least} tokens, so there is nothing to ask"
        )
    if short[0]:
        text = f"{short[0]} of {n_read} documents have fewer than {least} tokens and are left out"
        warnings.append(f"probe {probe.name}: {text}")
    for n, tokens, what in (
        (short[1], late, variants[1]),
        (short[2], token, f"{variants[2]}, {variants[3]}"),
    ):
        if n:
            text = f"{n} of {len(names)} documents have fewer than {tokens} tokens: no {what}"
            warnings.append(f"probe {probe.name}: {text}")
    return builder.build(probe, variants, names, {}, whole=True, surprisals=True)


_Build = Callable[[StudyFile, ProbeSection, Tokenizer, TokenMemory, list[str]], Questions]
_BUILT_BY: Mapping[str, _Build] = {
    "blimp": _minimal_pairs,
    "icl": _long_documents,
}
"""How each kind of probe becomes questions; the list collects what the user should know."""
