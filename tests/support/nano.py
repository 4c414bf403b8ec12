"""The model of examples/nano, which no package holds: a GPT that `transformers` does not know."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

FOLDER = Path(__file__).parents[2] / "examples" / "nano"


def example_module(name: str) -> ModuleType:
    """A file of the example, by its path: such scripts are not in a package."""
    qualified = f"examples_nano_{name}"
    if qualified not in sys.modules:
        spec = importlib.util.spec_from_file_location(qualified, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module  # dataclasses look their module up there
        spec.loader.exec_module(module)
    return sys.modules[qualified]


def make_nano(vocab: int, seed: int, **changes: Any) -> Any:
    """A random model in training mode, with dropout."""
    nano = example_module("model")
    torch.manual_seed(seed)
    return nano.Nano(nano.Config(vocab=vocab, width=32, **changes))
