"""What `watch` waits for before work begins, and `run` fails at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from engine.coordination.build import build_coordinator
from engine.errors import ConfigError, Interrupted
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.listening import Heard, Script
from tests.support.tiny_models import finish, make_model, make_runs, write_study

WATCH = [sys.executable, "-m", "seedconv_tui.cli.main", "watch"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Later(Script):
    """Makes the next thing at each line that says what is waited for."""

    def __init__(self, *acts: object) -> None:
        super().__init__()
        self._next = iter(acts)

    def on_event(self, event) -> None:  # type: ignore[no-untyped-def]
        super().on_event(event)
        if event.event == "waiting":
            next(self._next, lambda: None)()


@pytest.mark.long
def test_training_may_be_started_after_watch(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    finish(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "later")
    (tmp_path / "text.txt").rename(tmp_path / "text")
    changes = {"tokenizer__source": "runs/tokenizer", "watch__poll_seconds": 0.01}
    listed = {"models__seeds": ["1", "2"], "models__steps": [0], "watch__settle_seconds": 0.01}
    file = write_study(tmp_path, **changes, **listed)
    command = [*WATCH, str(file), "--until-complete"]
    acts = {
        "'runs/tokenizer': there is no such folder": lambda: (tmp_path / "runs/tokenizer").mkdir(
            parents=True
        ),
        "'runs/tokenizer' has no tokenizer": lambda: shutil.copytree(
            tmp_path / "tokenizer", tmp_path / "runs/tokenizer", dirs_exist_ok=True
        ),
        "'text.txt': there is no such file": lambda: shutil.copy(
            tmp_path / "text", tmp_path / "text.txt"
        ),
        "waiting for it": lambda: shutil.copytree(
            tmp_path / "later", tmp_path / "runs", dirs_exist_ok=True
        ),
    }
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as engine:
        assert engine.stderr is not None
        for line in engine.stderr:
            for said in [said for said in acts if said in line]:
                acts.pop(said)()
    assert (engine.returncode, acts) == (0, {})
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert np.isfinite(model.expected_kl).all()


@pytest.mark.long
def test_who_waits_can_be_stopped(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    file = write_study(tmp_path, corpus__files=["none.txt"])
    with subprocess.Popen([*WATCH, str(file)], stderr=subprocess.PIPE, text=True) as engine:
        assert engine.stderr is not None
        lines = []
        for line in engine.stderr:
            lines.append(line)
            if "none.txt" in line:
                engine.send_signal(signal.SIGINT)
    assert engine.returncode == 130
    assert "run the same command again to continue" in lines[-1]
    assert not (tmp_path / "study.zarr").exists()


def test_run_waits_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, seeds=())
    (tmp_path / "gpt2").mkdir()
    make_model("gpt2", 304, 1).save_pretrained(tmp_path / "gpt2")
    (tmp_path / "config").mkdir()
    shutil.copy(tmp_path / "tokenizer/tokenizer_config.json", tmp_path / "config")
    for name in ("broken", "table"):
        shutil.copytree(tmp_path / "tokenizer", tmp_path / name)
    (tmp_path / "broken/tokenizer.json").write_text('{"version":')
    (tmp_path / "table/tokenizer_config.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/vocab.txt").touch()
    (tmp_path / "empty/tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/tokenizer.model").write_bytes(b"x")
    (tmp_path / "slow/tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (tmp_path / "far").mkdir()
    far = {"type": "WordLevel", "vocab": {"a": 0, "b": 4 * 10**9}, "unk_token": "a"}
    (tmp_path / "far/tokenizer.json").write_text(json.dumps({"model": far, "added_tokens": []}))
    for source, said in (
        ("far", "'far' has an id 4,000,000,000: no vocabulary is so large"),
        ("nowhere", "'nowhere': there is no such folder, and as a name on the Hub: "),
        ("./nowhere", "'./nowhere': there is no such folder. Save the tokenizer there"),
        ("gpt2", "'gpt2' has no tokenizer: no tokenizer.json is there. Save"),
        ("config", "'config' has no tokenizer: only tokenizer_config.json is there, which holds"),
        ("broken", "'broken': tokenizer.json is damaged ("),
        ("table", "'table': tokenizer_config.json is damaged (it holds no JSON object)"),
        ("empty", "'empty' has a tokenizer without a vocabulary: it knows special tokens only"),
        ("slow", "'slow' has tokenizer.model but no tokenizer.json, and cannot be converted here"),
        ("text.txt", "'text.txt' is a file. Name the folder that holds tokenizer.json"),
    ):
        assert run(["run", str(write_study(tmp_path, tokenizer__source=source))]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"seedconv: tokenizer.source: {said}")
    (tmp_path / "words").mkdir()
    words = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}
    (tmp_path / "words/tokenizer.json").write_text(json.dumps({"model": words, "added_tokens": []}))
    assert run(["run", str(write_study(tmp_path, tokenizer__source="words"))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the tokenizer cannot read the text: WordLevel error: Missing [UNK] token" in line
    assert not (tmp_path / "study.zarr").exists()


def test_what_is_damaged_for_long_is_not_waited_for(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    file = tmp_path / "tokenizer/tokenizer.json"
    whole = file.read_text()
    file.write_text(whole[:500])
    study = load_study_file(
        write_study(tmp_path, watch__poll_seconds=0.01, watch__settle_seconds=0.01)
    )
    build_coordinator(study, Later(lambda: file.write_text(whole)), waiting=True)
    shutil.rmtree(tmp_path / "study.zarr")
    file.write_text(whole[:500])
    later = Later(lambda: os.utime(file, (1e9, 1e9)))
    with pytest.raises(ConfigError, match=r"tokenizer.json is damaged .* Save the tokenizer there"):
        build_coordinator(study, later, waiting=True)


def test_what_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    file, waits = tmp_path / "text.txt", list[float | None]()
    whole = file.read_text()
    file.unlink()

    class Passing(threading.Event):
        """Time in which the text is written in three goes."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if len(waits) < 4:
                file.write_text(whole[: len(waits) * len(whole) // 3])
            return False

    study = load_study_file(write_study(tmp_path, watch__poll_seconds=2, watch__settle_seconds=9))
    build_coordinator(study, Heard(), waiting=True, stop=Passing())
    assert waits == [2, 9, 9, 9]
    made = open_study(tmp_path / "study.zarr").corpus.text
    assert made == whole.replace("\n", "")[: len(made)]


def test_files_of_probes_and_counts_are_waited_for(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    pair = {"sentence_good": "seeds are", "sentence_bad": "seeds is", "UID": "x"}

    def make_pairs() -> None:
        (tmp_path / "pairs").mkdir()
        (tmp_path / "pairs/x.jsonl").write_text(json.dumps(pair))

    file = write_study(tmp_path, corpus__counts="counts.npy", watch__poll_seconds=0.01)
    file.write_text(f'{file.read_text()}[[probes]]\nname="p"\nkind="blimp"\nfolder="pairs"\n')
    later = Later(lambda: np.save(tmp_path / "counts.npy", np.ones(300, int)), make_pairs)
    study = load_study_file(file)
    study = study.model_copy(
        update={"watch": study.watch.model_copy(update={"settle_seconds": 0.01})}
    )
    build_coordinator(study, later, waiting=True)
    said = later.said("waiting")
    assert ["counts.npy" in said[0], "pairs" in said[1], len(said)] == [True, True, 2]


def test_a_request_to_stop_ends_the_wait(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    stop = threading.Event()
    study = load_study_file(write_study(tmp_path, corpus__files=["none.txt"]))
    with pytest.raises(Interrupted, match="run the same command again"):
        build_coordinator(study, Script(waiting=stop.set), waiting=True, stop=stop)
    with pytest.raises(ConfigError, match="there is no such file"):
        build_coordinator(study, Heard())
