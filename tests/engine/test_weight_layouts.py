"""What other trainers write is read where it lies, and gives the numbers of the same weights."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.errors import CheckpointError
from engine.models.stored_weights import read_stored
from engine.sources.checkpoint_files import CheckpointFiles, checkpoint_files
from engine.sources.local import STUCK_SECONDS, LocalSource
from engine.sources.settling import SETTLE_SECONDS
from engine.study_file.models_section import ModelSection
from seedconv_tui.cli.main import run
from seedconv_tui.training.announcing import HELD, announce
from store import open_study
from tests.support.tiny_models import make_runs, write_study
from tests.support.weight_layouts import (
    FOLDERS,
    lightning,
    nano,
    save_distributed,
    take_weights,
    under,
)

Weights = dict[str, torch.Tensor]
ERROR = CheckpointError


def look(place: Path, **settings: Any) -> CheckpointFiles:
    return checkpoint_files(place, **{"allow_pickle": True, **settings})


def read(place: Path, **settings: Any) -> Weights:
    stored = look(place, **settings).stored
    assert stored is not None
    return read_stored(stored)[0]


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Weights]:
    """A folder with a config.json and the weights that belong to it."""
    make_runs(tmp_path, architecture="gpt2", seeds=("1",), steps=(0,))
    folder = tmp_path / "runs/seed1/step0"
    return folder, take_weights(folder)


# -- the same numbers ---------------------------------------------------------------------------


def test_every_layout_gives_the_numbers_of_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(0,))
    for name, write in FOLDERS.items():
        folder = tmp_path / f"runs/seed{name}/step0"
        shutil.copytree(tmp_path / "runs/seed2/step0", folder)
        write(folder, take_weights(folder))
    assert run(["run", str(write_study(tmp_path))]) == 1  # nothing is unpickled unasked
    err = capsys.readouterr().err
    assert "models.allow_pickle = true" in err
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {0: {"1", "2"}}
    shutil.rmtree(tmp_path / "study.zarr")
    assert run(["run", str(write_study(tmp_path, models__allow_pickle=True))]) == 0
    data = open_study(tmp_path / "study.zarr").dataset("m").load()
    plain = data.sel(seed="2", other_seed="1")
    for name in FOLDERS:
        found = data.sel(seed=name, other_seed="1")
        for field, values in plain.data_vars.items():
            pairs = "other_seed" in data[field].dims  # rounded by their place among all pairs
            np.testing.assert_allclose(
                found[field].values, values.values, 1e-6 * pairs, 0, err_msg=f"{name}: {field}"
            )


def test_a_source_may_name_files_and_the_study_file_their_configuration(tmp_path: Path) -> None:
    make_runs(tmp_path, architecture="gpt2", steps=(0, 10))
    assert run(["run", str(write_study(tmp_path, study__store="folders.zarr"))]) == 0
    expected = open_study(tmp_path / "folders.zarr").dataset("m").load()
    for seed in "123":
        for step in (0, 10):
            folder = tmp_path / f"runs/seed{seed}/step{step}"
            shutil.move(folder / "config.json", tmp_path / "gpt2.json")
            weights = take_weights(folder)
            shutil.rmtree(folder)
            tree = lightning(weights, step) if seed == "1" else nano(weights, step)
            torch.save(tree, folder.with_name(f"epoch={step}-step={step}.ckpt"))
    file = write_study(
        tmp_path,
        models__source="runs/seed{seed}/epoch=*-step={step}.ckpt",
        models__config="gpt2.json",
        models__allow_pickle=True,
    )
    assert run(["run", str(file)]) == 0
    assert open_study(tmp_path / "study.zarr").dataset("m").load().equals(expected)


def test_a_loop_like_nanogpts_is_read_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its layers are torch's, so that their matrices are those of GPT-2 on their side."""
    make_runs(tmp_path, architecture="gpt2", steps=(0,))
    for seed in "123":
        folder = tmp_path / f"runs/seed{seed}/step0"
        weights = load_file(folder / "model.safetensors")
        assert all(float(weights[n].abs().max()) == 0 for n in weights if n.endswith("attn.bias"))
    assert run(["run", str(write_study(tmp_path, study__store="folders.zarr"))]) == 0
    expected = open_study(tmp_path / "folders.zarr").dataset("m").load()
    for seed in "123":
        folder = tmp_path / f"runs/seed{seed}/step0"
        weights = take_weights(folder)
        upright = {
            name: tensor.t().contiguous() if re.search(r"\.c_\w+\.weight", name) else tensor
            for name, tensor in weights.items()
            if not name.endswith(".bias")  # which are zero, as made; nanoGPT has none by default
        }
        upright["lm_head.weight"] = upright["transformer.wte.weight"]
        torch.save(nano(upright, 0), folder / "ckpt.pt")
    capsys.readouterr()
    file = write_study(tmp_path, models__allow_pickle=True)
    assert run(["run", str(file)]) == 0
    assert open_study(tmp_path / "study.zarr").dataset("m").load().equals(expected)
    said = [line for line in capsys.readouterr().err.splitlines() if "nanoGPT" in line]
    assert len(said) == 1
    assert "the missing biases are zero" in said[0]


