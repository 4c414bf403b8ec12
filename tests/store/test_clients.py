"""Programs that know Zarr and not this project: xarray and tensorstore read what we wrote."""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import tensorstore
import xarray
from numpy.typing import NDArray

from store import open_study
from store.schema import (
    SUMMARY,
    USUAL,
    VARIABLES,
    EngineStatus,
    Gpu,
    JournalEntry,
    Work,
    arrays_of,
    log_probs_path,
    model_path,
    summaries_of,
    variables_of,
)
from tests.support.made_store import (
    N_TOKENS,
    PER_TOKEN,
    Clock,
    checkpoint,
    committed,
    fill,
    floors,
    kl,
    make_corpus,
    open_writer,
    reduce,
    score,
)

RESULTS = variables_of(USUAL)
SUMMARIES = summaries_of(USUAL)
MODEL, SEEDS, STEPS = "my model/é", ("1", "x y/z", "late"), (64, 0, 8)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps in order of arrival; the late seed has only the second, step 8 is not reduced."""
    path = tmp_path_factory.mktemp("clients") / "study.zarr"
    writer = open_writer(path)
    fill(writer, MODEL, SEEDS[:2], STEPS[:2])
    writer.plan(MODEL, [(seed, step) for seed in SEEDS for step in STEPS], {})
    score(writer, MODEL, "late", 0)
    reduce(writer, MODEL, 0, SEEDS)
    for seed in SEEDS[:2]:
        score(writer, MODEL, seed, 8, keep=False)
    writer.close("finished")
    return path


def is_scored(seed: str, step: int) -> bool:
    return seed != "late" or step == 0


def is_reduced(i: str, j: str, step: int) -> bool:
    return i != j and step != 8 and is_scored(i, step) and is_scored(j, step)


CHECKPOINTS = list(itertools.product(enumerate(SEEDS), enumerate(STEPS)))


# -- xarray --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(study: Path) -> xarray.Dataset:
    return xarray.open_zarr(study, group=model_path(MODEL), consolidated=False)


def test_xarray_sees_names_and_units(plain: xarray.Dataset) -> None:
    assert plain.attrs == {"model": MODEL}
    assert set(plain.data_vars) == set(RESULTS)
    assert dict(plain.sizes) == {"step": 3, "seed": 3, "other_seed": 3, "token": 300, "rank": 10}
    for name, variable in RESULTS.items():
        assert plain[name].dims == variable.dims
        assert plain[name].dtype == variable.dtype
        assert plain[name].attrs["units"] == variable.units
        assert plain[name].attrs["description"] == variable.description
    assert plain.step.values.tolist() == list(STEPS)
    for name in ("seed", "other_seed"):
        assert plain[name].values.tolist() == [0, 1, 2]
        assert plain[name].attrs["labels"] == list(SEEDS)


def test_xarray_sees_the_numbers_and_nothing_where_there_are_none(plain: xarray.Dataset) -> None:
    for (column, seed), (row, step) in CHECKPOINTS:
        cell, written = plain.isel(step=row, seed=column), checkpoint(MODEL, seed, step)
        for name in PER_TOKEN:
            empty = np.full_like(written[name], -1 if name == "top_id" else np.nan)
            expected = written[name] if is_scored(seed, step) else empty
            np.testing.assert_array_equal(cell[name], expected, strict=False)
        for name, floor in floors(step).items():
            expected = floor if is_scored(seed, step) else np.nan
            np.testing.assert_equal(float(cell[name]), expected)
        mean = written["surprisal"].mean(dtype=float) if is_scored(seed, step) else np.nan
        np.testing.assert_allclose(float(cell.cross_entropy), mean, rtol=1e-12)
        for other, label in enumerate(SEEDS):
            pair = cell.isel(other_seed=other)
            values = np.full(N_TOKENS, np.nan, np.float32)
            if is_reduced(seed, label, step):
                values = kl(MODEL, seed, label, step)
            np.testing.assert_array_equal(pair.kl, values)
            np.testing.assert_allclose(pair.mean_kl, values.mean(dtype=float), rtol=1e-12)
    assert np.isnan(plain.expected_kl.values).tolist() == [False, False, True]


def test_xarray_and_we_agree(study: Path, plain: xarray.Dataset) -> None:
    ours = open_study(study).dataset(MODEL).load()
    named = plain.assign_coords(seed=list(SEEDS), other_seed=list(SEEDS)).sortby("step")
    summaries = xarray.open_zarr(
        study, group=f"{model_path(MODEL)}/{SUMMARY}", consolidated=False
    ).isel(step=np.argsort(plain.step.values))
    assert set(summaries.data_vars) == set(SUMMARIES)
    for name in SUMMARIES:
        ours_name = name if name == "token_kl" else f"level_{name}"
        np.testing.assert_array_equal(summaries[name], ours[ours_name], err_msg=str(name))
    assert set(ours.data_vars) == set(RESULTS) | {
        "token_kl",
        *(f"level_{n}" for n in SUMMARIES),
    } - {"level_token_kl"}
    for name, variable in RESULTS.items():
        theirs = named[name].values
        if variable.symmetric:  # kept once: the lower index of a seed first
            theirs = np.where(np.isnan(theirs), theirs.swapaxes(1, 2), theirs)
        np.testing.assert_array_equal(theirs, ours[name], err_msg=str(name))
    assert ours.category.values.tolist() == ["all", *["third"] * 3]
    assert ours.label.values.tolist() == ["all", "a", "\x1b[2J", "empty"]
    assert ours.n.values.tolist() == [300, 100, 100, 0]


# -- tensorstore ---------------------------------------------------------------------------------


def read(study: Path, path: str, *, missing: bool = False) -> NDArray[Any]:
    """The array as tensorstore reads it, an error where a chunk is missing unless allowed."""
    store = tensorstore.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(study / path)},
            "fill_missing_data_reads": missing,
        },
        read=True,
    ).result()
    return np.asarray(store.read().result())


def bits(values: NDArray[Any]) -> tuple[np.dtype[Any], tuple[int, ...], bytes]:
    return values.dtype, values.shape, np.ascontiguousarray(values).tobytes()


def test_tensorstore_reads_results_bit_for_bit(study: Path) -> None:
    group = model_path(MODEL)
    surprisal = read(study, f"{group}/surprisal", missing=True)
    divergence = read(study, f"{group}/kl", missing=True)
    assert divergence.shape == (3, 3, 3, N_TOKENS)
    for (column, seed), (row, step) in CHECKPOINTS:
        written = checkpoint(MODEL, seed, step)["surprisal"]
        if is_scored(seed, step):
            assert bits(surprisal[row, column]) == bits(written)
        else:
            assert np.isnan(surprisal[row, column]).all()
        for other, label in enumerate(SEEDS):
            found = divergence[row, column, other]
            if is_reduced(seed, label, step):
                assert bits(found) == bits(kl(MODEL, seed, label, step))
            else:
                assert np.isnan(found).all()


def test_tensorstore_reads_log_probs_bit_for_bit(study: Path) -> None:
    found = read(study, log_probs_path(MODEL, "x y/z", 0))
    assert bits(found) == bits(checkpoint(MODEL, "x y/z", 0)["log_probs"])


def test_tensorstore_reads_the_corpus_bit_for_bit(study: Path) -> None:
    written, text = make_corpus(), read(study, "corpus/text")
    assert text.dtype == np.uint32
    assert "".join(map(chr, text)) == written.text
    for name in ("token_id", "context_id", "document", "char_start", "char_end", "document_start"):
        assert bits(read(study, f"corpus/{name}")) == bits(getattr(written, name)), name


def test_a_client_may_follow_the_store_by_tensorstore_alone(study: Path) -> None:
    """Every array of the model and the corpus has metadata that it accepts."""
    arrays = [
        file.parent.relative_to(study)
        for file in study.rglob("zarr.json")
        if '"node_type": "array"' in file.read_text()
    ]
    assert len(arrays) == 10 + 2 + len(arrays_of(USUAL)) + 3 + 5  # corpus, categories, results, ...
    for path in arrays:
        read(study, str(path), missing=True)


# -- a client written from docs/store-format.md alone --------------------------------------------


def _is_none(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where an array has no value."""
    return np.isnan(values) if values.dtype.kind == "f" else values == -1


