"""`seedconv export`: the numbers against a computation of their own, files as others read them."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from seedconv_tui.cli.export import WHAT
from seedconv_tui.cli.main import run
from seedconv_tui.tables.long_tables import TABLES, markdown
from seedconv_tui.tables.rows import batch, joined
from seedconv_tui.tables.selection import Choice
from seedconv_tui.tables.step_ranges import parse_steps
from store import Study, open_study
from store.analysis import simultaneous_band
from store.schema import Category
from store.statistics import extremes
from store.words import nats
from store.writing import Header, StudyWriter
from tests.support.made_store import (
    Clock,
    fill,
    make_categories,
    make_corpus,
    make_vocabulary,
    open_writer,
    reduce,
    score,
    summarise_step,
)
from tests.support.probe_studies import write_probes
from tests.support.remote_study import PREFIX, URL, use_endpoint
from tests.support.s3_server import S3Server
from tests.support.tiny_models import make_runs, write_study

SEEDS, STEPS = ("1", "2", "3"), (0, 10)
CATEGORIES = ["frequency", "surprisal", "word_position", "document"]
EXACT = {"rtol": 1e-12, "atol": 1e-12}
OF_SCIPY = ("probes", "entries")  # their intervals are computed on reading


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of a real model, probed, with a seed that is named and has no weights."""
    folder = tmp_path_factory.mktemp("export")
    make_runs(folder, seeds=SEEDS, steps=STEPS)
    file = write_study(
        folder,
        categories__include=CATEGORIES,
        models__seeds=[*SEEDS, "4"],
        models__steps=list(STEPS),
        log_probs__representation="dense",
    )
    groups = 'groups = { odd = ["1", "3"], even = ["2", "4"] }'
    file.write_text(file.read_text().replace("[[models]]", f"[[models]]\n{groups}"))
    write_probes(folder, file)
    assert run(["run", str(file)]) in (0, 1)
    return folder / "study.zarr"


@pytest.fixture(scope="module")
def study(store: Path) -> Study:
    return open_study(store)


def table(what: str, where: Study | Path, **choice: Any) -> pd.DataFrame:
    """A table as reports take it."""
    opened = where if isinstance(where, Study) else open_study(where)
    batches = TABLES[what].batches(opened, Choice(**choice))
    return pd.concat([pd.DataFrame(batch) for batch in batches], ignore_index=True)


def plain(values: pd.Series) -> list[Any]:
    return [None if pd.isna(value) else value for value in values]


def exported(store: Path, what: str, tmp_path: Path, suffix: str, *options: str) -> Path:
    file = tmp_path / f"{what}{suffix}"
    assert run(["export", str(store), "--what", what, "-o", str(file), *options]) == 0
    return file


def told(capsys: pytest.CaptureFixture[str]) -> str:
    found = [line for line in capsys.readouterr().err.splitlines() if line.startswith("seedconv:")]
    (line,) = found
    return line


# -- the numbers, against pandas on `Study.values` -----------------------------------------------


def by_token(study: Study, category: str) -> pd.DataFrame:
    """Per-token results of all pairs and seeds, with the level's label, long form."""
    found = study.category("m", category)
    label = pd.Series(found.level).map(dict(enumerate(found.labels)))
    frames = []
    for step, seed in itertools.product(STEPS, SEEDS):
        own = {
            name: study.values("m", name, seed, step).astype(np.float64)
            for name in ("surprisal", "entropy", "kl_unigram")
        }
        for other in SEEDS:
            kl = np.nan if other == seed else study.values("m", "kl", seed, step, other)
            frames.append(
                pd.DataFrame(
                    {"step": step, "seed": seed, "other_seed": other, "label": label, **own}
                ).assign(kl=kl, token=np.arange(study.n_tokens))
            )
    whole = pd.concat(frames).dropna(subset="label")
    return whole.assign(kl=whole.kl.astype(np.float64))


