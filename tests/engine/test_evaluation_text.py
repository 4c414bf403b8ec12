"""The evaluation text: the tokens of the whole text, of which no more is read than is needed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.sources.hub_client import HubClient
from engine.study_file.file import load_study_file
from engine.text import streams
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import load_tokenizer
from tests.support.tiny_models import END, make_tokenizer, write_study

LONG = "".join(f"Seed {n * n} said “naïve”, {n} times\tover.\n" for n in range(2000))


@pytest.mark.parametrize("windowing", ["stream", "document"])
@pytest.mark.parametrize("name", ["long.txt", "lines.txt", "long.jsonl"])
def test_ids_are_those_of_the_whole_text_which_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, windowing: str
) -> None:
    for setting, n in (("LONG", 2000), ("SHARED", 256), ("_CHUNK", 700)):
        monkeypatch.setattr(streams, setting, n)
    backend = make_tokenizer(tmp_path / "tokenizer")
    text = json.dumps({"text": LONG}) if name.endswith("jsonl") else LONG
    (tmp_path / name).write_text(text, encoding="utf-8")
    file = write_study(
        tmp_path,
        corpus__files=[name],
        corpus__separator="\n" if "lines" in name else "",
        corpus__max_tokens=3000,
        scoring__windowing=windowing,
    )
    study = load_study_file(file)
    made = build_text(study, load_tokenizer(study, HubClient(threading.Event())))
    documents = LONG.splitlines() if "lines" in name else [LONG]
    end, expected = backend.token_to_id(END), list[int]()
    for number, document in enumerate(documents):
        expected += [end] if number and windowing == "stream" else []
        expected += backend.encode(document).ids
    assert made.corpus.token_id.tolist() == expected[:3000]
    last = made.corpus.char_end[-1]
    assert made.corpus.text == "".join(documents)[: len(made.corpus.text)]
    if not name.endswith("jsonl"):  # a record is read whole
        assert last <= len(made.corpus.text) < last + 6000 < len(LONG)
    for at in (0, 1500, 2999):
        span = slice(made.corpus.char_start[at], made.corpus.char_end[at])
        assert made.corpus.text[span].strip() in backend.decode([expected[at]]) or not span.stop


def test_the_text_of_the_paper_ends_with_two_end_of_text_tokens(tmp_path: Path) -> None:
    """Its documents end in one each, and its tokenizer adds one before and after the text."""
    backend = make_tokenizer(tmp_path / "tokenizer")
    documents = ["The seeds of a model.", "They learn the same."]
    (tmp_path / "all.txt").write_text("".join(text + END for text in documents))
    settings = {"corpus__files": ["all.txt"], "corpus__separator": END}
    study = load_study_file(write_study(tmp_path, corpus__final_end_of_text=2, **settings))
    made = build_text(study, load_tokenizer(study, HubClient(threading.Event())))
    end = backend.token_to_id(END)
    theirs = [end, *(n for text in documents for n in (*backend.encode(text).ids, end)), end]
    assert made.corpus.token_id.tolist() == theirs[1:]
    assert made.corpus.context_id.tolist() == theirs[:-1]
    assert [sequence.inputs.tolist() for sequence in made.sequences] == [theirs[:-1]]
    assert made.corpus.document.tolist()[-2:] == [1, 1]
    few = write_study(
        tmp_path, corpus__final_end_of_text=2, corpus__max_tokens=len(theirs) - 2, **settings
    )
    study = load_study_file(few)
    made = build_text(study, load_tokenizer(study, HubClient(threading.Event())))
    assert made.corpus.token_id.tolist() == theirs[1:-1]


def test_no_end_of_text_is_added_to_documents_on_their_own(tmp_path: Path) -> None:
    file = write_study(tmp_path, corpus__final_end_of_text=1, scoring__windowing="document")
    with pytest.raises(ConfigError, match=r"corpus\.final_end_of_text: is for scoring\.windowing"):
        load_study_file(file)