def test_parts_of_many_ranks_are_put_together(tmp_path: Path) -> None:
    """Rows and columns are cut, unevenly, as by FSDP with tensor parallelism."""
    from torch.distributed.checkpoint.metadata import MetadataIndex

    whole = torch.arange(35.0).view(5, 7)
    save_distributed(tmp_path, {"model": {"w": whole}})
    table = torch_table(tmp_path)
    entry = table.state_dict_metadata["model.w"]
    (index,) = (key for key in table.storage_data if key.fqn == "model.w")
    del table.storage_data[index]
    kind, info = type(entry.chunks[0]), type(next(iter(table.storage_data.values()), None))
    entry.chunks.clear()
    cuts = [(0, 0, 3, 4), (3, 0, 2, 4), (0, 4, 3, 3), (3, 4, 2, 3)]
    for rank, (row, column, rows, columns) in enumerate(cuts):
        file = tmp_path / f"__{rank}_0.distcp"
        torch.save(whole[row : row + rows, column : column + columns].clone(), file)
        offsets, sizes = torch.Size([row, column]), torch.Size([rows, columns])
        entry.chunks.append(kind(offsets, sizes))
        from torch.distributed.checkpoint.filesystem import _StorageInfo

        info = _StorageInfo(file.name, 0, file.stat().st_size)
        table.storage_data[MetadataIndex("model.w", offsets)] = info
    entry.chunks.append(kind(torch.Size([5, 0]), torch.Size([0, 7])))  # of a rank without any
    write_table(tmp_path, table)
    (tmp_path / "config.json").write_text("{}")
    assert torch.equal(read(tmp_path)["w"], whole)
    entry.chunks.pop(0)
    write_table(tmp_path, table)
    with pytest.raises(ERROR, match=r"\.metadata: model\.w has parts that do not cover it"):
        look(tmp_path)
    entry.chunks += [kind(torch.Size([2, 0]), torch.Size([3, 4]))]
    table.storage_data[MetadataIndex("model.w", torch.Size([2, 0]))] = info
    write_table(tmp_path, table)
    with pytest.raises(ERROR, match=r"\.metadata: model\.w has "):
        look(tmp_path)


def torch_table(folder: Path) -> Any:
    import pickle

    return pickle.loads((folder / ".metadata").read_bytes())


def write_table(folder: Path, table: object) -> None:
    import pickle

    (folder / ".metadata").write_bytes(pickle.dumps(table))


