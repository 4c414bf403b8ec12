"""Categories of real tokenisations, against plain loops over bytes, pieces and windows."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from engine.categories.partition import build_categories, context_targets, surprisal_category
from engine.errors import ConfigError
from engine.sources.hub_client import HubClient
from engine.study_file.file import StudyFile, load_study_file
from engine.text.counts import log_unigram
from engine.text.evaluation_text import EvaluationText, build_text
from engine.text.tokenizer import Tokenizer, load_tokenizer
from seedconv_tui.cli.main import run
from store.schema import Category
from tests.support.masked_models import make_word_pieces
from tests.support.tiny_models import TEXT, make_runs, make_tokenizer, write_study

PLAIN = ["frequency", "word_position", "position", "document"]  # what needs no tagger
MIXED = (
    "École naïve: 日本語 don't snake_case x2 🙂🙂 e\N{COMBINING ACUTE ACCENT}te\u0301 ½ “so”.\n"
    "éa\n"
    "Ünder $100,000 — it's 3.14!\n"
)


@dataclass(frozen=True)
class Built:
    """A study's text and everything that is said of its tokens."""

    study: StudyFile
    tokenizer: Tokenizer
    text: EvaluationText

    def categories(self) -> dict[str, Category]:
        built = build_categories(self.study, self.tokenizer, self.text)
        assert built[0].name == "all"
        assert len({category.name for category in built}) == len(built)
        for category in built:
            assert category.level.dtype == np.int32
            assert category.level.shape == (len(self.text.corpus),)
            assert len(set(category.labels)) == len(category.labels)
            assert "\n" not in category.description
        return {category.name: category for category in built}

    def labels(self, name: str) -> list[str | None]:
        category = self.categories()[name]
        return [category.labels[level] if level >= 0 else None for level in category.level]

    def ids(self) -> list[int]:
        return self.text.corpus.token_id.tolist()


def load(file: Path) -> Built:
    study = load_study_file(file)
    tokenizer = load_tokenizer(study, HubClient(threading.Event()))
    return Built(study, tokenizer, build_text(study, tokenizer))


def build(folder: Path, *, custom: str = "", text: str = TEXT, **changes: Any) -> Built:
    """A study on `text`, byte-level pieces if `folder` has no tokenizer yet."""
    if not (folder / "tokenizer").exists():
        make_tokenizer(folder / "tokenizer")
    (folder / "text.txt").write_text(text, encoding="utf-8")
    file = write_study(folder, **({"categories__include": PLAIN} | changes))
    file.write_text(file.read_text() + custom)
    return load(file)


def built_on_words(folder: Path, **changes: Any) -> Built:
    """A masked study with WordPiece."""
    make_word_pieces(folder / "tokenizer")
    return build(folder, **({"scoring__prediction": "visible"} | changes))


# -- frequency -----------------------------------------------------------------------------------


def decade(count: int) -> str:
    if not count:
        return "0"
    digits = len(str(count)) - 1
    if digits >= 6:
        return "1e6+"
    return ["1-9", "10-99", "100-999", "1e3-1e4", "1e4-1e5", "1e5-1e6"][digits]


def test_frequency_in_the_corpus_itself(tmp_path: Path) -> None:
    built = build(tmp_path)
    ids = built.ids()
    assert built.text.counts.source == "the corpus itself, 150 tokens"
    assert built.labels("frequency") == [decade(ids.count(number)) for number in ids]
    context = [decade(ids.count(number)) for number in built.text.corpus.context_id.tolist()]
    assert built.labels("frequency_context") == context
    assert built.categories()["frequency"].counts.sum() == 150
    assert "the corpus itself, 150 tokens" in built.categories()["frequency"].description