class Client:
    """Folds the commit log and reads what it names, without a line of this project's."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.axes: dict[str, dict[str, list[Any]]] = {}
        self.scored: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.stored: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.reduced: dict[str, dict[int, list[str]]] = defaultdict(dict)
        self.categories: dict[str, tuple[str | None, slice]] = {}
        self.summaries: dict[str, dict[int, tuple[list[str], dict[str, str]]]] = defaultdict(dict)
        for record in self._records():
            self._fold(record)

    def _records(self) -> Iterator[dict[str, Any]]:
        for number in itertools.count(1):
            file = self.study / "commits" / f"{number}.log"
            following = file.with_name(f"{number + 1}.log")
            if not file.exists():
                return
            data = file.read_bytes()
            if following.exists():
                first = following.read_bytes().partition(b"\n")[0]
                data = data[: json.loads(first[9:])["follows_bytes"]]
            for line in data.split(b"\n")[:-1]:
                assert int(line[:8], 16) == zlib.crc32(line[9:])
                yield json.loads(line[9:])

    def _fold(self, record: dict[str, Any]) -> None:
        model, step = record.get("model", ""), record.get("step")
        match record["kind"]:
            case "axis":
                axes = self.axes.setdefault(model, {"steps": [], "seeds": []})
                for name, labels in axes.items():
                    labels += record[name]
            case "scored":
                self.scored[model].add((record["seed"], step))
                if record["log_probs"] == "dense":
                    self.stored[model].add((record["seed"], step))
            case "reduced":
                self.reduced[model][step] = record["seeds"]
            case "summarised":
                self.summaries[model][step] = record["seeds"], record["categories"]
            case "category" if "model" not in record:
                levels = slice(first := record.get("first", 0), first + record.get("size", 0))
                self.categories[record["name"]] = record["digest"], levels
            case "pruned":
                self.stored[model] -= {(seed, step) for seed in record["seeds"]}

    def _read(self, model: str, *names: str) -> NDArray[Any]:
        folder = self.study / "models"
        for name in (model, *names):
            (folder,) = (entry for entry in folder.iterdir() if unquote(entry.name) == name)
        return read(self.study, str(folder.relative_to(self.study)), missing=True)

    def committed(self) -> dict[tuple[Any, ...], bytes]:
        """The same as `tests.support.made_store.committed`, less log-probs."""
        found: dict[tuple[Any, ...], bytes] = {}
        for model, axes in self.axes.items():
            steps, seeds = axes["steps"], axes["seeds"]
            arrays = {name: self._read(model, name) for name in RESULTS}
            for name in (*PER_TOKEN, "kl", "js"):
                arrays[name] = np.where(
                    _is_none(loose := self._read(model, "loose", name)), arrays[name], loose
                )
            for seed, step in self.scored[model]:
                at = steps.index(step), seeds.index(seed)
                for name in (*PER_TOKEN, "cross_entropy", "mean_entropy"):
                    found[model, name, seed, step] = arrays[name][at].tobytes()
            for step, members in self.reduced[model].items():
                means = []
                for i, j in itertools.permutations(sorted(members, key=seeds.index), 2):
                    pair = steps.index(step), seeds.index(i), seeds.index(j)
                    for name in ("kl", "js", "mean_kl"):
                        kept = (pair[0], *sorted(pair[1:])) if name == "js" else pair
                        found[model, name, i, j, step] = arrays[name][kept].tobytes()
                    means.append(arrays["mean_kl"][pair])
                key = model, "expected_kl", tuple(sorted(members)), step
                found[key] = np.mean(means).tobytes()
            found |= self._summaries(model, steps, seeds)
        return found

    def _summaries(
        self, model: str, steps: list[int], seeds: list[str]
    ) -> dict[tuple[Any, ...], bytes]:
        found: dict[tuple[Any, ...], bytes] = {}
        for step, (members, digests) in self.summaries[model].items():
            key, at = (tuple(sorted(members)), step), steps.index(step)
            found[model, "token_kl", *key] = self._read(model, "summary", "token_kl")[at].tobytes()
            order = sorted(range(len(members)), key=lambda n: members[n])
            rows = [seeds.index(members[n]) for n in order]
            for name, (digest, levels) in self.categories.items():
                if digests.get(name) == digest is not None:
                    for field in SUMMARIES:
                        if field not in {"token_kl", "kl"}:
                            row = self._read(model, "summary", field)[at][..., levels]
                            if field in {"cross_entropy", "entropy", "kl_unigram"}:
                                row = row[rows]
                            found[model, "summary", name, field, *key] = row.tobytes()
        return found

    def log_probs(self, model: str, seed: str, step: int) -> NDArray[np.float32]:
        rows = self._read(model, "log_probs", seed, str(step)).astype(np.float32)
        total = np.exp(rows).sum(1, dtype=np.float64, keepdims=True)
        return np.asarray(rows - np.log(total).astype(np.float32))


def test_the_description_is_enough_to_write_a_client(tmp_path: Path) -> None:
    """Of a study with a late seed, pruned log-probs, a torn commit and half-written results."""
    path, clock = tmp_path / "study.zarr", Clock()
    writer = open_writer(path, clock)
    fill(writer, MODEL, SEEDS[:2], STEPS)
    fill(writer, "..", "12", (3,))
    writer.plan(MODEL, [("late", 0)], {})
    score(writer, MODEL, "late", 0)
    reduce(writer, MODEL, 0, SEEDS)
    writer.drop_log_probs(MODEL, 64, SEEDS[:1])
    writer.plan(MODEL, [("torn", 8)], {})
    score(writer, MODEL, "torn", 8, commit=False)
    with (path / "commits" / "1.log").open("ab") as log:
        log.write(b'0badcafe {"kind":"failed","mod')
    clock.now += 31
    writer = open_writer(path, clock)
    writer.plan(MODEL, [("torn", 64)], {})
    score(writer, MODEL, "torn", 64, commit=False)

    client, study = Client(path), open_study(path)
    ours = committed(study)
    assert client.committed() == {k: v for k, v in ours.items() if k[1] != "log_probs"}
    stored = {(model, *key) for model, keys in client.stored.items() for key in keys}
    assert stored == {(k[0], *k[2:]) for k in ours if k[1] == "log_probs"}
    for model, seed, step in stored:
        ours_here = study.log_probs(model, seed, step)[:]
        theirs = client.log_probs(model, seed, step)
        np.testing.assert_allclose(theirs, ours_here, rtol=0, atol=2e-6)  # float32 rounding


def test_the_description_names_everything(study: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "store-format.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    assert words >= VARIABLES.keys() | {f.name for f in (study / "corpus").iterdir() if f.is_dir()}
    for kind in (EngineStatus, Gpu, JournalEntry, Work):
        assert words >= {field.name for field in fields(kind)}
    for log in (study / "commits").iterdir():
        for line in log.read_bytes().splitlines():
            record = json.loads(line[9:])
            assert words >= record.keys()
            assert f"| `{record['kind']}` |" in text


def test_the_description_is_enough_to_check_what_zarr_does_not(study: Path) -> None:
    root = json.loads((study / "zarr.json").read_bytes())["attributes"]["seedconv"]
    told = root.pop("crc32")
    text = json.dumps(root, sort_keys=True, separators=(",", ":"))
    assert told == f"{zlib.crc32(text.encode()):08x}"
    group = json.loads((study / "corpus" / "zarr.json").read_bytes())
    texts = ["".join(map(chr, read(study, "corpus/text"))), group["attributes"]["document_names"]]
    crc = zlib.crc32(json.dumps(texts).encode())
    for name in ("token_id", "context_id", "document", "char_start", "char_end", "document_start"):
        values = read(study, f"corpus/{name}")
        for part in (np.array([len(values)]), values):
            crc = zlib.crc32(part.astype("<i8").tobytes(), crc)
    assert root["corpus_crc32"] == f"{crc:08x}"
    sealed = (study / "commits" / "1.end").read_bytes()
    assert int(sealed[:8], 16) == zlib.crc32(sealed[9:-1])
    assert json.loads(sealed[9:])["bytes"] == (study / "commits" / "1.log").stat().st_size
