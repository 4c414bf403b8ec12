"""What training and engine hand each other: orders and captured checkpoints, whole and damaged."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.training.handover import (
    CapturedProbe,
    Handover,
    SpooledFile,
    read_handover,
    remove_captured,
    rows_file,
    run_folder,
)
from seedconv_tui.training.work_order import (
    ModelOrder,
    Sequences,
    WorkOrder,
    read_order,
    write_order,
)


def sequences(*lengths: int) -> Sequences:
    return Sequences.of([(np.arange(n), np.arange(n) % 2 == 0) for n in lengths])


ORDER = WorkOrder(
    study="test",
    models={"m": ModelOrder(("1", "2"), (0, 10)), "free": ModelOrder()},
    keep="factored",
    vocab=300,
    vocabulary="abc",
    window=32,
    overlap=16,
    pad=0,
    dtype="float32",
    text=sequences(40, 1, 7),
    probes={"syntax": sequences(5, 4)},
)


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "made" / "work-order.npz"
    write_order(file, ORDER)
    found = read_order(file)
    assert (found.models, found.digest, found.keep) == (ORDER.models, ORDER.digest, "factored")
    assert [(list(a), list(b)) for a, b in found.text.split()] == [
        (list(a), list(b)) for a, b in ORDER.text.split()
    ]
    assert found.probes["syntax"].digest == ORDER.probes["syntax"].digest != ORDER.text.digest
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]
    with np.load(file, allow_pickle=False) as arrays:  # a plain .npz, for anybody's eyes
        assert list(arrays["text.lengths"]) == [40, 1, 7]
        assert json.loads(arrays["head"].tobytes())["study"] == "test"


def test_the_digest_is_of_what_rows_mean() -> None:
    same = replace(ORDER, models={"other": ModelOrder()}, probes={}, keep="dense")
    assert same.digest == ORDER.digest
    others = [
        replace(ORDER, window=33),
        replace(ORDER, overlap=15),
        replace(ORDER, vocabulary="abd"),
        replace(ORDER, text=sequences(40, 2, 6)),
    ]
    assert len({order.digest for order in [ORDER, *others]}) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window": 0}, "window should be a number"),
        ({"overlap": 32}, "overlap should be a number"),
        ({"keep": "none"}, "keep should be"),
        ({"models": {}}, "names no model"),
        ({"models": {"m": ModelOrder(("a/b",))}}, "without /"),
        ({"models": {"m": ModelOrder(None, (-1,))}}, "step should be"),
        ({"text": Sequences.of([(np.array([1]), np.array([False]))])}, "text asks for no"),
        ({"probes": {"p": Sequences.of([(np.array([-1]), np.array([True]))])}}, "p has a negative"),
    ],
)
def test_orders_that_cannot_be_right_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(ORDER, **changes)  # type: ignore[arg-type]


def test_damaged_orders_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "work-order.npz"
    with pytest.raises(ValueError, match=r"is not there.*seedconv order"):
        read_order(file)
    os.mkfifo(file)
    with pytest.raises(ValueError, match=r"is no plain file.*seedconv order"):
        read_order(file)
    file.unlink()
    write_order(file, ORDER)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [
        whole[:-30],
        whole[:100],
        b"",
        b"text",
        whole.replace(b'"overlap": 16', b'"overlap": 17'),
    ]
    damaged.append(whole.replace(b"'shape': (48,)", b"'shape': (9**9,)"))
    for _ in range(60):
        place = int(rng.integers(len(whole)))
        damaged.append(
            whole[:place] + bytes([whole[place] ^ 1 << int(rng.integers(8))]) + whole[place + 1 :]
        )
    said = []
    for data in damaged:
        file.write_bytes(data)
        try:
            assert read_order(file).digest == ORDER.digest  # in what nobody reads, as a date
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all(line.startswith(str(file)) and "\n" not in line for line in said)


def test_packed_and_pickled_orders_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "work-order.npz"
    np.savez_compressed(file, head=np.zeros(10**6, np.uint8))
    with pytest.raises(ValueError, match="packed"):
        read_order(file)
    np.savez(file, head=np.array([{}], object))
    with pytest.raises(ValueError, match="should be 1-dimensional uint8"):
        read_order(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("head.npy", b"")
    with pytest.raises(ValueError, match=r"work-order.npz"):
        read_order(file)


# -- captured checkpoints ------------------------------------------------------------------------

HANDOVER = Handover(
    model="m",
    seed="1",
    step=10,
    order="ab",
    representation="factored",
    scale=1.0,
    ranks=2,
    window=32,
    overlap=16,
    noise_floor=0.0,
    dtype="float32",
    tf32=False,
    device="cpu",
    model_vocab=304,
    created=1e9,
    files={
        name: SpooledFile(3, "aa")
        for name in (*(rows_file(r, p) for r in (0, 1) for p in (None, 0)), "weight.npy")
    },
    probes={"syntax": CapturedProbe("cd", 0)},
)


def hand_over(folder: Path, handover: Handover = HANDOVER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in handover.files:
        (folder / name).write_bytes(b"abc")
    (folder / "capture.json").write_text(handover.to_json())
    return folder


def test_a_handover_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_handover(hand_over(tmp_path)) == HANDOVER


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "has format 2"),
        ({"ranks": 0}, "ranks should be"),
        ({"ranks": 3}, "one of each rank"),
        ({"ranks": True}, "ranks should be int"),
        ({"step": -1}, "step should be"),
        ({"scale": float("nan")}, "scale should be finite"),
        ({"scale": 10**400}, "capture.json holds what it should not"),
        ({"noise_floor": -1.0}, "noise_floor should be at least 0"),
        ({"model_vocab": 10**300}, "model_vocab"),
        ({"representation": "dense"}, "one of each rank"),
        ({"representation": "none"}, "unknown"),
        ({"overlap": 32}, "overlap should be"),
        ({"files": {}}, "one of each rank"),
        ({"files": {"../../x": {"bytes": 1, "digest": ""}}}, "one of each rank"),
        ({"files": []}, "files should be dict"),
        ({"probes": {"p": {"digest": "", "index": 1}}}, "0, 1"),
        ({"seed": 1}, "seed should be str"),
    ],
)
def test_handovers_that_cannot_be_right_are_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    folder = hand_over(tmp_path)
    fields = json.loads(HANDOVER.to_json()) | change
    (folder / "capture.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=said):
        read_handover(folder)


def test_handovers_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    folder = hand_over(tmp_path)
    (folder / "rows-1.npy").write_bytes(b"ab")
    with pytest.raises(ValueError, match=r"rows-1.npy is not the 3 bytes"):
        read_handover(folder)
    (folder / "rows-1.npy").unlink()
    with pytest.raises(ValueError, match=r"rows-1.npy cannot be read: No such file"):
        read_handover(folder)
    (folder / "rows-1.npy").symlink_to(folder / "rows-0.npy")
    with pytest.raises(ValueError, match=r"rows-1.npy is not the"):
        read_handover(folder)
    for text in ("{", "[1]", "{}", '{"format": 1}', "[" * 10**5):
        (folder / "capture.json").write_text(text)
        with pytest.raises(ValueError, match=str(folder)):
            read_handover(folder)
    (folder / "capture.json").unlink()
    os.mkfifo(folder / "capture.json")
    with pytest.raises(ValueError, match=r"capture.json is no plain file"):
        read_handover(folder)


def test_only_captured_folders_are_removed(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "m", "1")
    folder = hand_over(run / "10")
    hand_over(run / "20")
    remove_captured(folder)
    assert [entry.name for entry in run.iterdir()] == ["20"]
    remove_captured(folder)  # again
    other = hand_over(tmp_path / "other" / "run" / "10")
    remove_captured(other)
    assert len(list(other.iterdir())) == 6
    linked = run / "30"
    linked.symlink_to(other)
    remove_captured(linked)
    assert len(list(other.iterdir())) == 6
    linked.unlink()
    remove_captured(run / "20")
    assert not run.exists()
