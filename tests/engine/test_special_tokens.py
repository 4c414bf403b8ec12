"""Special tokens that a text spells out: they are those tokens, or text like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from store import open_study
from tests.support.tiny_models import END, TEXT, make_runs, write_study

SPELT = f"Do {END}they learn{END} the same?\nYes {END} no.\n{TEXT}"  # three documents and more


def as_text(file: Path) -> Path:
    file.write_text(file.read_text().replace("[corpus]", '[corpus]\nspecial_tokens = "text"'))
    return file


def test_special_tokens_are_tokens_and_said_to_be_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    (tmp_path / "text.txt").write_text(SPELT, encoding="utf-8")
    file = write_study(tmp_path, scoring__windowing="document")  # no end-of-text between them
    said = f"3 special tokens are spelt out in the text ({END!r} 3 times) and were read as such"
    assert run(["run", str(file)]) == 0
    assert capsys.readouterr().err.count(said) == 1
    assert np.count_nonzero(open_study(tmp_path / "study.zarr").corpus.token_id == 0) == 3
    assert run(["run", str(file)]) == 0
    assert "spelt out" not in capsys.readouterr().err
    assert run(["run", str(as_text(file))]) == 2  # another study
    assert "corpus.digest is" in capsys.readouterr().err


def test_special_tokens_may_be_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    (tmp_path / "text.txt").write_text(SPELT, encoding="utf-8")
    (tmp_path / "pairs").mkdir()
    pair = f'{{"sentence_good": "a{END}b", "sentence_bad": "a b", "UID": "x"}}\n'
    (tmp_path / "pairs/x.jsonl").write_text(pair)
    changes = {"scoring__windowing": "document", "corpus__counts": ["text.txt"]}
    file = as_text(write_study(tmp_path, **changes))
    probe = '[[probes]]\nname = "p"\nkind = "blimp"\nfolder = "pairs"\n'
    file.write_text(f"{file.read_text()}\n{probe}")
    assert run(["run", str(file)]) == 0
    assert "spelt out" not in capsys.readouterr().err
    study = open_study(tmp_path / "study.zarr")
    assert not np.any(study.corpus.token_id == 0)
    assert "".join(map(study.corpus.token_text, range(len(study.corpus)))).startswith(SPELT[:20])
    assert study.vocabulary.count[0] == 0
    assert study.vocabulary.count.sum() > 150
    # Without them a study is the same whichever is chosen.
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    file = write_study(tmp_path, study__store="other.zarr")
    assert run(["run", str(file)]) == 0
    assert run(["run", str(as_text(file))]) == 0


def test_counting_takes_them_for_either(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    (tmp_path / "text.txt").write_text(SPELT, encoding="utf-8")
    for choice, n in (("tokens", 3), ("text", 0)):
        command = ["count", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path / "tokenizer")]
        target = tmp_path / f"{choice}.npy"
        assert run([*command, "-o", str(target), "--special-tokens", choice]) == 0
        assert np.load(target)[0] == n