def test_tied_and_cut_out_weights_are_read_as_torch_reads_them(
    checkpoint: tuple[Path, Weights],
) -> None:
    folder, _ = checkpoint
    base = torch.arange(60.0)
    weights = {
        "tied": base.view(6, 10),
        "again": base.view(6, 10),
        "rows": base.view(6, 10)[2:4],
        "turned": base.view(6, 10).t(),
        "every": base.view(6, 10)[:, ::3],
        "half": torch.ones(3, 3, dtype=torch.bfloat16),
        "mask": torch.ones(2, 2, dtype=torch.bool),
        "number": torch.tensor(3),
        "none": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    }
    torch.save({"model": weights}, folder / "x.pt")
    found = read(folder)
    expected = torch.load(folder / "x.pt", weights_only=True)["model"]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert found["tied"].data_ptr() == found["again"].data_ptr()


def test_a_file_in_which_the_same_is_countless_times_is_read_at_once(
    checkpoint: tuple[Path, Weights],
) -> None:
    folder, weights = checkpoint
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"a": deep, "b": deep}
    wide: dict[str, Any] = {}
    for _ in range(4):
        wide = {str(n): wide for n in range(1000)}
    torch.save({"x": deep, "y": wide, "model": weights}, folder / "x.pt")
    assert read(folder).keys() == weights.keys()


def test_of_an_optimizer_nothing_is_read(checkpoint: tuple[Path, Weights]) -> None:
    folder, weights = checkpoint
    n_bytes = sum(tensor.nbytes for tensor in weights.values())
    torch.save(nano(weights, 0), folder / "ckpt.pt")
    assert (folder / "ckpt.pt").stat().st_size > 2 * n_bytes
    assert look(folder).reading_bytes() == n_bytes
    (folder / "ckpt.pt").unlink()
    FOLDERS["dcp"](folder, weights)
    assert sum(file.stat().st_size for file in folder.iterdir()) > 2 * n_bytes
    largest = max(tensor.nbytes for tensor in weights.values())
    assert n_bytes + largest <= look(folder).reading_bytes() < n_bytes + largest + 4096
    assert read(folder).keys() == weights.keys()


def test_of_several_sets_of_weights_the_usual_one_is_read_and_named(
    checkpoint: tuple[Path, Weights],
) -> None:
    folder, weights = checkpoint
    average = {name: tensor / 2 for name, tensor in weights.items()}
    torch.save({"ema": average, "model": weights}, folder / "x.pt")
    note = f"{folder}/x.pt: the weights under model were read, and not those under ema"
    assert look(folder).note == note
    assert torch.equal(read(folder)["transformer.wte.weight"], weights["transformer.wte.weight"])


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("model.net", "ema.state_dict"),
        ("net_g", "ema.module"),
        ("student", "teacher.model"),
        ("nets.gpt", "model_ema"),
    ],
)
def test_averages_of_weights_are_read_only_where_there_are_no_others(
    checkpoint: tuple[Path, Weights], key: str, beside: str
) -> None:
    def tree(**sets: Weights) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path, values in sets.items():
            *keys, last = path.split(".")
            inside = found
            for part in keys:
                inside = inside.setdefault(part, {})
            inside[last] = values
        return found

    folder, weights = checkpoint
    average = {name: tensor / 2 for name, tensor in weights.items()}
    name = "transformer.wte.weight"
    torch.save(tree(**{beside: average, key: weights}), folder / "x.pt")
    assert f"the weights under {key} were read, and not those under {beside}" in look(folder).note
    assert torch.equal(read(folder)[name], weights[name])
    torch.save(tree(**{beside: average}), folder / "x.pt")
    assert torch.equal(read(folder)[name], average[name])