@pytest.mark.parametrize("category", ["all", *CATEGORIES, "surprisal_context"])
def test_levels(study: Study, category: str) -> None:
    got = table("levels", study, categories=[category]).set_index(["step", "label"])
    tokens = by_token(study, category)
    labels = study.category("m", category).labels
    assert got.index.tolist() == list(itertools.product(STEPS, labels))
    assert (got.model == "m").all()
    assert (got.n_seeds == 3).all()

    pairs = tokens.dropna(subset="kl")
    by_pair = pairs.groupby(["step", "label", "seed", "other_seed"]).kl.mean()
    of_level = by_pair.groupby(["step", "label"])
    by_seed = tokens.groupby(["step", "label", "seed"])[["surprisal", "entropy", "kl_unigram"]]
    seeds = by_seed.mean().groupby(["step", "label"]).mean()
    token_kl = pairs.groupby(["step", "label", "token"]).kl.mean().groupby(["step", "label"])
    expected = {
        "n": pairs.groupby(["step", "label"]).token.nunique(),
        "expected_kl": of_level.mean(),
        "pair_std": of_level.std(ddof=0),
        "cross_entropy": seeds.surprisal,
        "entropy": seeds.entropy,
        "kl_uniform": np.log(study.vocab_size) - seeds.entropy,
        "kl_unigram": seeds.kl_unigram,
    }
    for name, values in expected.items():
        pd.testing.assert_series_equal(
            got[name].dropna().loc[lambda s, n=name: s > 0 if n == "n" else s > -1].astype(float),
            values.astype(float).reindex(got.index).dropna(),
            check_names=False,
            **EXACT,
        )
    for name, q in [("kl_p50", 50), ("kl_p90", 90), ("kl_p99_9", 99.9), ("kl_max", 100)]:
        wanted = token_kl.quantile(q / 100).reindex(got.index)
        np.testing.assert_allclose(got[name], wanted, rtol=1e-6)  # token_kl is kept in float32
    summary = study.summary("m", category)
    np.testing.assert_array_equal(got.kl_low, summary.kl_low.ravel())
    np.testing.assert_array_equal(got.kl_high, summary.kl_high.ravel())
    floor = study.snapshot().models[0].floor
    np.testing.assert_array_equal(got.floor, np.repeat(floor, len(labels)))


@pytest.mark.parametrize("category", ["all", "frequency", "document"])
def test_seeds_and_pairs(study: Study, category: str) -> None:
    tokens = by_token(study, category)
    key = ["step", "seed", "label"]
    got = table("seeds", study, categories=[category]).set_index(key)
    by_seed = tokens.groupby(key)
    kl = tokens.dropna(subset="kl").groupby(["step", "seed", "other_seed", "label"]).kl.mean()
    towards = kl.groupby(["step", "other_seed", "label"]).mean().rename_axis(key)
    for name, values in {
        "cross_entropy": by_seed.surprisal.mean(),
        "entropy": by_seed.entropy.mean(),
        "kl_uniform": np.log(study.vocab_size) - by_seed.entropy.mean(),
        "kl_unigram": by_seed.kl_unigram.mean(),
        "kl_to": kl.groupby(key).mean(),
        "kl_from": towards,
    }.items():
        np.testing.assert_allclose(got[name], values.reindex(got.index), **EXACT, err_msg=name)
    n = len(study.category("m", category).labels)
    assert len(got) == len(STEPS) * len(SEEDS) * n
    assert set(plain(got.outlier)) == ({False} if category == "all" else {None})

    pairs = table("pairs", study, categories=[category])
    assert len(pairs) == len(STEPS) * 6 * n
    wanted = kl.reindex(pd.MultiIndex.from_frame(pairs[["step", "seed", "other_seed", "label"]]))
    np.testing.assert_allclose(pairs.kl, wanted, **EXACT)


