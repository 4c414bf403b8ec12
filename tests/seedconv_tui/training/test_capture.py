"""Capture: what it hands over, that training is left as it was, and what may go wrong."""

from __future__ import annotations

import json
import logging
import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from seedconv_tui.training import Capture
from seedconv_tui.training.handover import read_handover, run_folder
from seedconv_tui.training.work_order import ORDER_FILE, ModelOrder, WorkOrder, write_order
from tests.support.captures import (
    CONTEXT,
    ROWS,
    VOCAB,
    captured,
    make_gpt,
    make_order,
    no_capture,
    reference,
    sequences,
    train,
)


def letters(folder: Path) -> dict[int, dict[str, Any]]:
    found = (json.loads(file.read_text()) for file in folder.glob("*.json"))
    return {letter["step"]: letter for letter in found}


def spooled(folder: Path, seed: str = "1") -> list[int]:
    run = run_folder(folder, "m", seed)
    return sorted(int(entry.name) for entry in run.iterdir()) if run.exists() else []


# -- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kept", "worst"),
    [
        ({}, "factored", 1e-5),
        ({"tied": False, "bias": True}, "factored", 1e-5),
        ({"scale": 0.25}, "factored", 1e-5),
        ({"cap": 5.0}, "dense", 1e-2),
    ],
)
def test_what_is_handed_over_is_what_the_weights_say(
    tmp_path: Path, options: dict[str, Any], kept: str, worst: float
) -> None:
    order = make_order(tmp_path)
    model = make_gpt(**options)
    assert Capture(tmp_path, model="m", seed=1)(model, 7)
    letter = letters(tmp_path)[7]
    assert (letter["format"], letter["captured"], letter["seed"]) == (2, True, "1")
    found, log_probs = captured(Path(letter["path"]), order)
    assert (found.representation, found.step, found.order) == (kept, 7, order.digest)
    assert (found.model_vocab, found.dtype, found.device) == (ROWS, "float32", "cpu")
    assert 0 <= found.noise_floor < 1e-10
    for name, text in {"text": order.text, **order.probes}.items():
        expected = reference(model, text)
        assert log_probs[name].shape == expected.shape == (text.predicts.sum(), VOCAB)
        assert np.abs(log_probs[name] - expected).max() < worst


@pytest.mark.parametrize("keep", ["factored", "dense"])
def test_a_study_or_a_script_may_ask_for_log_probs(tmp_path: Path, keep: Any) -> None:
    order = make_order(tmp_path, keep="dense")
    model = make_gpt()
    assert Capture(tmp_path, model="m", seed=1)(model, 0)
    assert Capture(tmp_path, model="m", seed=2, keep=keep)(model, 0)
    for seed, expected in (("1", "dense"), ("2", keep)):
        found, log_probs = captured(run_folder(tmp_path, "m", seed) / "0", order)
        assert found.representation == expected
        assert np.abs(log_probs["text"] - reference(model, order.text)).max() < 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept_factored(tmp_path: Path, dtype: torch.dtype) -> None:
    """The product in float32 gives back digits that logits in half precision do not have."""
    order = make_order(tmp_path)
    model = make_gpt().to(dtype)
    assert Capture(tmp_path, model="m", seed=1)(model, 0)
    found, log_probs = captured(run_folder(tmp_path, "m", "1") / "0", order)
    assert (found.representation, found.dtype) == ("factored", str(dtype)[6:])
    # What is left is the rounding inside the model.
    worst = np.abs(log_probs["text"] - reference(model, order.text)).max()
    assert worst < 30 * torch.finfo(dtype).eps