def test_frequency_from_a_file_has_all_decades(tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "tokenizer", size=300)
    counts = np.array([0, 1, 9, 10, 99, 100, 999, 1000, 10**4, 10**5, 999_999, 10**6, 10**12] * 30)
    np.save(tmp_path / "counts.npy", np.append(counts[:300], [0, 0]))  # two rows of padding
    built = build(tmp_path, corpus__counts="counts.npy")
    assert built.text.counts.source == "counts.npy"
    np.testing.assert_array_equal(built.text.counts.count, counts[:300])
    labels = built.labels("frequency")
    assert labels == [decade(int(counts[number])) for number in built.ids()]
    assert len(set(labels)) == 8
    bos = int(built.text.corpus.context_id[0])
    assert built.labels("frequency_context")[0] == decade(int(counts[bos]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_counts_may_be_floats_that_are_whole(tmp_path: Path, dtype: type) -> None:
    make_tokenizer(tmp_path / "tokenizer", size=300)
    np.save(tmp_path / "counts.npy", np.arange(302, dtype=dtype) * (np.arange(302) < 300))
    counts = build(tmp_path, corpus__counts="counts.npy").text.counts
    assert counts.count.dtype == np.int64
    np.testing.assert_array_equal(counts.count, np.arange(300))


def test_frequency_in_text_files(tmp_path: Path) -> None:
    texts = {"a": "The seeds of a model.\nThe same text\n", "b": TEXT, "c": "Other text."}
    for name, text in texts.items():
        (tmp_path / f"{name}.ref").write_text(text, encoding="utf-8")
    built = build(tmp_path, corpus__counts=["b.ref", "*.ref"], scoring__windowing="document")
    backend = Backend.from_file(str(tmp_path / "tokenizer/tokenizer.json"))
    ids = [
        number
        for text in texts.values()
        for document in text.split("\n")
        for number in backend.encode(document).ids
    ]
    assert built.text.counts.source == f"3 text files, {len(ids):,} tokens"
    assert built.text.counts.count.tolist() == [ids.count(n) for n in range(built.tokenizer.size)]


def test_unigram_distribution() -> None:
    log_probs = log_unigram(np.array([0, 1, 6], np.int64))
    np.testing.assert_allclose(np.exp(log_probs), [0.1, 0.2, 0.7], rtol=1e-15)
    large = log_unigram(np.full(50_000, 10**9, np.int64))
    assert np.exp(large).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"1 2 3", "is not a .npy file of numbers"),
        (b"", "is not a .npy file of numbers"),
        (np.arange(300.0) + 6e-312, "token 0 has the count 6e-312, no whole number, as have 0 oth"),
        (np.arange(300.0) / 2, "token 1 has the count 0.5, no whole number, as have 149 others"),
        (np.full(300, np.nan), "token 0 has the count nan, no whole number"),
        (np.full(300, 1e300), "token 0 has the count 1e+300, which cannot be"),
        (np.full(300, "1"), "should hold whole numbers of shape (300,), found <U1 of shape"),
        (np.ones((300, 1), np.int64), "found int64 of shape (300, 1)"),
        (np.ones(300, np.bool_), "found bool of shape (300,)"),
        (np.array([object()]), "is not a .npy file of numbers"),
        (np.ones(299, np.int32), "holds 299 counts, but the tokenizer has 300 entries"),
        (np.ones(301, np.int32), "holds 301 counts, but the tokenizer has 300 entries"),
        (np.arange(300) - 1, "token 0 has the count -1"),
        (np.full(300, 2**64 - 1, np.uint64), "token 0 has the count 184467"),
        (np.zeros(300, np.int64), "holds only zeros"),
    ],
)
def test_a_wrong_file_of_counts(tmp_path: Path, content: bytes | NDArray[Any], said: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / "counts.npy").write_bytes(content)
    else:
        np.save(tmp_path / "counts.npy", content)
    with pytest.raises(ConfigError) as error:
        build(tmp_path, corpus__counts="counts.npy")
    assert str(error.value).startswith(f"corpus.counts: {tmp_path / 'counts.npy'}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_counts_cut_short_or_absent(tmp_path: Path) -> None:
    np.save(tmp_path / "counts.npy", np.ones(300, np.int64))
    whole = (tmp_path / "counts.npy").read_bytes()
    (tmp_path / "counts.npy").write_bytes(whole[:-1])
    with pytest.raises(ConfigError, match=r"is not a .npy file of numbers"):
        build(tmp_path, corpus__counts="counts.npy")
    with pytest.raises(ConfigError, match=r"corpus.counts: .*none.npy: there is no such file"):
        build(tmp_path, corpus__counts="none.npy")
    with pytest.raises(ConfigError, match=r"corpus.counts: 'none.txt': there is no such file"):
        build(tmp_path, corpus__counts=["none.txt"])
    (tmp_path / "blank.txt").write_text(" \n ")
    with pytest.raises(ConfigError, match=r"corpus.counts: the text files hold no text"):
        build(tmp_path, corpus__counts=["blank.txt"])


# -- place in the word ---------------------------------------------------------------------------


def in_words(characters: str) -> list[int | None]:
    """The number of each character's word; None outside words. Written out, not by category."""
    numbers: list[int | None] = []
    word = -1
    for character, before in zip(characters, " " + characters, strict=False):
        inside = character.isalnum() or character == "\u0301"
        if inside and not (before.isalnum() or before == "\u0301"):
            word += 1
        numbers.append(word if inside else None)
    return numbers


def place_of(piece: list[int | None], before: int | None, after: int | None) -> str:
    """The place of a piece, given as its parts' words and those of the parts next to it."""
    words = [word for word in piece if word is not None]
    if not words:
        return "none"
    begins = piece[0] is None or before != words[0]
    ends = piece[-1] is None or after != words[-1]
    return {(1, 1): "whole", (1, 0): "begin", (0, 1): "end", (0, 0): "inside"}[begins, ends]


@pytest.mark.parametrize("windowing", ["stream", "document"])
@pytest.mark.parametrize("trim", [False, True])
def test_place_in_the_word_of_pieces_of_bytes(tmp_path: Path, windowing: str, trim: bool) -> None:
    """Exact to the byte: offsets are characters, and a piece may hold a part of one."""
    backend = make_tokenizer(tmp_path / "tokenizer")
    backend.post_processor = processors.ByteLevel(trim_offsets=trim)
    backend.save(str(tmp_path / "tokenizer/tokenizer.json"))
    text = MIXED + TEXT[:200]
    built = build(tmp_path, text=text, corpus__max_tokens=10**6, scoring__windowing=windowing)
    symbols = {symbol: byte for byte, symbol in byte_symbols().items()}
    expected: list[str] = []
    for n, document in enumerate(part for part in text.split("\n") if part):
        if n and windowing == "stream":
            expected.append("none")  # the end of the document before
        words = [
            word
            for character, word in zip(document, in_words(document), strict=True)
            for _ in character.encode()
        ]
        start, parts = 0, [None, *words, None]
        for token in backend.encode(document).tokens:
            assert bytes(symbols[s] for s in token) == document.encode()[start : start + len(token)]
            stop = start + len(token)
            expected.append(place_of(words[start:stop], parts[start], parts[stop + 1]))
            start = stop
        assert start == len(words)
    assert built.labels("word_position") == expected
    assert set(expected) == {"begin", "inside", "end", "whole", "none"}


def byte_symbols() -> dict[int, str]:
    """Byte -> the character that stands for it in byte-level vocabularies (GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + n) for n, b in enumerate(rest)}


def test_place_in_the_word_of_word_pieces(tmp_path: Path) -> None:
    built = built_on_words(tmp_path, corpus__max_tokens=10**6)
    corpus, expected = built.text.corpus, []
    pieces = built.tokenizer.backend.convert_ids_to_tokens(built.ids())
    following = [*pieces[1:], ""]
    for n, (piece, after) in enumerate(zip(pieces, following, strict=True)):
        goes_on = after.startswith("##") and corpus.document[n] == corpus.document[n + 1]
        if not piece.removeprefix("##").isalnum() and piece != "[UNK]":
            expected.append("none")
        elif piece.startswith("##"):
            expected.append("inside" if goes_on else "end")
        else:
            expected.append("begin" if goes_on else "whole")
    unknown = [n for n, piece in enumerate(pieces) if piece == "[UNK]"]  # perhaps a quotation mark
    labels = built.labels("word_position")
    assert [x for n, x in enumerate(labels) if n not in unknown] == [
        x for n, x in enumerate(expected) if n not in unknown
    ]
    assert {"begin", "inside", "end", "whole", "none"} <= set(labels)


def test_place_in_the_word_of_sentence_pieces(tmp_path: Path) -> None:
    """The mark before a document covers its first letter, of which it is no part."""
    pieces = ["<unk>", "▁", "é", "l", "an", "▁the", "c", "at", "."]
    backend = Backend(models.Unigram([(piece, -1.0) for piece in pieces], 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    (tmp_path / "tokenizer").mkdir()
    backend.save(str(tmp_path / "tokenizer/tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (tmp_path / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    built = build(tmp_path, text="élan the cat.\nélan", scoring__windowing="document")
    assert built.text.corpus.document_start.tolist() == [0, 13]
    shown = list(
        zip(map(pieces.__getitem__, built.ids()), built.labels("word_position"), strict=True)
    )
    assert shown == [  # without a first token the first piece is no target
        ("é", "begin"), ("l", "inside"), ("an", "end"), ("▁the", "whole"), ("▁", "none"),
        ("c", "begin"), ("at", "end"), (".", "none"),
        ("é", "begin"), ("l", "inside"), ("an", "end"),
    ]  # fmt: skip


# -- place in the window -------------------------------------------------------------------------


def power(place: int) -> str:
    low = 1
    while 2 * low <= place:
        low *= 2
    return "1" if low == 1 else f"{low}-{2 * low - 1}"


@pytest.mark.parametrize("windowing", ["stream", "document"])
@pytest.mark.parametrize(("window", "overlap"), [(32, 16), (10, 3), (8, 0), (64, 63)])
def test_place_in_the_window(tmp_path: Path, windowing: str, window: int, overlap: int) -> None:
    """The first window that reaches a token's input is the one that predicts it."""
    built = build(
        tmp_path, scoring__windowing=windowing, scoring__window=window, scoring__overlap=overlap
    )
    documents = built.text.corpus.document.tolist()
    lengths = [len(list(group)) for _, group in itertools.groupby(documents)]
    expected = []
    for length in [len(documents)] if windowing == "stream" else lengths:
        for place in range(length):
            start = 0
            while start + window <= place:
                start += window - overlap
            expected.append(power(place - start + 1))
    assert built.labels("position") == expected
    assert "position_context" not in built.categories()
    assert f"windows of {window} that overlap by {overlap}" in (
        built.categories()["position"].description
    )


@pytest.mark.parametrize("windowing", ["stream", "document"])
def test_place_in_the_window_of_masked_models(tmp_path: Path, windowing: str) -> None:
    """Of the windows that show a token, that counts whose edge is farthest from it."""
    window, overlap = 16, 8
    built = built_on_words(
        tmp_path, scoring__windowing=windowing, scoring__window=window, scoring__overlap=overlap
    )
    documents = built.text.corpus.document.tolist()
    lengths = [len(list(group)) for _, group in itertools.groupby(documents)]
    marks = [[False, *[True] * length, False] for length in lengths]  # [CLS] and [SEP]
    expected = []
    for sequence in [list(itertools.chain(*marks))] if windowing == "stream" else marks:
        n = len(sequence)
        starts = [s for s in range(0, n, window - overlap) if s == 0 or s + overlap < n]
        for place in range(n):

            def to_edge(start: int, place: int = place, n: int = n) -> float:
                left = place - start if start else np.inf
                right = start + window - 1 - place if start + window < n else np.inf
                return min(left, right)

            start = max((s for s in starts if s <= place < s + window), key=to_edge)
            if sequence[place]:
                expected.append(power(place - start + 1))
    assert built.labels("position") == expected


# -- context -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("masked", "windowing", "bos"),
    [
        (False, "stream", "auto"),
        (False, "stream", "none"),
        (False, "document", "auto"),
        (False, "document", "none"),
        (True, "stream", "auto"),
        (True, "document", "auto"),
        (True, "stream", "none"),
    ],
)
def test_context_is_the_token_before_and_not_just_the_target_before(
    tmp_path: Path, masked: bool, windowing: str, bos: str
) -> None:
    """Documents end with the token that stands before the next one, to tempt a look at ids."""
    end = "[CLS]" if masked else "<|endoftext|>"
    text = f"The same text{end}\ntoken by token{end}\nin another order"
    make = built_on_words if masked else build
    custom = '[[categories.custom]]\nname = "o"\npattern = "o"\n'
    built = make(
        tmp_path, text=text, scoring__windowing=windowing, tokenizer__bos=bos, custom=custom
    )
    corpus, context = built.text.corpus, context_targets(built.text)
    first = np.diff(corpus.document, prepend=-1) != 0
    joined = windowing == "stream" and not masked  # the end of a document is its last target
    for n in range(len(corpus)):
        if n == 0 or (first[n] and not joined):
            assert context[n] == -1
        else:
            assert context[n] == n - 1
            assert corpus.token_id[n - 1] == corpus.context_id[n]
    assert first.sum() == 3
    own, before = built.labels("o"), built.labels("o_context")
    assert before == [own[n] if n >= 0 else None for n in context.tolist()]
    place, of_context = built.labels("word_position"), built.labels("word_position_context")
    assert of_context == [place[n] if n >= 0 else None for n in context.tolist()]
    assert "token before the target" in built.categories()["o_context"].description


