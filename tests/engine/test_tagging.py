"""Parts of speech: what the rules know of English, and how the tags of words get to tokens."""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.training import Example
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from engine.categories import tagging
from engine.categories.alignment import NO_LETTER, PARAGRAPH, SENTENCE, SPACE, pieces
from engine.categories.english import rule_tagger
from engine.errors import ConfigError
from store.schema import Corpus
from tests.support import tagged_text

PAGE = (Path(__file__).parents[2] / "docs/categories.md").read_text(encoding="utf-8")
FUNCTION = {"ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"}
CONTENT = {"ADJ", "ADV", "INTJ", "NOUN", "PROPN", "VERB"}

PROSE = "The old dog didn't see 3 cats; she said that naïve “readers” can’t wait.\n"
DOCUMENTS = [
    PROSE,
    "",
    "   \n\t ",
    "No 🙂👩‍👩‍👧 emoji 🇫🇷! e\u0301te\u0301 and Ångström, 漢字かな交じり文。",
    "def f(x):\n\treturn x[1:] + {'a': \"b\"}  # so\r\n\r\nif __name__ == '__main__':\n    f(0x1F)",
    "a\u200bb \u00a0 c\u2028d ▁e zalgo z\u0335\u0301\u0316a ﬁne ĳ Ⅷ \ufeffx",
    "x" * 3000 + " and (((((((((((((" + "".join(["#", "-"] * 200) + " the end.",
    "\n\nNew paragraph. Isn't it?\n\n",
]


def byte_level(trim: bool, prefix: bool) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.post_processor = processors.ByteLevel(trim_offsets=trim)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(DOCUMENTS, trainer)
    return backend


def word_piece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=130, special_tokens=["[UNK]"], show_progress=False
    )
    backend.train_from_iterator([PROSE], trainer)
    return backend


def sentence_piece() -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(DOCUMENTS, trainer)
    return backend


def byte_fallback() -> Tokenizer:
    """As Llama's: the space mark is part of the text, and unknown characters are bytes."""
    words = [f"<0x{byte:02X}>" for byte in range(256)]
    words += ["<unk>", *"▁abcdefghijklmnopqrstuvwxyz.", "▁a", "th", "▁th", "▁the"]
    merges = [("▁", "a"), ("t", "h"), ("▁", "th"), ("▁th", "e")]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return backend


TOKENIZERS = {
    "byte-level": lambda: byte_level(trim=False, prefix=False),
    "byte-level, space before": lambda: byte_level(trim=False, prefix=True),
    "byte-level, offsets without spaces": lambda: byte_level(trim=True, prefix=False),
    "byte-level, both": lambda: byte_level(trim=True, prefix=True),
    "word pieces": word_piece,
    "sentence pieces": sentence_piece,
    "byte fallback": byte_fallback,
}


def tokenise(tokenizer: Tokenizer, documents: list[str]) -> Corpus:
    """All tokens, and after each document the end-of-text token."""
    starts, ends = [], []
    for document in documents:
        offsets = tokenizer.encode(document, add_special_tokens=False).offsets if document else []
        starts.append([start for start, _ in offsets] + [len(document)])
        ends.append([end for _, end in offsets] + [len(document)])
    return tagged_text.corpus(documents, starts, ends)


def rules() -> Any:
    nlp = spacy.blank("en")
    nlp.add_pipe(rule_tagger.FACTORY)
    return nlp


def expected(nlp: Any, documents: list[str], corpus: Corpus, attribute: str) -> list[str]:
    """The tag of each token, character by character. "" where there is none."""
    tags, inside = [], []
    for document in documents:
        own = [""] * len(document)
        for word in nlp(nlp.make_doc(document)) if nlp else []:
            for place in range(word.idx, word.idx + len(word)):
                own[place] = getattr(word, attribute)
        tags += own
        inside += [False] + [True] * (len(document) - 1) if document else []
    inside.append(False)
    found = []
    for start, end in zip(corpus.char_start.tolist(), corpus.char_end.tolist(), strict=True):
        if start == end and inside[start]:
            start -= 1
        solid = [place for place in range(start, end) if not corpus.text[place].isspace()]
        votes = Counter(tags[place] for place in solid if tags[place])
        most = [tag for tag, count in votes.most_common() if 2 * count >= len(solid)]
        if start < end and not solid:
            found.append("SPACE")
        else:  # of two with half each, the first: as Counter keeps them
            found.append(most[0] if most else "")
    return found


def names(tags: tagging.TagSet) -> list[str]:
    return [tags.labels[level] if level >= 0 else "" for level in tags.level]