def test_a_wrapper_with_empty_settings_takes_what_its_model_takes(tmp_path: Path) -> None:
    """As a LightningModule, which always has `hparams`."""

    class Wrapper(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.hparams, self.inner = dict[str, object](), inner

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(ids, ids)[0]
            return logits

    make_order(tmp_path, window=2 * CONTEXT)
    assert Capture(tmp_path, model="m", seed=1)(Wrapper(make_gpt()), 0)
    assert read_handover(run_folder(tmp_path, "m", "1") / "0").window == CONTEXT


def test_a_model_that_computes_in_half_precision_by_itself_is_kept_factored(
    tmp_path: Path,
) -> None:
    """As models that accelerate has prepared: their logits are float32 again, and rounded."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_gpt()
            self.config = self.inner.config

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                logits: torch.Tensor = self.inner(ids, ids)[0]
            return logits.float()

    order = make_order(tmp_path)
    model = Mixed()
    assert Capture(tmp_path, model="m", seed=1)(model, 0)
    found, log_probs = captured(run_folder(tmp_path, "m", "1") / "0", order)
    assert (found.representation, found.dtype) == ("factored", "float32/bfloat16")
    worst = np.abs(log_probs["text"] - reference(model.inner, order.text)).max()
    assert worst < 30 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_soft_cap_that_hardly_bends_is_seen(tmp_path: Path, dtype: torch.dtype) -> None:
    make_order(tmp_path)
    model = make_gpt(cap=30.0).to(dtype)
    assert Capture(tmp_path, model="m", seed=1)(model, 0)
    assert read_handover(run_folder(tmp_path, "m", "1") / "0").representation == "dense"


def test_a_model_that_takes_less_gets_smaller_windows(tmp_path: Path) -> None:
    order = make_order(tmp_path, window=2 * CONTEXT, overlap=CONTEXT + 1)
    model = make_gpt()
    assert Capture(tmp_path, model="m", seed=1)(model, 0)
    assert Capture(tmp_path, model="m", seed=2, context=20)(model, 0)
    for seed, window, overlap in (("1", CONTEXT, CONTEXT // 2), ("2", 20, 10)):
        found, log_probs = captured(run_folder(tmp_path, "m", seed) / "0", order)
        assert (found.window, found.overlap) == (window, overlap)
        expected = reference(model, order.text, window, overlap)
        assert np.abs(log_probs["text"] - expected).max() < 1e-5


@pytest.mark.parametrize("batch_tokens", [1, 70, 10**6])
def test_the_size_of_batches_changes_nothing(tmp_path: Path, batch_tokens: int) -> None:
    order = make_order(tmp_path)
    model = make_gpt()
    assert Capture(tmp_path, model="m", seed=1, batch_tokens=batch_tokens)(model, 0)
    _, log_probs = captured(run_folder(tmp_path, "m", "1") / "0", order)
    assert np.abs(log_probs["text"] - reference(model, order.text)).max() < 1e-5


# -- models of several makes ---------------------------------------------------------------------


class Litgpt(nn.Module):
    """As litgpt: logits of all positions, and an argument for the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make_gpt()
        self.max_seq_length = CONTEXT

    def forward(self, idx: torch.Tensor, input_pos: torch.Tensor | None = None) -> torch.Tensor:
        assert input_pos is None
        logits: torch.Tensor = self.inner(idx, idx)[0]
        return logits


class NeedsTargets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = make_gpt()
        self.params = {"max_seq_len": CONTEXT}

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        logits, loss = self.inner(x, y)
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("make", [Litgpt, NeedsTargets])
def test_models_are_called_as_they_want(tmp_path: Path, make: Any) -> None:
    order = make_order(tmp_path)
    model = make()
    capture = Capture(tmp_path, model="m", seed=1)
    assert capture(model, 0)
    assert capture(model, 1)
    found, log_probs = captured(run_folder(tmp_path, "m", "1") / "1", order)
    assert found.representation == "factored"
    assert np.abs(log_probs["text"] - reference(model.inner, order.text)).max() < 1e-5


class WithPositions(nn.Module):
    """Would take ids for positions, and give logits of the right shape."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make_gpt()
        self.params = {"max_seq_len": CONTEXT}

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        logits, _ = self.inner(ids + positions - positions.flip(-1), ids)
        return logits


def test_ids_are_given_as_targets_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_order(tmp_path)
    capture = Capture(tmp_path, model="m", seed=1)
    assert not capture(WithPositions(), 0)
    assert "positions" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda it: it + it.mean(1, keepdim=True), "got other log-probs in another batch"),
        (lambda it: functional.dropout(it, 0.5), "got other log-probs in another batch"),
        (lambda it: functional.pad(it, (0, 2000)), "logits, the study's tokenizer has"),
    ],
)
def test_numbers_that_nobody_wants_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Any, said: str
) -> None:
    """A token that sees later ones, dropout that stays on, another tokenizer."""
    make_order(tmp_path)
    capture = Capture(
        tmp_path, model="m", seed=1, forward=lambda model, ids: spoil(model(ids, ids)[0])
    )
    assert all(capture(make_gpt(), step) for step in range(2))
    assert [said in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda self, ids, positions: self.inner(ids, ids)[0], "the model wants positions besides"),
        (lambda self, ids, positions=None: self.inner(ids)[0], "the model returns no logits of"),
        (
            lambda self, ids: (torch.ones(*ids.shape, ROWS), self.inner(ids, ids)[0]),
            "the model returns several tensors that may be logits, (",
        ),
        (lambda self, ids: self.inner(ids, ids)[0].softmax(-1), "the model returns probabilities"),
    ],
)
def test_how_a_model_gives_logits_is_never_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, forward: Any, says: str
) -> None:
    make_order(tmp_path)
    model = type("Model", (nn.Module,), {"forward": forward})()
    model.inner = make_gpt()
    assert not Capture(tmp_path, model="m", seed=1, context=CONTEXT)(model, 0)
    assert says in caplog.text


def test_a_model_of_hugging_face_is_captured(tmp_path: Path) -> None:
    from tests.support.tiny_models import make_model

    order = make_order(tmp_path)
    model = make_model("llama", ROWS, 3)
    assert Capture(tmp_path, model="m", seed=1)(model, 0)
    found, log_probs = captured(run_folder(tmp_path, "m", "1") / "0", order)
    assert (found.representation, found.window) == ("factored", CONTEXT)
    wrapped = lambda ids, _: model.double()(ids).logits  # noqa: E731
    rows = []
    inputs = torch.from_numpy(order.text.inputs[:CONTEXT].astype(np.int64))[None]
    with torch.no_grad():
        rows = wrapped(inputs, None)[0, 1:, :VOCAB].log_softmax(-1).numpy()
    assert np.abs(log_probs["text"][: CONTEXT - 1] - rows).max() < 1e-5


def test_others_give_a_function(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_gpt()

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            logits: torch.Tensor = self.inner(batch["ids"], batch["ids"])[0].transpose(0, 1)
            return logits

    order = make_order(tmp_path)
    model = Odd()
    del model.inner.config
    assert not Capture(tmp_path, model="m", seed=1)(model, 0)
    assert "give Capture(..., context=N)" in caplog.text
    assert not Capture(tmp_path, model="m", seed=1, context=CONTEXT)(model, 0)
    assert not Capture(
        tmp_path, model="m", seed=1, context=CONTEXT, forward=lambda m, ids: m({"ids": ids})
    )(model, 0)
    assert "forward= returned" in caplog.text
    assert Capture(
        tmp_path, model="m", seed=1, context=CONTEXT,
        forward=lambda m, ids: m({"ids": ids}).transpose(0, 1),
    )(model, 0)  # fmt: skip
    _, log_probs = captured(run_folder(tmp_path, "m", "1") / "0", order)
    assert np.abs(log_probs["text"] - reference(model.inner, order.text)).max() < 1e-5


# -- training is left as it was ------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 3}, {"autocast": True, "accumulate": 2}], ids=str
)
def test_training_is_bit_equal_with_and_without_captures(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    make_order(tmp_path)
    capture = Capture(tmp_path, model="m", seed=1)
    without = train(make_gpt(), no_capture, **options)
    assert train(make_gpt(), capture, **options) == without
    assert capture.failed == 0
    assert len(spooled(tmp_path)) == (4 if len(options) == 0 else 8)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [{"accumulate": 2}, {"autocast": True}], ids=str)
def test_training_on_a_gpu_is_bit_equal(tmp_path: Path, options: dict[str, Any]) -> None:
    order = make_order(tmp_path)
    capture = Capture(tmp_path, model="m", seed=1)
    torch.set_float32_matmul_precision("high")
    try:
        without = train(make_gpt().cuda(), no_capture, device="cuda", **options)
        model = make_gpt().cuda()
        assert train(model, capture, device="cuda", **options) == without
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert capture.failed == 0
    assert capture(model, 99)
    found, log_probs = captured(run_folder(tmp_path, "m", "1") / "99", order)
    assert (found.representation, found.tf32) == ("factored", False)
    assert found.device.startswith("cuda")
    assert np.abs(log_probs["text"] - reference(model.cpu(), order.text)).max() < 1e-4


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="since torch 2.9")
def test_precisions_set_by_name_are_what_they_were(tmp_path: Path) -> None:
    make_order(tmp_path)
    model, backends, seen = make_gpt(), torch.backends, []
    places: list[Any] = [backends.cuda.matmul, backends.mkldnn.matmul]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32"
        model.norm.register_forward_hook(
            lambda *_: seen.append(tuple(place.fp32_precision for place in places))
        )
        assert Capture(tmp_path, model="m", seed=1)(model, 0)
        assert [place.fp32_precision for place in places] == ["tf32"] * 2
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
    assert set(seen) == {("ieee", "ieee")}


def test_modes_and_flags_are_what_they_were(tmp_path: Path) -> None:
    make_order(tmp_path)
    model = make_gpt()
    model.blocks[0].eval()  # frozen
    modes = [part.training for part in model.modules()]
    waiting = torch.ones_like(model.norm.weight)
    model.norm.weight.grad = waiting
    torch.backends.cuda.matmul.allow_tf32 = True
    seen = []
    model.norm.register_forward_hook(
        lambda *_: seen.append((
            torch.backends.cuda.matmul.allow_tf32, torch.is_autocast_enabled("cpu"),
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        ))
    )  # fmt: skip
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert Capture(tmp_path, model="m", seed=1)(model, 0)
            assert torch.is_autocast_enabled("cpu")
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert set(seen) == {(False, False, False, False)}
    assert [part.training for part in model.modules()] == modes
    assert model.norm.weight.grad is waiting
    assert (float(model.calls), model.table) == (0.0, None)
    assert torch.is_grad_enabled()


@pytest.mark.long
def test_compiled_training_is_bit_equal_and_never_compiled_again(tmp_path: Path) -> None:
    make_order(tmp_path)
    capture = Capture(tmp_path, model="m", seed=1)
    counted = []
    for how in (no_capture, capture):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = make_gpt()
        model.blocks[0].compile(backend="aot_eager")  # in place, as torchtitan does
        made = train(torch.compile(model, backend="aot_eager"), how)  # type: ignore[arg-type]
        counted.append((made, dict(torch._dynamo.utils.counters["stats"])))
    assert counted[0] == counted[1]
    assert spooled(tmp_path) == [0, 1, 2, 3]


# -- what may go wrong ---------------------------------------------------------------------------


def test_what_cannot_be_right_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"work-order.npz: is not there.*seedconv order"):
        Capture(tmp_path, model="m", seed=1)
    make_order(tmp_path)
    for arguments, said in (
        ({"model": "other"}, r"'other' is not one that study test wants captured \(m\)"),
        ({"seed": 3}, r"seed '3' is not one that study test lists for m \(1, 2\)"),
        ({"seed": "a/b"}, "without /"),
        ({"seed": None}, "seed should be a text or a whole number, found None"),
        ({"seed": True}, "seed should be a text or a whole number"),
        ({"seed": 1.0}, "seed should be a text or a whole number"),
        ({"context": 1}, "context should be a whole number from 2"),
        ({"context": "64"}, "context should be a whole number from 2"),
        ({"wait": "1"}, "wait at least 0"),
        ({"forward": 3}, "forward should be a function"),
        ({"batch_tokens": 0}, "batch_tokens should be"),
        ({"at_most_gb": 0}, "at_most_gb should be"),
        ({"keep": "none"}, "keep should be"),
    ):
        with pytest.raises(ValueError, match=said):
            Capture(tmp_path, **({"model": "m", "seed": 1} | arguments))  # type: ignore[arg-type]
    (tmp_path / "study.toml").write_text("[study")
    with pytest.raises(ValueError, match=r"study.toml"):
        Capture(tmp_path / "study.toml", model="m", seed=1)


def test_an_order_that_comes_while_it_waits_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 2:
            make_order(tmp_path, steps=(3,))

    monkeypatch.setattr("seedconv_tui.training.capture.time.sleep", pause)
    capture = Capture(tmp_path, model="m", seed=1, wait=600)
    assert (len(paused), capture.steps) == (2, (3,))


def test_only_steps_of_the_order_are_captured_and_it_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order = make_order(tmp_path, steps=(0, 10))
    model = make_gpt()
    capture = Capture(tmp_path, model="m", seed=1)
    assert [step for step in range(20) if capture.due(step)] == [0, 10]
    assert (capture(model, 1), capture(model, 10)) == (False, True)
    changed = replace(order, models={"m": ModelOrder(None, (11,))}, overlap=3)
    write_order(tmp_path / ORDER_FILE, changed)
    assert capture(model, 11)
    assert read_handover(run_folder(tmp_path, "m", "1") / "11").order == changed.digest
    write_order(tmp_path / ORDER_FILE, replace(order, models={"other": ModelOrder()}))
    (tmp_path / "half").write_bytes((tmp_path / ORDER_FILE).read_bytes()[:200])
    assert capture(model, 11)  # as before
    (tmp_path / "half").rename(tmp_path / ORDER_FILE)
    assert capture(model, 11)
    (tmp_path / ORDER_FILE).unlink()
    assert capture(model, 11)
    assert capture.failed == 0
    assert caplog.text.count("work order changed and is not used") == 1


def test_nothing_but_a_letter_is_handed_over_of_nan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_order(tmp_path)
    model = make_gpt()
    capture = Capture(tmp_path, model="m", seed=1)
    with torch.no_grad():
        model.blocks[0].out.weight[0, 0] = float("nan")
    assert not capture(model, 5)
    assert not capture(model, 6)
    assert capture.failed == 2
    assert caplog.text.count("NaN or infinite") == 1
    assert spooled(tmp_path) == []
    told = letters(tmp_path)
    assert [(step, told[step]["path"], told[step]["lost"]) for step in (5, 6)] == [
        (step, None, "logits are NaN or infinite") for step in (5, 6)
    ]


def test_nan_that_comes_later_in_the_text_is_seen(tmp_path: Path) -> None:
    order = make_order(tmp_path, probes=False, text=sequences(2000))
    model = make_gpt()
    rare = int(order.text.inputs[-2])
    keep = order.text.inputs != rare
    keep[-2] = True
    text = replace(
        order.text, inputs=np.where(keep, order.text.inputs, (rare + 1) % VOCAB).astype(np.int32)
    )
    write_order(tmp_path / ORDER_FILE, replace(order, text=text))
    untied = make_gpt(tied=False)
    with torch.no_grad():
        untied.tokens.weight[rare] = float("nan")
    assert Capture(tmp_path, model="m", seed=1, batch_tokens=CONTEXT)(model, 0)
    assert not Capture(tmp_path, model="m", seed=1, batch_tokens=CONTEXT)(untied, 1)
    assert spooled(tmp_path) == [0]
    assert letters(tmp_path)[1]["lost"] == "logits are NaN or infinite"


def test_the_oldest_give_way_and_the_study_hears_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_order(tmp_path)
    model = make_gpt()
    assert Capture(tmp_path, model="m", seed=1)(model, 0)
    size = sum(file.stat().st_size for file in (run_folder(tmp_path, "m", "1") / "0").iterdir())
    capture = Capture(tmp_path, model="m", seed=1, at_most_gb=2.5 * size / 1e9)
    assert all(capture(model, step) for step in (1, 2, 3))
    assert spooled(tmp_path) == [2, 3]
    told = letters(tmp_path)
    assert {step: told[step]["path"] is not None for step in told} == {
        0: False, 1: False, 2: True, 3: True,
    }  # fmt: skip
    assert "at_most_gb" in told[0]["lost"]
    assert caplog.text.count("oldest are dropped") == 1
    small = Capture(tmp_path, model="m", seed=1, at_most_gb=size / 2e9)
    assert not small(model, 4)
    assert "at_most_gb is" in caplog.text
    assert spooled(tmp_path) == [2, 3]  # nothing was dropped for what is not there


def test_what_a_process_that_died_has_begun_is_removed(tmp_path: Path) -> None:
    make_order(tmp_path)
    run = run_folder(tmp_path, "m", "1")
    for name, age in ((".old.partial", 7200.0), (".new.partial", 0.0)):
        (run / name).mkdir(parents=True)
        (run / name / "rows-0.npy").write_bytes(b"half")
        os.utime(run / name, (time.time() - age,) * 2)
    assert Capture(tmp_path, model="m", seed=1)(make_gpt(), 0)
    assert sorted(entry.name for entry in run.iterdir()) == [".new.partial", "0"]


def test_a_step_captured_again_replaces_the_first_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_order(tmp_path)
    for seed, said in ((0, False), (0, False), (1, True)):
        assert Capture(tmp_path, model="m", seed=1)(make_gpt(seed), 3)
        assert ("step 3 of seed 1 was captured before, differs" in caplog.text) == said
    run = run_folder(tmp_path, "m", "1")
    assert [entry.name for entry in run.iterdir()] == ["3"]
    weight = np.load(run / "3" / "weight.npy")
    assert np.array_equal(weight, make_gpt(1).lm_head.weight.detach()[:VOCAB].numpy())


def test_training_goes_on_when_the_disk_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_order(tmp_path)
    without = train(make_gpt(), no_capture)
    capture = Capture(tmp_path, model="m", seed=1)
    assert capture(make_gpt(), 100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        assert train(make_gpt(), capture) == without
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capture.failed == 4
    assert capture(make_gpt(), 101)
    assert caplog.text.count("File too large") == 1  # told once
    assert spooled(tmp_path) == [100, 101]  # what waited before, and nothing half written
    told = {step: letter["lost"] for step, letter in letters(tmp_path).items()}
    assert {step: told.pop(step) for step in (100, 101)} == {100: None, 101: None}
    assert sorted(told) == [0, 1, 2, 3]  # the study does not wait for these
    assert all("File too large" in why for why in told.values())


def test_a_text_of_another_tokenizer_is_refused_before_it_reaches_the_device(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order: WorkOrder = make_order(tmp_path, probes=False, vocab=300, text=sequences(20))
    inputs = order.text.inputs.copy()
    inputs[3] = 250
    write_order(tmp_path / ORDER_FILE, replace(order, text=replace(order.text, inputs=inputs)))
    assert not Capture(tmp_path, model="m", seed=1)(make_gpt(), 0)
    assert "token id 250, the model's largest embedding has 96 rows" in caplog.text


def test_what_a_model_raises_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_order(tmp_path)
    model = make_gpt()
    model.norm.register_forward_hook(lambda *_: 1 / 0)
    capture = Capture(tmp_path, model="m", seed=1)
    assert not any(capture(model, step) for step in range(3))
    assert capture.failed == 3
    assert caplog.messages == [
        "step 0 of seed 1 was not captured: ZeroDivisionError: division by zero"
    ]
    assert model.training
    assert caplog.records[0].levelno == logging.WARNING
    told = {step: letter["lost"] for step, letter in letters(tmp_path).items()}
    assert told == dict.fromkeys(range(3), "ZeroDivisionError: division by zero")


def test_what_was_captured_before_stays_when_a_model_fails_then(tmp_path: Path) -> None:
    make_order(tmp_path)
    model, capture = make_gpt(), Capture(tmp_path, model="m", seed=1)
    assert capture(model, 0)
    model.norm.register_forward_hook(lambda *_: 1 / 0)
    assert not capture(model, 0)  # a training that was resumed
    assert spooled(tmp_path) == [0]
    assert letters(tmp_path)[0]["lost"] is None