def test_pairs_tell_more_of_all_tokens(study: Study) -> None:
    pairs = table("pairs", study)
    assert set(pairs.category) == {"all"}
    for row in pairs.itertuples():
        i, j = ((row.seed, row.step, row.other_seed), (row.other_seed, row.step, row.seed))
        assert row.js == pytest.approx(study.values("m", "js", *i).astype(float).mean())
        tops = [study.values("m", "top_id", *of[:2])[:, 0] for of in (i, j)]
        assert row.top1_agreement == pytest.approx((tops[0] == tops[1]).mean())
        p, q = (np.exp(-study.values("m", "surprisal", *of[:2]).astype(float)) for of in (i, j))
        assert row.target_rms == pytest.approx(np.sqrt(((p - q) ** 2).mean()))
    few = table("pairs", study, categories=["all", "document"], steps=parse_steps("10"))
    assert few[few.category == "document"].js.isna().all()


def test_tokens(study: Study) -> None:
    got = table("tokens", study)
    assert set(got.step) == {10}  # the newest
    corpus = study.corpus
    assert got.token.tolist() == list(range(150))
    assert got.token_id.tolist() == corpus.token_id.tolist()
    for start, text in zip(corpus.char_start, got.text, strict=True):
        assert corpus.text[start:].startswith(text)
    assert sum(got.text.str.len()) == (corpus.char_end - corpus.char_start).sum()
    assert got.text.str.startswith(" ").any()
    tokens = by_token(study, "all")
    tokens = tokens[tokens.step == 10]
    np.testing.assert_allclose(got.kl, tokens.groupby("token").kl.mean(), rtol=1e-6)
    np.testing.assert_allclose(got.surprisal, tokens.groupby("token").surprisal.mean(), **EXACT)
    names = [f"category_{name}" for name in study.categories("m") if name != "all"]
    assert list(got.columns[-len(names) :]) == names
    for name in names:
        found = study.category("m", name.removeprefix("category_"))
        wanted = [None if at < 0 else found.labels[at] for at in found.level]
        assert plain(got[name]) == wanted
    assert (got.category_document == got.document).all()
    both = table("tokens", study, steps=parse_steps(":"), categories=["document"])
    assert both.groupby("step").size().to_dict() == {0: 150, 10: 150}
    assert [c for c in both if c.startswith("category_")] == ["category_document"]


def test_extremes_with_their_context(study: Study) -> None:
    got = table("extremes", study, count=4, steps=parse_steps("0"))
    whole = study.corpus.text
    for kind, tokens in extremes(study.token_kl("m", 0), 4)._asdict().items():
        rows = got[got.kind == kind]
        assert rows.token.tolist() == tokens.tolist()
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        for row in rows.itertuples():
            start = int(study.corpus.char_start[row.token])
            assert whole[start - len(row.before) :].startswith(row.before + row.text + row.after)
            assert "\n" not in row.before + row.text + row.after  # documents are lines here
            assert len(row.before) <= 60
    assert got[got.kind == "highest"].kl.is_monotonic_decreasing
    assert len(table("extremes", study)) == 30


def test_entries_are_means_over_occurrences(study: Study) -> None:
    """Against a table of single tokens, and intervals by the formula, document by document."""
    got = table("entries", study)
    single = table("tokens", study)
    assert got.n.sum() == len(single)
    assert got.kl.is_monotonic_increasing
    for row in got.itertuples():
        of = single[single.token_id == row.token_id]
        assert row.text == study.vocabulary.text[row.token_id]
        assert (row.n, row.n_documents) == (len(of), of.document.nunique())
        np.testing.assert_allclose([row.kl, row.cross_entropy], of[["kl", "surprisal"]].mean())
        variance = squares = 0.0
        for _, document in of.groupby("document"):
            share = len(document) / len(of)
            squares += share**2
            miss = document.kl.sum() / len(of) - share * of.kl.mean()
            variance += miss**2 / (1 - share) if share < 1 else 0.0
        if row.n_documents == 1:
            assert np.isnan([row.kl_low, row.kl_high]).all()
        else:
            half = stats.t.ppf(0.975, max(1 / squares - 1, 1)) * variance**0.5
            ends = [max(row.kl - half, 0), row.kl + half]
            np.testing.assert_allclose([row.kl_low, row.kl_high], ends, rtol=1e-6, atol=1e-12)
    assert (got.n_documents > 1).any()
    both = table("entries", study, steps=parse_steps("0,10"))
    assert set(both.step) == {0, 10}


