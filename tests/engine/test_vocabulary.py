"""Vocabularies that are not quite the study's: what is harmless is scored, the rest named."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from engine.coordination.build import build_coordinator
from engine.events import Event
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.hub_server import HubServer, push_runs
from tests.support.listening import Heard, Script
from tests.support.tiny_models import make_model, make_runs, make_tokenizer, write_study


def add(source: Path, target: Path, *tokens: str) -> None:
    """Save a tokenizer with more tokens, as Trainer does: the model does not change."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    if "[PAD]" in tokens:
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    tokenizer.save_pretrained(target)


def kl_of(folder: Path, store: str = "study.zarr") -> np.ndarray:
    return open_study(folder / store).snapshot().models[0].expected_kl


def identity_of(folder: Path, store: str = "study.zarr") -> tuple[int, object]:
    study = open_study(folder / store)
    return study.vocab_size, study.identity


def test_tokens_added_to_a_checkpoints_tokenizer_are_harmless(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    assert run(["run", str(write_study(tmp_path, study__store="plain.zarr"))]) == 0
    add(tmp_path / "tokenizer", tmp_path / "runs/seed1/step0", "[PAD]", "<more>")
    assert run(["run", str(write_study(tmp_path))]) == 0
    np.testing.assert_array_equal(kl_of(tmp_path), kl_of(tmp_path, "plain.zarr"))


@pytest.mark.long
@pytest.mark.parametrize("windowing", ["stream", "document"])
def test_the_study_leaves_out_added_tokens_that_models_have_no_rows_for(
    tmp_path: Path, windowing: str
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,), padding=0)
    add(tmp_path / "tokenizer", tmp_path / "padded", "[PAD]")
    counts = tmp_path / "counts.npy"
    command = ["count", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path / "tokenizer")]
    assert run([*command, "-o", str(counts)]) == 0
    shared = {"scoring__windowing": windowing, "corpus__counts": "counts.npy"}
    plain = write_study(tmp_path, **shared, study__store="plain.zarr").read_text()
    assert run(["run", str(tmp_path / "study.toml")]) == 0
    padded = write_study(tmp_path, **shared, tokenizer__source="padded")
    assert run(["run", str(padded)]) == 0
    assert identity_of(tmp_path) == identity_of(tmp_path, "plain.zarr")
    assert identity_of(tmp_path)[0] == 300
    np.testing.assert_array_equal(kl_of(tmp_path), kl_of(tmp_path, "plain.zarr"))
    # Either tokenizer goes on with either store.
    make_model("gpt-neox", 300, seed=9).save_pretrained(tmp_path / "runs/seed3/step0")
    padded.write_text(padded.read_text().replace("study.zarr", "plain.zarr"))
    assert run(["run", str(padded)]) == 0
    padded.write_text(plain.replace("plain.zarr", "study.zarr"))
    assert run(["run", str(padded)]) == 0
    np.testing.assert_array_equal(kl_of(tmp_path), kl_of(tmp_path, "plain.zarr"))


@pytest.mark.long
def test_the_study_keeps_added_tokens_that_models_have_rows_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,), padding=4)
    add(tmp_path / "tokenizer", tmp_path / "tokenizer", "[PAD]")
    study = write_study(tmp_path)
    assert run(["run", str(study)]) == 0
    assert identity_of(tmp_path)[0] == 301
    # Later ones without the row are another matter, and said to be.
    make_model("gpt-neox", 300, seed=9).save_pretrained(tmp_path / "runs/seed3/step0")
    assert run(["run", str(study)]) == 1
    assert "'[PAD]' (id 300) was added to it and is not in the model" in capsys.readouterr().err