@pytest.mark.parametrize("half", ["tuned", "held_out"])
def test_rules_reach_their_goals_on_text_tagged_by_hand(half: str) -> None:
    corpus, gold = tagged_text.read(half)
    found = names(tagging.tag(corpus, "rules").universal)
    words = [(g, f) for g, f in zip(gold, found, strict=True) if g not in {"PUNCT", "SYM"}]
    assert len(words) > 800
    right = np.mean([g == f for g, f in words])
    classes = [
        (g in FUNCTION, f in FUNCTION, f in CONTENT) for g, f in words if g in FUNCTION | CONTENT
    ]
    same_class = np.mean([(g and f) or (not g and c) for g, f, c in classes])
    assert right >= 0.85
    assert same_class >= 0.95
    for name, share in (("tag", right), ("function or content class", same_class)):
        row = re.search(rf"^\| {name} \| (.*) % \| (.*) % \|$", PAGE, re.MULTILINE)
        assert row, name
        assert f"{100 * share:.1f}" == row[["held_out", "tuned"].index(half) + 1]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_every_token_takes_the_tag_of_most_of_its_characters(tokenizer: str) -> None:
    short = [document for document in DOCUMENTS if len(document) < 1000]
    corpus = tokenise(TOKENIZERS[tokenizer](), short)
    tags = tagging.tag(corpus, "rules")
    assert tags.tagger == "seedconv rules (English)"
    assert tags.fine is None
    assert tags.universal.labels == tagging.UNIVERSAL
    want = [tag or "X" for tag in expected(rules(), short, corpus, "pos_")]
    assert names(tags.universal) == want
    assert {"NOUN", "PUNCT", "SYM", "X", "VERB", "PART"} <= set(want)


def test_blanks_and_parts_of_characters() -> None:
    text = "The 🙂 cats "
    #         Ġ?The   " "    " 🙂" its bytes        " c"    "ats"    " "      end of text
    starts = [0, 0, 3, 3, 3, 4, 5, 5, 5, 6, 7, 10, 11]
    ends__ = [0, 3, 4, 4, 5, 5, 5, 5, 7, 7, 10, 11, 11]
    corpus = tagged_text.corpus([text], [starts], [ends__])
    found = names(tagging.tag(corpus, "rules").universal)
    assert found[:8] == ["X", "DET", "SPACE", "SPACE", "SYM", "SYM", "SYM", "SYM"]
    assert found[8:] == ["NOUN", "NOUN", "NOUN", "SPACE", "X"]
    # " 🙂 c": half a symbol, half a noun; the first wins. "🙂 cats": four of five are a noun.
    corpus = tagged_text.corpus([text], [[3, 4, 0]], [[7, 10, 11]])
    assert names(tagging.tag(corpus, "rules").universal) == ["SYM", "NOUN", "NOUN"]
    # A third each: nothing covers half.
    assert names(tagging.tag(tagged_text.corpus(["the , 5"], [[2]], [[7]]), "rules").universal) == [
        "X"
    ]


def test_documents_without_text_or_tokens() -> None:
    empty = tagged_text.corpus(["", "", "Go on."], [[0], [], [0, 2]], [[0], [], [2, 6]])
    assert names(tagging.tag(empty, "rules").universal) == ["X", "VERB", "ADP"]
    nothing = tagged_text.corpus(["Go on."], [[]], [[]])
    assert len(tagging.tag(nothing, "rules").universal.level) == 0


def test_long_documents_go_in_pieces_with_the_same_result() -> None:
    paragraphs = PROSE * 9 + "\n"
    documents = [paragraphs * 160, PROSE]
    assert len(documents[0]) > 100_000
    corpus = tokenise(byte_level(trim=False, prefix=False), documents)
    found = names(tagging.tag(corpus, "rules").universal)
    assert found == [tag or "X" for tag in expected(rules(), documents, corpus, "pos_")]


def test_pieces_end_where_the_text_does() -> None:
    order = (PARAGRAPH, SENTENCE, SPACE)
    text = "One two. Three\n\nfour five six. Seven eight nine ten." + "x" * 30
    cut = [text[low:high] for low, high in pieces(text, 0, len(text), 20, order)]
    assert cut[0] == "One two. Three\n\n"
    assert cut[1] == "four five six. "
    assert cut[2] == "Seven eight nine "
    assert "".join(cut) == text
    assert max(map(len, cut)) <= 20
    assert [*pieces("ab,cd", 0, 5, 4, (NO_LETTER,))] == [(0, 3), (3, 5)]