@pytest.mark.long
@pytest.mark.parametrize("layout", ["nano", "dcp"])
def test_reading_takes_the_memory_that_was_planned(tmp_path: Path, layout: str) -> None:
    from engine.machine.host_memory import peak_bytes

    weights = {f"w{n}": torch.full((2**22,), float(n)) for n in range(8)}  # 128 MB
    weights = {name: tensor.view(2**11, -1) for name, tensor in weights.items()}
    FOLDERS[layout](tmp_path, weights)
    (tmp_path / "config.json").write_text("{}")
    del weights
    planned = look(tmp_path).reading_bytes()
    taken = peak_bytes(lambda: read(tmp_path))
    assert 0.8 * 2**27 < planned < 1.2 * 2**27
    assert taken < 1.05 * planned + 2**22


@pytest.mark.long
def test_what_two_ranks_of_fsdp_write_is_read(tmp_path: Path) -> None:
    """Each writes its part of every weight; compared with the whole, gathered by torch."""
    torch.multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        write_as_rank, args=(tmp_path,), nprocs=2, start_method="spawn"
    )
    (tmp_path / "step-3/config.json").write_text("{}")
    assert sorted(file.name for file in (tmp_path / "step-3").glob("*.distcp")) == [
        "__0_0.distcp",
        "__1_0.distcp",
    ]
    found = read(tmp_path / "step-3")
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ERROR, match=r"part\.pt: .* is a part of a distributed tensor \(DTensor\)"):
        look(tmp_path / "part.pt")


def write_as_rank(rank: int, folder: Path) -> None:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        get_state_dict,
    )
    from torch.distributed.fsdp import fully_shard

    from tests.support.tiny_models import make_model

    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    model = make_model("gpt2", 301, 1)  # an odd number of rows: parts of unequal sizes
    for block in model.transformer.h:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.arange(8).view(1, 8)).logits.logsumexp(-1).sum().backward()
    optimizer.step()
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder / "step-3")
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        torch.save(whole, folder / "whole.pt")
        torch.save(model.state_dict(), folder / "part.pt")
    dist.destroy_process_group()


# -- what is refused ----------------------------------------------------------------------------


