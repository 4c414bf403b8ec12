"""The first ten minutes of a newcomer: from checkpoints to a result, and what is said there."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from seedconv_tui.cli.main import run
from store import open_study
from tests.support.tiny_models import TEXT, make_runs

MEMORY = 4 * 10**9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds with one final checkpoint each, a tokenizer next to them, and a text."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, seeds=("1", "2"), steps=(10,))
    for seed in "12":
        (folder / f"runs/seed{seed}/step10").rename(folder / f"seed-{seed}")
    shutil.rmtree(folder / "runs")
    (folder / "runs").mkdir()
    for name in ("seed-1", "seed-2", "tokenizer"):
        (folder / name).rename(folder / "runs" / name)
    (folder / "text").mkdir()
    (folder / "text/a.txt").write_text(TEXT[:400], encoding="utf-8")
    return folder


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the commands run."""
    folder = tmp_path / "there"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that a command ends with."""
    capsys.readouterr()
    assert run(["run", "study.toml", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_one_final_checkpoint_each(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--from", "runs"]) == 0
    assert run(["run", "study.toml"]) == 0
    assert open_study("study.zarr").ledger("my-model").reduced == {1000: {"1", "2"}}
    capsys.readouterr()
    assert run(["status", "study.zarr", "--check"]) == 0
    assert "2 done" in capsys.readouterr().out


def test_no_tokenizer(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("runs/tokenizer")
    assert run(["init", "--from", "runs"]) == 0
    assert "set tokenizer.source, then" in capsys.readouterr().err
    line = fails(capsys)
    assert "tokenizer.source: './tokenizer': there is no such folder. Save the tokenizer" in line
    assert 'or one on the Hub such as "gpt2"' in line


def test_no_gpu(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--from", "runs"]) == 0
    line = fails(capsys, "--device", "cuda:63")
    assert 'found "cuda:63", but this machine has' in line
    assert 'Set it to "auto" or "cpu"' in line


def test_no_text(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("text")
    assert run(["init", "--from", "runs"]) == 0
    assert "set corpus.files, then" in capsys.readouterr().err
    assert "corpus.files: 'text/*.txt'" in fails(capsys)


def test_a_training_script_of_their_own(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It saves with torch.save and knows no config.json."""
    for seed in "12":
        model = AutoModelForCausalLM.from_pretrained(f"runs/seed-{seed}")
        model.config.save_pretrained("config")
        shutil.rmtree(f"runs/seed-{seed}")
        Path(f"runs/seed-{seed}").mkdir()
        state = {"model": model.state_dict(), "iter_num": 10}
        torch.save(state, f"runs/seed-{seed}/ckpt-10.pt")
    assert run(["init", "--from", "runs"]) == 0
    assert "set models.config, then" in capsys.readouterr().err
    assert run(["run", "study.toml"]) == 1
    said = capsys.readouterr().err
    assert "config.json: is missing; put the config.json of the model there, or name it" in said
    file = Path("study.toml")
    file.write_text(file.read_text().replace("# config = ", "config = "))
    shutil.copy("config/config.json", "config.json")
    assert run(["run", "study.toml"]) == 0
    assert open_study("study.zarr").ledger("my-model").reduced == {10: {"1", "2"}}


def test_a_name_on_the_hub_without_a_network(there: Path) -> None:
    assert run(["init", "--from", "EleutherAI/pythia-14m-seed1@step0"]) == 0
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(there / "hf")}
    env.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "seedconv_tui.cli.main", "run", "study.toml"]
    found = subprocess.run(command, env=env, capture_output=True, text=True)
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert "cannot reach http://127.0.0.1:9" in line
    assert "is there a network?" in line


@pytest.mark.long
def test_four_gigabytes_of_memory(there: Path) -> None:
    assert run(["init", "--from", "runs"]) == 0
    command = [sys.executable, "-m", "seedconv_tui.cli.main", "run", "study.toml"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    found = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert open_study("study.zarr").ledger("my-model").reduced == {1000: {"1", "2"}}