def test_surprisal(tmp_path: Path) -> None:
    surprisal = np.array([-1e-9, 0.99, 1, 1.99, 2, 3.9, 4, 8, 1e4, np.nan], np.float32)
    category = surprisal_category("surprisal", surprisal, 1000)
    assert category.labels == ("0-1", "1-2", "2-4", "4-8", "8+")
    assert category.level.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 4, -1]
    assert category.level.dtype == np.int32
    assert "step 1000" in category.description
    context = np.array([-1, 0, 1, 2, 3, 4, 5, 6, 7, 9])
    before = surprisal_category("surprisal_context", surprisal, 1000, context)
    assert before.level.tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 4, -1]


def test_without_context(tmp_path: Path) -> None:
    custom = '[[categories.custom]]\nname = "a"\npattern = "a"\ncontext = true\n'
    built = build(tmp_path, categories__context=False, custom=custom)
    assert list(built.categories()) == ["all", *PLAIN, "a", "a_context"]
    assert list(build(tmp_path, categories__include=[]).categories()) == ["all"]


# -- documents, parts of speech ------------------------------------------------------------------


def test_documents_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder, text in (("a", "One text."), ("b", "Another."), ("c", "A third one.")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_text(text)
    files = [f"{folder}/text.txt" for folder in "abc"]
    built = build(tmp_path, corpus__files=files, scoring__windowing="document")
    category = built.categories()["document"]
    assert category.labels == ("text.txt", "text.txt (2)", "text.txt (3)")
    np.testing.assert_array_equal(category.level, built.text.corpus.document)


FUNCTION = {"ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"}
CONTENT = {"ADJ", "ADV", "INTJ", "NOUN", "PROPN", "VERB"}


def word_class(tag: str) -> str:
    return "function" if tag in FUNCTION else "content" if tag in CONTENT else "other"


def of_context(built: Built, labels: list[str | None]) -> list[str | None]:
    return [labels[n] if n >= 0 else None for n in context_targets(built.text).tolist()]


def test_parts_of_speech_and_word_classes(tmp_path: Path) -> None:
    from engine.categories.tagging import tag

    include = ["pos", "word_class"]
    built = build(tmp_path, categories__include=include, categories__tagger="rules")
    universal = tag(built.text.corpus, "rules").universal
    tags = [universal.labels[n] for n in universal.level.tolist()]
    assert built.labels("pos") == tags
    assert {"NOUN", "DET", "PUNCT"} <= set(tags)
    classes: list[str | None] = [word_class(tag) for tag in tags]
    assert built.labels("word_class") == classes
    assert set(classes) == {"function", "content", "other"}
    assert built.labels("pos_context") == of_context(built, [*tags])
    assert built.labels("word_class_context") == of_context(built, classes)
    categories = built.categories()
    assert list(categories) == ["all", "pos", "pos_context", "word_class", "word_class_context"]
    assert "tagged by seedconv rules (English)" in categories["pos"].description
    alone = build(tmp_path, categories__include=["word_class"], categories__tagger="rules")
    assert list(alone.categories()) == ["all", "word_class", "word_class_context"]


def test_a_pipeline_beside_the_study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import spacy

    nlp = spacy.blank("en", meta={"name": "small"})
    ruler: Any = nlp.add_pipe("attribute_ruler")
    for words, fine, universal in (("the a", "DT", "DET"), ("token step", "NN", "NOUN")):
        patterns = [[{"LOWER": word}] for word in words.split()]
        ruler.add(patterns, {"TAG": fine, "POS": universal})
    nlp.to_disk(tmp_path / "pipeline")
    monkeypatch.chdir("/")
    include = ["pos", "word_position"]
    built = build(tmp_path, categories__include=include, categories__tagger="pipeline")
    categories = built.categories()
    assert list(categories)[:5] == ["all", "pos", "pos_context", "pos_fine", "pos_fine_context"]
    assert categories["pos_fine"].labels == ("DT", "NN")
    assert "tagged by en_small" in categories["pos_fine"].description
    corpus, pos, fine = built.text.corpus, built.labels("pos"), built.labels("pos_fine")
    texts = [corpus.token_text(n).strip().lower() for n in range(len(corpus))]
    whole = [place == "whole" for place in built.labels("word_position")]
    for word, tags in (("the", ("DET", "DT")), ("token", ("NOUN", "NN")), ("on", ("X", None))):
        places = [n for n, text in enumerate(texts) if text == word and whole[n]]
        assert places
        assert {(pos[n], fine[n]) for n in places} == {tags}
    assert built.labels("pos_fine_context") == of_context(built, fine)


# -- the user's own ------------------------------------------------------------------------------


def test_a_pattern(tmp_path: Path) -> None:
    custom = "[[categories.custom]]\nname = 'capital'\npattern = '^ ?[A-Z]'\ncontext = false\n"
    built = build(tmp_path, custom=custom)
    corpus = built.text.corpus
    texts = [corpus.token_text(n) for n in range(len(corpus))]
    expected = [
        "match" if text.removeprefix(" ")[:1] in set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") else "no match"
        for text in texts
    ]
    assert built.labels("capital") == expected
    assert expected.count("match") > 3
    assert "capital_context" not in built.categories()


def test_a_pattern_that_takes_for_ever_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.categories.matching.CPU_SECONDS", 1)
    custom = "[[categories.custom]]\nname = 'slow'\npattern = '^((.?){30}){30}no'\n"
    with pytest.raises(ConfigError, match=r"^categories.custom 'slow': pattern .* than 1 s of a"):
        build(tmp_path, custom=custom).categories()


LABELS = '[[categories.custom]]\nname = "mine"\nlabels = "labels.txt"\n'


def test_a_label_for_each_token(tmp_path: Path) -> None:
    labels = [("even", "", "düster")[n % 3] for n in range(150)]
    (tmp_path / "labels.txt").write_text("\r\n".join(labels) + "\r\n", encoding="utf-8")
    built = build(tmp_path, custom=LABELS)
    assert built.labels("mine") == [label or None for label in labels]
    assert built.labels("mine_context") == [None, *[label or None for label in labels[:-1]]]


def test_a_table_of_labels(tmp_path: Path) -> None:
    table = {number: f"kind {number % 3}" for number in range(0, 300, 2)}
    lines = [f"{number}\t{label}\n" for number, label in table.items()]
    (tmp_path / "labels.txt").write_text("".join(lines))
    built = build(tmp_path, custom=LABELS)
    assert built.labels("mine") == [table.get(number) for number in built.ids()]
    before = built.text.corpus.context_id.tolist()
    assert built.labels("mine_context") == [table.get(number) for number in before]
    assert before[0] == 0
    assert built.labels("mine_context")[0] == "kind 0"  # of what stands before the first target


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\n" * 149, "holds 149 lines, but the corpus has 150 tokens"),
        (b"a\n" * 151, "holds 151 lines, but the corpus has 150 tokens"),
        (b"", "holds 1 lines, but the corpus has 150 tokens"),
        (b"\n" * 150, "holds 0 labels; there should be 1 to 1,000"),
        (b"\xff\n", "byte 0 is not UTF-8"),
        (b"1\ta\n\n", "line 2: should be a token id below 300, a tab and a label, found ''"),
        (b"1\ta\n300\tb\n", "line 2: should be a token id below 300"),
        (b"1\ta\n-1\tb\n", "line 2: should be a token id below 300"),
        (b"1\ta\n1\tb\n", "line 2: token id 1 is there twice"),
        (None, "'labels.txt': there is no such file"),
    ],
)
def test_a_wrong_file_of_labels(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        build(tmp_path, custom=LABELS).categories()
    assert str(error.value).startswith("categories.custom 'mine': labels: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# -- settings ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder, seeds=("1", "2"), steps=(0,))
    return folder


INCLUDE = "'frequency', 'pos', 'word_class', 'surprisal', 'word_position', 'position' or 'document'"


@pytest.mark.parametrize(
    ("changes", "custom", "said"),
    [
        ({"corpus__counts": 3}, "", 'corpus.counts: should be "corpus", a .npy file or a list'),
        ({"corpus__counts": []}, "", 'corpus.counts: should be "corpus", a .npy file or a list'),
        ({"corpus__counts": ["a", 1]}, "", 'corpus.counts: should be "corpus", a .npy file or a'),
        ({"corpus__counts": "a.txt"}, "", 'should be "corpus" or end in .npy; text files go in a'),
        (
            {"categories__include": ["pos", "x"]},
            "",
            f"categories.include: second entry: should be {INCLUDE}, found 'x'",
        ),
        ({"categories__include": ["pos", "pos"]}, "", "categories: include: names pos twice"),
        ({"categories__include": "pos"}, "", "categories.include: should be a valid list"),
        ({"categories__context": 1}, "", "categories.context: should be a valid boolean"),
        ({"categories__tagger": ""}, "", "categories.tagger: "),
        ({"categories__surprisal_step": -1}, "", 'surprisal_step: should be "latest" or a step'),
        ({"categories__surprisal_step": "x"}, "", 'surprisal_step: should be "latest" or a step'),
        ({"categories__surprisal_step": True}, "", 'surprisal_step: should be "latest" or a step'),
        ({"categories__kind": 1}, "", "categories.kind: no such field; allowed: include, context,"),
        ({}, 'name = "x"', 'custom category "x": should have either pattern or labels'),
        ({}, 'name = "x"\npattern = "a"\nlabels = "b"', "should have either pattern or labels"),
        ({}, 'name = "x"\npattern = "("', "pattern: is not a regular expression: missing"),
        ({}, 'name = "x"\npattern = "[[a]"', "is not a regular expression: Possible nested set"),
        (
            {},
            'name = "POS"\npattern = "a"',
            'custom category "POS": name: is the name of a built-in category',
        ),
        ({}, 'name = "all"\npattern = "a"', "name: is the name of a built-in category"),
        ({}, 'name = "a_context"\npattern = "a"', "name: must not end in _context"),
        ({}, 'name = "../a"\npattern = "a"', "name: should be of letters, digits, _ and"),
        ({}, 'pattern = "a"', "first custom category: name: is required and was not found"),
        ({}, 'name = "x"\nfile = "a"\npattern = "a"', "no such field; allowed: name, pattern, l"),
        (
            {},
            'name = "x"\npattern = "a"\n[[categories.custom]]\nname = "X"\npattern = "b"',
            "categories: custom: names x twice",
        ),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(
    runs: Path, tmp_path: Path, changes: dict[str, Any], custom: str, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(runs, tmp_path / "copy")
    file = write_study(tmp_path / "copy", **changes)
    if custom:
        file.write_text(file.read_text() + f"[[categories.custom]]\n{custom}\n")
    assert run(["run", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("seedconv: ")]
    assert said in line
    assert str(file) in line
    assert not (tmp_path / "copy/study.zarr").exists()


@pytest.mark.parametrize(
    ("changes", "custom", "said"),
    [
        ({"corpus__counts": "none.npy"}, "", "corpus.counts: "),
        ({}, LABELS, "categories.custom 'mine': labels: 'labels.txt': there is no such file"),
        ({"categories__tagger": "none"}, "", "categories.tagger: 'none' "),
    ],
)
def test_a_wrong_file_is_told_in_one_line_before_anything_is_written(
    runs: Path, tmp_path: Path, changes: dict[str, Any], custom: str, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(runs, tmp_path / "copy")
    include = ["pos"] if "categories__tagger" in changes else PLAIN
    file = write_study(tmp_path / "copy", categories__include=include, **changes)
    file.write_text(file.read_text() + custom)
    assert run(["run", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("seedconv: ")]
    assert said in line
    assert not (tmp_path / "copy/study.zarr").exists()