class Evil:
    """Runs a command when it is unpickled, if that is allowed to."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.trap}",)


@pytest.mark.parametrize("layout", ["saved", "beside", "table", "part"])
def test_a_pickle_that_would_run_something_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    make_runs(tmp_path, architecture="gpt2", steps=(0,))
    trap, folder = tmp_path / "sprung", tmp_path / "runs/seed3/step0"
    weights = take_weights(folder)
    match layout:
        case "saved":
            file = folder / "model.pt"
            torch.save({**weights, "transformer.wpe.weight": Evil(trap)}, file)
        case "beside":
            file = folder / "ckpt.pt"
            torch.save({"model": weights, "config": Evil(trap)}, file)
        case "table":
            save_distributed(folder, {"model": weights})
            file = folder / ".metadata"
            table = torch_table(folder)
            table.planner_data = Evil(trap)
            write_table(folder, table)
        case _:
            save_distributed(folder, {"model": weights})
            file = folder / "__0_0.distcp"
            evil = folder / "evil"
            torch.save([Evil(trap), *[torch.zeros(64)] * 8], evil)
            table = torch_table(folder)
            first = min(table.storage_data.values(), key=lambda info: info.length)
            data = evil.read_bytes()
            first.offset, first.length = file.stat().st_size, len(data)
            with file.open("ab") as stream:
                stream.write(data)
            evil.unlink()
            write_table(folder, table)
    assert run(["run", str(write_study(tmp_path, models__allow_pickle=True))]) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert f"{file}: names posix.system, which no such file has to: it is not read" in said
    assert not trap.exists()
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {0: {"1", "2"}}


def saved(tree: object, name: str = "x.pt", **options: Any) -> Callable[[Path, Weights], object]:
    return lambda folder, weights: torch.save(
        tree(weights) if callable(tree) else tree, folder / name, **options
    )


def cut(name: str, layout: str, keep: float = 0.6) -> Callable[[Path, Weights], None]:
    def change(folder: Path, weights: Weights) -> None:
        FOLDERS[layout](folder, weights)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return change


def without(name: str, layout: str) -> Callable[[Path, Weights], None]:
    def change(folder: Path, weights: Weights) -> None:
        FOLDERS[layout](folder, weights)
        (folder / name).unlink()

    return change


def compressed(folder: Path, weights: Weights) -> None:
    torch.save(weights, folder / "y")
    with (
        zipfile.ZipFile(folder / "y") as old,
        zipfile.ZipFile(folder / "x.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    (folder / "y").unlink()


def script(folder: Path, weights: Weights) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), folder / "x.pt")


def quantised(weights: Weights) -> Weights:
    return {name: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8) for name, t in weights.items()}


def claim_twice(folder: Path) -> None:
    """Have every tensor lie where the largest does, many times."""
    inside = folder / "pytorch_model_fsdp_0"
    table = torch_table(inside)
    largest = max(table.storage_data.values(), key=lambda info: info.length)
    for index, info in table.storage_data.items():
        table.storage_data[index] = largest if index.offset is not None else info
    write_table(inside, table)


REFUSED: dict[str, tuple[Callable[[Path, Weights], object], str]] = {
    "half": (cut("ckpt.pt", "nano"), r"ckpt\.pt: is no whole file of torch\.save; it may be half"),
    "empty": (lambda folder, _: (folder / "x.pt").touch(), r"x\.pt: is no whole file of torch"),
    "old": (
        saved(lambda w: w, _use_new_zipfile_serialization=False),
        r"x\.pt: is of the format of torch\.save before 1\.6",
    ),
    "script": (script, r"x\.pt: is a TorchScript archive, which is a program"),
    "module": (
        saved(lambda _: torch.nn.Linear(2, 2)),
        r"x\.pt: holds no state dict but an object of torch\.nn\.modules\.linear\.Linear; save mod",
    ),
    "none": (saved({"step": 3, "rng": torch.zeros(5)}), r"x\.pt: holds no weights"),
    "two": (
        saved(lambda w: {"a": w, "b": dict(w)}),
        r"x\.pt: holds several sets of weights \(a, b\)",
    ),
    "compressed": (compressed, r"x\.pt: its entry \w+ is compressed"),
    "zip": (
        lambda folder, _: zipfile.ZipFile(folder / "x.pt", "w").close(),
        r"x\.pt: is a zip archive, but not one of torch\.save",
    ),
    "quantised": (saved(quantised), r"x\.pt: .* quantised weights are not read"),
    "sparse": (
        saved(lambda w: {n: t.to_sparse() for n, t in w.items() if t.ndim == 2}),
        r"x\.pt: .* is no plain tensor",
    ),
    "several": (
        lambda folder, w: [torch.save(w, folder / name) for name in ("a.pt", "b.pt")],
        r"holds several files that may be the weights \(a\.pt, b\.pt\); have the source name",
    ),
    "half-table": (cut(".metadata", "dcp"), r"\.metadata: holds a broken pickle"),
    "half-part": (
        cut("pytorch_model_fsdp_0/__0_0.distcp", "fsdp"),
        r"__0_0\.distcp: is .* bytes long, \.metadata say",
    ),
    "no-part": (without("__0_0.distcp", "dcp"), r"__0_0\.distcp: is missing"),
    "no-table": (without(".metadata", "dcp"), r"\.metadata: is missing; it is written last"),
    "optimizer": (
        lambda folder, w: save_distributed(folder, {"optimizer": {f"s.{n}": w[n] for n in w}}),
        r"\.metadata: holds no weights",
    ),
    "no-config": (
        lambda folder, w: (FOLDERS["nano"](folder, w), (folder / "config.json").unlink()),
        r"config\.json: is missing; put .* or name it with models\.config in the study file",
    ),
    "pipe": (
        lambda folder, w: (
            FOLDERS["fsdp"](folder, w),
            (folder / "pytorch_model_fsdp_0/.metadata").unlink(),
            os.mkfifo(folder / "pytorch_model_fsdp_0/.metadata"),
        ),
        r"fsdp_0/\.metadata: is no plain file",
    ),
    "endless": (
        lambda folder, w: (
            FOLDERS["dcp"](folder, w),
            os.truncate(folder / ".metadata", 2**33),
        ),
        r"\.metadata: holds a pickle of 8,589,934,592 bytes, which is too large",
    ),
    "same-part": (
        lambda folder, w: (FOLDERS["fsdp"](folder, w), claim_twice(folder)),
        r"\.metadata: its tensors claim more bytes than their files have",
    ),
    "gguf": (
        lambda folder, _: (folder / "m.gguf").write_bytes(b"GGUF"),
        r"is a quantised model of llama\.cpp \(GGUF\), which is not read",
    ),
    "neox": (
        lambda folder, w: torch.save(w, folder / "layer_00-model_00-model_states.pt"),
        r"convert_neox_to_hf\.py",
    ),
    "deepspeed": (
        lambda folder, w: torch.save(w, folder / "mp_rank_00_model_states.pt"),
        r"zero_to_fp32\.py",
    ),
    "quantised-beside-average": (
        lambda folder, w: torch.save(
            {
                "model": {
                    name: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
                    for name, tensor in w.items()
                    if tensor.ndim == 2 and tensor.is_floating_point()
                },
                "ema": w,
            },
            folder / "x.pt",
        ),
        r"x\.pt: transformer\.\S+ is \S+: quantised weights are not read",
    ),
    "megatron": (
        lambda folder, w: (FOLDERS["dcp"](folder, w), torch.save({}, folder / "common.pt")),
        r"AutoBridge\.export_ckpt",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(
    checkpoint: tuple[Path, Weights], kind: str
) -> None:
    folder, weights = checkpoint
    write, says = REFUSED[kind]
    write(folder, weights)
    with pytest.raises(CheckpointError, match=says) as refused:
        read(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)


def test_positions_that_are_rotated_otherwise_than_in_training_fail_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some trainers save the frequencies; shapes do not show that config.json has others."""
    make_runs(tmp_path, architecture="llama", seeds=("1", "2"), steps=(0,))
    for seed, base in (("1", 10_000.0), ("2", 500_000.0)):
        folder = tmp_path / f"runs/seed{seed}/step0"
        config = json.loads((folder / "config.json").read_text())
        width = config["hidden_size"] // config["num_attention_heads"]
        frequencies = base ** -(torch.arange(0, width, 2) / width)
        name = "model.layers.0.self_attn.rotary_emb.inv_freq"
        torch.save({**take_weights(folder), name: frequencies.bfloat16()}, folder / "x.pt")
    assert run(["run", str(write_study(tmp_path, models__allow_pickle=True))]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert f"seed2/step0: config.json makes other frequencies of positions than {name} has" in line
    assert set(open_study(tmp_path / "study.zarr").ledger("m").scored) == {("1", 0)}


def test_weights_and_configurations_that_do_not_fit_fail_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2", "3", "4"), steps=(0,))
    for seed in "34":
        folder = tmp_path / f"runs/seed{seed}/step0"
        weights = take_weights(folder)
        torch.save(under("net.", weights), folder / "x.pt")
        if seed == "3":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "n_embd": 48}))
        else:
            torch.save(under("encoder.blocks.", weights), folder / "x.pt")
            torch.save({"other.weight": torch.ones(300, 32)}, folder / "x.pt")
    assert run(["run", str(write_study(tmp_path, models__allow_pickle=True))]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert len(said) == 2
    assert "seed3/step0: weights mismatched: transformer." in said[0]
    assert "seed4/step0: weights missing: " in said[1]


def test_any_damage_is_a_checkpoint_error(checkpoint: tuple[Path, Weights]) -> None:
    folder, weights = checkpoint
    chance, n_bytes = random.Random(7), sum(tensor.nbytes for tensor in weights.values())
    for layout, name in (("nano", "ckpt.pt"), ("dcp", ".metadata"), ("dcp", "__0_0.distcp")):
        FOLDERS[layout](folder, weights)
        whole = (folder / name).read_bytes()
        start = whole.find(b"data.pkl")  # damaged numbers would be numbers as well
        for n in range(60):
            data = bytearray(whole)
            for _ in range(chance.choice([1, 3])):
                at = chance.choice([chance.randrange(len(data)), start + chance.randrange(4000)])
                data[at % len(data)] = chance.randrange(256)
            if n % 4 == 0:
                del data[chance.randrange(len(data)) :]
            (folder / name).write_bytes(data)
            try:
                found = read(folder)
            except CheckpointError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert sum(t.nbytes for t in found.values()) <= n_bytes
        for file in folder.iterdir():
            if file.name != "config.json":
                file.unlink()


@pytest.mark.parametrize("layout", ["nano", "dcp"])
def test_what_is_written_while_it_is_read_is_read_again(
    checkpoint: tuple[Path, Weights], layout: str
) -> None:
    folder, weights = checkpoint
    FOLDERS[layout](folder, weights)
    stored = look(folder).stored
    assert stored is not None
    FOLDERS[layout](folder, {name: tensor + 1 for name, tensor in weights.items()})
    with pytest.raises(CheckpointError, match="was written while it was being read") as refused:
        read_stored(stored)
    assert refused.value.passing
    assert torch.equal(
        read(folder)["_orig_mod." * (layout == "nano") + "transformer.wte.weight"],
        weights["transformer.wte.weight"] + 1,
    )


def test_a_configuration_that_is_not_there_is_named_with_its_field(
    checkpoint: tuple[Path, Weights], tmp_path: Path
) -> None:
    folder, weights = checkpoint
    FOLDERS["dcp"](folder, weights)
    where = tmp_path / "configs"
    with pytest.raises(ERROR, match=r"step0: .*configs, which models\.config names, is not there"):
        look(folder, config=where)
    where.mkdir()
    with pytest.raises(ERROR, match=r"step0: .*configs/config\.json, which models\.config names"):
        look(folder, config=where)
    shutil.copy(folder / "config.json", where)
    assert look(folder, config=where).config == where / "config.json"
    (folder / "config.json").write_text("none of transformers'")
    assert look(folder, config=where).stored is not None


# -- finished, gone, held -----------------------------------------------------------------------


def source(folder: Path, now: list[float], template: str, **fields: Any) -> LocalSource:
    section = {"name": "m", "source": template, "allow_pickle": True, **fields}
    return LocalSource(ModelSection.model_validate(section), folder, lambda: now[0])


def test_a_distributed_checkpoint_is_finished_once_its_table_is_there(
    checkpoint: tuple[Path, Weights], tmp_path: Path
) -> None:
    folder, weights = checkpoint
    FOLDERS["fsdp"](folder, weights)
    inside, now = folder / "pytorch_model_fsdp_0", [0.0]
    table = (inside / ".metadata").read_bytes()
    (inside / ".metadata").unlink()
    runs = source(tmp_path, now, "runs/seed{seed}/step{step}")
    assert runs.find().there == {("1", 0)}
    found = runs.checkpoint(("1", 0))
    assert not found.finished()
    before = found.signature()
    assert found.refused(waiting=True) is None
    now[0] += STUCK_SECONDS
    why = found.refused(waiting=True)
    assert why is not None
    assert f"{inside}/.metadata: is missing; it is written last" in why
    (inside / ".metadata").write_bytes(table)
    assert found.finished()
    assert found.signature() != before
    part = inside / "__0_0.distcp"
    stat = (inside / ".metadata").stat()
    os.utime(part, ns=(stat.st_mtime_ns + 1, stat.st_mtime_ns + 1))  # as by who copies it
    found.failed()
    assert not found.finished()
    now[0] += SETTLE_SECONDS
    assert found.finished()
    assert not found.gone()
    part.unlink()
    assert found.gone()


def test_a_file_is_finished_once_it_rests_and_gone_when_it_was_deleted(
    checkpoint: tuple[Path, Weights], tmp_path: Path
) -> None:
    folder, weights = checkpoint
    file, now = folder.with_name("ckpt-5.pt"), [0.0]
    torch.save(nano(weights, 5), file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1000])
    (folder.with_name("ckpt-7.pt")).mkdir()  # no file, and named as one
    runs = source(tmp_path, now, "runs/seed{seed}/ckpt-{step}.pt", config=str(folder))
    assert runs.find().there == {("1", 5), ("1", 7)}
    found = runs.checkpoint(("1", 5))
    now[0] += SETTLE_SECONDS
    assert not found.finished()
    file.write_bytes(whole)
    assert not found.finished()
    now[0] += SETTLE_SECONDS
    assert found.finished()
    assert found.config() == folder / "config.json"
    before = found.signature()
    (folder / "config.json").write_text("{}")
    assert found.signature() != before  # what failed by it is tried again
    assert not found.gone()
    file.unlink()
    assert found.gone()
    listed = source(tmp_path, now, "runs/seed{seed}/ckpt-{step}.pt", seeds=["1"], steps=[5])
    assert listed.find().missing == {("1", 5): f"{file}: there is no such file"}
    assert source(tmp_path, now, "runs/seed{seed}/ckpt-{step}").find().there == set()


