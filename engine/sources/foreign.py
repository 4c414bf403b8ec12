"""Checkpoints that other trainers write: recognised by their files, answered with a converter."""

from __future__ import annotations

import fnmatch
import itertools
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from seedconv_tui.training.weight_files import is_saved

_LOOK_AT = 20  # children of a folder; one that is foreign is enough


@dataclass(frozen=True)
class Layout:
    """A trainer's layout of checkpoints."""

    name: str
    signs: tuple[str, ...]  # any of these names means it; `a/b` is b in the folder a
    converter: str  # what to do about it
    pickles: bool = False  # read, if pickles may be


_READ = (
    "set models.allow_pickle = true, to have it read where weights have transformers' names; or "
)

# The first one that fits: some are made of others.
LAYOUTS = (
    Layout(
        "a PEFT adapter, not a model",
        ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
        "merge it with AutoPeftModelForCausalLM.from_pretrained(folder).merge_and_unload(), then "
        "save_pretrained",
    ),
    Layout(
        "a Megatron checkpoint",
        (
            "latest_checkpointed_iteration.txt",
            "mp_rank_*/model_optim_rng.pt",
            "mp_rank_*/model_rng.pt",
            "common.pt",
        ),
        "convert it with AutoBridge.export_ckpt of Megatron-Bridge, or tools/checkpoint/convert.py "
        "of Megatron-LM",
    ),
    Layout(
        "a GPT-NeoX checkpoint",
        ("layer_*-model_*-model_states.pt", "global_step*/layer_*-model_*-model_states.pt"),
        "convert it with tools/ckpts/convert_neox_to_hf.py of GPT-NeoX",
    ),
    Layout(
        "a DeepSpeed checkpoint",
        ("mp_rank_*_model_states.pt", "global_step*/*", "zero_pp_rank_*"),
        "convert it with tools/ckpts/convert_neox_to_hf.py if GPT-NeoX wrote it, else with the "
        "zero_to_fp32.py in the same folder, then save_pretrained",
    ),
    Layout(
        "a nanotron checkpoint",
        ("checkpoint_metadata.json",),
        "convert it with examples/llama/convert_nanotron_to_hf.py of nanotron",
    ),
    Layout(
        "a quantised model of llama.cpp (GGUF), which is not read",
        ("*.gguf", "*.ggml"),
        "have the source name the checkpoint that it was made of",
    ),
    Layout(
        "a quantised model (GPTQ), which is not read",
        ("gptq_model*", "quantize_config.json"),
        "have the source name the checkpoint that it was made of",
    ),
    Layout(
        "a sharded FSDP checkpoint of Trainer",
        ("pytorch_model_fsdp_[0-9]*/*",),
        f"{_READ}merge it with `accelerate merge-weights`, or train with fsdp_state_dict_type "
        "FULL_STATE_DICT",
        pickles=True,
    ),
    Layout(
        "a distributed checkpoint of PyTorch (DCP), as torchtitan writes them",
        ("__*_*.distcp",),
        f"{_READ}convert it with scripts/checkpoint_conversion/convert_to_hf.py of torchtitan, or "
        "with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch`, then "
        "save_pretrained",
        pickles=True,
    ),
    Layout(
        "a Lightning checkpoint",
        ("*.ckpt", "*.ckpt/*"),
        f"{_READ}load its state_dict into the transformers model, then save_pretrained",
        pickles=True,
    ),
)


def recognise(names: Collection[str], *, pickles: bool = False) -> str | None:
    """Return what a folder with these names is and what to do, in one line.

    None: unknown, or read as it is, as some are if `pickles` may be.

    `names` are of files and folders, and of what lies in those folders, as `folder/name`.
    """
    anywhere = {*names, *(name.rpartition("/")[2] for name in names)}
    for layout in LAYOUTS:
        if pickles and layout.pickles:
            continue
        if any(fnmatch.filter(anywhere, sign) for sign in layout.signs):
            return f"is {layout.name}: {layout.converter}"
    return None


def recognise_folder(place: Path, *, pickles: bool = False) -> str | None:
    """Recognise a folder on disk, or a file, in which nothing that transformers reads was found."""
    return recognise(_names(place, depth=2) or [place.name], pickles=pickles)


def recognise_near(folders: Collection[Path]) -> str | None:
    """Recognise the first known of folders in which nothing fits a template, and name it."""
    for folder in itertools.islice(folders, _LOOK_AT):
        if what := recognise_folder(folder):
            return f"{folder} {what}"
        if saved := [name for name in _names(folder, depth=1) if is_saved(name)]:
            return (
                f"{folder} holds {saved[0]}, which may be a checkpoint: the source may name such "
                "files, as in .../ckpt-{step}.pt"
            )
        for child in itertools.islice(_names(folder, depth=1), _LOOK_AT):
            if what := recognise_folder(folder / child):
                return f"{folder / child} {what}"
    return None


def _names(folder: Path, depth: int) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                names.append(entry.name)
                if depth > 1 and entry.is_dir():
                    inside = itertools.islice(_names(folder / entry.name, depth - 1), _LOOK_AT)
                    names += [f"{entry.name}/{name}" for name in inside]
    except OSError:
        pass
    return names
