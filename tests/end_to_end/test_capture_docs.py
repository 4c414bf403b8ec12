"""The snippets of docs/capture.md as a user takes them, in their order.

Lightning and torchtitan are not among the packages here; what the snippets take of them stands in.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from seedconv_tui.cli.main import run
from seedconv_tui.training import Capture
from store import open_study
from tests.support.nano import make_nano
from tests.support.tiny_models import TEXT, make_tokenizer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/capture.md"


def snippets(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def snippet(words: str) -> str:
    (found,) = (text for text in snippets(PAGE, "python") if words in text)
    return found


def loss_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits = model(ids[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a training script has when it comes to the loop, next to the page's study file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text(TEXT, encoding="utf-8")
    vocab = make_tokenizer(tmp_path / "tokenizer").get_vocab_size()
    study = snippets(PAGE, "toml")[0] + "[scoring]\nwindow = 32\noverlap = 16\ndevice = 'cpu'\n"
    Path("study.toml").write_text(study + "[categories]\ninclude = []\n", encoding="utf-8")
    assert run(["order", "study.toml"]) == 0
    model = make_nano(vocab, 1)
    return {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters()),
        "loss_of": loss_of,
        "batches": (torch.randint(vocab, (2, 17)) for _ in itertools.count()),
    }


def test_the_loop_of_readme_and_page(names: dict[str, Any]) -> None:
    exec(snippet("for step in range"), names)
    exec(snippet("if step % 100 == 0"), names)
    assert names["capture"].failed == 0
    assert run(["run", "study.toml"]) == 1  # a divergence needs a second seed
    study = open_study("study.zarr")
    assert list(study.model_snapshot("my-model").steps) == [0, 8, 16, 32, 64, 128, 256, 512]
    (of_readme,) = (text for text in snippets(ROOT / "README.md", "python") if "Capture" in text)
    exec(of_readme, names)


def test_a_forward_of_ones_own(names: dict[str, Any]) -> None:
    class Halves(torch.nn.Module):
        def __init__(self, whole: Any) -> None:
            super().__init__()
            self.whole = whole

        def encode(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
            return (ids,)

        def decode(self, encoded: tuple[torch.Tensor]) -> torch.Tensor:
            logits: torch.Tensor = self.whole(*encoded)
            return logits

    exec(snippet("forward="), names)
    assert names["capture"](Halves(names["model"]), 0)


@pytest.fixture
def captured(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps that were handed over."""
    steps = list[int]()
    capture = Capture.__call__

    def noted(self: Capture, model: Any, step: int) -> bool:
        done = capture(self, model, step)
        steps.extend([step] if done else [])
        return done

    monkeypatch.setattr(Capture, "__call__", noted)
    return steps


def callback_of(words: str, names: dict[str, Any]) -> Any:
    given: dict[str, Any] = {}
    exec(snippet(words), names | {"Trainer": lambda *_, **options: given.update(options)})
    (callback,) = given["callbacks"]
    return callback


def test_the_callback_for_trainer(names: dict[str, Any], captured: list[int]) -> None:
    callback = callback_of("SeedconvCallback", names)
    arguments = SimpleNamespace(seed=1)
    state = SimpleNamespace(global_step=0)
    callback.on_train_begin(arguments, state, None, model=names["model"])
    for state.global_step in range(1, 9):
        callback.on_step_end(arguments, state, None, model=names["model"])
    assert captured == [0, 8]


def test_the_callback_for_lightning(
    names: dict[str, Any], captured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = ModuleType("lightning.pytorch")
    stand_in.Callback = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", stand_in)
    callback = callback_of("LightningCapture", names)
    monkeypatch.delitem(sys.modules, "seedconv_tui.training.lightning")  # made of the stand-in
    trainer = SimpleNamespace(global_step=0)
    callback.on_train_start(trainer, names["model"])
    for batch in range(16):
        trainer.global_step = (batch + 1) // 2  # gradients of two batches make a step
        callback.on_train_batch_end(trainer, names["model"], None, None, batch)
    assert captured == [0, 8]


def test_the_trainer_for_torchtitan(
    names: dict[str, Any], captured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer:
        def __init__(self, config: object) -> None:
            self.step, self.model_parts = 0, [names["model"]]

        def train(self) -> None:
            while self.step < 8:
                self.step += 1
                self.train_step(names["batches"])

        def train_step(self, data_iterator: Any) -> None:
            next(data_iterator)

    train = ModuleType("torchtitan.train")
    train.Trainer = Trainer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchtitan", ModuleType("torchtitan"))
    monkeypatch.setitem(sys.modules, "torchtitan.train", train)
    exec(snippet("import Trainer"), names)
    trainer = names["CapturingTrainer"](None)
    trainer.train()
    assert captured == [0, 8]
    assert trainer.capture.failed == 0


def templates(folder: Path) -> list[re.Pattern[str]]:
    """Patterns of the messages in a package's code, and of their beginnings.

    What is filled in may be anything.
    """
    found = []
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [str(part.value) if isinstance(part, ast.Constant) else "%s" for part in parts]
            if isinstance(node, (ast.JoinedStr, ast.Constant)):
                known = list(map(re.escape, re.split(r"%[.\d]*[sdfg]", "".join(texts))))
                begun = (".+".join(known[:n]) for n in range(1, len(known) + 1))
                found += [re.compile(pattern) for pattern in begun if len(pattern) > 25]
    return found


def test_the_messages_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## Messages")[2]
    messages = re.findall(r"^\| `(.*?)` \|", text, re.MULTILINE)
    known = [*templates(ROOT / "seedconv_tui/training"), *templates(ROOT / "engine")]
    assert len(messages) > 15
    for message in messages:
        matches = [match for pattern in known if (match := pattern.search(message))]
        assert any(len(match[0]) > len(message) / 2 for match in matches), message