def test_a_configuration_is_named_for_folders_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = "owner/name@s{seed}-{step}"
    file = write_study(tmp_path, models__source=template, models__config="gpt2.json")
    assert run(["run", str(file)]) == 2
    assert "config: is about folders; on the Hub each checkpoint has its own" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("layout", ["fsdp", "dcp", "nano", "file"])
def test_a_hold_keeps_what_scoring_reads_until_it_is_scored(tmp_path: Path, layout: str) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(0,))
    first = tmp_path / "runs/seed1/step0"
    weights = take_weights(first)
    if layout == "file":
        first = first.with_name("ckpt-0.pt")
        torch.save(nano(weights, 0), first)
        shutil.move(tmp_path / "runs/seed1/step0/config.json", first.parent)
        shutil.rmtree(tmp_path / "runs/seed1/step0")
    else:
        FOLDERS[layout](first, weights)
        (first / "optimizer.pt").write_text("large")
    file = write_study(
        tmp_path, models__allow_pickle=True, models__seeds=["1", "2"], models__steps=[0]
    )
    announce(file, model="m", seed=1, step=0, path=first, hold=True)
    (held,) = (first.parent / HELD).glob("*/*")
    assert not (held / "optimizer.pt").exists()
    assert first.parent / HELD / held.parent.name / first.name == held
    shutil.rmtree(first) if first.is_dir() else first.unlink()
    assert run(["run", str(file)]) == 0
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {0: {"1", "2"}}
    assert not (first.parent / HELD).exists()


def test_files_that_the_source_does_not_name_are_hinted_at(
    checkpoint: tuple[Path, Weights], tmp_path: Path
) -> None:
    folder, weights = checkpoint
    torch.save(weights, folder.with_name("ckpt_5.pt"))
    shutil.rmtree(folder)
    found = source(tmp_path, [0.0], "runs/seed{seed}/step-{step}")
    assert found.find().there == set()
    hint = found.hint() or ""
    assert (
        f"{folder.parent} holds ckpt_5.pt, which may be a checkpoint: the source may name" in hint
    )
    named = source(tmp_path, [0.0], "runs/seed{seed}/ckpt_{step}.pt").find()
    assert named.there == {("1", 5)}
