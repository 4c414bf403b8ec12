"""`sample` and `count`: deterministic, and interrupted as if they had not been."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import gathering
from engine.gathering import Origin
from engine.text_files import START, Piece, Place
from seedconv_tui.cli import run
from tests.models import make_tokenizer

DOCUMENTS = [f"Document {n} says: seeds {n % 7} and steps {n * n}." for n in range(1000)]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "text.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return file


def break_off(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have the stream be interrupted once, after so many pieces of documents."""
    whole = Origin.read

    def read(self: Origin, start: Place = START) -> Iterator[Piece]:
        for n, piece in enumerate(whole(self, start)):
            if n == after:
                raise KeyboardInterrupt
            yield piece

    monkeypatch.setattr(Origin, "read", read)


def test_counts_are_those_of_the_tokenizer_also_when_interrupted(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = make_tokenizer(tmp_path / "tokenizer")
    command = ["count", str(lines), "--tokenizer", str(tmp_path / "tokenizer"), "-o"]
    expected = Counter(number for text in DOCUMENTS for number in backend.encode(text).ids)
    assert run([*command, str(tmp_path / "whole.npy")]) == 0
    whole = np.load(tmp_path / "whole.npy")
    assert whole.shape == (backend.get_vocab_size(),)
    assert {at: whole[at] for at in np.flatnonzero(whole)} == expected
    with monkeypatch.context() as patch:
        break_off(patch, 600)
        assert run([*command, str(tmp_path / "twice.npy")]) == 130
    assert not (tmp_path / "twice.npy").exists()
    assert json.loads((tmp_path / "twice.npy.state").read_text())["documents"] == 512
    assert run([*command, str(tmp_path / "twice.npy"), "--first", "700"]) == 2
    assert "is of other settings" in capsys.readouterr().err
    assert run([*command, str(tmp_path / "twice.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "twice.npy"), whole)
    assert not (tmp_path / "twice.npy.state").exists()


def test_samples_are_fixed_by_the_seed_also_when_interrupted(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sample", str(lines), "-n", "50", "-o"]
    assert run([*command, str(tmp_path / "a.txt")]) == 0
    texts = (tmp_path / "a.txt").read_text().split(gathering.SEPARATOR)
    at = [DOCUMENTS.index(text) for text in texts]
    assert len(at) == 50
    assert at == sorted(set(at))
    with monkeypatch.context() as patch:
        break_off(patch, 333)
        assert run([*command, str(tmp_path / "b.txt")]) == 130
    assert run([*command, str(tmp_path / "b.txt")]) == 0
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()
    assert run([*command, str(tmp_path / "c.txt"), "--seed", "1"]) == 0
    assert (tmp_path / "c.txt").read_bytes() != (tmp_path / "a.txt").read_bytes()
    assert run([*command, str(tmp_path / "folder"), "--first", "20"]) == 0
    assert [f.read_text() for f in sorted((tmp_path / "folder").iterdir())] == DOCUMENTS[:20]


def test_parquet_is_read_through_datasets(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    file = tmp_path / "text.parquet"
    parquet.write_table(pyarrow.table({"body": DOCUMENTS[:9]}), file)
    origin = Origin((str(file),), field="body")
    assert [piece.text for piece in origin.read(Place(0, 4))] == DOCUMENTS[4:9]


def test_wrong_input_is_told_in_one_line(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.txt")
    assert run(["sample", str(tmp_path / "none.jsonl"), "-o", out]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert run(["sample", str(lines), "--field", "body", "-o", out]) == 2
    assert "line 1: has no text in 'body'; it has: text" in capsys.readouterr().err
    assert run(["sample", str(lines), "-o", str(lines)]) == 2
    assert "exists already" in capsys.readouterr().err
    lines.write_text('{"text": "good"}\n{"text": \n')
    assert run(["sample", str(lines), "-o", out.replace("out", "new")]) == 2
    assert "line 2: is not JSON" in capsys.readouterr().err