def test_checkpoints_and_phases(study: Study) -> None:
    got = table("checkpoints", study).set_index(["seed", "step"])
    assert sorted(got.index) == sorted(itertools.product([*SEEDS, "4"], STEPS))
    assert set(got.loc["4"].state) == {"missing"}
    assert got.loc["4"].cross_entropy.isna().all()
    assert got.loc["4"].error.str.len().min() > 5
    for seed, step in itertools.product(SEEDS, STEPS):
        row = got.loc[(seed, step)]
        assert row.state == "done"
        assert pd.isna(row.error)
        surprisal = study.values("m", "surprisal", seed, step).astype(float)
        assert row.cross_entropy == pytest.approx(surprisal.mean(), rel=1e-12)
        record = study.ledger("m").scored[seed, step]
        assert row.storage_floor == record["storage_floor"] > 0
    (phase,) = table("phases", study).to_dict("records")
    assert phase == {
        "model": "m", "phase": "undecided", "start": 0, "low": None, "high": None, "support": None
    }  # fmt: skip


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [what for what in WHAT if what != "cka"])  # of hidden states
def test_every_format_reads_back_the_same(
    study: Study, store: Path, tmp_path: Path, what: str
) -> None:
    columns = TABLES[what].columns(study, Choice())
    wanted = table(what, study)[[column.name for column in columns]]
    text = {column.name: str for column in columns if column.dtype == "str"}
    of_csv = pd.read_csv(exported(store, what, tmp_path, ".csv"), dtype=text)
    lines = exported(store, what, tmp_path, ".jsonl").read_text().split("\n")[:-1]
    of_json = pd.DataFrame([json.loads(line) for line in lines])
    of_parquet = pq.read_table(exported(store, what, tmp_path, ".parquet")).to_pandas()
    for got in (of_csv, of_json, of_parquet):
        assert list(got.columns) == list(wanted.columns)
        for column in columns:
            ours, theirs = wanted[column.name], got[column.name]
            if column.dtype in ("int", "float"):
                kind = "Int64" if column.dtype == "int" else float
                pd.testing.assert_series_equal(
                    theirs.astype(kind), ours.astype(kind), check_exact=True
                )
            else:
                if got is of_csv:  # pandas takes empty text for missing
                    ours, theirs = ours.fillna(""), theirs.fillna("")
                assert plain(theirs) == plain(ours)


def test_short_batches_are_joined() -> None:
    lengths = [5000, 3, 4000, 0, 200, 7, 5000]
    ends = np.cumsum(lengths)
    batches = [
        batch(n, at=np.arange(end - n, end), what=None, name=[str(end)] * n)
        for n, end in zip(lengths, ends, strict=True)
    ]
    found = list(joined(batches))
    assert [len(rows["at"]) for rows in found] == [5000, 4203, 5007]
    for name in ("at", "what", "name"):
        values, expected = ([v for rows in of for v in rows[name]] for of in (found, batches))
        assert values == expected


def test_parquet_tells_units_and_descriptions(store: Path, tmp_path: Path) -> None:
    schema = pq.read_schema(exported(store, "tokens", tmp_path, ".pq"))
    for column in TABLES["tokens"].fixed:
        metadata = schema.field(column.name).metadata
        assert metadata[b"units"].decode() == column.units
        assert metadata[b"description"].decode() == column.description
    assert schema.field("category_document").metadata[b"description"]
    assert schema.metadata[b"table"] == b"tokens"


