"""Checkpoints as other trainers lay them out, written by torch itself from one of transformers'."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

Weights = dict[str, torch.Tensor]


@dataclass
class Settings:
    """A class of the training script, which is nowhere when the checkpoint is read."""

    folder: Path
    rate: float


def take_weights(folder: Path) -> Weights:
    """Take the weights out of a folder that save_pretrained wrote; config.json stays."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    file.unlink()
    return weights


def an_optimizer(weights: Weights) -> dict[str, Any]:
    """What AdamW would keep of the weights: numbers that are not theirs."""
    state = {
        n: {"step": torch.tensor(9.0), "exp_avg": t + 1} for n, t in enumerate(weights.values())
    }
    return {"state": state, "param_groups": [{"lr": 1e-3, "params": list(state)}]}


def under(prefix: str, weights: Weights) -> Weights:
    """Put a wrapper's prefix before all names."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def save_distributed(folder: Path, tree: dict[str, Any]) -> None:
    """Write a distributed checkpoint, in this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    dcp.save(tree, checkpoint_id=folder, no_dist=True)


def nano(weights: Weights, step: int) -> dict[str, Any]:
    """What a loop like nanoGPT's puts into its ckpt.pt, with torch.compile on."""
    return {
        "model": under("_orig_mod.", weights),
        "optimizer": an_optimizer(weights),
        "model_args": {"n_layer": 2, "bias": True},
        "iter_num": step,
        "best_val_loss": torch.tensor(1e9),
        "config": argparse.Namespace(out_dir=Path("out"), always=True),
        "settings": Settings(Path("out"), 1e-3),
        "rng": (random.getstate(), torch.get_rng_state()),
        "generator": np.random.default_rng(1),
        "loss": np.float64(2.5),
    }


def lightning(weights: Weights, step: int) -> dict[str, Any]:
    """What Lightning's Trainer puts into a .ckpt, of a module that holds the model."""
    return {
        "epoch": 0,
        "global_step": step,
        "state_dict": under("model.", weights),
        "optimizer_states": [an_optimizer(weights)],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": Path("x")}},
        "hyper_parameters": {"folder": Path("data"), "arguments": argparse.Namespace(rate=1e-3)},
    }


def _flat_optimizer(weights: Weights) -> Weights:
    return {f"state.{name}.exp_avg": tensor + 1 for name, tensor in weights.items()}


FOLDERS: dict[str, Callable[[Path, Weights], None]] = {
    "dcp": lambda folder, weights: save_distributed(
        folder, {"model": weights, "optimizer": an_optimizer(weights), "step": 7}
    ),
    "titan": lambda folder, weights: save_distributed(
        folder, {**weights, "optimizer": _flat_optimizer(weights), "train_state": {"step": 7}}
    ),
    "app": lambda folder, weights: save_distributed(
        folder, {"app": {"model": under("module.", weights), "optim": an_optimizer(weights)}}
    ),
    "fsdp": lambda folder, weights: (
        save_distributed(folder / "pytorch_model_fsdp_0", {"model": weights}),
        save_distributed(folder / "optimizer_0", {"optimizer": _flat_optimizer(weights)}),
        torch.save(an_optimizer(weights), folder / "optimizer.pt"),
    )[0],
    "saved": lambda folder, weights: torch.save(weights, folder / "model.pt"),
    "parameters": lambda folder, weights: torch.save(
        {n: torch.nn.Parameter(t) for n, t in weights.items()}, folder / "weights.pth"
    ),
    "nano": lambda folder, weights: torch.save(nano(weights, 7), folder / "ckpt.pt"),
    "lightning": lambda folder, weights: torch.save(lightning(weights, 7), folder / "last.ckpt"),
    "full-fsdp": lambda folder, weights: torch.save(weights, folder / "pytorch_model_fsdp.bin"),
}
"""By name: what writes weights into the folder in which their config.json lies."""
