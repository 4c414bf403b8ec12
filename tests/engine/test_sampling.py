"""`sample` and `count`: deterministic, and interrupted as if they had not been."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from engine.text import sampling, streams
from engine.text.sampling import Origin
from engine.text.streams import START, Piece, Position
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.tiny_models import make_runs, make_tokenizer, write_study

DOCUMENTS = [f"Document {n} says: seeds {n % 7} and steps {n * n}." for n in range(1000)]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "text.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return file


def break_off(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have the stream be interrupted once, after that many pieces of documents."""
    whole = Origin.read

    def read(self: Origin, start: Position = START) -> Iterator[Piece]:
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
    assert "was begun with other first; remove it to start again" in capsys.readouterr().err
    assert run([*command, str(tmp_path / "twice.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "twice.npy"), whole)
    assert not (tmp_path / "twice.npy.state").exists()


def test_samples_are_fixed_by_the_seed_also_when_interrupted(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sample", str(lines), "-n", "50", "-o"]
    assert run([*command, str(tmp_path / "a.txt")]) == 0
    texts = (tmp_path / "a.txt").read_text().split(sampling.SEPARATOR)
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


def records() -> list[dict[str, Any]]:
    """Documents with metadata, some without, as a dataset has them."""
    sources = ["web", "code", "books", None]
    return [
        {"text": text + "!" * (n % 50), "source": sources[n % 4], "meta": {"language": f"l{n % 3}"}}
        | ({} if n % 11 else {"n": n})
        | {"checked": n % 5 == 0}
        for n, text in enumerate(DOCUMENTS)
    ]


def test_samples_by_length_and_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, every = tmp_path / "all.jsonl", records()
    file.write_text("".join(json.dumps(record) + "\n" for record in every))
    chosen = ["--shortest", "50", "--longest", "80", "--where", "source=web"]
    chosen += ["--where", "source=code", "--where", "meta.language=l1"]
    command = ["sample", str(file), "-n", "20", *chosen, "--keep", "n", "-o"]
    with monkeypatch.context() as patch:
        break_off(patch, 500)
        assert run([*command, str(tmp_path / "a.jsonl")]) == 130
    assert run([*command, str(tmp_path / "a.jsonl")]) == 0
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    fit = [
        {"text": r["text"], "source": r["source"], "meta.language": r["meta"]["language"]}
        | ({"n": str(r["n"])} if "n" in r else {})
        for r in every
        if 50 <= len(r["text"]) <= 80
        and r["source"] in ("web", "code")
        and r["meta"]["language"] == "l1"
    ]
    assert len(found) == 20 < len(fit)
    assert [r for r in fit if r in found] == found, "in the order of the file"
    assert run(["sample", str(file), "-n", "9999", "-o", str(tmp_path / "b.jsonl")]) == 0
    whole = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert whole == [{"text": r["text"]} for r in every]
    truth = ["--where", "checked=true", "-o", str(tmp_path / "truth.jsonl")]
    assert run(["sample", str(file), "-n", "9999", *truth]) == 0
    assert len((tmp_path / "truth.jsonl").read_text().splitlines()) == len(every[::5])
    capsys.readouterr()
    others = sorted({r["source"] for r in every if r.get("source")})
    place = ["-o", str(tmp_path / "c.jsonl")]
    for where, values in (
        ("source=nowhere", f"source: {', '.join(others)}"),
        ("nothing=1", "nothing: in no document"),
    ):  # corrected, the command runs at the same place
        assert run(["sample", str(file), "--where", where, *place]) == 2
        said = capsys.readouterr().err
        assert "none of 1,000 documents is of that length and those values" in said
        assert f"(values found: {values})" in said
    assert run(["sample", str(file), "--where", f"source={others[0]}", *place]) == 0
    assert run(["sample", str(file), "--keep", "n", "-o", str(tmp_path / "c.txt")]) == 2
    assert "--keep goes with -o NAME.jsonl" in capsys.readouterr().err
    (tmp_path / "plain.txt").write_text("text")
    target = str(tmp_path / "d.jsonl")
    assert run(["sample", str(tmp_path / "plain.txt"), "--where", "a=b", "-o", target]) == 2
    assert "plain.txt: is text, which has no field 'a'; write it as JSON" in capsys.readouterr().err


def test_metadata_of_documents_are_categories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    every = records()[:40]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(r) + "\n" for r in every))
    options: dict[str, Any] = {"corpus__files": ["all.jsonl"], "corpus__max_tokens": 300}
    options |= {"categories__include": ["document"]}
    assert run(["run", str(write_study(tmp_path, **options))]) == 0, "fields may come later"
    options |= {"corpus__fields": ["source", "meta.language"]}
    file = write_study(tmp_path, **options)
    text = file.read_text()
    group = 'name = "prose"\nof = "source"\nlevels = { prose = ["web", "b*"] }\n'
    file.write_text(f"{text}[[categories.groups]]\n{group}")
    assert run(["run", str(file)]) == 0
    study = open_study(tmp_path / "study.zarr")
    assert set(study.categories("m")) == {"all", "document", "source", "meta_language", "prose"}
    of_token = {
        "source": [every[n]["source"] for n in study.corpus.document],
        "meta_language": [every[n]["meta"]["language"] for n in study.corpus.document],
    }
    of_token["prose"] = [
        None if s is None else "prose" if s in ("web", "books") else "other"
        for s in of_token["source"]
    ]
    kl = study.token_kl("m", 0).astype(np.float64)
    for name, labels in of_token.items():
        summary = study.summary("m", name)
        expected = pd.Series(kl).groupby(pd.Series(labels)).mean()
        got = dict(zip(summary.labels, summary.expected_kl[0], strict=True))
        assert got == pytest.approx(expected.to_dict(), rel=1e-6)
        category = study.category("m", name)
        assert [category.labels[n] if n >= 0 else None for n in category.level] == labels
    for fields, said in (
        (["pos"], "corpus.fields: 'pos' is the name of a built-in category; choose another"),
        (["a.b", "a_b"], "corpus.fields: names a_b twice"),
        (["text"], 'corpus.fields: should not name "text": each document would be a level'),
        (["missing"], "'missing' has 0 values in the documents of the corpus; there should be 1"),
        (["meta"], "all.jsonl: line 1: 'meta' should be text or a number, found"),
    ):
        capsys.readouterr()
        assert run(["run", str(write_study(tmp_path, **options | {"corpus__fields": fields}))]) == 2
        assert said in capsys.readouterr().err


def test_parquet_is_read_through_datasets(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    file = tmp_path / "text.parquet"
    parquet.write_table(pyarrow.table({"body": DOCUMENTS[:9]}), file)
    origin = Origin((str(file),), field="body")
    assert [piece.text for piece in origin.read(Position(0, 4))] == DOCUMENTS[4:9]


def test_a_long_document_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, n in (("LONG", 2000), ("SHARED", 256), ("_CHUNK", 700)):
        monkeypatch.setattr(streams, name, n)
    backend = make_tokenizer(tmp_path / "tokenizer")
    text = "\n".join(DOCUMENTS)
    (tmp_path / "text.txt").write_text(text)
    command = ["count", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path / "tokenizer")]
    target = tmp_path / "new/counts.npy"
    command += ["-o", str(target)]
    for after in (7, 4):
        with monkeypatch.context() as patch:
            break_off(patch, after)
            assert run(command) == 130
    state = json.loads((tmp_path / "new/counts.npy.state").read_text())
    assert state["documents"] == 0
    assert 10_000 < state["place"][1] < 20_000, "the second run did not read the first one's part"
    assert run(command) == 0
    expected = np.bincount(backend.encode(text).ids, minlength=backend.get_vocab_size())
    np.testing.assert_array_equal(np.load(target), expected)


def test_a_corpus_reads_what_was_sampled(lines: Path, tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    texts = ["One.\r\n\n\f\nTwo\n", "\f\nthree\u2028é\r", " \n", "\n\n\f\n\f\n four\n\f"]
    lines.write_text("".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts))
    told = [text for text in texts if text.strip()]
    for name, expected in (
        ("exact.jsonl", told),
        ("plain.txt", ["One.\n\n\nTwo\n", "\nthree\u2028é\n", "\n\n\n\n four\n"]),
    ):
        assert run(["sample", str(lines), "-o", str(tmp_path / "pile" / name)]) == 0
        study = write_study(
            tmp_path,
            study__store=f"{name}.zarr",
            corpus__files=[f"pile/{name}"],
            corpus__separator=sampling.SEPARATOR,
            corpus__counts=[f"pile/{name}"],
        )
        assert run(["run", str(study)]) == 0
        corpus = open_study(tmp_path / f"{name}.zarr").corpus
        assert corpus.document_name == tuple(f"{name}:{n}" for n in range(3))
        ends = [*corpus.document_start[1:], len(corpus.text)]
        spans = zip(corpus.document_start, ends, strict=True)
        assert [corpus.text[start:end] for start, end in spans] == expected
        counts = open_study(tmp_path / f"{name}.zarr").vocabulary.count
        command = ["count", str(tmp_path / "pile" / name), "--tokenizer"]
        target = tmp_path / f"{name}.npy"
        assert run([*command, str(tmp_path / "tokenizer"), "-o", str(target)]) == 0
        np.testing.assert_array_equal(np.load(target), counts)


def test_wrong_input_is_told_in_one_line(
    lines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "bad.jsonl").write_text('{"text": "good"}\n{"text": \n')
    (tmp_path / "other").mkdir()
    for arguments, told in (
        (["sample", "none.jsonl", "-o", "a.txt"], "none.jsonl: there is no such file"),
        (["sample", "other", "-o", "a.txt"], "other: is a folder; name its files"),
        (["sample", "text.jsonl", "--field", "body", "-o", "a.txt"],
         "line 1: has no text in 'body'; it has: text"),
        (["sample", "text.jsonl", "-o", "text.jsonl"], "text.jsonl: exists already"),
        (["sample", "text.jsonl", "-o", "a.csv"], "should end in .txt or .jsonl"),
        (["sample", "bad.jsonl", "-o", "a.txt"], "bad.jsonl: line 2: is not JSON"),
        (["sample", "bad.jsonl", "--seed", "1", "-o", "a.txt"], "was begun with other seed"),
        (["sample", "text.jsonl", "-o", "empty.txt/a.txt"], "empty.txt: cannot be made"),
        (["sample", "empty.txt", "-o", "b.txt"], "empty.txt: holds no text"),
        (["sample", "empty.txt", "--seed", "1", "-o", "b.txt"], "empty.txt: holds no text"),
        (["sample", "text.jsonl", "a.parquet", "-o", "c.txt"], "a.parquet: there is no such file"),
        (["count", "text.jsonl", "--tokenizer", "tokenizer", "-o", "a.txt"], "should end in .npy"),
        (["count", "text.jsonl", "--tokenizer", "other", "-o", "a.npy"], "--tokenizer: 'other'"),
        (["count", "empty.txt", "--tokenizer", "tokenizer", "-o", "a.npy"], "holds no text"),
    ):  # fmt: skip
        assert run(arguments) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
        assert "tokenizer.source" not in line
    assert lines.exists()