@pytest.mark.parametrize("unit", ["x", "(", "!", "ab,", "漢字。", "'s", "🙂", "1-"])
def test_100_kb_without_a_space(unit: str) -> None:
    text = (unit * 100_000)[:100_000]
    starts = list(range(0, len(text), 3))
    ends = [min(start + 3, len(text)) for start in starts]
    level = tagging.tag(tagged_text.corpus([text], [starts], [ends]), "rules").universal.level
    assert len(level) == len(starts)
    assert tagging.UNIVERSAL.index("SPACE") not in level


# Pipelines of the user's.

SENTENCES = [
    (["Dogs", "see", "the", "cat", "."], "NNS VBP DT NN .", "NOUN VERB DET NOUN PUNCT"),
    (["The", "cat", "sees", "dogs", "."], "DT NN VBZ NNS .", "DET NOUN VERB NOUN PUNCT"),
    (["She", "sees", "the", "dog", "."], "PRP VBZ DT NN .", "PRON VERB DET NOUN PUNCT"),
    (["Cats", "see", "her", "."], "NNS VBP PRP .", "NOUN VERB PRON PUNCT"),
]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained pipelines on disk: `both` tags; `fine` has the fine-grained tagger alone."""
    folder = tmp_path_factory.mktemp("pipelines")
    for name in ("both", "fine"):
        nlp = spacy.blank("en")
        nlp.add_pipe("tagger")
        if name == "both":
            nlp.add_pipe("morphologizer")
            nlp.add_pipe("sentencizer")
        examples = []
        for words, tags, pos in SENTENCES:
            reference = spacy.tokens.Doc(nlp.vocab, words, tags=tags.split(), pos=pos.split())
            examples.append(Example(nlp.make_doc(reference.text), reference))
        spacy.util.fix_random_seed(0)
        optimizer = nlp.initialize(lambda examples=examples: examples)
        for _ in range(12):
            nlp.update(examples, sgd=optimizer)
        nlp.meta["name"], nlp.meta["version"] = name, "1.2.3"
        nlp.to_disk(folder / name)
    return folder


def test_a_trained_pipeline_gives_both_kinds_of_tags(pipelines: Path) -> None:
    documents = ["Dogs see the cat.", "She sees the dog.\n\nCats see her."]
    corpus = tokenise(byte_level(trim=False, prefix=False), documents)
    tags = tagging.tag(corpus, str(pipelines / "both"))
    assert tags.tagger == "en_both 1.2.3"
    nlp = spacy.load(pipelines / "both")
    want = expected(nlp, documents, corpus, "pos_")
    assert names(tags.universal) == [tag or "X" for tag in want]
    assert {"NOUN", "VERB", "DET", "PRON"} <= set(want)
    assert tags.fine is not None
    want = expected(nlp, documents, corpus, "tag_")
    assert names(tags.fine) == [tag if tag != "SPACE" else "" for tag in want]
    assert list(tags.fine.labels) == sorted({tag for tag in want if tag not in {"", "SPACE"}})
    assert {"NNS", "NN", "VBZ", "DT"} <= set(tags.fine.labels)


def test_auto_takes_the_usual_pipeline_if_it_is_installed(
    pipelines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tagged_text.corpus(["Dogs see."], [[0, 4]], [[4, 8]])
    if not spacy.util.is_package("en_core_web_sm"):
        assert tagging.tag(corpus, "auto").tagger == "seedconv rules (English)"
    package = tmp_path / "en_core_web_sm"
    package.mkdir()
    nlp = spacy.load(pipelines / "both")
    nlp.meta["name"], nlp.meta["version"] = "core_web_sm", "0.0.1"
    nlp.to_disk(package / "en_core_web_sm-0.0.1")
    (package / "meta.json").write_bytes((package / "en_core_web_sm-0.0.1/meta.json").read_bytes())
    (package / "__init__.py").write_text(
        "from spacy.util import load_model_from_init_py\n\n"
        "def load(**options):\n    return load_model_from_init_py(__file__, **options)\n"
    )
    information = tmp_path / "en_core_web_sm-0.0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: en_core_web_sm\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("en_core_web_sm")]:
        monkeypatch.delitem(sys.modules, name)
    tags = tagging.tag(corpus, "auto")
    assert tags.tagger == "en_core_web_sm 0.0.1"
    assert names(tags.universal) == ["NOUN", "VERB"]
    sys.modules.pop("en_core_web_sm", None)


def test_the_parser_runs_only_where_tags_need_it(tmp_path: Path) -> None:
    kept = {}
    for name, pattern in {"without": {"ORTH": "dog"}, "with": {"DEP": "nsubj"}}.items():
        nlp = spacy.blank("en")
        nlp.add_pipe("parser").add_label("nsubj")
        nlp.add_pipe(rule_tagger.FACTORY)
        nlp.initialize()
        nlp.add_pipe("attribute_ruler").add([[pattern]], {"POS": "NOUN"})
        nlp.to_disk(tmp_path / name)
        kept[name] = tagging.load(str(tmp_path / name))[0].pipe_names
    assert "parser" in kept["with"]
    assert "parser" not in kept["without"]


def test_pipelines_that_cannot_tag_are_refused(pipelines: Path, tmp_path: Path) -> None:
    corpus = tagged_text.corpus(["Dogs see."], [[0]], [[4]])
    spacy.blank("en").to_disk(tmp_path / "blank")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.cfg").write_text("[nlp\nlang = 3")
    (broken / "meta.json").write_text("{")
    (tmp_path / "empty").mkdir()
    for tagger, what in {
        "no_such_pipeline": "no package or folder",
        str(tmp_path / "empty"): "cannot be loaded",
        str(broken): "cannot be loaded",
        str(tmp_path / "blank"): "sets no tags",
        str(pipelines / "fine"): "fine-grained tags only",
    }.items():
        with pytest.raises(ConfigError) as caught:
            tagging.tag(corpus, tagger)
        message = str(caught.value)
        assert message.startswith("categories.tagger: ")
        assert tagger in message
        assert what in message
        assert '"rules"' in message
        assert "\n" not in message


def test_a_pipeline_that_fails_on_the_text_is_named(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger").add_label("NN")
    nlp.initialize()
    nlp.to_disk(tmp_path / "bad")
    weights = tmp_path / "bad/tagger/model"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"^categories\.tagger: '.*bad' cannot be loaded: .*"):
        tagging.tag(tagged_text.corpus(["Go on."], [[0]], [[2]]), str(tmp_path / "bad"))
    spacy.Language.component("fails", func=_fail)
    nlp = spacy.blank("en")
    nlp.add_pipe("fails")
    nlp.to_disk(tmp_path / "fails")
    with pytest.raises(ConfigError, match=r"^categories\.tagger: '.*fails' fails on the text: no"):
        tagging.tag(tagged_text.corpus(["Go on."], [[0]], [[2]]), str(tmp_path / "fails"))


def _fail(document: Any) -> Any:
    raise ValueError("no such thing\nat all")


# What the rules say of words whose tag depends on others.

CASES = """
    She 's/AUX late because John 's/PART car broke .
    It 's/AUX been raining . Let 's/PRON go .
    I know that/SCONJ the book that/PRON I bought is dear , and that/DET shop is closed .
    He went to/ADP town to/PART buy bread .
    They have/AUX seen it ; they have/VERB time . I do/AUX n't/PART care . We did/VERB it .
    There/PRON is/VERB a problem there/ADV .
    It has rained since/ADP Monday . She left before/SCONJ he came .
    Both/CCONJ cats and dogs came ; both/DET slept .
    The use/NOUN of tools : we use/VERB them .
    In May/PROPN it may/AUX rain . NASA/PROPN was right .
    Which/DET book ? The book , which/PRON I read , costs $/SYM 5.30/NUM .