def test_stdout_is_csv_or_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(store), "--category", "all"]) == 0
    out, err = capsys.readouterr()
    assert [row["step"] for row in csv.DictReader(io.StringIO(out))] == ["0", "10"]
    assert err == ""
    assert run(["export", str(store), "--format", "json", "--steps", "10:", "--what", "pairs"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 6


def test_the_columns_are_those_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(TABLES) == WHAT
    with pytest.raises(SystemExit, match="0"):
        run(["export", "--columns"])
    assert capsys.readouterr().out == markdown()
    docs = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    assert docs.endswith("\n" + markdown())


def test_a_file_is_replaced_whole_or_not_at_all(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "study.zarr"
    shutil.copytree(store, copy)
    file = exported(copy, "levels", tmp_path, ".csv")
    assert "rows to" in capsys.readouterr().err
    before = file.read_bytes()
    chunk = copy / "models/m/summary/expected_kl/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    assert run(["export", str(copy), "-o", str(file)]) == 1
    assert "expected_kl" in told(capsys)
    assert file.read_bytes() == before
    link = tmp_path / "link.csv"
    link.symlink_to(file)
    assert run(["export", str(store), "--what", "phases", "-o", str(link)]) == 0
    assert link.is_symlink()
    assert file.read_text().startswith("model,phase")
    assert run(["export", str(store), "--format", "csv", "-o", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()
    assert run(["export", str(store), "--format", "csv", "-o", "/dev/full"]) == 1
    assert told(capsys).startswith("seedconv: /dev/full: no space left on the device")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "levels.csv", "link.csv", "study.zarr"
    ]  # fmt: skip


# -- text that nobody vouches for ------------------------------------------------------------------

HOSTILE = [
    "a,b", 'say "x"', "line\nbreak", "return\r", "\r\n", " space ", "\t", "\0", "\x1b[2J",
    "\x9b31m", "\u202e", "\u2028", "\x85", "=1+1", "+1", "-1", "@x", "NA", "null", "nan", "1",
    "True", "é😀", "'",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which tokens, labels, documents, models and seeds are all of that kind."""
    path = tmp_path_factory.mktemp("hostile") / "study.zarr"
    n = len(HOSTILE) + 2
    ends = np.cumsum([*map(len, HOSTILE), 0, 1])
    corpus = replace(
        make_corpus(n),
        text="".join(HOSTILE) + "z",
        char_start=np.concatenate([[0], ends[:-1]]),
        char_end=ends,  # the last but one has no characters
        document_name=("=one,\x1b[2J", "two\r"),
    )
    header = Header("hostile", {"scoring.window": 32}, {"versions": {}})
    writer = StudyWriter.open(path, header, corpus, make_vocabulary(), clock=Clock())
    labels = (*HOSTILE, "none has it")
    level = np.arange(n, dtype=np.int32)
    level[-2:] = -1
    writer.summaries.set_category(Category("odd, name", labels, level, "made in the test"))
    fill(writer, "m\x1b,\n", ("1", "=2"), (0,))
    known = writer.study().category("m\x1b,\n", "odd, name")
    study = writer.study()
    from store.analysis import summarise

    made = summarise(study, "m\x1b,\n", 0, ["1", "=2"], [*make_categories(n), known])
    writer.summaries.summarise("m\x1b,\n", 0, ["1", "=2"], *made)
    writer.close("finished")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_text_is_kept_as_it_is(hostile: Path, tmp_path: Path, suffix: str) -> None:
    def read(what: str, *options: str) -> list[dict[str, Any]]:
        file = exported(hostile, what, tmp_path, suffix, *options)
        if suffix == ".csv":
            with file.open(encoding="utf-8", newline="") as lines:
                return list(csv.DictReader(lines))
        if suffix == ".jsonl":
            text = file.read_text(encoding="utf-8")
            return [json.loads(line) for line in text.removesuffix("\n").split("\n")]
        return list(pq.read_table(file).to_pylist())

    missing = "" if suffix == ".csv" else None
    tokens = read("tokens")
    assert [row["text"] for row in tokens] == [*HOSTILE, "", "z"]
    assert [row["category_odd, name"] for row in tokens] == [*HOSTILE, missing, missing]
    assert {row["document"] for row in tokens} == {"=one,\x1b[2J", "two\r"}
    assert {row["model"] for row in tokens} == {"m\x1b,\n"}
    assert {row["seed"] for row in read("seeds")} == {"1", "=2"}
    levels = read("levels", "--category", "odd, name")
    assert [row["label"] for row in levels] == [*HOSTILE, "none has it"]
    assert [str(row["n"]) for row in levels] == ["1"] * len(HOSTILE) + ["0"]
    assert levels[-1]["expected_kl"] == missing
    assert levels[0]["kl_low"] == missing  # two seeds


def test_pandas_reads_the_csv(hostile: Path, tmp_path: Path) -> None:
    file = exported(hostile, "tokens", tmp_path, ".csv")
    got = pd.read_csv(file, keep_default_na=False, dtype={"text": str})
    assert got.text.tolist() == [*HOSTILE, "", "z"]
    assert got.kl.dtype == np.float64


def test_an_empty_text_is_not_a_missing_one(hostile: Path, tmp_path: Path) -> None:
    file = exported(hostile, "tokens", tmp_path, ".csv", "--category", "odd, name")
    *_, empty, last = file.read_bytes().split(b'"m\x1b,\n",')
    assert b',"","two\r",' in empty  # no characters
    assert last.endswith(b",\n")  # no label


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_terminal_is_shown_control_characters(hostile: Path, kind: str, encoding: str) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "seedconv_tui.cli.main",
        "export",
        str(hostile),
        "--what",
        "tokens",
    ]
    done = subprocess.run(
        [*command, "--format", kind], stdout=theirs, stderr=subprocess.PIPE, check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    os.close(theirs)
    out = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        out += part
    os.close(ours)
    assert done.returncode == 0, done.stderr
    text = out.replace(b"\r\n", b"\n").decode(encoding)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert text.count("\n") == len(HOSTILE) + 2 + (kind == "csv")
    assert ("␛[2J" in text) == (encoding == "utf-8")


def test_levels_are_plotted(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = open_study(store)
    options = ["--category", "frequency", "--level", "1-9", "--level", "10-99"]
    assert run(["plot", str(store), *options, "--width", "80", "--height", "10"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("expected KL (nats)") == 1
    summary = study.summary("m", "frequency")
    for label in ("1-9", "10-99"):
        at = summary.labels.index(label)
        (row,) = (line for line in shown.splitlines() if line[3:].startswith(f"{label} "))
        assert f"{summary.expected_kl[-1, at]:.4f} @ 10" in row
        assert f"{summary.counts[at]:,}" in row
        assert f"{nats(summary.kl_low[-1, at])} to {nats(summary.kl_high[-1, at])}" in row
    assert run(["plot", str(store), "--category", "frequency", "--level", "NOUN"]) == 2
    assert "no level 'NOUN'; there are: 0, 1-9, 10-99" in told(capsys)


def test_a_band_over_all_steps(
    store: Path, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    choice: dict[str, Any] = {"categories": ["frequency"], "steps": parse_steps("0:10")}
    found, plain_table = (
        table("levels", study, band="simultaneous", **choice),
        table("levels", study),
    )
    assert [*found.columns] == [*plain_table.columns, "kl_band_low", "kl_band_high"]
    steps, band = simultaneous_band(study, "m", "frequency")
    assert steps.tolist() == [*STEPS]
    np.testing.assert_array_equal(found.kl_band_high, band.high.ravel())
    np.testing.assert_array_equal(found.kl_band_low, band.low.ravel())
    there = found.n > 0
    assert (found.kl_band_high > found.kl_high)[there].all()
    one = table("levels", study, band="simultaneous", categories=["all"], steps=parse_steps("10"))
    np.testing.assert_allclose(one.kl_band_high, one.kl_high)  # of one step it is the interval
    columns = TABLES["levels"].columns(study, Choice(band="simultaneous"))
    assert [column.name for column in columns][-2:] == ["kl_band_low", "kl_band_high"]
    drawn = ["plot", str(store), "--width", "80", "--height", "10"]
    assert run([*drawn, "--category", "frequency", "--level", "1-9", "--band", "simultaneous"]) == 0
    shown, at = capsys.readouterr().out, found.label == "1-9"
    low, high = found[at].kl_band_low.iloc[-1], found[at].kl_band_high.iloc[-1]
    assert f"{nats(low)} to {nats(high)}" in shown
    assert shown.count("band: simultaneous 95 % band") == 1
    for name, words in (("simultaneous", "simultaneous 95 % band"), ("interval", "95 % interval")):
        assert run([*drawn, "--band", name]) == 0
        assert f"\nband: {words}\n" in capsys.readouterr().out


def test_levels_of_choice(study: Study) -> None:
    """Rows of these levels and no others; without a category, of whichever has them."""
    whole = table("levels", study)
    chosen = table("levels", study, levels=["0-1", "begin"])
    wanted = whole[whole.label.isin(["0-1", "begin"])]
    assert set(wanted.category) == {
        "surprisal", "surprisal_context", "word_position", "word_position_context"
    }  # fmt: skip
    pd.testing.assert_frame_equal(chosen, wanted.reset_index(drop=True), check_dtype=False)
    for what in ("seeds", "pairs"):
        options = {"categories": ["surprisal"]}
        whole = table(what, study, **options)
        chosen = table(what, study, levels=["0-1"], **options)
        wanted = whole[whole.label == "0-1"].reset_index(drop=True)
        pd.testing.assert_frame_equal(chosen, wanted, check_dtype=False)
    tokens = table("tokens", study, categories=["word_position"])
    chosen = table("tokens", study, categories=["word_position"], levels=["begin", "end"])
    wanted = tokens[tokens.category_word_position.isin(["begin", "end"])]
    assert 0 < len(wanted) < len(tokens)
    pd.testing.assert_frame_equal(chosen, wanted.reset_index(drop=True), check_dtype=False)


# -- wrong choices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "x\x1b"], "no model 'x\\x1b'; it has: m"),
        (["--category", "x"], "no category 'x'; it has: all, frequency"),
        (["--what", "tokens", "--category", "x"], "no category 'x'; it has: all, frequency"),
        (["--steps", "0,7"], "step 7 is not summarised; those that are: 0, 10"),
        (["--steps", "11:"], "none of these steps is summarised; those that are: 0, 10"),
        (["--what", "checkpoints", "--steps", "7"], "step 7 is not of this study"),
        (["--what", "phases", "--steps", "0"], "--steps does not apply to --what phases, only to:"),
        (["--what", "extremes", "--category", "all"], "--category does not apply to --what ext"),
        (["--level", "x"], "no level 'x'; there are: all, 0, 1-9"),
        (["--category", "document", "--level", "begin"], "no level 'begin'; there are: "),
        (["--what", "extremes", "--level", "begin"], "--level does not apply to --what extremes"),
        (["--count", "3"], "--count does not apply to --what levels, only to: extremes"),
        (
            ["--what", "pairs", "--band", "simultaneous"],
            "--band does not apply to --what pairs, only to: levels",
        ),
        (["--format", "parquet"], "Parquet is written to files only; name one with -o FILE"),
        (["-o", "x.xlsx"], "x.xlsx: its suffix names no format; give one of .csv, .parquet"),
        (["-o", "none/x.csv"], "none/x.csv: there is no folder none"),
        (["--format", "csv", "-o", "."], ".: is a folder; name a file in it"),
    ],
)
def test_a_wrong_choice_is_told_in_one_line(
    store: Path, tmp_path: Path, options: list[str], said: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["export", str(store), *options]) == 2
    assert said in told(capsys)
    assert not list(tmp_path.iterdir())


def test_what_argparse_refuses(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--what", "x"], ["--format", "x"], ["--steps", "x"], ["--count", "0"], []):
        with pytest.raises(SystemExit, match="2"):
            run(["export", *([str(store)] if options else []), *options])
    assert run(["export", "none.zarr"]) == 2


def test_parquet_without_pyarrow(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert run(["export", str(store), "-o", str(tmp_path / "x.parquet")]) == 2
    assert "pip install 'seedconv-tui[analysis]'" in told(capsys)
    assert not list(tmp_path.iterdir())


def test_csv_and_json_need_neither_pandas_nor_the_engine(store: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('pandas', 'pyarrow', 'scipy', 'xarray', 'torch', 'engine'):\n"
        "    sys.modules[name] = None\n"
        "from seedconv_tui.cli.main import run\n"
        "for what in sys.argv[2:]:\n"
        "    for kind in ('csv', 'json'):\n"
        "        assert run(['export', sys.argv[1], '--what', what, '--format', kind]) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store), *(what for what in WHAT if what not in OF_SCIPY)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", OF_SCIPY)
def test_intervals_without_scipy(
    store: Path, what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    assert run(["export", str(store), "--what", what]) == 2
    said = told(capsys)
    assert re.search("needs? scipy", said)
    assert "pip install 'seedconv-tui[analysis]'" in said


# -- studies that are empty, that grow, that are elsewhere ----------------------------------------


def test_a_study_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.zarr"
    writer = open_writer(path)
    for what in WHAT:
        assert run(["export", str(path), "--what", what]) == 0
        out, err = capsys.readouterr()
        columns = TABLES[what].columns(open_study(path), Choice())
        assert out == ",".join(column.name for column in columns) + "\n"
        assert err.count("\n") == 1
        assert " yet" in err
    writer.plan("m", [("1", 0), ("2", 0)], {})
    score(writer, "m", "1", 0)
    assert run(["export", str(path), "--format", "json"]) == 0
    assert capsys.readouterr() == (
        "", f"seedconv: {path}: nothing is summarised yet; a step needs two seeds that are scored\n"
    )  # fmt: skip
    assert table("checkpoints", path).state.tolist() == ["scored", "queued"]
    file = exported(path, "tokens", tmp_path, ".parquet")
    assert pq.read_table(file).num_rows == 0
    with pytest.raises(SystemExit):
        run(["export", str(path), "--steps"])
    assert run(["export", str(path), "--steps", "0"]) == 2


def test_an_engine_that_moves_on_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", ("1", "2"), (0, 8))
    behind = {what: open_study(path) for what in ("levels", "seeds", "pairs", "tokens", "extremes")}
    writer.plan("m", [("3", 8)], {})
    score(writer, "m", "3", 8)
    reduce(writer, "m", 8, ("1", "2", "3"))
    summarise_step(writer, "m", 8)
    moved = replace(make_categories()[1], labels=("b", "c", "d"))
    writer.summaries.set_category(moved)
    for step, seeds in ((0, ("1", "2")), (8, ("1", "2", "3"))):
        from store.analysis import summarise

        now = writer.study()
        made = summarise(now, "m", step, seeds, [make_categories()[0], moved])
        writer.summaries.summarise("m", step, seeds, *made)
    for what, study in behind.items():
        pd.testing.assert_frame_equal(table(what, study), table(what, path))
    assert set(table("levels", path).label) == {"all", "b", "c", "d"}


def test_models_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "study.zarr"
    writer = open_writer(path)
    fill(writer, "a", ("1", "2"), (0, 8))
    fill(writer, "b", ("x", "y"), (16,))
    own = replace(make_categories()[1], name="own")
    writer.summaries.set_category(own, "b", 16)
    assert table("tokens", path).groupby("model").step.unique().map(list).to_dict() == {
        "a": [8], "b": [16]
    }  # fmt: skip
    tokens = table("tokens", path)
    assert tokens[tokens.model == "a"].category_own.isna().all()
    assert set(plain(tokens[tokens.model == "b"].category_own)) == {"a", "\x1b[2J", None}
    assert set(table("levels", path, models=["b"]).model) == {"b"}
    assert set(table("levels", path, steps=parse_steps("8,16")).step) == {8, 16}
    assert list(table("pairs", path).seed.unique()) == ["1", "2", "x", "y"]


def test_a_remote_study(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = S3Server()
    use_endpoint(monkeypatch, server.endpoint)
    server.upload(store, PREFIX)
    try:
        for what in WHAT:
            found = []
            for address in (URL, str(store)):
                assert run(["export", address, "--what", what]) == 0
                found.append(capsys.readouterr().out)
            assert found[0] == found[1]
            assert found[0].count("\n") > 1 or what == "cka"  # of hidden states, which it lacks
    finally:
        server.close()