def test_an_added_token_that_the_text_uses_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,), padding=0)
    make_model("gpt-neox", 304, seed=2).save_pretrained(tmp_path / "runs/seed2/step0")
    shutil.copy(tmp_path / "tokenizer/tokenizer.json", tmp_path / "runs/seed2/step0")
    add(tmp_path / "tokenizer", tmp_path / "tokenizer", "distribution", "<unused>")
    assert run(["run", str(write_study(tmp_path))]) == 1
    found = capsys.readouterr().err
    assert "'distribution' (id 300) was added to it and is not in the model" in found
    assert "it has no id 300, which is 'distribution' in the study's" in found


def test_any_number_of_rows_past_the_tokenizer_is_padding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,), padding=3000)
    assert run(["run", str(write_study(tmp_path))]) == 0
    assert identity_of(tmp_path)[0] == 300
    assert np.isfinite(kl_of(tmp_path)).all()
    said = "3,000 of the model's 3,300 rows are taken as padding"
    assert capsys.readouterr().err.count(said) == 1
    # What has a tokenizer that confirms it needs no word.
    make_model("gpt-neox", 3300, seed=9).save_pretrained(tmp_path / "runs/seed3/step0")
    shutil.copy(tmp_path / "tokenizer/tokenizer.json", tmp_path / "runs/seed3/step0")
    assert run(["run", str(write_study(tmp_path))]) == 0
    assert "padding" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("swapped", "id 10 is '*' in the study's and '+' in this one"),
        ("shorter", "it has no id 280, which is "),
        ("longer", "it has an id 300, "),
    ],
)
def test_the_first_id_that_differs_is_named(
    tmp_path: Path, other: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,), padding=40)
    target = tmp_path / "runs/seed2/step0/tokenizer.json"
    if other == "swapped":
        fields = json.loads((tmp_path / "tokenizer/tokenizer.json").read_text())
        vocabulary = fields["model"]["vocab"]
        vocabulary["*"], vocabulary["+"] = vocabulary["+"], vocabulary["*"]
        target.write_text(json.dumps(fields))
    else:
        make_tokenizer(tmp_path / "other", 280 if other == "shorter" else 320)
        shutil.copy(tmp_path / "other/tokenizer.json", target)
    assert run(["run", str(write_study(tmp_path))]) == 1
    assert f"seed2/step0/tokenizer.json: is another tokenizer than the study's: {said}" in (
        capsys.readouterr().err
    )


def swapped(names: list[str]) -> list[str]:
    """The same names, two of them in each other's place."""
    return [{"*": "+", "+": "*"}.get(name, name) for name in names]


def test_vocabularies_in_other_files_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of five seeds: the third and the fourth have another one; the rest is the same."""
    make_runs(tmp_path, seeds=tuple("12345"), steps=(0,), padding=40)
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "tokenizer").get_vocab()
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    for seed, kind, of in (
        ("1", "json", names), ("2", "txt", names), ("3", "json", swapped(names)),
        ("4", "txt", swapped(names)), ("5", "txt", [f"{name} 7" for name in names]),
    ):  # fmt: skip
        folder = tmp_path / f"runs/seed{seed}/step0"
        (folder / "tokenizer.json").unlink(missing_ok=True)
        ids = {name: number for number, name in enumerate(of)}
        text = json.dumps(ids) if kind == "json" else "\n".join(of) + "\n"
        (folder / f"vocab.{kind}").write_text(text, encoding="utf-8")
    assert run(["run", str(write_study(tmp_path))]) == 1
    found = capsys.readouterr().err
    for file in ("seed3/step0/vocab.json", "seed4/step0/vocab.txt"):
        assert f"{file}: is another tokenizer than the study's: id 10 is '*'" in found
    assert open_study(tmp_path / "study.zarr").ledger("m").scored_at(0) == {"1", "2", "5"}


@pytest.mark.parametrize("kind", ["added_tokens.json", "tokenizer_config.json"])
def test_tokens_that_are_added_beside_the_vocabulary_count(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text uses one: the checkpoint that has it is scored, that with another one is not."""
    make_runs(tmp_path, seeds=("1", "2", "3"), steps=(0,), padding=4)
    for seed, token in (("1", "distribution"), ("2", "distribution"), ("3", "<other>")):
        folder = tmp_path / f"runs/seed{seed}/step0"
        shutil.copy(tmp_path / "tokenizer/tokenizer.json", folder)
        entry = {"added_tokens_decoder": {"300": {"content": token}, "x": 5, "7": {"content": 1}}}
        text = {token: 300, "<odd>": "x"} if kind == "added_tokens.json" else entry
        (folder / kind).write_text(json.dumps(text))
    add(tmp_path / "tokenizer", tmp_path / "tokenizer", "distribution")
    assert run(["run", str(write_study(tmp_path))]) == 1
    assert "id 300 is 'distribution' in the study's and '<other>'" in capsys.readouterr().err
    assert open_study(tmp_path / "study.zarr").ledger("m").scored_at(0) == {"1", "2"}


