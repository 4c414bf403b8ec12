"""Text read as a stream: the documents, and the tokens of long ones, are those of the whole."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine.errors import ConfigError
from engine.text import streams
from engine.text.counting import count_tokens
from engine.text.streams import START, Position, read_pieces, whole
from tests.support.tiny_models import TEXT

SEPARATOR = "\n\f\n"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long is what takes half a page."""
    monkeypatch.setattr(streams, "LONG", 2000)
    monkeypatch.setattr(streams, "SHARED", 256)
    monkeypatch.setattr(streams, "_CHUNK", 700)


def words(n: int, seed: int = 0) -> str:
    """Text of n words as they come: of many lengths, with odd spaces, lines and letters."""
    draw = random.Random(seed)
    apart = [" "] * 12 + ["  ", "\n", "\n\n", ", ", "\t", "   \n", "’s ", "— "]
    known = [*TEXT.split(), "naïve", "Ḍ̇", "漢字かな", "🙂🙂", "don't", "12345", "x" * 30]
    return "".join(draw.choice(known) + draw.choice(apart) for _ in range(n))


def make(kind: str) -> Any:
    """Tokenizers of the kinds there are, trained on such words."""
    if kind == "word pieces":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(
            vocab_size=400, special_tokens=["[UNK]"], show_progress=False
        )
    elif kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    else:
        backend = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        if kind == "bytes":
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:  # as in Llama's: one word, however long the text is
            backend.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
    backend.train_from_iterator([words(3000, 1)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def expected(backend: Any, texts: list[str]) -> list[int]:
    """Counts as the tokenizer's own encoding of the documents has them."""
    ids = [number for text in texts for number in backend.backend_tokenizer.encode(text).ids]
    return np.bincount(ids, minlength=len(backend)).tolist()


@pytest.mark.parametrize("kind", ["bytes", "one word", "word pieces", "unigram"])
def test_long_documents_are_counted_as_wholes(kind: str, tmp_path: Path) -> None:
    backend = make(kind)
    documents = [words(2500, 2), words(9, 3), words(1500, 4), "x" * 700 + words(400, 5) + "y" * 900]
    file = tmp_path / "text.txt"
    file.write_text(SEPARATOR.join(documents))
    size = len(backend)
    steps = list(count_tokens(backend, read_pieces([file], SEPARATOR), size))
    assert sum(step.documents for step in steps) == 4
    assert len(steps) > 12, "long documents come in parts"
    assert sum(step.count for step in steps).tolist() == expected(backend, documents)
    # From any place at which counting was interrupted, the rest is what is left.
    for n in range(0, len(steps), 3):
        rest = count_tokens(backend, read_pieces([file], SEPARATOR, start=steps[n].position), size)
        total = sum((step.count for step in rest), start=np.zeros(size, np.int64))
        total += sum(step.count for step in steps[: n + 1])
        assert total.tolist() == expected(backend, documents), n


def test_what_cannot_be_parted_is_joined_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, file = make("bytes"), tmp_path / "text.txt"
    fixed = pre_tokenizers.FixedLength(length=13)  # where tokens end depends on all before them
    backend.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [fixed, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    file.write_text(words(3000))
    steps = list(count_tokens(backend, read_pieces([file], SEPARATOR), len(backend)))
    assert len(steps) < 4 < len(list(read_pieces([file], SEPARATOR)))
    assert sum(step.count for step in steps).tolist() == expected(backend, [file.read_text()])
    monkeypatch.setattr("engine.text.counting.MOST_JOINED", 2)
    with pytest.raises(ConfigError, match="have no place where they can be split"):
        list(count_tokens(backend, read_pieces([file], SEPARATOR), len(backend)))


@pytest.mark.parametrize("separator", [SEPARATOR, "\n\n", "", "=" * 300])
def test_documents_are_those_of_the_whole_file(separator: str, tmp_path: Path) -> None:
    draw = random.Random(separator)
    ends = [separator, separator[:-1] + "x", "\r\n", separator[:2], ""]
    text = "".join(words(draw.randint(0, 300), n) + draw.choice(ends) for n in range(40))
    file = tmp_path / "text.txt"
    file.write_bytes((text + "\r\n\r").encode())
    read = file.read_text()
    documents = read.split(separator) if separator else [read]
    found = list(whole(read_pieces([file, file], separator)))
    assert [text for text, _ in found] == documents * 2
    for n in range(0, len(found), 5):
        rest = whole(read_pieces([file, file], separator, start=found[n][1]))
        assert [text for text, _ in rest] == [text for text, _ in found[n + 1 :]]


def test_records_go_on_at_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text('{"text": "é"}\n\n{"text": "b\\n"}\n{"text": ""}\n{"text": 1}\n')
    pieces = read_pieces([file], "")
    found = [next(pieces) for _ in range(3)]
    assert [piece.text for piece in found] == ["é", "b\n", ""]
    assert found[1].position == Position(0, 32, 3)
    rest = read_pieces([file], "", start=found[1].position)
    assert next(rest).text == ""
    with pytest.raises(ConfigError, match="line 5: 'text' should be text, found '1'"):
        next(rest)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"a" * 20_000 + b"\xff", "a.txt: byte 20000 is not UTF-8"),
        ("a.txt", "é".encode() * 9000 + b"\xc3", "a.txt: byte 18000 is not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', "line 2: byte 10 is not UTF-8"),
        ("a.jsonl", b"[" * 100_000, "line 1: is not JSON: nested too deeply"),
        ("a.jsonl", b'["text"]', "line 1: has no text in 'text'; it has: no fields"),
        ("a.jsonl", b'{"text": "\\ud800"}', "line 1: 'text' holds half a surrogate pair"),
    ],
)
def test_what_is_no_text_is_told(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        list(read_pieces([tmp_path / name], SEPARATOR, start=START))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_pipe_is_read_like_a_file(name: str, tmp_path: Path) -> None:
    content = b"one\n--\ntwo" if name == "a.txt" else b'{"text": "one\\n"}\n{"text": "two"}\n'
    os.mkfifo(tmp_path / name)
    writer = threading.Thread(target=(tmp_path / name).write_bytes, args=(content,))
    writer.start()
    texts = [text for text, _ in whole(read_pieces([tmp_path / name], "--\n"))]
    writer.join()
    assert texts == ["one\n", "two"]