"""


@pytest.mark.parametrize("line", CASES.strip().splitlines())
def test_context_decides(line: str) -> None:
    words = [entry.partition("/")[::2] for entry in line.split()]
    nlp = rules()
    document = spacy.tokens.Doc(nlp.vocab, [word for word, _ in words])
    found = [(word.text, word.pos_) for word in nlp(document)]
    for (word, tag), seen in zip(words, found, strict=True):
        assert tag in {"", seen[1]}, (word, found)


def test_closed_classes_are_known() -> None:
    """Every word that stands for its class at all, and each contraction as spaCy splits it."""
    nlp = rules()
    contractions = "can't won't shan't ain't I'm we're they've he'd she'll it's cannot don’t you’re"
    for word in itertools.chain.from_iterable(nlp(text) for text in contractions.split()):
        assert word.pos_ in {"AUX", "PART", "PRON"}, (word.text, word.pos_)
    for tag, words in {
        "PRON": "I me my mine myself you he him she it we us they them who everyone nothing",
        "ADP": "of in at by with from into through during among against towards beneath",
        "AUX": "can could will would shall should may might must am is are was were",
        "CCONJ": "and or but nor",
        "SCONJ": "if whether because although unless whereas while",
        "DET": "the a an every another",
        "NUM": "two three ten eleven ninety million 12 1,200 3.5",
        "INTJ": "oh hello yes alas hey",
    }.items():
        for word in words.split():
            before = "they" if tag == "AUX" else "x"
            assert nlp(f"{before} {word} x")[1].pos_ == tag, word