@pytest.mark.parametrize(("padding", "size"), [(0, 300), (4, 301)])
def test_watch_waits_for_the_first_checkpoint_if_it_decides_on_the_size(
    tmp_path: Path, padding: int, size: int
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,), padding=padding)
    add(tmp_path / "tokenizer", tmp_path / "tokenizer", "[PAD]")
    (tmp_path / "runs").rename(tmp_path / "later")
    listed = {"models__seeds": ["1", "2"], "models__steps": [0], "watch__poll_seconds": 0.01}
    file = write_study(tmp_path, **listed, watch__settle_seconds=0.01)
    stored = list[bool]()

    def arrive() -> None:
        stored.append((tmp_path / "study.zarr").exists())
        (tmp_path / "later").rename(tmp_path / "runs")

    script = Script(waiting=arrive)
    engine = build_coordinator(load_study_file(file), script, waiting=True)
    assert engine.watch(until_complete=True).reduced == 1
    assert stored == [False]
    assert script.said("waiting")[0] == (
        "waiting for the first checkpoint: the token '[PAD]' that the text does not use was added "
        "to the tokenizer, and models may not have it"
    )
    assert identity_of(tmp_path)[0] == size


def test_what_is_there_and_says_nothing_is_not_waited_for_long(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    add(tmp_path / "tokenizer", tmp_path / "tokenizer", "[PAD]")
    (tmp_path / "runs/seed1/step0").mkdir(parents=True)
    now = itertools.count(1e9, 7.0)
    heard = Heard()
    study = load_study_file(write_study(tmp_path, watch__poll_seconds=0.01))
    build_coordinator(study, heard, waiting=True, clock=lambda: next(now))
    assert len(heard.of("waiting")) == 1
    assert identity_of(tmp_path)[0] == 301


def test_watch_waits_for_both_on_the_hub_as_well(tmp_path: Path, hub: HubServer) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,), padding=0)
    add(tmp_path / "tokenizer", tmp_path / "tokenizer", "[PAD]")
    file = write_study(
        tmp_path, tokenizer__source="lab/tok", models__source="lab/{model}-seed{seed}@step{step}",
        models__seeds=["1", "2"], models__steps=[0],
        watch__poll_seconds=0.01, watch__hub_poll_seconds=0.01,
    )  # fmt: skip
    acts = [
        lambda: hub.push("lab/tok", "main", tmp_path / "tokenizer"),
        lambda: push_runs(hub, tmp_path),
    ]
    said = list[str]()

    class Later(Script):
        def on_event(self, event: Event) -> None:
            super().on_event(event)
            if event.event == "waiting" and acts:
                said.append(event.text)
                acts.pop(0)()

    engine = build_coordinator(load_study_file(file), Later(), waiting=True)
    assert engine.watch(until_complete=True).reduced == 1
    assert "'lab/tok': there is no such folder, and as a name on the Hub: lab/tok" in said[0]
    assert said[1].startswith("waiting for the first checkpoint")
    assert identity_of(tmp_path)[0] == 300
